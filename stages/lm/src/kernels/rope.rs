//! Rotary positions: halves of a head are the coordinates that turn, as in Hugging Face's models.
//!
//! Queries and keys may be normalised by head first (Qwen3), so both happen in one pass over a
//! token's row.

use std::sync::OnceLock;

use super::norm::{norm_row, norm_row_backward};
use super::{Real, simd_fn};
use crate::config::{ModelConfig, RopeScaling};

/// Positions whose angles are computed together, when the first of them is asked for.
const PAGE: usize = 512;

/// Cosines and sines of every position, made page by page as they are needed: a context of a million positions
/// costs nothing until it is used.
#[derive(Clone, Debug)]
pub(crate) struct RopeTable<T> {
    half: usize,
    frequencies: Vec<f32>,
    /// Of each page the cosines, then the sines, `[PAGE, head_dim / 2]` each.
    pages: Vec<OnceLock<Vec<T>>>,
}

impl<T: Real> RopeTable<T> {
    /// The table of a configuration, up to its longest context.
    ///
    /// Angles are rounded to `f32` before the cosine is taken, as the models were trained.
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let count = config.max_position_embeddings.div_ceil(PAGE);
        Self {
            half: config.head_dim / 2,
            frequencies: frequencies(config),
            pages: (0..count).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Cosines and sines of a position.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[T], &[T]) {
        let page = self.pages[position / PAGE].get_or_init(|| self.page(position / PAGE));
        let (cos, sin) = page.split_at(PAGE * self.half);
        let first = position % PAGE * self.half;
        (
            &cos[first..first + self.half],
            &sin[first..first + self.half],
        )
    }

    #[cold]
    fn page(&self, index: usize) -> Vec<T> {
        let positions = index * PAGE..(index + 1) * PAGE;
        let angles = positions.flat_map(|position| {
            let angle = move |frequency: &f32| f64::from(position as f32 * frequency);
            self.frequencies.iter().map(angle)
        });
        let cos = angles.clone().map(|angle| T::from_f64(angle.cos()));
        cos.chain(angles.map(|angle| T::from_f64(angle.sin())))
            .collect()
    }
}

/// Turn per position of each coordinate pair, with Llama 3's stretching when configured.
fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let plain = plain_frequencies(config.rope_theta, config.head_dim);
    match &config.rope_scaling {
        None => plain.map(|frequency| frequency as f32).collect(),
        Some(scaling) => scaled_shares(config.rope_theta, config.head_dim, scaling)
            .zip(plain)
            .map(|(share, frequency)| (frequency * share) as f32)
            .collect(),
    }
}

fn plain_frequencies(theta: f64, dim: usize) -> impl Iterator<Item = f64> {
    (0..dim / 2).map(move |pair| theta.powf(-2.0 * pair as f64 / dim as f64))
}

/// What Llama 3's stretching multiplies each turn by.
pub(crate) fn scaled_shares(
    theta: f64,
    dim: usize,
    scaling: &RopeScaling,
) -> impl Iterator<Item = f64> + use<> {
    let RopeScaling {
        factor,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings,
    } = *scaling;
    plain_frequencies(theta, dim).map(move |frequency| {
        let context = original_max_position_embeddings as f64;
        let turns = context * frequency / std::f64::consts::TAU;
        let span = high_freq_factor - low_freq_factor;
        let share = ((turns - low_freq_factor) / span).clamp(0.0, 1.0);
        share + (1.0 - share) / factor
    })
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
