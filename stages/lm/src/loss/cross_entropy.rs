//! Cross-entropy at one position: -log p(target).

use super::{exponentiate, scale_by};
use crate::kernels::Real;

/// Loss in nats; replaces the logits by `scale` · (p - \[v = target\]).
///
/// # Shapes
/// `logits` `[v]`, `target < v`.
///
/// # Panics
/// When `target` is outside.
pub fn row<T: Real>(logits: &mut [T], target: usize, scale: T) -> T {
    let logit = logits[target];
    let normaliser = exponentiate(logits);
    scale_by(logits, scale / normaliser.sum);
    logits[target] -= scale;
    -normaliser.logprob(logit)
}
