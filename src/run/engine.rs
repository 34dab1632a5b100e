//! The loop of a run.
//!
//! One thread decides. A stage is settled when all that it reads have outputs: its key is computed and
//! the store asked for its record. What the store lacks is started while threads and devices last, under
//! a lease that keeps two runs from the same action. Then the loop sleeps until a worker says something,
//! ends, or a clock asks for a look; it takes the result from the store and settles what reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use starling_cache::{ActionKey, ActionRecord, Lease, LeaseOutcome, Memo, Owner, Store};

use crate::pipeline::{Device, Mistake, Mistakes, Pipeline, PipelineInput};
use crate::plan::{self, Resolution, ResolveError, ResolvedAction};
use crate::report::{Cause, Failure, Reporter, RunEvent, StageTime, Summary};
use crate::run::active::{Active, Errand};
use crate::run::display::Display;
use crate::run::judge::{self, Ended};
use crate::run::launch::{Launch, Note};
use crate::run::manifest::{Manifest, ManifestStage, StageStatus};
use crate::run::options::{RunError, RunOptions, RunOutcome};
use crate::run::spec::{ActionSpec, SpecError, SpecExternal, SpecInput};
use crate::run::state::{Finished, Source, State};
use crate::run::{clock, display, numerics, scratch};
use crate::{Registry, exit};

/// How often memory and deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the store is asked for what another run makes.
const POLL: Duration = Duration::from_millis(100);
/// How often a lease says that its holder lives.
const BEAT: Duration = Duration::from_secs(20);
/// After how long without a beat a holder on another host is given up.
const STALE_SECONDS: f64 = 120.0;

/// Runs `pipeline`: afterwards `store` has every stage's outputs, or the outcome says why not.
///
/// # Errors
/// [`RunError`] when the store or the system refuses what the engine itself needs; a stage that fails
/// is an outcome, not an error.
pub fn run(
    pipeline: &Pipeline,
    registry: &Registry,
    store: &dyn Store,
    memo: &mut Memo,
    options: &RunOptions,
    reporter: &mut dyn Reporter,
) -> Result<RunOutcome, RunError> {
    let signals = Signals::listen()?;
    let mut engine = Engine::new(pipeline, registry, store, options, reporter, signals);
    engine.begin(memo)?;
    loop {
        if let Err(error) = engine.drive(memo) {
            engine.abandon();
            return Err(error);
        }
        // Showing reads bytes that may turn out damaged; then what made them runs again.
        if let Some(shown) = engine.show(memo)? {
            return engine.end(shown);
        }
    }
}

/// Signals that ask to stop, as notes; stops listening when dropped.
struct Signals {
    notes: Receiver<Note>,
    sender: Sender<Note>,
    handle: signal_hook::iterator::Handle,
}

impl Signals {
    fn listen() -> Result<Self, RunError> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let refused = |source| RunError::System {
            action: "listen for signals",
            source,
        };
        let (sender, notes) = mpsc::channel();
        let mut signals =
            signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(refused)?;
        let handle = signals.handle();
        let tell = sender.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for _ in signals.forever() {
                    if tell.send(Note::Stop).is_err() {
                        return;
                    }
                }
            })
            .map_err(refused)?;
        Ok(Self {
            notes,
            sender,
            handle,
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Whether somebody asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Asked,
    AtOnce,
}

struct Engine<'a> {
    pipeline: &'a Pipeline,
    registry: &'a Registry,
    store: &'a dyn Store,
    options: &'a RunOptions,
    reporter: &'a mut dyn Reporter,
    signals: Signals,
    owner: Owner,
    url: String,
    run: String,
    began: Instant,
    started_unix: f64,
    /// Threads that running stages share.
    budget: usize,
    states: Vec<State>,
    keys: Vec<Option<ActionKey>>,
    readers: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    running: BTreeSet<usize>,
    elsewhere: BTreeSet<usize>,
    /// Actions that workers of this run work on.
    taken: BTreeMap<ActionKey, usize>,
    /// Stages whose waiting for another run was told.
    told: BTreeSet<usize>,
    /// Stages that run again because bytes of theirs, or of what they read, were lost.
    healed: BTreeSet<usize>,
    /// Stages that ended with their outputs, in that order.
    ran: Vec<StageTime>,
    /// What is wrong with files that the pipeline names, before anything starts.
    wrong: Vec<Mistake>,
    begun: bool,
    last_beat: Instant,
    stop: Stop,
}

