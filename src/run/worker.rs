//! The worker: runs one action from its spec and the store, and needs nothing else.
//!
//! In order: an action record is there: done. Write `started.json`; place the inputs; run the kind on a
//! thread with a large stack; publish every declared output; create the action record if there is none,
//! else compare; write `exit.json`. Nothing becomes visible before the record, so an attempt may be
//! killed at any instant and two may run at once. Stdout carries events as JSON lines.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use starling_cache::{
    ActionKey, ActionRecord, CacheError, Creation, Digest, LocalStore, Memo, Mode, OutputRef,
    Owner, Store,
};
use starling_contract::{Event, EventSink as _, Level, Shard, StageContext, StageError};

use crate::plan::line;
use crate::report::{Cause, duration};
use crate::run::again::put_again;
use crate::run::chunks::ChunkStore;
use crate::run::exit_record::ExitRecord;
use crate::run::host::{WorkerHost, with_sources};
use crate::run::launch::{Answer, Order};
use crate::run::scratch::{Scratch, Started, sweep};
use crate::run::spec::{ActionSpec, SpecError};
use crate::run::{clock, numerics, process};
use crate::{Registry, exit};

/// The stage's stack; deep recursion over nested data must not end the worker.
const STACK_BYTES: usize = 256 << 20;

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

/// Why an attempt has no outputs.
struct End {
    cause: Cause,
    message: String,
    hint: Option<String>,
}

impl End {
    fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            hint: None,
        }
    }

    fn of_store(error: &CacheError) -> Self {
        Self::new(Cause::Store, with_sources(error))
    }

    fn of_stage(error: &StageError) -> Self {
        let cause = match error {
            StageError::Interrupted => Cause::Interrupted,
            StageError::Device(_) => Cause::Device,
            StageError::Transient { after, .. } => Cause::Transient {
                after: after.map(|seconds| seconds.clamp(0.0, 1e6).ceil() as u64),
            },
            _ => Cause::Stage,
        };
        Self {
            cause,
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        }
    }

    /// An input that could not be placed.
    fn unusable_input(port: &str, error: &CacheError) -> Self {
        let message = format!("input `{port}`: {}", with_sources(error));
        if !error.is_lost_blob() {
            return Self::new(Cause::Store, message);
        }
        Self {
            cause: Cause::LostInput,
            message,
            hint: Some("run again: the stage that made these bytes runs first".to_owned()),
        }
    }

    fn code(&self) -> u8 {
        match self.cause {
            Cause::Interrupted => exit::INTERRUPTED,
            Cause::Device => exit::DEVICE,
            Cause::Store | Cause::LostInput => exit::CACHE,
            _ => exit::STAGE,
        }
    }
}

struct Attempt<'a> {
    store: &'a dyn Store,
    spec: &'a ActionSpec,
    spec_digest: Digest,
    key: ActionKey,
    attempt: u32,
    shard: Option<Shard>,
    beside: bool,
    words: Words,
    registry: &'a Registry,
    stop: Arc<AtomicBool>,
    started_unix: f64,
    began: Instant,
    numerics: String,
}

