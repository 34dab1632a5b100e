//! A worker that runs, as the loop sees it.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use starling_cache::{ActionKey, Lease};
use starling_contract::Event;

use crate::run::judge::Observed;
use crate::run::process;

/// How long the engine waits for the last lines of a worker that ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running worker.
pub(crate) struct Active {
    pub(crate) key: ActionKey,
    pub(crate) attempt: u32,
    pub(crate) lease: Lease,
    pub(crate) threads: usize,
    pub(crate) cuda: bool,
    /// The line that runs the action by hand.
    pub(crate) rerun: String,
    pub(crate) began: Instant,
    pub(crate) started_unix: f64,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) snapshot: Option<u64>,
    pub(crate) figure: String,
    reached: Option<String>,
    child: Child,
    peak: u64,
    asked: Option<Instant>,
    over: bool,
    closed: bool,
    ended: Option<(Instant, ExitStatus)>,
}

/// What a worker is for, besides its process.
pub(crate) struct Errand {
    pub(crate) key: ActionKey,
    pub(crate) attempt: u32,
    pub(crate) lease: Lease,
    pub(crate) threads: usize,
    pub(crate) cuda: bool,
    pub(crate) rerun: String,
    pub(crate) started_unix: f64,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) grace: Duration,
}

impl Active {
    pub(crate) fn new(errand: Errand, child: Child) -> Self {
        Self {
            key: errand.key,
            attempt: errand.attempt,
            lease: errand.lease,
            threads: errand.threads,
            cuda: errand.cuda,
            rerun: errand.rerun,
            began: Instant::now(),
            started_unix: errand.started_unix,
            time_limit: errand.time_limit,
            grace: errand.grace,
            snapshot: None,
            figure: String::new(),
            reached: None,
            child,
            peak: 0,
            asked: None,
            over: false,
            closed: false,
            ended: None,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Progress {
                done,
                total,
                unit,
                figure,
            } => {
                self.reached = Some(format!("{done} of {total} {unit}"));
                self.figure.clone_from(figure);
            }
            Event::Snapshot { progress } | Event::Resumed { progress } => {
                self.snapshot = Some(*progress);
            }
            Event::Message { .. } => {}
        }
    }

    pub(crate) fn reached(&self) -> Option<String> {
        self.reached.clone()
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Asks the worker to save what it has and stop.
    pub(crate) fn ask_to_stop(&mut self) {
        if self.asked.is_none() && self.ended.is_none() {
            self.asked = Some(Instant::now());
            process::signal(self.pid(), Signal::TERM);
        }
    }

    /// Ends the worker and all that it started.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            self.asked.get_or_insert_with(Instant::now);
            process::kill_group(self.pid());
        }
    }

    /// Ends what the worker left running, then reaps it: in this order its number is still its own.
    pub(crate) fn reap(&mut self) -> std::io::Result<()> {
        process::kill_group(self.pid());
        let status = self.child.wait()?;
        self.ended = Some((Instant::now(), status));
        Ok(())
    }

    /// What became of the worker, once it has ended and its last words are in.
    pub(crate) fn observed(&self) -> Option<Observed> {
        let (when, status) = self.ended?;
        if !self.closed && when.elapsed() < LAST_WORDS {
            return None;
        }
        Some(Observed {
            status,
            asked: self.asked.is_some(),
            over: self.over.then_some(self.time_limit).flatten(),
            started_unix: self.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            peak: self.peak,
        })
    }

    /// Looks at memory and deadlines.
    pub(crate) fn tick(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.peak = self.peak.max(process::peak_memory(self.pid()));
        // The worker watches its time limit itself; this is for one that cannot, and comes a grace later.
        let limit = self
            .time_limit
            .map(|limit| limit.saturating_add(self.grace * 2) + LAST_WORDS);
        if limit.is_some_and(|limit| self.began.elapsed() > limit) {
            self.over = true;
            process::kill_group(self.pid());
        }
        if self.asked.is_some_and(|asked| asked.elapsed() > self.grace) {
            process::kill_group(self.pid());
        }
    }
}
