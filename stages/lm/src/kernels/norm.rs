//! Root-mean-square normalisation of rows: y = x / sqrt(mean(x²) + ε) · w.

use super::vector::dot;
use super::{Real, simd_fn};

/// Normalises one row and returns 1 / its root mean square.
#[inline(always)]
pub(crate) fn norm_row<T: Real>(x: &[T], weight: &[T], epsilon: T, y: &mut [T]) -> T {
    let inverse = inverse_rms(x, epsilon);
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * inverse * w;
    }
    inverse
}

#[inline(always)]
fn inverse_rms<T: Real>(x: &[T], epsilon: T) -> T {
    let width = T::from_f64(x.len() as f64);
    T::ONE / (dot(x, x) / width + epsilon).sqrt()
}

/// Backward of [`norm_row`]: writes the gradient on x, adds that on the weight.
///
/// With g = dy·w and r = 1/rms: dx = r·(g - x·r²·mean(g·x)), dw = dy·x·r.
#[inline(always)]
pub(crate) fn norm_row_backward<T: Real>(
    x: &[T],
    weight: &[T],
    inverse: T,
    dy: &[T],
    dx: &mut [T],
    dweight: &mut [T],
) {
    for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
        *dx = dy * w;
    }
    let mean = dot(dx, x) / T::from_f64(x.len() as f64);
    let slope = inverse * inverse * mean;
    for (((dx, &x), &dy), dw) in dx.iter_mut().zip(x).zip(dy).zip(dweight) {
        *dx = (*dx - x * slope) * inverse;
        *dw += dy * x * inverse;
    }
}

simd_fn! {
    /// Normalises each row of `x` into `y` and keeps the rows' 1/rms.
    ///
    /// # Shapes
    /// `x`, `y` `[n, h]`; `weight` `[h]`; `inverse` `[n]`.
    pub(crate) fn rms_norm(
        x: &'a [T],
        weight: &'a [T],
        epsilon: T,
        y: &'a mut [T],
        inverse: &'a mut [T],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for ((x, y), inverse) in rows.zip(inverse) {
            *inverse = norm_row(x, weight, epsilon, y);
        }
    }
}

simd_fn! {
    /// The normalised rows again, from the kept 1/rms.
    pub(crate) fn rms_norm_again(x: &'a [T], weight: &'a [T], inverse: &'a [T], y: &'a mut [T]) {
        let width = weight.len();
        let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
        for ((x, y), &inverse) in rows.zip(inverse) {
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * inverse * w;
            }
        }
    }
}

simd_fn! {
    /// Backward of [`rms_norm`]: replaces `dy` by the gradient on `x`, sets `dweight`.
    ///
    /// `row` is room for one row.
    pub(crate) fn rms_norm_backward(
        x: &'a [T],
        weight: &'a [T],
        inverse: &'a [T],
        dy: &'a mut [T],
        dweight: &'a mut [T],
        row: &'a mut [T],
    ) {
        let width = weight.len();
        dweight.fill(T::ZERO);
        let rows = x.chunks_exact(width).zip(dy.chunks_exact_mut(width));
        for ((x, dy), &inverse) in rows.zip(inverse) {
            norm_row_backward(x, weight, inverse, dy, row, dweight);
            dy.copy_from_slice(row);
        }
    }
}
