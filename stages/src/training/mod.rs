//! The loop that every training kind runs: batches, updates, the gradient gate, curve, snapshots.
//!
//! A kind says what a batch is; the loop does the rest. What a batch holds may depend on the number of
//! the update, the seed and the weights only, so a resumed run equals an unbroken one.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{Complaint, StageContext, StageError};
use starling_lm::load::Checkpoint;
use starling_lm::train::gate::probe;
use starling_lm::train::{AdamWConfig, LossTarget, Schedule, Sequence, TrainConfig, Trainer};

use crate::chat::lm;
use crate::model::Model;
use crate::rows::{read_json, write_json};

/// How weights move.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Optimizer {
    /// Peak learning rate. Higher learns faster until it diverges.
    pub(crate) lr: f64,
    /// Share of the updates over which the rate rises from 0, in [0, 1].
    pub(crate) warm_up: f64,
    /// The rate at the end, as a share of the peak; the way there is a half cosine.
    pub(crate) floor: f64,
    /// Decoupled weight decay; norms and biases never decay.
    pub(crate) weight_decay: f64,
    /// Decay of the first moment.
    pub(crate) beta1: f64,
    /// Decay of the second moment.
    pub(crate) beta2: f64,
    /// Largest global gradient norm; larger gradients are scaled down to it.
    pub(crate) clip: f64,
}

impl Default for Optimizer {
    /// The published settings, but for the rate, which fits models trained from scratch.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            warm_up: 0.03,
            floor: 0.1,
            weight_decay: 1e-4,
            beta1: 0.9,
            beta2: 0.95,
            clip: 1.0,
        }
    }
}

impl Optimizer {
    /// Complaints under the parameter name `optimizer`.
    pub(crate) fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut want = |good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new("optimizer", what));
            }
        };
        want(self.lr > 0.0 && self.lr.is_finite(), "`lr` must be above 0");
        want(
            (0.0..=1.0).contains(&self.warm_up),
            "`warm-up` must be between 0 and 1",
        );
        want(
            (0.0..=1.0).contains(&self.floor),
            "`floor` must be between 0 and 1",
        );
        want(
            self.weight_decay >= 0.0,
            "`weight-decay` must not be negative",
        );
        want(
            (0.0..1.0).contains(&self.beta1),
            "`beta1` must be in [0, 1)",
        );
        want(
            (0.0..1.0).contains(&self.beta2),
            "`beta2` must be in [0, 1)",
        );
        want(self.clip > 0.0, "`clip` must be above 0");
        complaints
    }

    fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.beta1,
            beta2: self.beta2,
            weight_decay: self.weight_decay,
            max_grad_norm: self.clip,
            ..AdamWConfig::default()
        }
    }

    fn schedule(&self, updates: u64) -> Schedule {
        Schedule {
            minimum_share: self.floor,
            ..Schedule::cosine(self.lr, self.warm_up, updates)
        }
    }
}

/// The default of `chunk-tokens`.
pub(crate) fn chunk_tokens() -> usize {
    768
}

/// The default of `snapshot-seconds`.
pub(crate) fn snapshot_seconds() -> f64 {
    20.0
}

/// Complaints that every training kind shares.
pub(crate) fn check(updates: u64, batch: usize, chunk_tokens: usize) -> Vec<Complaint> {
    [
        ("updates", updates > 0),
        ("batch", batch > 0),
        ("chunk-tokens", chunk_tokens > 0),
    ]
    .into_iter()
    .filter(|(_, good)| !good)
    .map(|(param, _)| Complaint::new(param, "must be at least 1"))
    .collect()
}

/// Indexes of an answer's tokens in prompt + answer.
pub(crate) fn answer_positions(prompt: usize, answer: usize) -> Vec<u32> {
    (prompt as u32..(prompt + answer) as u32).collect()
}

/// The first `k` of every `recorded` values.
pub(crate) fn heads<T: Copy>(values: &[T], recorded: usize, k: usize) -> Vec<T> {
    let rows = values.chunks_exact(recorded);
    rows.flat_map(|row| row[..k].iter().copied()).collect()
}

