//! The worker: runs one action from its spec and the store, and needs nothing else.
//!
//! In order: an action record is there: done. Write `started.json`; place the inputs; run the kind on a
//! thread with a large stack; publish every declared output; create the action record if there is none,
//! else compare; write `exit.json`. Nothing becomes visible before the record, so an attempt may be
//! killed at any instant and two may run at once. Stdout carries events as JSON lines.

mod attempt;
mod end;
mod thread;

use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use starling_cache::{Digest, LocalStore};
use starling_contract::Shard;

use self::attempt::Attempt;
use crate::run::host::with_sources;
use crate::run::launch::{Answer, Order};
use crate::run::spec::{ActionSpec, SpecError};
use crate::run::{clock, numerics, process};
use crate::{Registry, exit};

/// What a worker is started for.
#[derive(Debug, Clone)]
pub enum Request {
    /// One action.
    Action {
        /// Its spec, a blob of the store.
        spec: Digest,
        /// Which attempt it is.
        attempt: u32,
        /// Only a share of its chunks.
        shard: Option<Shard>,
        /// Beside a result that is there: all of the work is done, without snapshots and chunks of before, and
        /// the record goes to the attempt instead of the action.
        beside: bool,
    },
    /// One light action after another, as told on stdin.
    Serve,
}

/// Reads a share as the command line has it: `2/4` is the second of four.
///
/// # Errors
/// A text that says what is expected.
pub fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/');
    let parts =
        parts.and_then(|(n, of)| Some((n.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
    match parts {
        Some((n, of)) if (1..=of).contains(&n) => Ok(Shard { number: n - 1, of }),
        _ => Err("expected a share such as `2/4`".to_owned()),
    }
}

/// Runs the action of a spec; returns the exit code of the process.
///
/// `tether` makes the process end at once, with all that it started, when its stdin ends: so a worker
/// dies with the engine that holds the other end.
#[must_use]
pub fn main(store_url: &str, request: &Request, tether: bool, registry: &Registry) -> u8 {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ] {
        // Without the handler the signal just ends the process, which is safe too.
        drop(signal_hook::flag::register(signal, Arc::clone(&stop)));
    }
    let open = || LocalStore::open_url(store_url);
    match request {
        Request::Action {
            spec,
            attempt,
            shard,
            beside,
        } => {
            if tether {
                hold_tether(|_| {});
            }
            let task = Task {
                spec,
                attempt: *attempt,
                shard: *shard,
                beside: *beside,
            };
            match open() {
                Ok(store) => run_action(&store, &task, None, stop, registry),
                Err(error) => complain(&with_sources(&error), exit::CACHE),
            }
        }
        Request::Serve => {
            // Told before anything that can fail, so that no order is lost.
            let (sender, orders) = mpsc::channel();
            hold_tether(move |line| drop(sender.send(line.to_vec())));
            match open() {
                Ok(store) => serve(&store.without_sync(), &orders, &stop, registry),
                Err(error) => complain(&with_sources(&error), exit::CACHE),
            }
        }
    }
}

/// Runs one action after another as told; ends with the tether, or when it was asked to stop.
fn serve(
    store: &LocalStore,
    orders: &Receiver<Vec<u8>>,
    stop: &Arc<AtomicBool>,
    registry: &Registry,
) -> u8 {
    use std::io::Write as _;
    for line in orders {
        let order: Order = match serde_json::from_slice(&line) {
            Ok(order) => order,
            Err(error) => return complain(&format!("an order: {error}"), exit::BUG),
        };
        let task = Task {
            spec: &order.spec,
            attempt: order.attempt,
            shard: None,
            beside: false,
        };
        let done = run_action(store, &task, order.log, Arc::clone(stop), registry);
        let mut answer = serde_json::to_vec(&Answer { done }).unwrap_or_default();
        answer.push(b'\n');
        let mut out = std::io::stdout();
        if out.write_all(&answer).and_then(|()| out.flush()).is_err() {
            return exit::BUG;
        }
        // Asked to stop, by its engine or for a time limit: the next action needs a process without the wish.
        if stop.load(Ordering::Relaxed) {
            return exit::DONE;
        }
    }
    exit::DONE
}

/// What one action is run for.
struct Task<'a> {
    spec: &'a Digest,
    attempt: u32,
    shard: Option<Shard>,
    beside: bool,
}

fn run_action(
    store: &LocalStore,
    task: &Task<'_>,
    log: Option<PathBuf>,
    stop: Arc<AtomicBool>,
    registry: &Registry,
) -> u8 {
    let words = Words(log);
    let spec = match ActionSpec::read(store, task.spec) {
        Ok(spec) => spec,
        Err(error @ SpecError::Store(_)) => {
            return words.complain(&with_sources(&error), exit::CACHE);
        }
        Err(error) => return words.complain(&with_sources(&error), exit::PIPELINE),
    };
    Attempt {
        store,
        key: spec.key(),
        spec: &spec,
        spec_digest: *task.spec,
        attempt: task.attempt,
        shard: task.shard,
        beside: task.beside,
        words,
        registry,
        stop,
        started_unix: clock::now_unix(),
        began: Instant::now(),
        numerics: numerics::class(&spec.device),
    }
    .run()
}

/// Where the worker's own words go: its stderr, or a log that is not its stderr.
struct Words(Option<PathBuf>);

impl Words {
    fn complain(&self, message: &str, code: u8) -> u8 {
        use std::io::Write as _;
        let Some(log) = &self.0 else {
            return complain(message, code);
        };
        let opened = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        // The exit record says it too.
        drop(opened.and_then(|mut log| writeln!(log, "error: {message}")));
        code
    }
}

/// Says what went wrong before there was an attempt to write it to.
fn complain(message: &str, code: u8) -> u8 {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "error: {message}"));
    code
}

/// Ends the process when its stdin does; `hear` takes the lines that come before.
fn hold_tether(mut hear: impl FnMut(&[u8]) + Send + 'static) {
    let wait = move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        loop {
            match stdin.read_until(b'\n', &mut line) {
                Ok(0) => process::kill_self(),
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => process::kill_self(),
                Ok(_) if line.ends_with(b"\n") => {
                    hear(&line);
                    line.clear();
                }
                _ => {}
            }
        }
    };
    // Without its tether the worker must not run: nobody would stop it.
    if std::thread::Builder::new()
        .name("tether".into())
        .spawn(wait)
        .is_err()
    {
        process::kill_self();
    }
}
