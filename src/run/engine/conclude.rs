//! Concluding: the result of a worker that has ended, and what follows from it for others.

use std::collections::BTreeSet;

use starling_cache::{ActionKey, Memo};

use super::Engine;
use crate::report::{Cause, Failure, RunEvent};
use crate::run::judge::{self, Ended};
use crate::run::options::RunError;
use crate::run::scratch;
use crate::run::state::{Source, State};

impl Engine<'_> {
    /// Takes the result of a worker that has ended.
    pub(super) fn conclude(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
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
    pub(super) fn heal_inputs(
        &mut self,
        index: usize,
        why: &str,
        memo: &mut Memo,
    ) -> Result<bool, RunError> {
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

    pub(super) fn run_again(
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

    pub(super) fn newest_snapshot(&self, key: &ActionKey) -> Option<u64> {
        let snapshots = self.store.snapshots(key).ok()?;
        snapshots.first().map(|snapshot| snapshot.progress)
    }

    pub(super) fn failure(
        &self,
        index: usize,
        attempt: u32,
        cause: Cause,
        message: String,
    ) -> Failure {
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
    pub(super) fn fail(
        &mut self,
        index: usize,
        failure: Failure,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
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
}
