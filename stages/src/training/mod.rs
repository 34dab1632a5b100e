//! What the training kinds share: parameters, batches, the loop of updates, guards, snapshots.
//!
//! A kind says what a batch is; the loop ([`Training::run`]) does the rest. What a batch holds may depend on the number
//! of the update, how often training was rolled back, the seed and the weights only, so a resumed run equals an unbroken
//! one.

mod clock;
mod good;
mod guards;
mod optimizer;
mod params;
mod run;
mod state;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use starling_contract::StageError;
use starling_lm::generate::GenerateError;
use starling_lm::train::{LossTarget, Sequence};

pub(crate) use self::clock::SnapshotClock;
pub(crate) use self::guards::{Bound, Guards, RollBack, Rule, Rules, Streak, Test, Then};
pub(crate) use self::optimizer::Optimizer;
pub(crate) use self::params::{
    NEUTRAL, STOPS, check, chunk_tokens, snapshot_seconds, training_params,
};
pub(crate) use self::run::Training;
use crate::samples::Sample;

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
    /// Every answer that was sampled for it, where these are kept.
    pub(crate) samples: Vec<Sample>,
    /// Where in `sequences` each step of the optimizer ends; none for one step over all.
    pub(crate) ends: Vec<usize>,
}

impl Batch {
    /// A batch of ready sequences.
    pub(crate) fn of(sequences: Vec<Sequence>) -> Self {
        Self {
            sequences,
            columns: Vec::new(),
            generated_tokens: 0,
            read_tokens: 0,
            samples: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl Batch {
    /// The sequences of each step of the optimizer.
    fn steps(&self) -> impl Iterator<Item = &[Sequence]> {
        let whole = [self.sequences.len()];
        let ends = match &self.ends[..] {
            [] => whole.to_vec(),
            ends => ends.to_vec(),
        };
        ends.into_iter().scan(0, |begin, end| {
            let step = self.sequences.get(*begin..end)?;
            *begin = end;
            Some(step)
        })
    }

    fn is_policy(&self) -> bool {
        let first = self.sequences.first();
        first.is_some_and(|s| matches!(s.loss, LossTarget::Policy(_)))
    }
}

/// Where training is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// The update, from 0.
    pub(crate) update: u64,
    /// How often training was rolled back before; other numbers must be drawn each time.
    pub(crate) attempt: u64,
}

/// Why there is no batch.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The stage fails.
    Stage(StageError),
    /// The weights have come apart, which a guard may deal with.
    NotFinite(String),
}

impl From<StageError> for Trouble {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl From<GenerateError> for Trouble {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::NotFinite { .. } => Self::NotFinite(error.to_string()),
            other => Self::Stage(StageError::failed(other.to_string())),
        }
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
