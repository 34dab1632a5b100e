//! Rotary positions; the halves of a head are the coordinates that turn.

use crate::config::ModelConfig;

/// Cosines and sines of every position, `[positions, head_dim / 2]` each.
#[derive(Debug)]
pub(super) struct Rope {
    half: usize,
    turns: Vec<(f32, f32)>,
}

impl Rope {
    /// Angles are rounded to `f32` before the cosine is taken, as the models were trained.
    pub(super) fn new(config: &ModelConfig) -> Self {
        let frequencies = frequencies(config);
        let turns = (0..config.max_position_embeddings).flat_map(|position| {
            frequencies.iter().map(move |frequency| {
                let angle = f64::from(position as f32 * frequency);
                (angle.cos() as f32, angle.sin() as f32)
            })
        });
        Self {
            half: frequencies.len(),
            turns: turns.collect(),
        }
    }

    /// Turns one head to a position.
    #[inline(always)]
    pub(super) fn turn(&self, head: &mut [f32], position: usize) {
        let turns = &self.turns[position * self.half..][..self.half];
        let (low, high) = head.split_at_mut(self.half);
        for ((a, b), &(cos, sin)) in low.iter_mut().zip(high).zip(turns) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// Turn per position of each coordinate pair, with Llama 3's stretching when configured.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    let frequency = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.head_dim as f64;
        config.rope_theta.powf(-exponent)
    };
    let stretched = |frequency: f64| {
        let Some(scaling) = &config.rope_scaling else {
            return frequency;
        };
        let context = scaling.original_max_position_embeddings as f64;
        let turns = context * frequency / std::f64::consts::TAU;
        let span = scaling.high_freq_factor - scaling.low_freq_factor;
        let share = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0);
        frequency * (share + (1.0 - share) / scaling.factor)
    };
    (0..pairs)
        .map(|pair| stretched(frequency(pair)) as f32)
        .collect()
}
