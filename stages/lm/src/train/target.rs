//! A training sequence: tokens, and what is wanted at which of them.

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::loss::TopKSettings;
use crate::policy::PolicySettings;

/// Tokens of one sequence and the loss on some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Prompt and continuation.
    pub ids: Vec<u32>,
    /// The loss.
    pub loss: LossTarget,
}

/// The loss of a sequence.
///
/// `positions` are indexes into the sequence's ids, ascending, from 1: the tokens that are predicted (from the
/// logits one before).
#[derive(Clone, Debug, PartialEq)]
pub enum LossTarget {
    /// -log p of the true token.
    CrossEntropy {
        /// Tokens that count.
        positions: Vec<u32>,
        /// A weight for each; empty: all 1.
        weights: Vec<f32>,
    },
    /// Distillation from a teacher's likeliest tokens.
    TopK(TopKTarget),
    /// A policy gradient.
    Policy(PolicyTarget),
}

/// See [`crate::loss::topk`].
#[derive(Clone, Debug, PartialEq)]
pub struct TopKTarget {
    /// Tokens that count.
    pub positions: Vec<u32>,
    /// A weight for each; empty: all 1.
    pub weights: Vec<f32>,
    /// How many tokens the teacher lists at each position.
    pub k: usize,
    /// The teacher's tokens, `[positions, k]`, without repeats in a row.
    pub teacher_ids: Vec<u32>,
    /// Their log-probabilities, nats, `[positions, k]`.
    pub teacher_logprobs: Vec<f32>,
    /// The loss.
    pub settings: TopKSettings,
}

/// A rollout to learn from; see [`crate::policy::loss`].
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyTarget {
    /// Tokens that count.
    pub positions: Vec<u32>,
    /// The advantage of each.
    pub advantages: Vec<f32>,
    /// The log-probability of each under the policy that sampled.
    pub old_logprobs: Vec<f32>,
    /// The log-probability of each under the reference, when there is one.
    pub reference_logprobs: Option<Vec<f32>>,
    /// The loss.
    pub settings: PolicySettings,
}

impl LossTarget {
    /// Tokens that count.
    pub fn positions(&self) -> &[u32] {
        match self {
            Self::CrossEntropy { positions, .. } => positions,
            Self::TopK(target) => &target.positions,
            Self::Policy(target) => &target.positions,
        }
    }

    fn weights(&self) -> &[f32] {
        match self {
            Self::CrossEntropy { weights, .. } => weights,
            Self::TopK(target) => &target.weights,
            Self::Policy(_) => &[],
        }
    }

    /// The weight of the position at an index of [`Self::positions`].
    pub(crate) fn weight(&self, at: usize) -> f64 {
        self.weights()
            .get(at)
            .map_or(1.0, |&weight| f64::from(weight))
    }

    /// Sum of the weights of all positions.
    pub(crate) fn total_weight(&self) -> f64 {
        (0..self.positions().len()).map(|at| self.weight(at)).sum()
    }
}

impl Sequence {
    /// Checks ids, positions and the lengths of all parts.
    ///
    /// # Errors
    /// [`LmError::Shape`] for the first that is wrong.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LmError> {
        crate::PackedBatch::new([self.ids.as_slice()]).check(config)?;
        let positions = self.loss.positions();
        let ascending = positions.is_sorted_by(|a, b| a < b);
        let first = positions.first().is_none_or(|&position| position >= 1);
        let last = positions
            .last()
            .is_none_or(|&position| (position as usize) < self.ids.len());
        if !(ascending && first && last) {
            let expected = format!("ascending, in 1..{}", self.ids.len());
            return Err(LmError::shape(
                "loss positions",
                &[positions.len()],
                expected,
            ));
        }
        let weights = self.loss.weights();
        if !weights.is_empty() && weights.len() != positions.len() {
            let expected = format!("[{}] or none", positions.len());
            return Err(LmError::shape("loss weights", &[weights.len()], expected));
        }
        if !weights.iter().all(|weight| weight.is_finite()) {
            return Err(LmError::shape(
                "loss weights",
                &[weights.len()],
                "finite numbers",
            ));
        }
        match &self.loss {
            LossTarget::CrossEntropy { .. } => Ok(()),
            LossTarget::TopK(target) => target.check(config),
            LossTarget::Policy(target) => target.check(),
        }
    }
}

impl TopKTarget {
    fn check(&self, config: &ModelConfig) -> Result<(), LmError> {
        let expected = self.positions.len() * self.k;
        for (what, len) in [
            ("teacher_ids", self.teacher_ids.len()),
            ("teacher_logprobs", self.teacher_logprobs.len()),
        ] {
            if len != expected {
                let shape = format!("[{}, {}]", self.positions.len(), self.k);
                return Err(LmError::shape(what, &[len], shape));
            }
        }
        if let Some(&id) = self
            .teacher_ids
            .iter()
            .find(|&&id| id as usize >= config.vocab_size)
        {
            let expected = format!("below vocab_size {}", config.vocab_size);
            return Err(LmError::shape("teacher id", &[id as usize], expected));
        }
        if !self
            .teacher_logprobs
            .iter()
            .all(|logprob| logprob.is_finite())
        {
            return Err(LmError::shape(
                "teacher_logprobs",
                &[expected],
                "finite numbers",
            ));
        }
        Ok(())
    }
}

impl PolicyTarget {
    fn check(&self) -> Result<(), LmError> {
        for (what, values) in [
            ("advantages", Some(&self.advantages)),
            ("old_logprobs", Some(&self.old_logprobs)),
            ("reference_logprobs", self.reference_logprobs.as_ref()),
        ] {
            let Some(values) = values else { continue };
            if values.len() != self.positions.len() {
                let expected = format!("[{}]", self.positions.len());
                return Err(LmError::shape(what, &[values.len()], expected));
            }
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(LmError::NotFinite(format!("`{what}` hold {value}")));
            }
        }
        Ok(())
    }
}
