//! Starting a worker on this machine, and hearing from it.
//!
//! Two threads serve a worker: one reads its stdout, one waits for its end without reaping it, so that
//! its number is not reused while the engine may still signal it. The loop alone acts on what they say.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;

use rustix::process::{WaitId, WaitIdOptions};
use starling_cache::Digest;
use starling_contract::{Event, Level};

use crate::run::process;

/// The longest line that a worker may write, in bytes; a longer one is taken in pieces.
const LINE_BYTES: u64 = 1 << 20;

/// What the loop is told.
pub(crate) enum Note {
    /// The stage tells something.
    Event(usize, Event),
    /// The worker closed its stdout.
    Closed(usize),
    /// The worker ended and waits to be reaped.
    Exited(usize),
    /// Somebody asked to stop.
    Stop,
}

/// How to start a worker.
#[derive(Clone)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) environment: &'a [(OsString, OsString)],
    pub(crate) store: &'a str,
    pub(crate) spec: &'a Digest,
    pub(crate) attempt: u32,
    /// Where its stderr goes.
    pub(crate) log: Option<PathBuf>,
}

impl Launch<'_> {
    /// The arguments after the program.
    pub(crate) fn arguments(&self) -> [String; 7] {
        [
            "run-stage".to_owned(),
            "--store".to_owned(),
            self.store.to_owned(),
            "--spec".to_owned(),
            self.spec.to_string(),
            "--attempt".to_owned(),
            self.attempt.to_string(),
        ]
    }

    /// Starts the worker; what it says and its end arrive as notes about `index`.
    pub(crate) fn start(&self, index: usize, notes: &Sender<Note>) -> io::Result<Child> {
        let stderr = match &self.log {
            Some(log) => Stdio::from(OpenOptions::new().create(true).append(true).open(log)?),
            None => Stdio::null(),
        };
        let mut command = Command::new(self.program);
        command
            .args(self.arguments())
            .arg("--tether")
            .env_clear()
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            // Kinds divide their work themselves; a library's own pool would change sums' order.
            .env("RAYON_NUM_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // A group of its own: the terminal's Ctrl-C reaches the engine alone, and all that the
            // worker starts can be ended with it.
            .process_group(0);
        if let Some(folder) = self.log.as_deref().and_then(Path::parent) {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let started = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no pipe to the worker"))
            .and_then(|stdout| listen(index, child.id(), stdout, notes));
        if let Err(error) = started {
            process::kill_group(child.id());
            child.wait()?;
            return Err(error);
        }
        Ok(child)
    }
}

fn listen(index: usize, pid: u32, stdout: ChildStdout, notes: &Sender<Note>) -> io::Result<()> {
    let tell = notes.clone();
    std::thread::Builder::new()
        .name(format!("read {pid}"))
        .spawn(move || {
            read_events(stdout, |event| tell.send(Note::Event(index, event)).is_ok());
            // A loop that is gone needs no notes.
            drop(tell.send(Note::Closed(index)));
        })?;
    let tell = notes.clone();
    std::thread::Builder::new()
        .name(format!("wait {pid}"))
        .spawn(move || {
            if let Some(pid) = process::to_pid(pid) {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while let Err(rustix::io::Errno::INTR) =
                    rustix::process::waitid(WaitId::Pid(pid), options)
                {}
            }
            drop(tell.send(Note::Exited(index)));
        })?;
    Ok(())
}

/// Reads events until the stream ends or `take` wants no more.
fn read_events(stream: impl io::Read, mut take: impl FnMut(Event) -> bool) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let event = serde_json::from_slice(&line).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&line);
            let start: String = text.trim_end().chars().take(200).collect();
            Event::Message {
                level: Level::Warning,
                text: format!("the stage printed: {start}"),
            }
        });
        if !take(event) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_text_becomes_a_warning() {
        let text = b"{\"snapshot\":{\"progress\":3}}\nhello\n\xff\xfe\n{\"snapshot\":";
        let mut events = Vec::new();
        read_events(&text[..], |event| {
            events.push(event);
            true
        });
        assert_eq!(events[0], Event::Snapshot { progress: 3 });
        let warned =
            |e: &Event, what: &str| matches!(e, Event::Message { text, .. } if text.contains(what));
        assert!(warned(&events[1], "hello"));
        assert_eq!(events.len(), 4);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let endless = io::repeat(b'x').take(5 * LINE_BYTES);
        let mut count = 0;
        read_events(endless, |_| {
            count += 1;
            true
        });
        assert_eq!(count, 5);
    }
}