/// A sequence that learns an answer by cross-entropy.
pub(crate) fn imitate(prompt: &[u32], answer: &[u32]) -> Sequence {
    Sequence {
        ids: prompt.iter().chain(answer).copied().collect(),
        loss: LossTarget::CrossEntropy {
            positions: answer_positions(prompt.len(), answer.len()),
            weights: Vec::new(),
        },
    }
}

/// What one update trains on.
pub(crate) struct Batch {
    /// The sequences with their losses; none skips the update, which is counted.
    pub(crate) sequences: Vec<Sequence>,
    /// Further columns of the curve.
    pub(crate) columns: Vec<(&'static str, f64)>,
    /// Tokens sampled to make the batch.
    pub(crate) generated_tokens: u64,
    /// Tokens that only went forward to make it.
    pub(crate) read_tokens: u64,
}

impl Batch {
    /// A batch of ready sequences.
    pub(crate) fn of(sequences: Vec<Sequence>) -> Self {
        Self {
            sequences,
            columns: Vec::new(),
            generated_tokens: 0,
            read_tokens: 0,
        }
    }
}

impl Batch {
    fn is_policy(&self) -> bool {
        let first = self.sequences.first();
        first.is_some_and(|s| matches!(s.loss, LossTarget::Policy(_)))
    }
}

/// The counters that a snapshot carries.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Counts {
    /// Tokens that went forward and backward.
    pub(crate) trained_tokens: u64,
    /// Tokens that were sampled.
    pub(crate) generated_tokens: u64,
    /// Tokens that only went forward.
    pub(crate) read_tokens: u64,
    /// Updates that had nothing to learn from.
    pub(crate) skipped_updates: u64,
}

/// What to train and for how long.
pub(crate) struct Training<'a> {
    /// Updates in all: the schedule's horizon.
    pub(crate) updates: u64,
    /// How weights move.
    pub(crate) optimizer: &'a Optimizer,
    /// Tokens of sequences computed at a time by a thread.
    pub(crate) chunk_tokens: usize,
    /// Seconds between snapshots.
    pub(crate) snapshot_seconds: f64,
}

impl Training<'_> {
    /// Trains `model` and returns its weights in place; writes the curve to `curve`.
    ///
    /// # Errors
    /// [`StageError::Failed`] when a loss or gradient is not finite or a tensor gets no gradient, with
    /// the update; [`StageError::Interrupted`] after a snapshot when the engine asks.
    pub(crate) fn run(
        self,
        context: &StageContext<'_>,
        model: &mut Model,
        curve: &Path,
        mut batch: impl FnMut(u64, &Trainer) -> Result<Batch, StageError>,
    ) -> Result<Counts, StageError> {
        let config = TrainConfig {
            adamw: self.optimizer.adamw(),
            chunk_tokens: self.chunk_tokens,
            threads: context.threads(),
            ..TrainConfig::new(self.optimizer.schedule(self.updates))
        };
        let Checkpoint {
            config: shape,
            weights,
            ..
        } = &model.checkpoint;
        let mut trainer: Trainer = Trainer::new(shape, weights, config).map_err(lm)?;
        let mut counts = Counts::default();
        let mut rows: Vec<String> = Vec::new();
        let mut start = 0;
        if let Some(snapshot) = context.resume()? {
            trainer.load_state(&snapshot.folder).map_err(lm)?;
            counts = read_json(&snapshot.folder.join("counts.json"))?;
            let path = snapshot.folder.join("curve.jsonl");
            let text = std::fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
            rows = text.lines().map(str::to_owned).collect();
            start = snapshot.progress;
        } else {
            // Shows once that every tensor can learn: a gradient that is cut off stays cut off.
            probe(shape, weights).map_err(lm)?;
        }
        let mut clock = SnapshotClock::new(context.elapsed_seconds(), self.snapshot_seconds);
        for update in start..self.updates {
            let step = batch(update, &trainer)?;
            let row = one_update(&mut trainer, &step, update, &mut counts)
                .map_err(|e| stopped(update, self.updates, self.optimizer.lr, e))?;
            context.progress(update + 1, self.updates, "updates", figure(&row));
            rows.push(row.to_string());
            let done = update + 1;
            let stop = context.interrupted();
            if done < self.updates && (stop || clock.due(context.elapsed_seconds())) {
                context.save_snapshot(done, |folder| {
                    trainer.save_state(folder).map_err(lm)?;
                    write_json(&folder.join("counts.json"), &counts)?;
                    write_lines(&folder.join("curve.jsonl"), &rows)
                })?;
                clock.saved(context.elapsed_seconds());
            }
            if done < self.updates && stop {
                return Err(StageError::Interrupted);
            }
        }
        write_lines(curve, &rows)?;
        model.checkpoint.weights = trainer.weights().map_err(lm)?;
        Ok(counts)
    }
}