impl Attempt<'_> {
    fn run(&self) -> u8 {
        match self.store.action(&self.key) {
            Ok(Some(_)) if !self.beside => return exit::DONE,
            Ok(_) => {}
            Err(error) => return self.words.complain(&with_sources(&error), exit::CACHE),
        }
        if let Err(error) = self.begin() {
            return self.words.complain(&with_sources(&error), exit::CACHE);
        }
        let (result, reached) = self.work();
        let code = result.as_ref().err().map_or(exit::DONE, End::code);
        if let Err(error) = self.leave(result.err(), reached, code) {
            return self.words.complain(&with_sources(&error), exit::CACHE);
        }
        code
    }

    /// The parameters that say where the work stops.
    fn stops(&self) -> &'static [&'static str] {
        let kind = self.registry.get(&self.spec.kind);
        kind.map_or(&[], |kind| kind.stops())
    }

    fn begin(&self) -> Result<(), CacheError> {
        sweep(self.store, &self.key)?;
        let started = Started {
            owner: Owner::current(),
            started_unix: self.started_unix,
            numerics: self.numerics.clone(),
        };
        started.write(self.store, &self.key, self.attempt)
    }

    fn work(&self) -> (Result<(), End>, Option<String>) {
        let scratch = match Scratch::make(self.store, &self.key, self.attempt) {
            Ok(scratch) => scratch,
            Err(error) => return (Err(End::of_stage(&error)), None),
        };
        let host = WorkerHost::new(
            self.store,
            self.key,
            line(&self.spec.fields, self.stops()),
            self.numerics.clone(),
            scratch.part("resume"),
            Arc::clone(&self.stop),
            Box::new(std::io::stdout()),
        );
        let host = if self.beside {
            host.without_memory()
        } else {
            host.with_chunks(ChunkStore {
                store: self.store,
                spec: self.spec,
                spec_digest: self.spec_digest,
                numerics: &self.numerics,
                attempt: self.attempt,
                shard: self.shard,
                folder: scratch.part("resume"),
                since: Mutex::new(self.began),
            })
        };
        let result = match self.run_kind(&host, &scratch) {
            Ok(Ran::All) => self.publish(&host, &scratch),
            Ok(Ran::Shard) => Ok(()),
            Err(end) => Err(end),
        };
        host.flush();
        (result, host.reached())
    }

    /// Runs the kind on a thread of its own, under the spec's time limit.
    fn run_kind(&self, host: &WorkerHost<'_>, scratch: &Scratch) -> Result<Ran, End> {
        let kind = self
            .registry
            .get(&self.spec.kind)
            .filter(|kind| kind.version() == self.spec.version)
            .ok_or_else(|| {
                let (kind, version) = (&self.spec.kind, self.spec.version);
                End::new(
                    Cause::Store,
                    format!("this program has no kind `{kind}` of version {version}"),
                )
            })?;
        let (single, many) = self.inputs(scratch)?;
        let externals = self.externals(scratch)?;
        let words = keep_panic_words();
        let (done, outcome) = mpsc::channel();
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name(self.spec.kind.clone())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || {
                    let run = || {
                        let mut context = StageContext::new(
                            host,
                            single,
                            many,
                            externals,
                            scratch.part("outputs"),
                            scratch.part("work"),
                            self.spec.threads,
                            self.spec.device.clone(),
                        );
                        kind.run(self.spec.params.clone(), &mut context)
                    };
                    // The receiver waits in this scope for as long as the thread lives.
                    drop(done.send(panic::catch_unwind(AssertUnwindSafe(run))));
                })
                .map_err(|e| End::new(Cause::Launch, format!("cannot start a thread: {e}")))?;
            match self.wait(&outcome, host) {
                (Ok(Ok(())), _) if self.shard.is_some() => Err(End::new(
                    Cause::Output,
                    format!("kind `{}` does not work in shards", self.spec.kind),
                )),
                (Ok(Ok(())), _) => Ok(Ran::All),
                (Ok(Err(StageError::ShardDone)), _) if self.shard.is_some() => Ok(Ran::Shard),
                (Ok(Err(StageError::Interrupted)), Over::Yes) => Err(self.over_limit()),
                (Ok(Err(error)), _) => Err(End::of_stage(&error)),
                (Err(payload), _) => Err(End::new(
                    Cause::Panic,
                    panic_message(payload.as_ref(), &words),
                )),
            }
        })
    }

    /// Waits for the stage; asks it to stop at its time limit and ends the process after the grace.
    fn wait(&self, outcome: &Receiver<Outcome>, host: &WorkerHost<'_>) -> (Outcome, Over) {
        let lost = || -> Outcome { Err(Box::new("the stage's thread vanished")) };
        let Some(limit) = self.spec.time_limit.map(seconds) else {
            return (outcome.recv().unwrap_or_else(|_| lost()), Over::No);
        };
        match outcome.recv_timeout(limit.saturating_sub(self.began.elapsed())) {
            Ok(outcome) => return (outcome, Over::No),
            Err(RecvTimeoutError::Disconnected) => return (lost(), Over::No),
            Err(RecvTimeoutError::Timeout) => self.stop.store(true, Ordering::Relaxed),
        }
        match outcome.recv_timeout(seconds(self.spec.grace)) {
            Ok(outcome) => (outcome, Over::Yes),
            Err(RecvTimeoutError::Disconnected) => (lost(), Over::Yes),
            Err(RecvTimeoutError::Timeout) => {
                let end = self.over_limit();
                let code = end.code();
                host.flush();
                drop(self.leave(Some(end), host.reached(), code));
                leave_process(code)
            }
        }
    }

    fn over_limit(&self) -> End {
        let limit = duration(self.spec.time_limit.unwrap_or_default());
        End {
            cause: Cause::TimeLimit,
            message: format!("ran past its time limit of {limit}"),
            hint: Some("raise `time-limit`, or run again to go on from its last snapshot".into()),
        }
    }

    /// Places the inputs: those of single ports, and those of ports that take several.
    fn inputs(&self, scratch: &Scratch) -> Result<(Places, BTreeMap<String, Places>), End> {
        let mut single = Places::new();
        let mut many: BTreeMap<String, Places> = BTreeMap::new();
        for (index, input) in self.spec.inputs.iter().enumerate() {
            // Names come from the pipeline's author, so they do not become file names.
            let path = scratch.part("inputs").join(index.to_string());
            self.store
                .materialize(&input.artifact, &path, Mode::Link)
                .map_err(|e| End::unusable_input(&input.port, &e))?;
            match &input.name {
                Some(name) => {
                    many.entry(input.port.clone())
                        .or_default()
                        .insert(name.clone(), path);
                }
                None => {
                    single.insert(input.port.clone(), path);
                }
            }
        }
        Ok((single, many))
    }

    /// Files outside the store: the store's copy if it has one, else the file itself, read again, since
    /// it may have changed after it was planned.
    fn externals(&self, scratch: &Scratch) -> Result<Places, End> {
        let mut places = Places::new();
        for (index, external) in self.spec.externals.iter().enumerate() {
            let artifact = &external.artifact;
            let placed = scratch.part("inputs").join(format!("outside-{index}"));
            let in_store = self
                .store
                .has(&artifact.digest)
                .is_ok_and(|there| there)
                .then(|| self.store.materialize(artifact, &placed, Mode::Link));
            if let Some(Ok(())) = in_store {
                places.insert(external.param.clone(), placed);
                continue;
            }
            let found = Memo::default()
                .digest_path(&external.path, clock::now_unix())
                .map_err(|e| End::of_store(&e))?;
            if found.digest != artifact.digest {
                return Err(End {
                    cause: Cause::Stage,
                    message: format!("{} changed while the run began", external.path.display()),
                    hint: Some("run again; the plan will use its new content".into()),
                });
            }
            places.insert(external.param.clone(), external.path.clone());
        }
        Ok(places)
    }

    /// Stores the outputs and creates the action's record.
    fn publish(&self, host: &WorkerHost<'_>, scratch: &Scratch) -> Result<(), End> {
        let mut outputs = BTreeMap::new();
        for port in &self.spec.outputs {
            outputs.insert(port.clone(), self.publish_output(port, scratch)?);
        }
        let record = ActionRecord {
            key: self.key,
            kind: self.spec.kind.clone(),
            version: self.spec.version,
            stage: self.spec.stage.clone(),
            spec: self.spec_digest,
            fields: self.spec.fields.clone(),
            outputs,
            numerics: self.numerics.clone(),
            attempt: self.attempt,
            started_unix: self.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            max_rss_bytes: process::peak_memory(std::process::id()),
            threads: u32::try_from(self.spec.threads).unwrap_or(u32::MAX),
        };
        if self.beside {
            return put_again(self.store, &record).map_err(|e| End::of_store(&e));
        }
        let creation = self
            .store
            .create_action(&self.key, &record)
            .map_err(|e| End::of_store(&e))?;
        if let Creation::Existing(first) = creation {
            let differing = record.differing_outputs(&first);
            if !differing.is_empty() {
                host.emit(Event::Message {
                    level: Level::Warning,
                    text: nondeterminism(&differing, &record, &first),
                });
            }
        }
        // The record is what counts; snapshots that stay behind only cost space.
        drop(host.drop_snapshots(!self.stops().is_empty()));
        for warning in self.store.take_warnings() {
            host.emit(Event::Message {
                level: Level::Warning,
                text: warning.to_string(),
            });
        }
        Ok(())
    }

    fn publish_output(&self, port: &str, scratch: &Scratch) -> Result<OutputRef, End> {
        let path = scratch.part("outputs").join(port);
        if !path.exists() {
            let kind = &self.spec.kind;
            return Err(End::new(
                Cause::Output,
                format!("kind `{kind}` ended without writing its output `{port}`"),
            ));
        }
        self.store.put_tree(&path).map_err(|e| End::of_store(&e))
    }

    /// Writes `exit.json`.
    fn leave(&self, end: Option<End>, reached: Option<String>, code: u8) -> Result<(), CacheError> {
        let log = self.store.attempt_log(&self.key, self.attempt);
        if let Some(end) = &end {
            self.words.complain(&end.message, 0);
        }
        let (cause, message, hint) = match end {
            Some(end) => (Some(end.cause), end.message, end.hint),
            None => (None, String::new(), None),
        };
        let record = ExitRecord {
            code: Some(i32::from(code)),
            signal: None,
            cause,
            message,
            hint,
            reached,
            shard: self.shard.map(|s| format!("{}/{}", s.number + 1, s.of)),
            started_unix: self.started_unix,
            seconds: self.began.elapsed().as_secs_f64(),
            max_rss_bytes: process::peak_memory(std::process::id()),
            stderr_tail: log.as_deref().map(process::tail).unwrap_or_default(),
        };
        record.write(self.store, &self.key, self.attempt)
    }
}

