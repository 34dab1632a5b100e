//! AdamW with a clip of the global gradient norm, in place over one slice of parameters.
//!
//! Every value is handled alone and the norm is summed over fixed blocks, so results do not depend on the number of
//! threads.

use std::ops::Range;

use crate::decoder::Layout;
use crate::error::LmError;
use crate::kernels::{Real, in_parallel, simd_fn, vector};

/// Values of a block: what one thread handles at a time.
const BLOCK: usize = 1 << 15;
/// Added to the norm before dividing by it.
const NORM_EPSILON: f64 = 1e-6;

/// Constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices (embeddings too); norms and biases do not decay.
    pub weight_decay: f64,
    /// The gradient is scaled down to this global norm; infinite: never.
    pub max_grad_norm: f64,
}

impl Default for AdamWConfig {
    /// The published recipe: 0.9, 0.95, 1e-8, 1e-4, 1.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 1e-4,
            max_grad_norm: 1.0,
        }
    }
}

/// Whether a tensor of this name decays: norms and biases do not.
pub(crate) fn decays(name: &str) -> bool {
    !(name.contains("bias") || name.contains("norm.weight"))
}

/// How much of a gradient of this norm is kept, so that the norm is at most the configured one.
pub(crate) fn clip_share(config: &AdamWConfig, norm: f64) -> f64 {
    (config.max_grad_norm / (norm + NORM_EPSILON)).min(1.0)
}

/// The optimizer's constants and state.
#[derive(Clone, Debug)]
pub struct AdamW<T = f32> {
    config: AdamWConfig,
    decays: Vec<(Range<usize>, bool)>,
    pub(crate) first: Vec<T>,
    pub(crate) second: Vec<T>,
    pub(crate) updates: u64,
}

impl<T: Real> AdamW<T> {
    /// Moments of zero for a layout; decays what is neither norm nor bias.
    pub fn new(config: AdamWConfig, layout: &Layout) -> Self {
        let entries = layout.entries().iter();
        Self::with_parts(
            config,
            entries
                .map(|e| (e.range.clone(), decays(&e.name)))
                .collect(),
        )
    }

    /// Moments of zero for consecutive parts, each with whether it decays.
    pub fn with_parts(config: AdamWConfig, decays: Vec<(Range<usize>, bool)>) -> Self {
        let len = decays.last().map_or(0, |(range, _)| range.end);
        let zeros = vec![T::ZERO; len];
        Self {
            config,
            decays,
            first: zeros.clone(),
            second: zeros,
            updates: 0,
        }
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Clips the gradients and moves the parameters; returns the norm before the clip.
    ///
    /// # Errors
    /// [`LmError::Shape`] when lengths differ; [`LmError::NotFinite`] when the norm is not finite, before anything is
    /// changed.
    pub fn update(
        &mut self,
        params: &mut [T],
        grads: &[T],
        rate: f64,
        threads: usize,
    ) -> Result<f64, LmError> {
        for (what, len) in [("parameters", params.len()), ("gradients", grads.len())] {
            if len != self.first.len() {
                return Err(LmError::shape(
                    what,
                    &[len],
                    format!("[{}]", self.first.len()),
                ));
            }
        }
        let norm = global_norm(grads, threads);
        if !norm.is_finite() {
            return Err(LmError::NotFinite(format!("the gradient norm is {norm}")));
        }
        self.updates += 1;
        let clip = clip_share(&self.config, norm);
        let step = Step::new(&self.config, self.updates, rate, clip);
        let mut blocks = Vec::new();
        let (mut params, mut grads) = (params, grads);
        let (mut first, mut second) = (self.first.as_mut_slice(), self.second.as_mut_slice());
        for (range, decays) in &self.decays {
            let mut left = range.len();
            while left > 0 {
                let len = left.min(BLOCK);
                let (p, rest) = params.split_at_mut(len);
                params = rest;
                let (g, rest) = grads.split_at(len);
                grads = rest;
                let (m, rest) = first.split_at_mut(len);
                first = rest;
                let (v, rest) = second.split_at_mut(len);
                second = rest;
                blocks.push((p, g, m, v, if *decays { step.keep } else { T::ONE }));
                left -= len;
            }
        }
        in_parallel(blocks, threads, |(p, g, m, v, keep)| {
            move_block(p, g, m, v, keep, step);
        });
        Ok(norm)
    }
}

/// Constants of one update.
#[derive(Clone, Copy)]
pub(crate) struct Step<T> {
    pub(crate) clip: T,
    pub(crate) beta1: T,
    pub(crate) beta2: T,
    pub(crate) epsilon: T,
    pub(crate) keep: T,
    /// Rate over the first moment's bias correction.
    pub(crate) rate: T,
    /// 1 / root of the second moment's bias correction.
    pub(crate) root: T,
}

impl<T: Real> Step<T> {
    pub(crate) fn new(config: &AdamWConfig, update: u64, rate: f64, clip: f64) -> Self {
        let count = update as f64;
        let (bias1, bias2) = (
            1.0 - config.beta1.powf(count),
            1.0 - config.beta2.powf(count),
        );
        Self {
            clip: T::from_f64(clip),
            beta1: T::from_f64(config.beta1),
            beta2: T::from_f64(config.beta2),
            epsilon: T::from_f64(config.epsilon),
            keep: T::from_f64(1.0 - rate * config.weight_decay),
            rate: T::from_f64(rate / bias1),
            root: T::from_f64(1.0 / bias2.sqrt()),
        }
    }
}

simd_fn! {
    fn move_block(
        params: &'a mut [T],
        grads: &'a [T],
        first: &'a mut [T],
        second: &'a mut [T],
        keep: T,
        step: Step<T>,
    ) {
        let moments = first.iter_mut().zip(second);
        for ((p, &g), (m, v)) in params.iter_mut().zip(grads).zip(moments) {
            let g = g * step.clip;
            *m = *m * step.beta1 + g * (T::ONE - step.beta1);
            *v = *v * step.beta2 + g * g * (T::ONE - step.beta2);
            *p = *p * keep - step.rate * *m / (v.sqrt() * step.root + step.epsilon);
        }
    }
}

/// Euclidean norm over all values, in `f64` from block to block.
pub(crate) fn global_norm<T: Real>(values: &[T], threads: usize) -> f64 {
    let mut sums = vec![0.0; values.len().div_ceil(1024)];
    let blocks: Vec<_> = values
        .chunks(BLOCK)
        .zip(sums.chunks_mut(BLOCK / 1024))
        .collect();
    in_parallel(blocks, threads, |(values, sums)| {
        for (values, sum) in values.chunks(1024).zip(sums) {
            *sum = vector::square_sum(values).to_f64();
        }
    });
    sums.iter().sum::<f64>().sqrt()
}
