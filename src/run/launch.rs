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
use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::{Event, Level, Shard};

use crate::run::{cards, process};

/// The longest line that a worker may write, in bytes; a longer one is taken in pieces.
const LINE_BYTES: u64 = 1 << 20;

/// A worker process of this run, numbered from 0.
pub(crate) type WorkerId = u64;

/// What the loop is told.
pub(crate) enum Note {
    /// The stage tells something.
    Event(WorkerId, Event),
    /// A worker that takes one action after another is done with one, with this exit code.
    Done(WorkerId, u8),
    /// The worker closed its stdout.
    Closed(WorkerId),
    /// The worker ended and waits to be reaped.
    Exited(WorkerId),
    /// Somebody asked to stop.
    Stop,
}

/// What a worker that takes one action after another is told, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: Digest,
    pub(crate) attempt: u32,
    /// Where the worker's own words about the action go.
    pub(crate) log: Option<PathBuf>,
}

/// What such a worker answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) done: u8,
}

/// How to start a worker.
#[derive(Clone)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) environment: &'a [(OsString, OsString)],
    /// Variables that only this worker may see.
    pub(crate) secrets: Vec<(String, OsString)>,
    /// The only NVIDIA device that it may see; where there is none, its environment decides.
    pub(crate) card: Option<&'a str>,
    pub(crate) store: &'a str,
    /// The action; none for a worker that is told later.
    pub(crate) work: Option<Work<'a>>,
    /// Where its stderr goes.
    pub(crate) log: Option<PathBuf>,
}

/// The action that a worker is started for.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) spec: &'a Digest,
    pub(crate) attempt: u32,
    pub(crate) shard: Option<Shard>,
}

impl Launch<'_> {
    /// The arguments after the program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect::<Vec<_>>();
        let mut arguments = words(&["run-stage", "--store", self.store]);
        match self.work {
            Some(work) => {
                let (spec, attempt) = (work.spec.to_string(), work.attempt.to_string());
                arguments.extend(words(&["--spec", &spec, "--attempt", &attempt]));
                if let Some(shard) = work.shard {
                    let shard = format!("{}/{}", shard.number + 1, shard.of);
                    arguments.extend(words(&["--shard", &shard]));
                }
            }
            None => arguments.push("--serve".to_owned()),
        }
        arguments
    }

    /// Starts the worker; what it says and its end arrive as notes about `id`.
    pub(crate) fn start(&self, id: WorkerId, notes: &Sender<Note>) -> io::Result<Child> {
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
            .envs(self.secrets.iter().map(|(k, v)| (k, v)))
            .envs(self.card.map(|card| (cards::VARIABLE, card)))
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
            .and_then(|stdout| listen(id, child.id(), stdout, notes));
        if let Err(error) = started {
            process::kill_group(child.id());
            child.wait()?;
            return Err(error);
        }
        Ok(child)
    }
}

fn listen(id: WorkerId, pid: u32, stdout: ChildStdout, notes: &Sender<Note>) -> io::Result<()> {
    let tell = notes.clone();
    std::thread::Builder::new()
        .name(format!("read {pid}"))
        .spawn(move || {
            read_lines(stdout, |said| {
                let note = match said {
                    Said::Event(event) => Note::Event(id, event),
                    Said::Done(code) => Note::Done(id, code),
                };
                tell.send(note).is_ok()
            });
            // A loop that is gone needs no notes.
            drop(tell.send(Note::Closed(id)));
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
            drop(tell.send(Note::Exited(id)));
        })?;
    Ok(())
}

/// A line of a worker.
#[derive(Debug, PartialEq)]
enum Said {
    Event(Event),
    Done(u8),
}

/// Reads lines until the stream ends or `take` wants no more.
fn read_lines(stream: impl io::Read, mut take: impl FnMut(Said) -> bool) {
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
        if !take(understand(&line)) {
            return;
        }
    }
}

fn understand(line: &[u8]) -> Said {
    if let Ok(event) = serde_json::from_slice(line) {
        return Said::Event(event);
    }
    if let Ok(Answer { done }) = serde_json::from_slice(line) {
        return Said::Done(done);
    }
    let text = String::from_utf8_lossy(line);
    let start: String = text.trim_end().chars().take(200).collect();
    Said::Event(Event::Message {
        level: Level::Warning,
        text: format!("the stage printed: {start}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_text_becomes_a_warning() {
        let text =
            b"{\"snapshot\":{\"progress\":3}}\nhello\n{\"done\":4}\n\xff\xfe\n{\"snapshot\":";
        let mut said = Vec::new();
        read_lines(&text[..], |one| {
            said.push(one);
            true
        });
        assert_eq!(said[0], Said::Event(Event::Snapshot { progress: 3 }));
        let warned = |s: &Said, what: &str| matches!(s, Said::Event(Event::Message { text, .. }) if text.contains(what));
        assert!(warned(&said[1], "hello"));
        assert_eq!(said[2], Said::Done(4));
        assert_eq!(said.len(), 5);
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let endless = io::repeat(b'x').take(5 * LINE_BYTES);
        let mut count = 0;
        read_lines(endless, |_| {
            count += 1;
            true
        });
        assert_eq!(count, 5);
    }
}
