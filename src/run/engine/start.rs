//! Starting: what is ready and fits gets a lease, a spec and a worker.

use std::time::Instant;

use starling_cache::{ActionKey, Lease, LeaseOutcome, Memo};

use super::{Engine, POLL, STALE_SECONDS};
use crate::pipeline::Device;
use crate::plan::ResolvedAction;
use crate::report::{Cause, RunEvent};
use crate::run::active::{Active, Errand};
use crate::run::launch::Launch;
use crate::run::options::{RunError, RunOptions};
use crate::run::spec::{ActionSpec, SpecError, SpecExternal, SpecInput};
use crate::run::state::{Source, State};
use crate::run::{clock, scratch};

impl Engine<'_> {
    /// Starts stages while threads and devices last. One that turns out to be done already makes others
    /// ready, so it goes on until a pass starts nothing.
    pub(super) fn start_what_fits(&mut self, memo: &mut Memo) -> Result<(), RunError> {
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

    pub(super) fn threads_of(&self, index: usize) -> usize {
        let asked = self.pipeline.stages[index].threads;
        asked.unwrap_or(self.budget).clamp(1, self.budget)
    }

    pub(super) fn fits(&self, index: usize) -> bool {
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
        self.states[index] = State::Elsewhere(action, Instant::now() + POLL);
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

    pub(super) fn spec(&self, index: usize, action: &ResolvedAction) -> ActionSpec {
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
