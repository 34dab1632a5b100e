//! Guards: when reinforcement learning stops before it does harm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{Complaint, StageError};

use crate::training::Batch;

/// When to stop before harm is done; what is unset is not watched. A loss or gradient that is not finite
/// always stops the stage, with the weights of the update before it in the last snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Guards {
    /// Least mean entropy of sampled tokens, nats: below it the policy has collapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_entropy: Option<f64>,
    /// Greatest mean divergence from the starting policy, nats a token; needs `kl` above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_kl: Option<f64>,
    /// Least mean reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    min_reward: Option<f64>,
    /// Updates in a row without any group that teaches.
    max_empty: u64,
    /// Updates in a row that a bound must be crossed for.
    patience: u64,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            min_entropy: None,
            max_kl: None,
            min_reward: None,
            max_empty: 50,
            patience: 5,
        }
    }
}

impl Guards {
    pub(super) fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if self.patience == 0 || self.max_empty == 0 {
            complaints.push(Complaint::new(
                "guards",
                "`patience` and `max-empty` must be at least 1",
            ));
        }
        complaints
    }

    pub(super) fn watch(&self) -> Watch<'_> {
        Watch {
            guards: self,
            crossed: [0; 4],
        }
    }
}

/// Counts how long each bound has been crossed. After a resumption counting begins anew: a stop may come up
/// to `patience` updates later, never earlier, and a run that ends gives the same bytes.
pub(super) struct Watch<'a> {
    guards: &'a Guards,
    crossed: [u64; 4],
}

impl Watch<'_> {
    /// Looks at the batch of an update before it is learned from.
    ///
    /// # Errors
    /// [`StageError::Failed`] with the numbers, when a bound was crossed for too long.
    pub(super) fn see(&mut self, update: u64, batch: &Batch) -> Result<(), StageError> {
        let column = |name: &str| {
            let found = batch.columns.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| *value)
        };
        let g = self.guards;
        let below = |name, bound: Option<f64>| match (column(name), bound) {
            (Some(value), Some(bound)) => value < bound,
            _ => false,
        };
        let above = |name, bound: Option<f64>| match (column(name), bound) {
            (Some(value), Some(bound)) => value > bound,
            _ => false,
        };
        let watched = [
            (
                below("entropy", g.min_entropy),
                g.patience,
                "entropy",
                "raise `entropy-bonus` or `kl`, or lower `optimizer.lr`",
            ),
            (
                above("kl_reference", g.max_kl),
                g.patience,
                "kl_reference",
                "raise `kl` or lower `optimizer.lr`",
            ),
            (
                below("reward", g.min_reward),
                g.patience,
                "reward",
                "lower `optimizer.lr`, or start from a model that succeeds more often",
            ),
            (
                batch.sequences.is_empty(),
                g.max_empty,
                "groups_kept",
                "start from a model that sometimes succeeds, raise `samples` or `temperature`, or raise `filter.rounds`",
            ),
        ];
        for ((crossed, patience, name, advice), count) in watched.into_iter().zip(&mut self.crossed)
        {
            *count = if crossed { *count + 1 } else { 0 };
            if *count >= patience {
                return Err(StageError::failed_try(
                    format!(
                        "guard: `{name}` was out of bounds for {count} updates in a row, {:.4} at update {}",
                        column(name).unwrap_or(f64::NAN),
                        update + 1
                    ),
                    advice,
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_must_be_crossed_for_a_while() {
        let guards = Guards {
            min_entropy: Some(0.1),
            patience: 3,
            max_empty: 1000,
            ..Guards::default()
        };
        let mut watch = guards.watch();
        let mut see = |update, entropy| {
            let mut batch = Batch::of(Vec::new());
            batch.columns = vec![("entropy", entropy)];
            watch.see(update, &batch)
        };
        for (update, entropy) in [(0, 0.05), (1, 0.05), (2, 0.2), (3, 0.05), (4, 0.05)] {
            assert!(see(update, entropy).is_ok());
        }
        let error = see(5, 0.01).expect_err("three in a row").to_string();
        assert!(error.contains("0.0100 at update 6"), "{error}");
    }

    #[test]
    fn updates_without_groups_end() {
        let guards = Guards {
            max_empty: 2,
            ..Guards::default()
        };
        let mut watch = guards.watch();
        let empty = Batch::of(Vec::new());
        assert!(watch.see(0, &empty).is_ok());
        assert!(watch.see(1, &empty).is_err());
    }
}
