//! Concluding: the result of a worker that has ended, and what follows from it for others.

use std::collections::BTreeSet;
use std::time::Duration;

use starling_cache::Memo;

use super::{Engine, Stop};
use crate::plan::ResolvedAction;
use crate::report::{Cause, Failure, RunEvent};
use crate::run::active::Member;
use crate::run::hand::Hand;
use crate::run::judge::{self, Ended, Observed, Why};
use crate::run::options::RunError;
use crate::run::scratch;
use crate::run::state::{Source, State};

/// The longest pause before something is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Engine<'_> {
    /// Takes the results of a stage's workers that have ended.
    pub(super) fn conclude(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        loop {
            let State::Running(active) = &mut self.states[index] else {
                return Ok(());
            };
            let Some((member, observed)) = active.take_ended() else {
                return Ok(());
            };
            self.at.remove(&member.hand.id);
            self.conclude_member(index, member, &observed, memo)?;
        }
    }

    fn conclude_member(
        &mut self,
        index: usize,
        member: Member,
        observed: &Observed,
        memo: &mut Memo,
    ) -> Result<(), RunError> {
        let State::Running(active) = &self.states[index] else {
            return Ok(());
        };
        let key = active.errand.key;
        let Member {
            hand,
            attempt,
            shard,
            rerun,
            answer,
            card: _,
        } = member;
        if answer.is_some() && self.stop == Stop::No {
            self.idle.push(hand);
        } else if answer.is_some() {
            retire(hand);
        }
        let ended = judge::judge(self.store, &key, attempt, observed)?;
        if let (Ended::Shard, Some(_)) = (&ended, shard) {
            return self.conclude_shard(index, memo);
        }
        let reached = active.reached();
        let action = self.let_go(index)?;
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
                    snapshot: self.newest_snapshot(index),
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
            Ended::Failed(Why {
                cause: Cause::Transient { after },
                message,
                ..
            }) if self.stop == Stop::No
                && let Some(action) = action
                && let Some(pause) = self.pause_before_retry(index, after) =>
            {
                self.reporter.report(&RunEvent::Retrying {
                    stage: self.pipeline.stages[index].name.clone(),
                    key: key.to_string(),
                    attempt,
                    seconds: pause.as_secs_f64(),
                    message,
                });
                self.look_again(index, action, pause);
                Ok(())
            }
            Ended::Failed(why) => {
                let mut failure = self.failure(index, attempt, why.cause, why.message);
                failure.hint = why.hint;
                failure.reached = why.reached.or(reached);
                failure.rerun = Some(rerun);
                self.fail(index, failure, memo)
            }
            Ended::Shard => {
                let message = "its worker did a share of the work and was asked for all of it";
                let failure = self.failure(index, attempt, Cause::Output, message.to_owned());
                self.fail(index, failure, memo)
            }
        }
    }

    /// A share of a stage's chunks is done: the next one starts, and after the last the gathering.
    fn conclude_shard(&mut self, index: usize, memo: &mut Memo) -> Result<(), RunError> {
        let State::Running(active) = &self.states[index] else {
            return Ok(());
        };
        if active.was_asked_to_stop() {
            if active.members() == 0 {
                let key = active.errand.key;
                self.let_go(index)?;
                self.reporter.report(&RunEvent::Interrupted {
                    stage: self.pipeline.stages[index].name.clone(),
                    key: key.to_string(),
                    snapshot: None,
                });
                self.states[index] = State::Stopped;
            }
            return Ok(());
        }
        if !active.shards.is_empty() {
            return self.send_next_shard(index, memo);
        }
        if active.members() == 0 {
            return self.send(index, None, memo);
        }
        Ok(())
    }

    /// Ends what a stage still has of workers and gives its lease back; its action, to start it again.
    pub(super) fn let_go(&mut self, index: usize) -> Result<Option<Box<ResolvedAction>>, RunError> {
        self.running.remove(&index);
        let State::Running(active) = std::mem::replace(&mut self.states[index], State::Waiting)
        else {
            return Ok(None);
        };
        let mut active = *active;
        for hand in active.hands() {
            hand.kill();
            // It was killed, so that it is over at once; its number is its own until then.
            drop(hand.reap());
        }
        self.at.retain(|_, at| *at != index);
        self.figures
            .insert(index, std::mem::take(&mut active.figure));
        let errand = active.errand;
        scratch::sweep(self.store, &errand.key)?;
        self.store.release_lease(&errand.lease)?;
        self.taken.remove(&errand.key);
        Ok(Some(errand.action))
    }

    /// How long to wait before an action that failed for a passing reason is tried again; none when it was tried
    /// often enough.
    fn pause_before_retry(&mut self, index: usize, after: Option<u64>) -> Option<Duration> {
        let tries = self.tries.entry(index).or_insert(0);
        if *tries >= self.options.retries {
            return None;
        }
        let pause = self.options.retry_pause * 2_u32.saturating_pow(*tries);
        *tries += 1;
        let asked = Duration::from_secs(after.unwrap_or(0));
        Some(pause.max(asked).min(LONGEST_PAUSE))
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

    pub(super) fn newest_snapshot(&self, index: usize) -> Option<u64> {
        let snapshots = self.store.snapshots(&self.lines[index]?).ok()?;
        snapshots.first().map(|snapshot| snapshot.label.progress)
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
            snapshot: self.newest_snapshot(index),
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

/// Ends an idle worker.
pub(super) fn retire(mut hand: Hand) {
    hand.kill();
    // It was killed, so that it is over at once.
    drop(hand.reap());
}
