//! The gate of the feed-forward part: silu(g)·u with silu(g) = g·σ(g).

use super::{Real, simd_fn};

#[inline(always)]
fn sigmoid<T: Real>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}

simd_fn! {
    /// # Shapes
    /// `gate_up` `[n, 2·i]`, gates before ups in each row; `out` `[n, i]`.
    pub(crate) fn swiglu(gate_up: &'a [T], inner: usize, out: &'a mut [T]) {
        for (row, out) in gate_up.chunks_exact(2 * inner).zip(out.chunks_exact_mut(inner)) {
            let (gate, up) = row.split_at(inner);
            for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                *out = g * sigmoid(g) * u;
            }
        }
    }
}

simd_fn! {
    /// Backward of [`swiglu`]: replaces `gate_up` by its gradient, and the gradient `dout` by the output itself,
    /// which the next product needs.
    pub(crate) fn swiglu_backward(gate_up: &'a mut [T], inner: usize, dout: &'a mut [T]) {
        for (row, dout) in gate_up.chunks_exact_mut(2 * inner).zip(dout.chunks_exact_mut(inner)) {
            let (gate, up) = row.split_at_mut(inner);
            for ((dout, g), u) in dout.iter_mut().zip(gate).zip(up) {
                let s = sigmoid(*g);
                let (silu, d) = (*g * s, *dout);
                *dout = silu * *u;
                *g = d * *u * (s + silu * (T::ONE - s));
                *u = d * silu;
            }
        }
    }
}
