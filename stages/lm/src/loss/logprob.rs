//! Log-probability of a token and entropy of its distribution, for policies.

use super::exponentiate;
use crate::kernels::{Real, simd_fn};

/// What a row of logits says about a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStats<T> {
    /// log p(target), nats.
    pub logprob: T,
    /// -Σ p log p, nats.
    pub entropy: T,
}

/// Log-probability and entropy; the logits are used up.
///
/// # Shapes
/// `logits` `[v]`, `target < v`.
///
/// # Panics
/// When `target` is outside.
pub fn stats<T: Real>(logits: &mut [T], target: usize, room: &mut Vec<T>) -> RowStats<T> {
    let logit = logits[target];
    room.clear();
    room.extend_from_slice(logits);
    let normaliser = exponentiate(logits);
    let mean = expected(room, logits, normaliser.top) / normaliser.sum;
    RowStats {
        logprob: normaliser.logprob(logit),
        entropy: normaliser.sum.ln() - mean,
    }
}

simd_fn! {
    /// Σ e·(z - top); an e of 0 counts as 0 even where z is infinite.
    fn expected(logits: &'a [T], exponentials: &'a [T], top: T) -> T {
        crate::kernels::vector::sum_pairs(logits, exponentials, |z, e| {
            if e > T::ZERO { e * (z - top) } else { T::ZERO }
        })
    }
}

/// Replaces the logits by the gradient of `on_logprob`·log p(target) + `on_entropy`·entropy.
///
/// log p: \[v = target\] - p. Entropy H: -p·(log p + H).
///
/// # Shapes
/// As [`stats`].
///
/// # Panics
/// When `target` is outside.
pub fn gradient<T: Real>(
    logits: &mut [T],
    target: usize,
    on_logprob: T,
    on_entropy: T,
    room: &mut Vec<T>,
) {
    room.clear();
    if on_entropy != T::ZERO {
        room.extend_from_slice(logits);
    }
    let normaliser = exponentiate(logits);
    let inverse = T::ONE / normaliser.sum;
    if on_entropy == T::ZERO {
        super::scale_by(logits, -on_logprob * inverse);
    } else {
        let (top, log_sum) = (normaliser.top, normaliser.sum.ln());
        let entropy = log_sum - expected(room, logits, top) * inverse;
        for (value, &z) in logits.iter_mut().zip(room.iter()) {
            let p = *value * inverse;
            let surprise = if p > T::ZERO {
                z - top - log_sum + entropy
            } else {
                T::ZERO
            };
            *value = -p * (on_logprob + on_entropy * surprise);
        }
    }
    logits[target] += on_logprob;
}
