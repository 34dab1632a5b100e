//! The loop that every training kind runs: batches, updates, the gradient gate, curve, guards, snapshots.

use std::path::Path;

use serde_json::{Map, Value};
use starling_contract::{StageContext, StageError};
use starling_lm::LmError;
use starling_lm::load::Checkpoint;
use starling_lm::place::{Place, Trainer};
use starling_lm::train::{TrainConfig, UpdateStats};

use super::good::Good;
use super::guards::{Rules, Then, Trip};
use super::state::{State, write_lines};
use super::{Batch, Counts, Optimizer, SnapshotClock, Step, Trouble};
use crate::chat::lm;
use crate::device;
use crate::how::How;
use crate::model::Model;
use crate::samples::Log;

/// What to train and for how long.
pub(crate) struct Training<'a> {
    /// Updates in all: the schedule's horizon.
    pub(crate) updates: u64,
    /// Steps of the optimizer in an update, at most.
    pub(crate) steps: u64,
    /// Where to stop, if before that.
    pub(crate) stop_after: Option<u64>,
    /// How weights move.
    pub(crate) optimizer: &'a Optimizer,
    /// How updates are computed.
    pub(crate) how: How<'a>,
    /// Tokens of sequences computed at a time by a thread.
    pub(crate) chunk_tokens: usize,
    /// Seconds between snapshots.
    pub(crate) snapshot_seconds: f64,
    /// Updates between snapshots that stay.
    pub(crate) snapshot_every: Option<u64>,
    /// How many of these.
    pub(crate) snapshots_kept: Option<u64>,
    /// What stops training, or sends it back.
    pub(crate) rules: Rules,
}

/// What training came to.
pub(crate) struct Trained {
    /// What it took.
    pub(crate) counts: Counts,
    /// Updates done.
    pub(crate) updates: u64,
}

/// An update that was not to be.
enum Halt {
    Trip(Trip),
    Stage(StageError),
}

