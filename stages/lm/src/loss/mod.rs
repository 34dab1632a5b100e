//! Losses at the output head, each with its gradient on the logits of one row.
//!
//! A row function receives the logits of one position, returns the loss and replaces the logits by their gradient times
//! a scale. [`head`] makes the rows in chunks and carries the gradient on to the hidden states and the head, so
//! logits never exist for all positions at once. Functions here know nothing of sequences or batches.

pub mod cross_entropy;
pub mod gkd;
pub mod head;
pub mod logprob;
pub mod topk;

pub use topk::{Divergence, TopKSettings};

use crate::kernels::{Real, simd_fn, vector};

/// Normaliser of a row of logits: log Σ e^z = `top` + ln `sum`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normaliser<T> {
    pub(crate) top: T,
    pub(crate) sum: T,
}

impl<T: Real> Normaliser<T> {
    /// Log-probability of a logit.
    pub(crate) fn logprob(self, logit: T) -> T {
        (logit - self.top) - self.sum.ln()
    }
}

simd_fn! {
    /// Replaces logits z by e^(z - max z).
    pub(crate) fn exponentiate(logits: &'a mut [T]) -> Normaliser<T> {
        let top = vector::max(logits);
        let sum = vector::exp_in_place(logits, T::ONE, top);
        Normaliser { top, sum }
    }
}

simd_fn! {
    /// Multiplies every value.
    pub(crate) fn scale_by(values: &'a mut [T], factor: T) {
        for value in values {
            *value *= factor;
        }
    }
}
