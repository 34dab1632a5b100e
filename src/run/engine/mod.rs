//! The loop of a run.
//!
//! One thread decides. A stage is settled when all that it reads have outputs: its key is computed and
//! the store asked for its record. What the store lacks is started while threads and devices last, under
//! a lease that keeps two runs from the same action. Then the loop sleeps until a worker says something,
//! ends, or a clock asks for a look; it takes the result from the store and settles what reads it.

mod account;
mod conclude;
mod hear;
mod room;
mod settle;
mod signals;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use starling_cache::{ActionKey, Memo, Owner, Store};

use self::signals::Signals;
use crate::Registry;
use crate::board::Boards;
use crate::pipeline::{Mistake, Mistakes, Pipeline};
use crate::plan;
use crate::report::{Reporter, RunEvent, StageTime};
use crate::run::cards::{self, Cards};
use crate::run::clock;
use crate::run::hand::Hand;
use crate::run::launch::WorkerId;
use crate::run::machine;
use crate::run::options::{RunError, RunOptions, RunOutcome};
use crate::run::state::State;

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
    let newest = store.runs()?.pop();
    engine.run = format!(
        "{}-{}",
        clock::stamp_after(engine.started_unix, newest.as_deref()),
        engine.owner.pid
    );
    engine.begin(memo)?;
    loop {
        if let Err(error) = engine.drive(memo) {
            engine.abandon();
            return Err(error);
        }
        engine.dismiss();
        // Showing reads bytes that may turn out damaged; then what made them runs again.
        if let Some(shown) = engine.show(memo)? {
            let outcome = engine.end(shown);
            // Freeing ten thousand stages takes longer than looking them up, and a command ends after its run.
            std::mem::forget(std::mem::take(&mut engine.states));
            return outcome;
        }
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
    /// Memory that running stages share, in bytes; none where neither the author nor the system tells.
    memory: Option<u64>,
    /// Devices that running stages share.
    cards: Cards,
    states: Vec<State>,
    keys: Vec<Option<ActionKey>>,
    /// By which the snapshots of each stage are found.
    lines: Vec<Option<ActionKey>>,
    readers: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    running: BTreeSet<usize>,
    elsewhere: BTreeSet<usize>,
    /// Actions that workers of this run work on.
    taken: BTreeMap<ActionKey, usize>,
    /// The stage that each worker works on.
    at: BTreeMap<WorkerId, usize>,
    /// Workers that wait for a light action.
    idle: Vec<Hand>,
    next_worker: WorkerId,
    /// The last figure that each stage told before it ended.
    figures: BTreeMap<usize, String>,
    /// The attempts at each stage, oldest first.
    attempts: BTreeMap<usize, Vec<u32>>,
    /// How often a stage was tried again.
    tries: BTreeMap<usize, u32>,
    last_status: Instant,
    /// Stages whose waiting for another run was told.
    told: BTreeSet<usize>,
    /// Stages that run again because bytes of theirs, or of what they read, were lost.
    healed: BTreeSet<usize>,
    /// Stages that keep digests only and whose bytes something needs.
    rebuild: BTreeSet<usize>,
    /// Stages that ended with their outputs, in that order.
    ran: Vec<StageTime>,
    /// What is wrong with files that the pipeline names, before anything starts.
    wrong: Vec<Mistake>,
    begun: bool,
    last_beat: Instant,
    /// Curves as they come.
    boards: Boards,
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
        let threads = options.threads.or(pipeline.settings.threads);
        let memory = options.memory.or(pipeline.settings.memory);
        let cards = options.cards.or(pipeline.settings.cards);
        let visible = options.environment.iter();
        let visible = visible.filter(|(name, _)| name == cards::VARIABLE);
        let visible = visible.map(|(_, value)| value.as_os_str()).next_back();
        let started_unix = clock::now_unix();
        let owner = Owner::current();
        Self {
            url: store.url(),
            run: String::new(),
            budget: threads.unwrap_or_else(machine::cores).max(1),
            memory: memory.or_else(machine::memory),
            cards: Cards::new(cards, visible),
            states: (0..count).map(|_| State::Waiting).collect(),
            keys: vec![None; count],
            lines: vec![None; count],
            ready: BTreeSet::new(),
            running: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            taken: BTreeMap::new(),
            at: BTreeMap::new(),
            idle: Vec::new(),
            next_worker: 0,
            figures: BTreeMap::new(),
            attempts: BTreeMap::new(),
            tries: BTreeMap::new(),
            last_status: Instant::now(),
            told: BTreeSet::new(),
            healed: BTreeSet::new(),
            rebuild: BTreeSet::new(),
            ran: Vec::new(),
            wrong: Vec::new(),
            begun: false,
            began: Instant::now(),
            last_beat: Instant::now(),
            boards: Boards::new(None),
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
        // The files of stages that wait for others are looked at now, too.
        let all = plan::resolve_all(
            self.pipeline,
            self.registry,
            self.store,
            memo,
            clock::now_unix(),
        );
        for (index, resolution) in all.into_iter().enumerate() {
            self.accept(index, resolution, memo)?;
        }
        self.pass_on_warnings();
        let wrong = std::mem::take(&mut self.wrong);
        if !wrong.is_empty() {
            let sources = self.pipeline.sources.clone();
            return Err(RunError::Pipeline(Box::new(Mistakes::new(sources, wrong))));
        }
        self.begun = true;
        self.tell_of_cards();
        self.boards = Boards::new(self.store.run_folder(&self.run));
        if self.states.iter().any(|state| state.record().is_none()) {
            self.manifest(None).write(self.store)?;
        }
        self.reporter.flush();
        Ok(())
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
            self.reporter.flush();
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

    pub(super) fn may_start(&self) -> bool {
        let failed = || self.states.iter().any(State::blocks);
        self.stop == Stop::No && (self.options.keep_going || !failed())
    }

    /// Ends every worker, when the run cannot go on.
    fn abandon(&mut self) {
        self.dismiss();
        for &index in &self.running {
            if let State::Running(active) = &mut self.states[index] {
                active.kill();
                for hand in active.hands() {
                    // The reason to stop is already known; a second one would hide it.
                    drop(hand.reap());
                }
                drop(self.store.release_lease(&active.errand.lease));
            }
        }
    }

    /// Ends the idle workers.
    fn dismiss(&mut self) {
        self.idle.drain(..).for_each(conclude::retire);
    }
}
