//! Rotary positions: halves of a head are the coordinates that turn, as in Hugging Face's models.
//!
//! Queries and keys may be normalised by head first (Qwen3), so both happen in one pass over a
//! token's row.

use super::norm::{norm_row, norm_row_backward};
use super::{Real, simd_fn};
use crate::config::ModelConfig;

/// Cosines and sines of every position, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub(crate) struct RopeTable<T> {
    half: usize,
    cos: Vec<T>,
    sin: Vec<T>,
}

impl<T: Real> RopeTable<T> {
    /// The table of a configuration, up to its longest context.
    ///
    /// Angles are rounded to `f32` before the cosine is taken, as the models were trained.
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let half = config.head_dim / 2;
        let frequencies: Vec<f32> = frequencies(config);
        let mut table = Self {
            half,
            cos: Vec::new(),
            sin: Vec::new(),
        };
        for position in 0..config.max_position_embeddings {
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                table.cos.push(T::from_f64(angle.cos()));
                table.sin.push(T::from_f64(angle.sin()));
            }
        }
        table
    }

    /// Cosines and sines of a position.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[T], &[T]) {
        let range = position * self.half..(position + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

/// Turn per position of each coordinate pair, with Llama 3's stretching when configured.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    (0..config.head_dim / 2)
        .map(|pair| {
            let exponent = 2.0 * pair as f64 / config.head_dim as f64;
            let frequency = config.rope_theta.powf(-exponent);
            let Some(scaling) = &config.rope_scaling else {
                return frequency as f32;
            };
            let context = scaling.original_max_position_embeddings as f64;
            let turns = context * frequency / std::f64::consts::TAU;
            let span = scaling.high_freq_factor - scaling.low_freq_factor;
            let share = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0);
            (frequency * (share + (1.0 - share) / scaling.factor)) as f32
        })
        .collect()
}

/// Turns one head forward in place.
#[inline(always)]
pub(crate) fn rotate<T: Real>(head: &mut [T], cos: &[T], sin: &[T]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

/// Turns one head back in place; the backward of [`rotate`].
#[inline(always)]
fn rotate_back<T: Real>(head: &mut [T], cos: &[T], sin: &[T]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        (*a, *b) = (*a * c + *b * s, *b * c - *a * s);
    }
}

simd_fn! {
    /// Normalises (when there is a weight) and turns the heads of each token.
    ///
    /// # Shapes
    /// `rows`: tokens `stride` apart, heads from `offset` on; `out` `[n, heads · d]`; `inverse` `[n, heads]`
    /// (untouched without a weight); `positions` `[n]`.
    #[expect(clippy::too_many_arguments, reason = "the parts of one pass over rows")]
    pub(crate) fn heads_forward(
        rows: &'a [T],
        stride: usize,
        offset: usize,
        weight: Option<&'a [T]>,
        epsilon: T,
        table: &'a RopeTable<T>,
        positions: &'a [usize],
        out: &'a mut [T],
        inverse: &'a mut [T],
    ) {
        let dim = 2 * table.half;
        let width = out.len() / positions.len();
        let heads = width / dim;
        for (token, &position) in positions.iter().enumerate() {
            let row = &rows[token * stride + offset..][..width];
            let (cos, sin) = table.at(position);
            let out = out[token * width..][..width].chunks_exact_mut(dim);
            for (head, (x, y)) in row.chunks_exact(dim).zip(out).enumerate() {
                match weight {
                    Some(weight) => inverse[token * heads + head] = norm_row(x, weight, epsilon, y),
                    None => y.copy_from_slice(x),
                }
                rotate(y, cos, sin);
            }
        }
    }
}

simd_fn! {
    /// Backward of [`heads_forward`]: turns `dout` back in place, writes the gradient on the rows, adds
    /// the weight's.
    #[expect(clippy::too_many_arguments, reason = "the parts of one pass over rows")]
    pub(crate) fn heads_backward(
        rows: &'a [T],
        stride: usize,
        offset: usize,
        norm: Option<(&'a [T], &'a mut [T])>,
        table: &'a RopeTable<T>,
        positions: &'a [usize],
        inverse: &'a [T],
        dout: &'a mut [T],
        drows: &'a mut [T],
    ) {
        let dim = 2 * table.half;
        let width = dout.len() / positions.len();
        let heads = width / dim;
        let mut norm = norm;
        for (token, &position) in positions.iter().enumerate() {
            let start = token * stride + offset;
            let (row, drow) = (&rows[start..][..width], &mut drows[start..][..width]);
            let (cos, sin) = table.at(position);
            let dout = dout[token * width..][..width].chunks_exact_mut(dim);
            let pairs = row.chunks_exact(dim).zip(drow.chunks_exact_mut(dim));
            for (head, ((x, dx), dy)) in pairs.zip(dout).enumerate() {
                rotate_back(dy, cos, sin);
                match &mut norm {
                    Some((weight, dweight)) => {
                        norm_row_backward(x, weight, inverse[token * heads + head], dy, dx, dweight);
                    }
                    None => dx.copy_from_slice(dy),
                }
            }
        }
    }
}
