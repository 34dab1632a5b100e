//! What training takes, from a configuration: the formulas that `docs/lm.md` explains.

use crate::config::ModelConfig;
use crate::decoder::Layout;
use crate::loss::head::rows_at_once;

/// Bytes of a training run in `f32`, by what holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingMemory {
    /// Parameters.
    pub parameters: usize,
    /// Both moments of the optimizer.
    pub moments: usize,
    /// The sum, and each thread's own of the head.
    pub gradients: usize,
    /// What layers keep for the backward pass, over all threads.
    pub kept: usize,
    /// Logits of the rows at once and working room, over all threads.
    pub room: usize,
}

impl TrainingMemory {
    /// For chunks of so many tokens, of sequences of so many, on so many threads.
    pub fn new(
        config: &ModelConfig,
        chunk_tokens: usize,
        sequence: usize,
        threads: usize,
        recompute: bool,
    ) -> Self {
        let values = Layout::new(config).map_or(0, |layout| layout.len());
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let (q, k) = (config.query_size(), config.key_size());
        // projections; attended; log-sum-exp and 1/rms; middle; gate and up
        let layer = (q + 2 * k) + q + (config.num_attention_heads + 2) + h + 2 * i;
        let layers = config.num_hidden_layers;
        let kept = if recompute {
            layers * h + layer
        } else {
            layers * (h + layer)
        };
        // gradients of one layer, turned queries and keys, the output and its norm, and scores of a tile
        let passing = (q + 2 * k) + 2 * (q + k) + q + 3 * h + i + 3 * h;
        let scores = 2 * 64 * sequence;
        let head = rows_at_once(config.vocab_size).min(chunk_tokens) * config.vocab_size;
        Self {
            parameters: 4 * values,
            moments: 8 * values,
            gradients: 4 * (values + threads * config.vocab_size * h),
            kept: 4 * threads * chunk_tokens * kept,
            room: 4 * threads * (chunk_tokens * passing + scores + head),
        }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.parameters + self.moments + self.gradients + self.kept + self.room
    }
}
