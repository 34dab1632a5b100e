//! Sums and updates over slices.
//!
//! Sums run in [`LANES`] fixed lanes and are then added pairwise, so that they vectorise and do not depend on
//! the instruction set.

use super::{Real, simd_fn};

/// Partial sums kept side by side.
pub(crate) const LANES: usize = 16;

/// Adds up the lanes, pairwise.
#[inline(always)]
pub(crate) fn fold<T: Real>(lanes: [T; LANES]) -> T {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ f(a, b) over two slices of one length.
#[inline(always)]
pub(crate) fn sum_pairs<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += f(a, b);
    }
    fold(lanes)
}

/// Σ a·b.
#[inline(always)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    sum_pairs(a, b, |a, b| a * b)
}

/// The greatest value; negative infinity for none.
#[inline(always)]
pub(crate) fn max<T: Real>(values: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = lanes[lane].max(block[lane]);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = lane.max(value);
    }
    lanes.into_iter().fold(T::NEG_INFINITY, Real::max)
}

/// Replaces each value x by e^(scale·x - shift) and returns their sum.
#[inline(always)]
pub(crate) fn exp_in_place<T: Real>(values: &mut [T], scale: T, shift: T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            block[lane] = (block[lane] * scale - shift).exp();
            lanes[lane] += block[lane];
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *value = (*value * scale - shift).exp();
        *lane += *value;
    }
    fold(lanes)
}

simd_fn! {
    /// a += b.
    pub(crate) fn add_assign(a: &'a mut [T], b: &'a [T]) {
        for (a, &b) in a.iter_mut().zip(b) {
            *a += b;
        }
    }
}

simd_fn! {
    /// Sum of each column of a row-major matrix, as wide as `sums`.
    pub(crate) fn column_sums(rows: &'a [T], sums: &'a mut [T]) {
        sums.fill(T::ZERO);
        for row in rows.chunks_exact(sums.len()) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

simd_fn! {
    /// Adds a row to every row.
    pub(crate) fn add_row(rows: &'a mut [T], row: &'a [T]) {
        for values in rows.chunks_exact_mut(row.len()) {
            for (value, &add) in values.iter_mut().zip(row) {
                *value += add;
            }
        }
    }
}

simd_fn! {
    /// Σ v².
    pub(crate) fn square_sum(values: &'a [T]) -> T {
        dot(values, values)
    }
}

/// Fused multiply-adds in registers alone, `rounds` times; returns 10¹² operations.
pub(crate) fn peak(rounds: usize) -> f64 {
    struct Chains(usize);
    impl pulp::WithSimd for Chains {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, simd: S) -> f64 {
            // as many as hide the time that each takes, on any processor of today
            const CHAINS: usize = 12;
            let factor = simd.splat_f32s(std::hint::black_box(0.999));
            let mut sums = [factor; CHAINS];
            for _ in 0..self.0 {
                for sum in &mut sums {
                    *sum = simd.mul_add_f32s(factor, *sum, factor);
                }
            }
            let sum = sums.into_iter().fold(factor, |a, b| simd.add_f32s(a, b));
            std::hint::black_box(simd.reduce_sum_f32s(sum));
            (self.0 * CHAINS * S::F32_LANES * 2) as f64 / 1e12
        }
    }
    pulp::Arch::new().dispatch(Chains(rounds))
}