impl<'a> Engine<'a> {
    fn new(
        pipeline: &'a Pipeline,
        registry: &'a Registry,
        store: &'a dyn Store,
        options: &'a RunOptions,
        reporter: &'a mut dyn Reporter,
        signals: Signals,
    ) -> Self {
        let count = pipeline.stages.len();
        let mut readers = vec![Vec::new(); count];
        for (index, stage) in pipeline.stages.iter().enumerate() {
            let writers: BTreeSet<usize> = stage.inputs.iter().map(|input| input.stage).collect();
            for writer in writers {
                readers[writer].push(index);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = options.threads.or(pipeline.settings.threads);
        let started_unix = clock::now_unix();
        let owner = Owner::current();
        Self {
            url: store.url(),
            run: format!("{}-{}", clock::stamp(started_unix), owner.pid),
            budget: threads.unwrap_or(cores).max(1),
            states: (0..count).map(|_| State::Waiting).collect(),
            keys: vec![None; count],
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            taken: BTreeMap::new(),
            told: BTreeSet::new(),
            healed: BTreeSet::new(),
            ran: Vec::new(),
            wrong: Vec::new(),
            begun: false,
            began: Instant::now(),
            last_beat: Instant::now(),
            stop: Stop::No,
            pipeline,
            registry,
            store,
            options,
            reporter,
            signals,
            owner,
            started_unix,
            readers,
        }
    }

    /// Looks at every stage; a pipeline whose files are wrong or missing stops here, before it is a run.
    fn begin(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        self.reporter.report(&RunEvent::Begun {
            run: self.run.clone(),
            pipeline: self.pipeline.file.clone(),
            stages: self.pipeline.stages.len(),
        });
        self.settle(0..self.pipeline.stages.len(), memo)?;
        let wrong = std::mem::take(&mut self.wrong);
        if !wrong.is_empty() {
            let sources = self.pipeline.sources.clone();
            return Err(RunError::Pipeline(Box::new(Mistakes::new(sources, wrong))));
        }
        self.begun = true;
        Ok(self.manifest(None).write(self.store)?)
    }

    fn drive(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        loop {
            if self.may_start() {
                self.start_what_fits(memo)?;
            }
            let waiting = self.may_start() && !self.elsewhere.is_empty();
            if self.running.is_empty() && !waiting {
                return Ok(());
            }
            let pause = if waiting { POLL } else { TICK };
            match self.signals.notes.recv_timeout(pause) {
                Ok(note) => {
                    self.take(note, memo)?;
                    // Whatever else has arrived goes first, so that a talkative stage delays nothing.
                    while let Ok(note) = self.signals.notes.try_recv() {
                        self.take(note, memo)?;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.look(memo)?;
        }
    }

    fn may_start(&self) -> bool {
        let failed = || self.states.iter().any(State::blocks);
        self.stop == Stop::No && (self.options.keep_going || !failed())
    }

    /// Finds out about stages whose inputs are all there, and about those that this makes ready.
    fn settle(
        &mut self,
        stages: impl IntoIterator<Item = usize>,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let mut queue: VecDeque<usize> = stages.into_iter().collect();
        while let Some(index) = queue.pop_front() {
            if !matches!(self.states[index], State::Waiting) {
                continue;
            }
            let inputs = &self.pipeline.stages[index].inputs;
            if let Some(by) = inputs.iter().find(|i| self.states[i.stage].blocks()) {
                self.block(index, by.stage);
                queue.extend(&self.readers[index]);
                continue;
            }
            // At the beginning the files of stages that wait are looked at, too.
            let waits = |i: &PipelineInput| self.states[i.stage].record().is_none();
            if self.begun && inputs.iter().any(waits) {
                continue;
            }
            self.resolve(index, memo)?;
            if matches!(self.states[index], State::Done(_) | State::Failed(_)) {
                queue.extend(&self.readers[index]);
            }
        }
        self.pass_on_warnings();
        Ok(())
    }

    fn resolve(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let records = |stage: usize| self.states[stage].record();
        let resolution = plan::resolve(
            self.pipeline,
            index,
            self.registry,
            &records,
            self.store,
            memo,
            clock::now_unix(),
        );
        let wrong = match resolution {
            Ok(Resolution::Waits(_)) => return Ok(()),
            Ok(Resolution::Action(action)) => {
                self.keys[index] = Some(action.key);
                match action.cached {
                    Some(record) => self.have(index, record, Source::Cached),
                    None => {
                        self.states[index] = State::Ready(Box::new(action));
                        self.ready.insert(index);
                    }
                }
                return Ok(());
            }
            Ok(Resolution::Missing(action)) => {
                self.keys[index] = Some(action.key);
                action.mistakes(&self.pipeline.stages[index])
            }
            Err(ResolveError::Mistakes(wrong)) => wrong,
            Err(ResolveError::Store(error)) => return Err(error.into()),
        };
        if self.begun {
            // The files were as they should be when the run began.
            let message = wrong.iter().map(ToString::to_string).collect::<Vec<_>>();
            let mut failure = self.failure(index, 0, Cause::Stage, message.join("; "));
            failure.hint = wrong.first().and_then(Mistake::help);
            return self.fail(index, failure, memo);
        }
        self.wrong.extend(wrong);
        Ok(())
    }

    /// Takes note that the stage's outputs are in the store.
    fn have(&mut self, index: usize, record: ActionRecord, source: Source) {
        let stage = self.pipeline.stages[index].name.clone();
        let key = record.key.to_string();
        let event = match &source {
            Source::Ran(seconds) => {
                let figure = match &self.states[index] {
                    State::Running(active) => active.figure.clone(),
                    _ => String::new(),
                };
                self.ran.push(StageTime {
                    stage: stage.clone(),
                    seconds: *seconds,
                });
                RunEvent::Done {
                    stage,
                    key,
                    seconds: *seconds,
                    figure,
                }
            }
            Source::Cached | Source::Elsewhere => RunEvent::Cached { stage, key },
        };
        self.reporter.report(&event);
        self.states[index] = State::Done(Box::new(Finished { record, source }));
    }

    fn block(&mut self, index: usize, by: usize) {
        self.states[index] = State::Blocked;
        self.reporter.report(&RunEvent::Blocked {
            stage: self.pipeline.stages[index].name.clone(),
            by: self.pipeline.stages[by].name.clone(),
        });
    }

    fn pass_on_warnings(&mut self) {
        for warning in self.store.take_warnings() {
            self.reporter.report(&RunEvent::Notice {
                text: warning.to_string(),
            });
        }
    }

    // Starting.

    /// Starts stages while threads and devices last. One that turns out to be done already makes others
    /// ready, so it goes on until a pass starts nothing.
    fn start_what_fits(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        loop {
            let fitting = |&index: &usize| self.fits(index);
            let Some(index) = self.ready.iter().copied().find(fitting) else {
                return Ok(());
            };
            if !self.may_start() {
                return Ok(());
            }
            self.start(index, memo)?;
        }
    }

    fn threads_of(&self, index: usize) -> usize {
        let asked = self.pipeline.stages[index].threads;
        asked.unwrap_or(self.budget).clamp(1, self.budget)
    }

    fn fits(&self, index: usize) -> bool {
        let active = || {
            self.running.iter().filter_map(|&i| match &self.states[i] {
                State::Running(active) => Some(active),
                _ => None,
            })
        };
        let used: usize = active().map(|a| a.threads).sum();
        let cuda = self.pipeline.stages[index].device == Device::Cuda;
        used + self.threads_of(index) <= self.budget && !(cuda && active().any(|a| a.cuda))
    }

    fn start(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        self.ready.remove(&index);
        let State::Ready(action) = std::mem::replace(&mut self.states[index], State::Waiting)
        else {
            return Ok(());
        };
        let key = action.key;
        if self.taken.contains_key(&key) {
            self.wait_for(index, action);
            return Ok(());
        }
        let now = clock::now_unix();
        let lease = match self
            .store
            .try_lease(&key, &self.owner, now, STALE_SECONDS)?
        {
            LeaseOutcome::Held(lease) => lease,
            LeaseOutcome::Busy(_) => {
                self.tell_waiting(index, key);
                self.wait_for(index, action);
                return Ok(());
            }
        };
        // Another run may have finished it, or its worker may outlive it for a moment.
        if let Some(record) = self.store.action(&key)? {
            self.store.release_lease(&lease)?;
            self.have(index, record, Source::Elsewhere);
            return self.settle(self.readers[index].clone(), memo);
        }
        if scratch::somebody_works(self.store, &key)? {
            self.store.release_lease(&lease)?;
            self.wait_for(index, action);
            return Ok(());
        }
        self.launch(index, action, lease, memo)
    }

    fn tell_waiting(&mut self, index: usize, key: ActionKey) {
        if self.told.insert(index) {
            self.reporter.report(&RunEvent::Elsewhere {
                stage: self.pipeline.stages[index].name.clone(),
                key: key.to_string(),
            });
        }
    }

    fn wait_for(&mut self, index: usize, action: Box<ResolvedAction>) {
        self.states[index] = State::Elsewhere(action, Instant::now() + POLL);
        self.elsewhere.insert(index);
    }

    fn launch(
        &mut self,
        index: usize,
        action: Box<ResolvedAction>,
        lease: Lease,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let key = action.key;
        let spec = match self.spec(index, &action).publish(self.store) {
            Ok(spec) => spec,
            Err(SpecError::Store(error)) => return Err(error.into()),
            Err(error) => {
                self.store.release_lease(&lease)?;
                let failure = self.failure(index, 0, Cause::Launch, error.to_string());
                return self.fail(index, failure, memo);
            }
        };
        let attempt = self.store.next_attempt(&key)?;
        let launch = Launch {
            program: &self.options.program,
            environment: &self.options.environment,
            store: &self.url,
            spec: &spec,
            attempt,
            log: self.store.attempt_log(&key, attempt),
        };
        let by_hand = Launch {
            attempt: attempt.saturating_add(1),
            ..launch.clone()
        };
        let rerun = command_line(self.options, &by_hand);
        let child = match launch.start(index, &self.signals.sender) {
            Ok(child) => child,
            Err(error) => {
                self.store.release_lease(&lease)?;
                let program = self.options.program.display();
                let message = format!("cannot start a worker of {program}: {error}");
                let failure = self.failure(index, attempt, Cause::Launch, message);
                return self.fail(index, failure, memo);
            }
        };
        let stage = &self.pipeline.stages[index];
        let errand = Errand {
            key,
            attempt,
            lease,
            threads: self.threads_of(index),
            cuda: stage.device == Device::Cuda,
            rerun,
            started_unix: clock::now_unix(),
            time_limit: stage.time_limit,
            grace: self.options.grace,
        };
        let active = Active::new(errand, child);
        self.reporter.report(&RunEvent::Started {
            stage: stage.name.clone(),
            key: key.to_string(),
            attempt,
            threads: active.threads,
            pid: active.pid(),
        });
        self.states[index] = State::Running(Box::new(active));
        self.running.insert(index);
        self.taken.insert(key, index);
        Ok(())
    }

    fn spec(&self, index: usize, action: &ResolvedAction) -> ActionSpec {
        let stage = &self.pipeline.stages[index];
        let inputs = stage.inputs.iter().filter_map(|input| {
            let record = self.states[input.stage].record()?;
            Some(SpecInput {
                port: input.port.clone(),
                name: input.name.clone(),
                artifact: *record.outputs.get(&input.output)?,
            })
        });
        let externals = action.externals.iter().map(|external| SpecExternal {
            param: external.param.clone(),
            // A worker has another working folder.
            path: std::path::absolute(&external.path).unwrap_or_else(|_| external.path.clone()),
            artifact: external.output,
        });
        let outputs = self.registry.get(&stage.kind).map(|kind| kind.ports());
        ActionSpec {
            format: ActionSpec::FORMAT,
            stage: stage.name.clone(),
            kind: action.fields.kind.clone(),
            version: action.fields.version,
            params: stage.params.clone(),
            fields: action.fields.clone(),
            inputs: inputs.collect(),
            externals: externals.collect(),
            outputs: outputs.map_or_else(Vec::new, |ports| {
                ports.outputs.iter().map(|o| o.name.to_owned()).collect()
            }),
            threads: self.threads_of(index),
            device: stage.device.name().to_owned(),
            time_limit: stage.time_limit.map(|limit| limit.as_secs_f64()),
            grace: self.options.grace.as_secs_f64(),
        }
    }

    // Hearing.

    fn take(&mut self, note: Note, memo: &mut Memo) -> Result<(), RunError> {
        match note {
            Note::Event(index, event) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.hear(&event);
                    self.reporter.report(&RunEvent::Stage {
                        stage: self.pipeline.stages[index].name.clone(),
                        what: event,
                    });
                }
                Ok(())
            }
            Note::Closed(index) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.close();
                }
                self.conclude(index, memo)
            }
            Note::Exited(index) => {
                if let State::Running(active) = &mut self.states[index] {
                    active.reap().map_err(|source| RunError::System {
                        action: "wait for a worker",
                        source,
                    })?;
                }
                self.conclude(index, memo)
            }
            Note::Stop => {
                self.ask_to_stop();
                Ok(())
            }
        }
    }

    fn ask_to_stop(&mut self) {
        self.stop = match self.stop {
            Stop::No => Stop::Asked,
            Stop::Asked | Stop::AtOnce => Stop::AtOnce,
        };
        let at_once = self.stop == Stop::AtOnce;
        self.reporter.report(&RunEvent::Stopping { at_once });
        for &index in &self.running {
            if let State::Running(active) = &mut self.states[index] {
                if at_once {
                    active.kill();
                } else {
                    active.ask_to_stop();
                }
            }
        }
    }

    /// Looks at clocks: memory, deadlines, leases, and what other runs make.
    fn look(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        let running: Vec<usize> = self.running.iter().copied().collect();
        for index in running {
            if let State::Running(active) = &mut self.states[index] {
                active.tick();
            }
            self.conclude(index, memo)?;
        }
        if self.last_beat.elapsed() > BEAT {
            self.last_beat = Instant::now();
            for &index in &self.running {
                if let State::Running(active) = &self.states[index] {
                    self.store.beat_lease(&active.lease, clock::now_unix())?;
                }
            }
        }
        let elsewhere: Vec<usize> = self.elsewhere.iter().copied().collect();
        for index in elsewhere {
            self.look_elsewhere(index, memo)?;
        }
        Ok(())
    }

    /// Whether the action that somebody else works on is there; if nobody does any more, it is ready.
    fn look_elsewhere(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let State::Elsewhere(action, when) = &mut self.states[index] else {
            return Ok(());
        };
        let key = action.key;
        if Instant::now() < *when || self.taken.contains_key(&key) {
            return Ok(());
        }
        *when = Instant::now() + POLL;
        self.elsewhere.remove(&index);
        if let Some(record) = self.store.action(&key)? {
            self.have(index, record, Source::Elsewhere);
            return self.settle(self.readers[index].clone(), memo);
        }
        if let State::Elsewhere(action, _) =
            std::mem::replace(&mut self.states[index], State::Waiting)
        {
            self.states[index] = State::Ready(action);
            self.ready.insert(index);
        }
        Ok(())
    }

    // Ending.

    /// Takes the result of a worker that has ended.
    fn conclude(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let State::Running(active) = &self.states[index] else {
            return Ok(());
        };
        let Some(observed) = active.observed() else {
            return Ok(());
        };
        let (key, attempt, lease) = (active.key, active.attempt, active.lease.clone());
        let ended = judge::judge(self.store, &key, attempt, &observed)?;
        scratch::sweep(self.store, &key)?;
        self.store.release_lease(&lease)?;
        self.running.remove(&index);
        self.taken.remove(&key);
        self.pass_on_warnings();
        match ended {
            Ended::Done(record) => {
                self.have(index, *record, Source::Ran(observed.seconds));
                self.settle(self.readers[index].clone(), memo)
            }
            Ended::Interrupted => {
                self.reporter.report(&RunEvent::Interrupted {
                    stage: self.pipeline.stages[index].name.clone(),
                    key: key.to_string(),
                    snapshot: self.newest_snapshot(&key),
                });
                self.states[index] = State::Stopped;
                Ok(())
            }
            Ended::Failed(why)
                if why.cause == Cause::LostInput
                    && self.heal_inputs(index, &why.message, memo)? =>
            {
                Ok(())
            }
            Ended::Failed(why) => {
                let mut failure = self.failure(index, attempt, why.cause, why.message);
                failure.hint = why.hint;
                if let State::Running(active) = &self.states[index] {
                    failure.reached = why.reached.or_else(|| active.reached());
                    failure.rerun = Some(active.rerun.clone());
                }
                self.fail(index, failure, memo)
            }
        }
    }

    /// Has the stages run again whose bytes `index` found damaged or gone; false when none of them can.
    fn heal_inputs(&mut self, index: usize, why: &str, memo: &mut Memo) -> Result<bool, RunError> {
        let inputs: BTreeSet<usize> = self.pipeline.stages[index]
            .inputs
            .iter()
            .map(|input| input.stage)
            .collect();
        let mut lost = Vec::new();
        for input in inputs {
            if let Some(record) = self.states[input].record()
                && self.store.action(&record.key)?.is_none()
            {
                lost.push(input);
            }
        }
        // Once for each stage: a disk that loses the same bytes again is beyond this.
        if lost.is_empty() || !self.healed.insert(index) {
            return Ok(false);
        }
        self.states[index] = State::Waiting;
        self.run_again(lost, why, memo)?;
        Ok(true)
    }

    fn run_again(
        &mut self,
        stages: Vec<usize>,
        why: &str,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        for &index in &stages {
            let stage = &self.pipeline.stages[index].name;
            self.reporter.report(&RunEvent::Notice {
                text: format!("`{stage}` runs again: {why}"),
            });
            self.states[index] = State::Waiting;
        }
        self.settle(stages, memo)
    }

    fn newest_snapshot(&self, key: &ActionKey) -> Option<u64> {
        let snapshots = self.store.snapshots(key).ok()?;
        snapshots.first().map(|snapshot| snapshot.progress)
    }

    fn failure(&self, index: usize, attempt: u32, cause: Cause, message: String) -> Failure {
        let stage = &self.pipeline.stages[index];
        let key = self.keys[index];
        Failure {
            stage: stage.name.clone(),
            key: key.map(|key| key.to_string()).unwrap_or_default(),
            attempt,
            cause,
            message,
            hint: None,
            place: self.pipeline.place(&stage.span).to_string(),
            reached: None,
            snapshot: key.and_then(|key| self.newest_snapshot(&key)),
            log: key
                .filter(|_| attempt > 0)
                .and_then(|key| self.store.attempt_log(&key, attempt)),
            rerun: None,
        }
    }

    /// Takes note of a failure; stages with the same action share it, those that read it are blocked.
    fn fail(&mut self, index: usize, failure: Failure, memo: &mut Memo) -> Result<(), RunError> {
        let mut failed = vec![index];
        let twins = self.elsewhere.iter().chain(&self.ready).copied();
        failed.extend(twins.filter(|&i| i != index && self.keys[i] == self.keys[index]));
        for &index in &failed {
            self.elsewhere.remove(&index);
            self.ready.remove(&index);
            let stage = &self.pipeline.stages[index];
            let failure = Failure {
                stage: stage.name.clone(),
                place: self.pipeline.place(&stage.span).to_string(),
                ..failure.clone()
            };
            self.reporter.report(&RunEvent::Failed(failure.clone()));
            self.states[index] = State::Failed(Box::new(failure));
        }
        let readers: Vec<usize> = failed
            .iter()
            .flat_map(|&i| self.readers[i].clone())
            .collect();
        self.settle(readers, memo)
    }

    /// Ends every worker, when the run cannot go on.
    fn abandon(&mut self) {
        for &index in &self.running {
            if let State::Running(active) = &mut self.states[index] {
                active.kill();
                // The reason to stop is already known; a second one would hide it.
                drop(active.reap());
                drop(self.store.release_lease(&active.lease));
            }
        }
    }

    fn end(&mut self, display: Vec<Display>) -> Result<RunOutcome, RunError> {
        let summary = self.summary();
        let code = self.code(&summary);
        self.manifest(Some(code)).write(self.store)?;
        self.pass_on_warnings();
        self.reporter.report(&RunEvent::Ended(summary.clone()));
        Ok(RunOutcome {
            code,
            run: self.run.clone(),
            display,
            summary,
        })
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary {
            cached: 0,
            ran: self.ran.clone(),
            failures: Vec::new(),
            blocked: 0,
            stopped: 0,
            seconds: self.began.elapsed().as_secs_f64(),
        };
        for state in &self.states {
            match state {
                State::Done(finished) => {
                    summary.cached += usize::from(!matches!(finished.source, Source::Ran(_)));
                }
                State::Failed(failure) => summary.failures.push((**failure).clone()),
                State::Blocked => summary.blocked += 1,
                State::Waiting
                | State::Ready(_)
                | State::Elsewhere(..)
                | State::Running(..)
                | State::Stopped => summary.stopped += 1,
            }
        }
        summary
    }

    fn code(&self, summary: &Summary) -> u8 {
        let causes = || summary.failures.iter().map(|failure| &failure.cause);
        if self.stop != Stop::No {
            exit::INTERRUPTED
        } else if summary.failures.is_empty() {
            exit::DONE
        } else if causes().all(|cause| *cause == Cause::Device) {
            exit::DEVICE
        } else if causes().all(|cause| matches!(cause, Cause::Store | Cause::LostInput)) {
            exit::CACHE
        } else {
            exit::STAGE
        }
    }

    /// What to show at the end; none when bytes of it are lost and the stage runs again.
    fn show(&mut self, memo: &mut Memo) -> Result<Option<Vec<Display>>, RunError> {
        let mut shown = Vec::new();
        for (index, stage) in self.pipeline.stages.iter().enumerate() {
            let kind = self.registry.get(&stage.kind);
            let (Some(kind), Some(record)) = (kind, self.states[index].record()) else {
                continue;
            };
            if !self.readers[index].is_empty() {
                continue;
            }
            match display::of_stage(self.store, &stage.name, kind, record) {
                Ok(display) => shown.extend(display),
                Err(error)
                    if error.is_lost_blob()
                        && self.stop == Stop::No
                        && self.healed.insert(index) =>
                {
                    self.run_again(vec![index], &error.to_string(), memo)?;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(shown))
    }

    fn manifest(&self, code: Option<u8>) -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            run: self.run.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pipeline: self.pipeline.file.clone(),
            folder: absolute(&self.pipeline.folder),
            overrides: self.options.overrides.clone(),
            owner: self.owner.clone(),
            numerics: numerics::class(Device::Cpu.name()),
            threads: self.budget,
            started_unix: self.started_unix,
            seconds: code.map(|_| self.began.elapsed().as_secs_f64()),
            code,
            stages: (0..self.states.len())
                .map(|index| self.manifest_stage(index))
                .collect(),
        }
    }

    fn manifest_stage(&self, index: usize) -> ManifestStage {
        let stage = &self.pipeline.stages[index];
        let state = &self.states[index];
        let record = state.record();
        let (status, seconds, failure) = match state {
            State::Waiting | State::Ready(_) | State::Elsewhere(..) | State::Running(..) => {
                (StageStatus::Waiting, None, None)
            }
            State::Done(finished) => match finished.source {
                Source::Cached => (StageStatus::Cached, None, None),
                Source::Ran(seconds) => (StageStatus::Done, Some(seconds), None),
                Source::Elsewhere => (StageStatus::Done, None, None),
            },
            State::Failed(failure) => (StageStatus::Failed, None, Some((**failure).clone())),
            State::Blocked => (StageStatus::Blocked, None, None),
            State::Stopped => (StageStatus::Stopped, None, None),
        };
        ManifestStage {
            name: stage.name.clone(),
            kind: stage.kind.clone(),
            version: self
                .registry
                .get(&stage.kind)
                .map_or(0, starling_contract::Kind::version),
            key: self.keys[index].map(|key| key.to_string()),
            status,
            attempt: record.map(|record| record.attempt),
            seconds,
            outputs: record
                .map(|record| record.outputs.clone())
                .unwrap_or_default(),
            failure,
        }
    }
}

/// A folder as it is called from anywhere.
fn absolute(folder: &Path) -> PathBuf {
    let named = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    std::path::absolute(named).unwrap_or_else(|_| named.to_owned())
}

/// A command as one would type it.
fn command_line(options: &RunOptions, launch: &Launch<'_>) -> String {
    let program = options.program.to_string_lossy().into_owned();
    let words = std::iter::once(program).chain(launch.arguments());
    words
        .map(|word| quoted(&word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
