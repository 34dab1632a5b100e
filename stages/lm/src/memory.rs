//! What training takes, from a configuration: the formulas that `docs/lm.md` explains.

use crate::config::ModelConfig;
use crate::cuda::{LOGIT_BYTES, Precision, ROWS};
use crate::decoder::Layout;
use crate::kernels::attention::backward_room;
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
        let (heads, key_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let scores = backward_room(heads, key_heads, config.head_dim, sequence);
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

/// Bytes of a CUDA device's memory that work takes: the formulas of `docs/cuda.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Parameters; in training moments, gradients and the copy that is computed with besides.
    pub weights: usize,
    /// What layers keep for the backward pass, or keys and values.
    pub kept: usize,
    /// Logits, and what is under way.
    pub room: usize,
}

impl DeviceMemory {
    /// Training on chunks of so many tokens.
    pub fn training(
        config: &ModelConfig,
        precision: Precision,
        chunk_tokens: usize,
        recompute: bool,
    ) -> Self {
        let (values, size) = (values(config), precision.size());
        let copy = if precision == Precision::F32 { 0 } else { size };
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let (q, k) = (config.query_size(), config.key_size());
        let heads = config.num_attention_heads;
        let layer = size * (h + (q + 2 * k) + (q + k) + q + 2 * i) + 4 * (2 * heads + 2);
        let layers = config.num_hidden_layers;
        let kept = if recompute {
            layers * size * h + layer
        } else {
            layers * (size * h + layer)
        };
        let passing = size * (4 * h + 3 * q + 3 * k + i) + 4 * q;
        Self {
            weights: (16 + copy) * values,
            kept: chunk_tokens * kept,
            room: chunk_tokens * passing + logits(config, chunk_tokens, copy),
        }
    }

    /// Scoring of texts, so many tokens at once.
    pub fn scoring(config: &ModelConfig, precision: Precision, tokens: usize) -> Self {
        let size = precision.size();
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let (q, k) = (config.query_size(), config.key_size());
        Self {
            weights: size * values(config),
            kept: 0,
            room: tokens * size * (4 * h + 3 * q + 3 * k + 3 * i) + logits(config, tokens, 0),
        }
    }

    /// Generation of so many sequences at once, each of so many tokens with its prompt.
    pub fn generation(
        config: &ModelConfig,
        precision: Precision,
        sequences: usize,
        tokens: usize,
    ) -> Self {
        let size = precision.size();
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let (q, k) = (config.query_size(), config.key_size());
        let past = 2 * size * config.num_hidden_layers * k * tokens.next_multiple_of(64);
        Self {
            weights: size * values(config),
            kept: sequences * past,
            room: ROWS * (8 * config.vocab_size + size * (3 * h + 3 * q + 3 * k + 3 * i)),
        }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.weights + self.kept + self.room
    }
}

fn values(config: &ModelConfig) -> usize {
    Layout::new(config).map_or(0, |layout| layout.len())
}

/// Logits of the rows that exist at once, with their copy in another type.
fn logits(config: &ModelConfig, rows: usize, copy: usize) -> usize {
    let most = (LOGIT_BYTES / (4 * config.vocab_size)).max(1);
    rows.min(most) * config.vocab_size * (4 + copy)
}
