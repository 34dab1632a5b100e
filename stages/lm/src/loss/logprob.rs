//! Log-probability of a token and entropy of its distribution, for policies.

use super::{exponentiate, scale_by};
use crate::kernels::{Real, simd_fn, vector};

/// What a row of logits says about a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStats<T> {
    /// log p(target), nats.
    pub logprob: T,
    /// -Σ p log p, nats.
    pub entropy: T,
}

/// Slopes of a loss: on the log-probability and on the entropy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slopes<T> {
    /// ∂loss / ∂ log p(target).
    pub logprob: T,
    /// ∂loss / ∂ entropy.
    pub entropy: T,
}

/// Log-probability and entropy; replaces the logits by the gradient of a loss whose slopes `slopes` tells.
///
/// ∂ log p(target) = \[v = target\] - p and, for the entropy H, ∂H = -p·(log p + H).
///
/// # Shapes
/// `logits` `[v]`, `target < v`; `room` is working memory.
///
/// # Panics
/// When `target` is outside.
pub fn row<T: Real>(
    logits: &mut [T],
    target: usize,
    room: &mut Vec<T>,
    slopes: impl FnOnce(RowStats<T>) -> Slopes<T>,
) -> RowStats<T> {
    let logit = logits[target];
    room.clear();
    room.extend_from_slice(logits);
    let normaliser = exponentiate(logits);
    let inverse = T::ONE / normaliser.sum;
    let log_sum = normaliser.sum.ln();
    let entropy = log_sum - expected(room, logits, normaliser.top) * inverse;
    let stats = RowStats {
        logprob: normaliser.logprob(logit),
        entropy,
    };
    let slopes = slopes(stats);
    if slopes.entropy == T::ZERO {
        scale_by(logits, -slopes.logprob * inverse);
    } else {
        for (value, &z) in logits.iter_mut().zip(room.iter()) {
            let p = *value * inverse;
            let excess = if p > T::ZERO {
                z - normaliser.top - log_sum + entropy
            } else {
                T::ZERO
            };
            *value = -p * (slopes.logprob + slopes.entropy * excess);
        }
    }
    logits[target] += slopes.logprob;
    stats
}

simd_fn! {
    /// Σ e·(z - top); an e of 0 counts as 0 even where z is infinite.
    fn expected(logits: &'a [T], exponentials: &'a [T], top: T) -> T {
        vector::sum_pairs(logits, exponentials, |z, e| {
            if e > T::ZERO { e * (z - top) } else { T::ZERO }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_finite_differences() {
        let logits: Vec<f64> = vec![0.3, -1.2, 2.0, 0.0, 0.9];
        let slopes = Slopes {
            logprob: 0.7,
            entropy: -0.4,
        };
        let mut room = Vec::new();
        let mut gradient = logits.clone();
        row(&mut gradient, 3, &mut room, |_| slopes);
        for at in 0..logits.len() {
            let mut loss = |by: f64| {
                let mut moved = logits.clone();
                moved[at] += by;
                let stats = row(&mut moved, 3, &mut room, |_| Slopes::default());
                slopes.logprob * stats.logprob + slopes.entropy * stats.entropy
            };
            let measured = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!(
                (measured - gradient[at]).abs() < 1e-9,
                "{at}: {measured} {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn a_uniform_row_has_the_entropy_of_its_size() {
        let mut logits = vec![1.5_f32; 8];
        let stats = row(&mut logits, 0, &mut Vec::new(), |_| Slopes::default());
        assert!((stats.entropy - 8.0_f32.ln()).abs() < 1e-6);
        assert!((stats.logprob + 8.0_f32.ln()).abs() < 1e-6);
    }
}
