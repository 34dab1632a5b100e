//! A worker process, as the engine holds it.

use std::io::{self, Write as _};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::run::launch::{Order, WorkerId};
use crate::run::process;

/// How long the engine waits for the last lines of a worker that ended.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

/// A worker process. Its stdin is its tether: it ends when the engine does.
pub(crate) struct Hand {
    pub(crate) id: WorkerId,
    child: Child,
    peak: u64,
    closed: bool,
    ended: Option<(Instant, ExitStatus)>,
}

impl Hand {
    pub(crate) fn new(id: WorkerId, child: Child) -> Self {
        Self {
            id,
            child,
            peak: 0,
            closed: false,
            ended: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an action to a worker that takes one after another.
    pub(crate) fn give(&mut self, order: &Order) -> io::Result<()> {
        let gone = || io::Error::other("its stdin is closed");
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.child.stdin.as_mut().ok_or_else(gone)?.write_all(&line)
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    pub(crate) fn ask_to_stop(&self) {
        if self.is_running() {
            process::signal(self.pid(), Signal::TERM);
        }
    }

    /// Ends the worker and all that it started.
    pub(crate) fn kill(&self) {
        if self.is_running() {
            process::kill_group(self.pid());
        }
    }

    /// Ends what the worker left running, then reaps it: in this order its number is still its own.
    pub(crate) fn reap(&mut self) -> io::Result<()> {
        process::kill_group(self.pid());
        let status = self.child.wait()?;
        self.ended = Some((Instant::now(), status));
        Ok(())
    }

    /// How the worker ended, once it has and its last words are in.
    pub(crate) fn end(&self) -> Option<ExitStatus> {
        let (when, status) = self.ended?;
        (self.closed || when.elapsed() >= LAST_WORDS).then_some(status)
    }

    /// The most memory seen, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    pub(crate) fn look(&mut self) {
        if self.is_running() {
            self.peak = self.peak.max(process::peak_memory(self.pid()));
        }
    }
}
