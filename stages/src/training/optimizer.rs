//! How weights move: AdamW and its schedule, as parameters of a kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::Complaint;
use starling_lm::train::{AdamWConfig, Schedule};

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

    pub(super) fn adamw(&self) -> AdamWConfig {
        AdamWConfig {
            beta1: self.beta1,
            beta2: self.beta2,
            weight_decay: self.weight_decay,
            max_grad_norm: self.clip,
            ..AdamWConfig::default()
        }
    }

    pub(super) fn schedule(&self, updates: u64) -> Schedule {
        Schedule {
            minimum_share: self.floor,
            ..Schedule::cosine(self.lr, self.warm_up, updates)
        }
    }
}
