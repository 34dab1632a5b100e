//! The gate of the feed-forward part: silu(g)·u with silu(g) = g·σ(g).

use super::vector::LANES;
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
            // blocks of a fixed size, because three slices that are all written do not vectorise otherwise
            let (gates, gate_rest) = gate.as_chunks_mut::<LANES>();
            let (ups, up_rest) = up.as_chunks_mut::<LANES>();
            let (douts, dout_rest) = dout.as_chunks_mut::<LANES>();
            for ((g, u), d) in gates.iter_mut().zip(ups).zip(douts) {
                let (gate, up, slope) = (*g, *u, *d);
                for lane in 0..LANES {
                    (g[lane], u[lane], d[lane]) = backward(gate[lane], up[lane], slope[lane]);
                }
            }
            for ((g, u), d) in gate_rest.iter_mut().zip(up_rest).zip(dout_rest) {
                (*g, *u, *d) = backward(*g, *u, *d);
            }
        }
    }
}

/// Gradients on gate and up, and the output.
#[inline(always)]
fn backward<T: Real>(gate: T, up: T, dout: T) -> (T, T, T) {
    let s = sigmoid(gate);
    let silu = gate * s;
    (
        dout * up * (s + silu * (T::ONE - s)),
        dout * silu,
        silu * up,
    )
}
