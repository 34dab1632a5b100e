//! Starting: what is ready and fits gets a lease, a spec and a worker.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use starling_cache::{ActionKey, Lease, LeaseOutcome, Memo};
use starling_contract::Shard;

use super::{Engine, POLL, STALE_SECONDS};
use crate::pipeline::Device;
use crate::plan::ResolvedAction;
use crate::report::{Cause, RunEvent, size};
use crate::run::active::{Active, Errand, Member};
use crate::run::hand::Hand;
use crate::run::launch::{Launch, Order, Work};
use crate::run::options::{RunError, RunOptions};
use crate::run::spec::{ActionSpec, SpecError, SpecExternal, SpecInput};
use crate::run::state::{Source, State};
use crate::run::{cards, clock, scratch};

impl Engine<'_> {
    /// Starts stages while threads and devices last. One that turns out to be done already makes others
    /// ready, so it goes on until a pass starts nothing.
    pub(super) fn start_what_fits(&mut self, memo: &mut Memo) -> Result<(), RunError> {
        loop {
            let fitting = |&index: &usize| self.fits(index);
            let first = self.ready.iter().copied().find(fitting);
            if !self.may_start() {
                return Ok(());
            }
            match first {
                Some(index) => self.start(index, memo)?,
                // What is left of the cards goes to stages whose shards wait for some.
                None => match self.widens() {
                    Some(index) => self.send_next_shard(index, memo)?,
                    None => return Ok(()),
                },
            }
        }
    }

    pub(super) fn start(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
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
        let retired: Vec<usize> = {
            let inputs = self.pipeline.stages[index].inputs.iter().map(|i| i.stage);
            inputs
                .filter(|&input| self.states[input].is_retired())
                .collect()
        };
        if !retired.is_empty() {
            self.rebuild.extend(&retired);
            return self.run_again(
                retired,
                "only its digest was kept, and its bytes are needed",
                memo,
            );
        }
        if let Some(classes) = self.mixed_classes(index) {
            let message = format!("its inputs are of different numerics classes: {classes}");
            let mut failure = self.failure(index, 0, Cause::Launch, message);
            failure.hint = Some(
                "their figures differ by rounding too; `--mixed` puts them side by side all the same".into(),
            );
            return self.fail(index, failure, memo);
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

    pub(super) fn tell_waiting(&mut self, index: usize, key: ActionKey) {
        if self.told.insert(index) {
            self.reporter.report(&RunEvent::Elsewhere {
                stage: self.pipeline.stages[index].name.clone(),
                key: key.to_string(),
            });
        }
    }

    pub(super) fn wait_for(&mut self, index: usize, action: Box<ResolvedAction>) {
        self.look_again(index, action, POLL);
    }

    /// Puts an action off for a while.
    pub(super) fn look_again(
        &mut self,
        index: usize,
        action: Box<ResolvedAction>,
        pause: Duration,
    ) {
        self.states[index] = State::Elsewhere(action, Instant::now() + pause);
        self.elsewhere.insert(index);
    }

    pub(super) fn launch(
        &mut self,
        index: usize,
        action: Box<ResolvedAction>,
        lease: Lease,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let key = action.key;
        let shards = self.shards_of(index);
        let threads = self.threads_of(index);
        // Shards share the stage's threads; so many of them work at once.
        let at_once = self.at_once(index, threads);
        let each = threads / at_once;
        let spec = match self.spec(index, &action, each).publish(self.store) {
            Ok(spec) => spec,
            Err(SpecError::Store(error)) => return Err(error.into()),
            Err(error) => {
                self.store.release_lease(&lease)?;
                let failure = self.failure(index, 0, Cause::Launch, error.to_string());
                return self.fail(index, failure, memo);
            }
        };
        let stage = &self.pipeline.stages[index];
        if let (Some(asked), Some(all)) = (stage.memory, self.memory)
            && asked > all
        {
            self.reporter.report(&RunEvent::Notice {
                text: format!(
                    "stage `{}` declares {} and there are {} for all stages; no other that declares memory runs beside it",
                    stage.name,
                    size(asked),
                    size(all),
                ),
            });
        }
        let mut active = Active::new(Errand {
            key,
            action,
            spec,
            lease,
            threads,
            each,
            memory: self.memory_of(index),
            cuda: stage.device == Device::Cuda,
            started_unix: clock::now_unix(),
            time_limit: stage.time_limit,
            grace: self.options.grace,
        });
        if shards > 1 {
            active.shards = (0..shards)
                .map(|number| Shard { number, of: shards })
                .collect();
        }
        self.states[index] = State::Running(Box::new(active));
        self.running.insert(index);
        self.taken.insert(key, index);
        if shards == 1 {
            return self.send(index, None, memo);
        }
        for _ in 0..at_once {
            self.send_next_shard(index, memo)?;
        }
        Ok(())
    }

    /// Starts a worker on the next share of a stage's chunks, if there is one.
    pub(super) fn send_next_shard(
        &mut self,
        index: usize,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let State::Running(active) = &mut self.states[index] else {
            return Ok(());
        };
        match active.shards.pop_front() {
            Some(shard) => self.send(index, Some(shard), memo),
            None => Ok(()),
        }
    }

    /// Gives a running stage a worker: the whole action, or a share of its chunks.
    pub(super) fn send(
        &mut self,
        index: usize,
        shard: Option<Shard>,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let State::Running(active) = &self.states[index] else {
            return Ok(());
        };
        let (key, spec, threads) = (active.errand.key, active.errand.spec, active.errand.threads);
        let attempt = self.store.next_attempt(&key)?;
        let log = self.store.attempt_log(&key, attempt);
        let stage = &self.pipeline.stages[index];
        let kind = self.registry.get(&stage.kind);
        let light =
            shard.is_none() && !self.takes_cards(index) && kind.is_some_and(|kind| kind.light());
        let secrets = match self.secrets(index) {
            Ok(secrets) => secrets,
            Err(missing) => return self.cannot_start(index, attempt, missing, memo),
        };
        let card = self.takes_cards(index).then(|| self.next_card()).flatten();
        let name = card.and_then(|card| self.cards.name(card));
        let launch = Launch {
            program: &self.options.program,
            environment: &self.options.environment,
            secrets,
            card: name,
            store: &self.url,
            work: Some(Work {
                spec: &spec,
                attempt,
                shard,
            }),
            log: log.clone(),
        };
        let mut by_hand = launch.clone();
        by_hand.work = Some(Work {
            spec: &spec,
            attempt: attempt.saturating_add(1),
            shard: None,
        });
        let mut rerun = command_line(self.options, &by_hand);
        if let Some(name) = name {
            rerun = format!("{}={} {rerun}", cards::VARIABLE, quoted(name));
        }
        let hand = if light {
            self.light_hand(Order { spec, attempt, log })
        } else {
            let id = self.next_worker;
            launch
                .start(id, &self.signals.sender)
                .map(|child| Hand::new(id, child))
        };
        let hand = match hand {
            Ok(hand) => hand,
            Err(error) => {
                let program = self.options.program.display();
                let message = format!("cannot start a worker of {program}: {error}");
                return self.cannot_start(index, attempt, message, memo);
            }
        };
        self.next_worker = self.next_worker.max(hand.id + 1);
        self.attempts.entry(index).or_default().push(attempt);
        self.reporter.report(&RunEvent::Started {
            stage: stage.name.clone(),
            key: key.to_string(),
            attempt,
            threads,
            pid: hand.pid(),
            card: card
                .and_then(|card| self.cards.name(card))
                .map(str::to_owned),
        });
        self.at.insert(hand.id, index);
        if let State::Running(active) = &mut self.states[index] {
            active.join(Member {
                hand,
                attempt,
                shard,
                card,
                rerun,
                answer: None,
            });
        }
        Ok(())
    }

    /// A worker that takes one light action after another: an idle one, or else a new one.
    fn light_hand(&mut self, order: Order) -> std::io::Result<Hand> {
        while let Some(mut hand) = self.idle.pop() {
            // One that died while it was idle is only replaced.
            if hand.is_running() && hand.give(&order).is_ok() {
                return Ok(hand);
            }
            hand.kill();
            hand.reap()?;
        }
        let launch = Launch {
            program: &self.options.program,
            environment: &self.options.environment,
            secrets: Vec::new(),
            card: None,
            store: &self.url,
            work: None,
            log: order.log.clone(),
        };
        let id = self.next_worker;
        let child = launch.start(id, &self.signals.sender)?;
        let mut hand = Hand::new(id, child);
        if let Err(error) = hand.give(&order) {
            hand.kill();
            hand.reap()?;
            return Err(error);
        }
        Ok(hand)
    }

    /// The secrets of a stage by name, or what is missing.
    fn secrets(&self, index: usize) -> Result<Vec<(String, OsString)>, String> {
        let stage = &self.pipeline.stages[index];
        let Some(kind) = self.registry.get(&stage.kind) else {
            return Ok(Vec::new());
        };
        let value = |name: String| match self.options.secrets.get(&name) {
            Some(value) => Some(Ok((name, value.clone()))),
            None if kind.secrets_may_lack() => None,
            None => Some(Err(format!(
                "the environment has no variable `{name}`, which the stage asks for"
            ))),
        };
        let names = kind.secrets(&stage.params).into_iter();
        names.filter_map(value).collect()
    }

    /// A stage whose worker could not be started fails; workers that it has already are ended.
    fn cannot_start(
        &mut self,
        index: usize,
        attempt: u32,
        message: String,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        self.let_go(index)?;
        let failure = self.failure(index, attempt, Cause::Launch, message);
        self.fail(index, failure, memo)
    }

    pub(super) fn spec(&self, index: usize, action: &ResolvedAction, threads: usize) -> ActionSpec {
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
        let outputs = stage.writes.iter().map(|&name| name.to_owned());
        ActionSpec {
            format: ActionSpec::FORMAT,
            stage: stage.name.clone(),
            kind: action.fields.kind.clone(),
            version: action.fields.version,
            params: stage.params.clone(),
            fields: action.fields.clone(),
            inputs: inputs.collect(),
            externals: externals.collect(),
            outputs: outputs.collect(),
            threads,
            device: stage.device.name().to_owned(),
            time_limit: stage.time_limit.map(|limit| limit.as_secs_f64()),
            grace: self.options.grace.as_secs_f64(),
        }
    }
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