fn one_update(
    trainer: &mut Trainer,
    batch: &Batch,
    update: u64,
    counts: &mut Counts,
) -> Result<serde_json::Value, String> {
    let mut row = serde_json::Map::new();
    row.insert("update".to_owned(), (update + 1).into());
    counts.generated_tokens += batch.generated_tokens;
    counts.read_tokens += batch.read_tokens;
    if batch.sequences.is_empty() {
        counts.skipped_updates += 1;
        row.insert("skipped".to_owned(), true.into());
    } else {
        let stats = trainer
            .update(&batch.sequences)
            .map_err(|e| e.to_string())?;
        counts.trained_tokens += stats.tokens as u64;
        row.insert("loss".to_owned(), stats.loss.into());
        row.insert("grad_norm".to_owned(), stats.grad_norm.into());
        row.insert("lr".to_owned(), stats.rate.into());
        if batch.is_policy() {
            row.insert("clipped".to_owned(), stats.policy.clipped.into());
            // What the sampler and the trainer think of the same tokens: rounding, when all is well.
            row.insert("sampler_gap".to_owned(), stats.policy.moved.into());
        }
    }
    for (name, value) in &batch.columns {
        row.insert((*name).to_owned(), (*value).into());
    }
    Ok(serde_json::Value::Object(row))
}

fn figure(row: &serde_json::Value) -> String {
    let number = |name: &str| row.get(name).and_then(serde_json::Value::as_f64);
    let mut parts = Vec::new();
    if let Some(loss) = number("loss") {
        parts.push(format!("loss {loss:.4}"));
    }
    if let Some(reward) = number("reward") {
        parts.push(format!("reward {reward:.3}"));
    }
    parts.join(", ")
}

fn stopped(update: u64, updates: u64, lr: f64, reason: String) -> StageError {
    StageError::failed_try(
        format!("stopped at update {} of {updates}: {reason}", update + 1),
        format!("lower `optimizer.lr` (now {lr}) or `optimizer.clip`"),
    )
}

fn write_lines(path: &Path, rows: &[String]) -> Result<(), StageError> {
    let mut text = rows.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    std::fs::write(path, text).map_err(StageError::io("write", path))
}

/// Decides when a snapshot is due, so that saving never takes more than a twentieth of the time.
pub(crate) struct SnapshotClock {
    interval: f64,
    next: f64,
    asked: f64,
}

impl SnapshotClock {
    /// Starts counting at `now`.
    pub(crate) fn new(now: f64, interval: f64) -> Self {
        Self {
            interval,
            next: now + interval,
            asked: now,
        }
    }

    /// Whether a snapshot is due at `now`.
    pub(crate) fn due(&mut self, now: f64) -> bool {
        self.asked = now;
        now >= self.next
    }

    /// Tells that the snapshot that was due is saved.
    pub(crate) fn saved(&mut self, now: f64) {
        let cost = now - self.asked;
        self.next = now + self.interval.max(20.0 * cost);
    }
}