impl Training<'_> {
    /// Where training stops.
    fn end(&self) -> u64 {
        self.stop_after.unwrap_or(self.updates).min(self.updates)
    }

    /// Trains `model` and returns its weights in place; writes the curve to `curve`.
    ///
    /// While it trains, `model` has no weights: the trainer has the only copy.
    ///
    /// # Errors
    /// [`StageError::Failed`] when a guard stops it or a tensor gets no gradient, with the update;
    /// [`StageError::Interrupted`] after a snapshot when the engine asks.
    pub(crate) fn run(
        self,
        context: &StageContext<'_>,
        model: &mut Model,
        curve: &Path,
        batch: impl FnMut(Step, &Trainer) -> Result<Batch, Trouble>,
    ) -> Result<Trained, StageError> {
        self.run_with(context, model, curve, None, batch)
    }

    /// The same, with the answers of every batch kept in `log`, also of updates that were rolled back.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_with(
        self,
        context: &StageContext<'_>,
        model: &mut Model,
        curve: &Path,
        mut log: Option<Log>,
        mut batch: impl FnMut(Step, &Trainer) -> Result<Batch, Trouble>,
    ) -> Result<Trained, StageError> {
        let snapshot = context.resume_up_to(self.end())?;
        let place = device::training_place(context, self.how.products())?;
        let threads = context.threads();
        let mut trainer =
            self.trainer(&place, &mut model.checkpoint, threads, snapshot.is_none())?;
        let good = Good::new(context.scratch());
        let mut state = State::default();
        if let Some(snapshot) = &snapshot {
            state = State::load(&snapshot.folder, &mut trainer)?;
            good.take(&snapshot.folder)?;
            if let Some(log) = &mut log {
                log.resume(&snapshot.folder)?;
            }
            self.scale(&mut trainer, &state);
        }
        state.rows.iter().for_each(|row| tell(context, row));
        let mut kept = good.at()?;
        let mut note = None;
        let mut clock = SnapshotClock::new(context.elapsed_seconds(), self.snapshot_seconds);
        while state.update < self.end() {
            if self.rules.roll_back() && self.is_good(&state) && kept != Some(state.update) {
                good.keep(&state, &trainer)?;
                kept = Some(state.update);
            }
            let row = match self.one(
                &mut trainer,
                &mut state,
                &mut batch,
                log.as_mut(),
                note.take(),
            ) {
                Ok(row) => row,
                Err(Halt::Stage(error)) => return Err(error),
                Err(Halt::Trip(trip)) => {
                    note = Some(self.go_back(context, &mut trainer, &mut state, &good, trip)?);
                    kept = Some(state.update);
                    continue;
                }
            };
            context.progress(state.update, self.end(), "updates", figure(&row));
            let row = Value::Object(row).to_string();
            tell(context, &row);
            state.rows.push(row);
            let stop = context.interrupted();
            if state.update < self.end() {
                let write = |folder: &Path| save(folder, &state, &trainer, &good, log.as_ref());
                self.save_if_due(context, &state, write, &mut clock, stop)?;
                if stop {
                    return Err(StageError::Interrupted);
                }
            }
        }
        if self.end() < self.updates {
            context.save_lasting_snapshot(state.progress(), |folder| {
                save(folder, &state, &trainer, &good, log.as_ref())
            })?;
        }
        if let Some(log) = log {
            log.finish()?;
        }
        write_lines(curve, &state.rows)?;
        model.checkpoint.weights = trainer.weights().map_err(lm)?;
        model.adapter = trainer.adapter().map_err(lm)?;
        Ok(Trained {
            counts: state.counts,
            updates: state.update,
        })
    }

    fn trainer(
        &self,
        place: &Place,
        checkpoint: &mut Checkpoint,
        threads: usize,
        fresh: bool,
    ) -> Result<Trainer, StageError> {
        let config = TrainConfig {
            adamw: self.optimizer.adamw(),
            chunk_tokens: self.chunk_tokens,
            threads,
            ..TrainConfig::new(
                self.optimizer
                    .schedule(self.updates.saturating_mul(self.steps)),
            )
        };
        let config = self.how.apply(config)?;
        let weights = std::mem::take(&mut checkpoint.weights);
        if fresh {
            // Shows once that every tensor can learn: a gradient that is cut off stays cut off.
            Trainer::probe(place, &checkpoint.config, &weights, config).map_err(lm)?;
        }
        Trainer::new(place, &checkpoint.config, &weights, config).map_err(lm)
    }

    fn scale(&self, trainer: &mut Trainer, state: &State) {
        trainer.scale_rate(self.rules.roll_back.scale(state.attempt));
    }

    /// Whether this is a moment to go back to.
    fn is_good(&self, state: &State) -> bool {
        let healthy = state.streaks.iter().all(|streak| *streak == 0);
        healthy && state.update.is_multiple_of(self.rules.roll_back.every())
    }

    /// One update; its row of the curve.
    fn one(
        &self,
        trainer: &mut Trainer,
        state: &mut State,
        batch: &mut impl FnMut(Step, &Trainer) -> Result<Batch, Trouble>,
        log: Option<&mut Log>,
        note: Option<String>,
    ) -> Result<Map<String, Value>, Halt> {
        let update = state.update;
        let step = Step {
            update,
            attempt: state.attempt,
        };
        let broken =
            |what: &str| Halt::Trip(self.rules.not_finite(update, what, self.optimizer.lr));
        let mut batch = batch(step, trainer).map_err(|trouble| match trouble {
            Trouble::Stage(error) => Halt::Stage(error),
            Trouble::NotFinite(what) => broken(&what),
        })?;
        state.counts.generated_tokens += batch.generated_tokens;
        state.counts.read_tokens += batch.read_tokens;
        let column = |name: &str| {
            let found = batch.columns.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| *value)
        };
        self.see(state, update, false, &column)?;
        let mut row = Map::new();
        row.insert("update".to_owned(), (update + 1).into());
        if state.attempt > 0 {
            row.insert("roll_backs".to_owned(), state.attempt.into());
        }
        if let Some(note) = note {
            row.insert("rolled_back".to_owned(), note.into());
        }
        learn(trainer, &batch, &mut state.counts, &mut row).map_err(|error| match error {
            LmError::NotFinite(what) => broken(&what),
            other => Halt::Stage(StageError::failed(format!(
                "stopped at update {} of {}: {other}",
                update + 1,
                self.updates
            ))),
        })?;
        for (name, value) in &batch.columns {
            row.insert((*name).to_owned(), (*value).into());
        }
        state.update += 1;
        if let Some(log) = log {
            let gap = row.get("sampler_gap").and_then(Value::as_f64);
            for sample in &mut batch.samples {
                (sample.sampler_gap, sample.roll_backs) = (gap, state.attempt);
            }
            log.push(update + 1, &batch.samples).map_err(Halt::Stage)?;
        }
        self.see(state, update, true, &|name| row.get(name)?.as_f64())?;
        Ok(row)
    }

    fn see(
        &self,
        state: &mut State,
        update: u64,
        after: bool,
        figure: &dyn Fn(&str) -> Option<f64>,
    ) -> Result<(), Halt> {
        match self.rules.see(&mut state.streaks, update, after, figure) {
            Some(trip) => Err(Halt::Trip(trip)),
            None => Ok(()),
        }
    }

    /// Goes back to the last good state, or fails; says what happened.
    fn go_back(
        &self,
        context: &StageContext<'_>,
        trainer: &mut Trainer,
        state: &mut State,
        good: &Good,
        trip: Trip,
    ) -> Result<String, StageError> {
        // The update that tripped was begun, whether or not it was done.
        let begun = state.rows.len() as u64 + 1;
        let done = state.attempt;
        if trip.then == Then::Stop || self.rules.roll_back.is_over(done) {
            let before = match (trip.then, done) {
                (Then::Stop, _) | (_, 0) => String::new(),
                (Then::RollBack, n) => {
                    format!(", after {n} roll-back{}", if n == 1 { "" } else { "s" })
                }
            };
            return Err(StageError::failed_try(
                format!(
                    "stopped at update {begun} of {}{before}: {}",
                    self.updates, trip.message
                ),
                trip.advice,
            ));
        }
        let mut back = good.load(trainer)?;
        back.peak = state.progress().max(begun);
        back.attempt = done + 1;
        // What was computed in vain was computed all the same.
        back.counts = Counts {
            skipped_updates: back.counts.skipped_updates,
            ..state.counts
        };
        *state = back;
        self.scale(trainer, state);
        let rate = self.rules.roll_back.scale(state.attempt);
        let note = format!(
            "{}; back to update {}, for the {}. time of {} at most, with {rate} of the scheduled rate and other random numbers",
            trip.message,
            state.update,
            state.attempt,
            self.rules.roll_back.most(),
        );
        context.warn(format!("rolled back: {note}"));
        Ok(note)
    }

    fn save_if_due(
        &self,
        context: &StageContext<'_>,
        state: &State,
        write: impl FnOnce(&Path) -> Result<(), StageError>,
        clock: &mut SnapshotClock,
        stop: bool,
    ) -> Result<(), StageError> {
        let due = clock.due(context.elapsed_seconds());
        if self.lasts(state) {
            context.save_lasting_snapshot(state.progress(), write)?;
        } else if due || stop {
            context.save_snapshot(state.progress(), write)?;
        } else {
            return Ok(());
        }
        clock.saved(context.elapsed_seconds());
        Ok(())
    }

    /// Whether a snapshot of this moment is to stay.
    fn lasts(&self, state: &State) -> bool {
        let Some(every) = self.snapshot_every else {
            return false;
        };
        let left = self.end() - state.update;
        let kept = self.snapshots_kept;
        // On the way back to where it was, the number of a snapshot is not that of its update.
        state.progress() == state.update
            && state.update.is_multiple_of(every)
            && kept.is_none_or(|n| left <= every.saturating_mul(n))
    }
}

