//! Parameters that every training kind has, written once.
//!
//! A macro and not a struct within the struct: names and places of the parameters stay those of one flat table, so that
//! a mistake is underlined where it is written.

use starling_contract::Complaint;

use super::Training;

/// Parameters of training kinds that change no byte.
pub(crate) const NEUTRAL: &[&str] = &[
    "recompute",
    "snapshot-seconds",
    "snapshot-every",
    "snapshots-kept",
];
/// Those that say where training stops.
pub(crate) const STOPS: &[&str] = &["stop-after"];

/// The default of `chunk-tokens`.
pub(crate) fn chunk_tokens() -> usize {
    768
}

/// The default of `snapshot-seconds`.
pub(crate) fn snapshot_seconds() -> f64 {
    20.0
}

/// Writes the struct of a training kind's parameters: `updates`, the kind's own, and what all have.
macro_rules! training_params {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident { $($own:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        $visibility struct $name {
            /// Updates in all: the horizon of the learning rate's schedule. To stop earlier or to go further on the
            /// same way, change `stop-after`.
            updates: u64,
            $($own)*
            /// How weights move.
            #[serde(default)]
            optimizer: $crate::training::Optimizer,
            /// Seed of the order of rows, and of what is sampled.
            #[serde(default)]
            seed: u64,
            /// Stop after so many updates; all when left out. Raised later, training goes on from there and equals
            /// one that never stopped; lowered, it is served from a snapshot if there is one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            stop_after: Option<u64>,
            /// Train an adapter of low rank in place of the weights; it is saved beside the merged model, in `adapter/`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            lora: Option<$crate::how::Lora>,
            /// What products of matrices are computed in.
            #[serde(default, skip_serializing_if = "crate::how::Precision::is_default")]
            precision: $crate::how::Precision,
            /// Compute layers twice instead of keeping their intermediates: less memory, a third more work; changes
            /// no byte.
            #[serde(default)]
            recompute: bool,
            /// Tokens of sequences computed at a time by a thread; more is faster until the cache is full.
            #[serde(default = "crate::training::chunk_tokens")]
            chunk_tokens: usize,
            /// Seconds between snapshots, from which training goes on after an interruption; changes no byte.
            #[serde(default = "crate::training::snapshot_seconds")]
            snapshot_seconds: f64,
            /// Updates between snapshots that stay when the stage is finished; none stay when left out. Changes no
            /// byte.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            snapshot_every: Option<u64>,
            /// How many of those stay, the last ones; all when left out. Changes no byte.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            snapshots_kept: Option<u64>,
        }

        impl $name {
            /// Complaints about the parameters that all training kinds have, and about what an update takes, which
            /// the kind calls `batch.0`.
            fn shared_complaints(
                &self,
                batch: (&'static str, usize),
            ) -> Vec<starling_contract::Complaint> {
                let mut complaints = self.optimizer.check();
                complaints.extend($crate::training::check(
                    &self.training($crate::training::Rules::default()),
                    batch,
                ));
                complaints
            }

            /// How updates are computed.
            fn how(&self) -> $crate::how::How<'_> {
                $crate::how::How {
                    lora: self.lora.as_ref(),
                    precision: self.precision,
                    recompute: self.recompute,
                }
            }

            /// What to train and for how long.
            fn training(&self, rules: $crate::training::Rules) -> $crate::training::Training<'_> {
                $crate::training::Training {
                    updates: self.updates,
                    steps: 1,
                    stop_after: self.stop_after,
                    optimizer: &self.optimizer,
                    how: self.how(),
                    chunk_tokens: self.chunk_tokens,
                    snapshot_seconds: self.snapshot_seconds,
                    snapshot_every: self.snapshot_every,
                    snapshots_kept: self.snapshots_kept,
                    rules,
                }
            }
        }
    };
}
pub(crate) use training_params;

/// Complaints about what [`training_params`] writes, and about the size of a batch.
pub(crate) fn check(
    training: &Training<'_>,
    (batch, sequences): (&'static str, usize),
) -> Vec<Complaint> {
    let least = |param, good| (param, good, "must be at least 1");
    let stop = training.stop_after;
    let checked = [
        least("updates", training.updates > 0),
        least(batch, sequences > 0),
        least("chunk-tokens", training.chunk_tokens > 0),
        least("snapshot-every", training.snapshot_every != Some(0)),
        (
            "stop-after",
            stop.is_none_or(|stop| (1..=training.updates).contains(&stop)),
            "must be at least 1 and not above `updates`",
        ),
    ];
    checked
        .into_iter()
        .filter(|(_, good, _)| !good)
        .map(|(param, _, what)| Complaint::new(param, what))
        .chain(training.how.check())
        .collect()
}