/// Paths by port, name or parameter.
type Places = BTreeMap<String, PathBuf>;

/// What a stage's thread ended with: its result, or a panic's payload.
type Outcome = Result<Result<(), StageError>, Box<dyn Any + Send>>;

/// What a stage did.
enum Ran {
    /// All of its work.
    All,
    /// Its share of the chunks.
    Shard,
}

/// Whether a stage was asked to stop for its time limit.
enum Over {
    Yes,
    No,
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Ends the process although the stage's thread still runs, since it does not listen.
#[expect(
    clippy::exit,
    reason = "a thread that ignores the wish to stop can only be ended with its process"
)]
fn leave_process(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

fn nondeterminism(ports: &[String], mine: &ActionRecord, first: &ActionRecord) -> String {
    let classes = if mine.numerics == first.numerics {
        "the kind is not deterministic".to_owned()
    } else {
        format!(
            "numerics classes `{}` and `{}`",
            first.numerics, mine.numerics
        )
    };
    format!(
        "output {} differs from that of attempt {}, which finished first and stays: {classes}",
        ports.join(", "),
        first.attempt
    )
}

/// Keeps what the panic hook says about the place, which the payload does not hold.
fn keep_panic_words() -> Arc<Mutex<Option<String>>> {
    let words = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&words);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map(|l| format!("{}:{}", l.file(), l.line()));
        // The first panic is the cause; others may follow from it.
        let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = place;
        }
        drop(kept);
        before(info);
    }));
    words
}

fn panic_message(payload: &(dyn Any + Send), place: &Mutex<Option<String>>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let place = place
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .map(|p| format!(" at {p}"))
        .unwrap_or_default();
    format!("panicked{place}: {text}")
}