/// Saves all that going on needs.
fn save(
    folder: &Path,
    state: &State,
    trainer: &Trainer,
    good: &Good,
    log: Option<&Log>,
) -> Result<(), StageError> {
    state.save(folder, trainer)?;
    if let Some(log) = log {
        log.save(folder)?;
    }
    good.give(folder)
}

/// Moves the weights, unless there is nothing to learn from.
fn learn(
    trainer: &mut Trainer,
    batch: &Batch,
    counts: &mut Counts,
    row: &mut Map<String, Value>,
) -> Result<(), LmError> {
    if batch.sequences.is_empty() {
        counts.skipped_updates += 1;
        row.insert("skipped".to_owned(), true.into());
        return Ok(());
    }
    let mut all = Vec::new();
    for step in batch.steps() {
        let stats = trainer.update(step)?;
        counts.trained_tokens += stats.tokens as u64;
        all.push(stats);
    }
    let norm = all.iter().map(|s| s.grad_norm).fold(0.0, f64::max);
    row.insert("loss".to_owned(), mean(&all, |s| s.loss).into());
    row.insert("grad_norm".to_owned(), norm.into());
    row.insert("lr".to_owned(), all.last().map(|s| s.rate).into());
    if all.len() > 1 {
        row.insert("steps".to_owned(), all.len().into());
    }
    if batch.is_policy() {
        let clipped = mean(&all, |s| s.policy.clipped);
        row.insert("clipped".to_owned(), clipped.into());
        // What the sampler and the trainer think of the same tokens: rounding, when all is well. Later steps see a
        // policy that has moved.
        let gap = all.first().map(|s| s.policy.moved);
        row.insert("sampler_gap".to_owned(), gap.into());
    }
    Ok(())
}

/// The mean of a figure over the positions of all steps.
fn mean(steps: &[UpdateStats], figure: impl Fn(&UpdateStats) -> f64) -> f64 {
    if let [one] = steps {
        return figure(one);
    }
    let positions: usize = steps.iter().map(|s| s.positions).sum();
    let sum: f64 = steps.iter().map(|s| figure(s) * s.positions as f64).sum();
    sum / positions.max(1) as f64
}

fn figure(row: &Map<String, Value>) -> String {
    let number = |name: &str| row.get(name).and_then(Value::as_f64);
    let mut parts = Vec::new();
    if let Some(loss) = number("loss") {
        parts.push(format!("loss {loss:.4}"));
    }
    if let Some(reward) = number("reward") {
        parts.push(format!("reward {reward:.3}"));
    }
    parts.join(", ")
}

/// Tells whoever follows the curves of a row.
fn tell(context: &StageContext<'_>, row: &str) {
    let Ok(Value::Object(row)) = serde_json::from_str(row) else {
        return;
    };
    let step = row.get("update").and_then(Value::as_u64);
    context.scalars(step.unwrap_or_default(), row.iter().filter_map(scalar));
}

/// A figure of a row that can be drawn.
fn scalar((name, value): (&String, &Value)) -> Option<(String, f64)> {
    let value = match value {
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        value => value.as_f64()?,
    };
    (name != "update").then(|| (name.clone(), value))
}
