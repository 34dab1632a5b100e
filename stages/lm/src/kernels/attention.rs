//! Causal attention with grouped keys over packed sequences; never across their borders, but for a beginning that
//! several of them share.
//!
//! Works in tiles of [`TILE`] queries against all keys up to the tile's end, so no score matrix is larger than
//! `[TILE, t]`. The forward keeps one log-sum-exp a query and head; the backward recomputes the scores.

use super::gemm::{Mat, MatMut, Precision, Write, matmul};
use super::vector::{dot, exp_in_place, max};
use super::{Real, simd_fn};

/// Queries handled at once.
pub(crate) const TILE: usize = 64;

/// Tokens of a batch that follow each other in one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its first token.
    pub(crate) start: usize,
    /// Its tokens.
    pub(crate) len: usize,
    /// The first token of the segment that comes before it, and that it sees wholly.
    pub(crate) before: usize,
    /// The tokens of that one; 0 when there is none.
    pub(crate) before_len: usize,
}

/// Sizes of an attention: heads, their width, and the packed segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) key_heads: usize,
    /// Width of a head.
    pub(crate) dim: usize,
    /// The segments, one after another.
    pub(crate) segments: &'a [Segment],
}

impl Shape<'_> {
    fn query_width(&self) -> usize {
        self.heads * self.dim
    }

    fn key_width(&self) -> usize {
        self.key_heads * self.dim
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(1.0 / (self.dim as f64).sqrt())
    }

    /// Values the forward and backward passes need as room for scores.
    pub(crate) fn score_room(&self) -> usize {
        let seen = self.segments.iter().map(|one| one.before_len + one.len);
        TILE * seen.max().unwrap_or(0)
    }

    /// Calls `f` for each segment, head and tile of queries.
    fn each_tile(&self, mut f: impl FnMut(Tile)) {
        for segment in self.segments {
            let Segment {
                start,
                len,
                before,
                before_len,
            } = *segment;
            for head in 0..self.heads {
                for first in (0..len).step_by(TILE) {
                    let rows = TILE.min(len - first);
                    let key_head = head * self.key_heads / self.heads;
                    f(Tile {
                        start,
                        first,
                        rows,
                        keys: first + rows,
                        before,
                        before_len,
                        head,
                        key_head,
                    });
                }
            }
        }
    }
}

/// Queries `first..first + rows` of one head, in the segment that begins at token `start`.
#[derive(Clone, Copy)]
struct Tile {
    start: usize,
    first: usize,
    rows: usize,
    keys: usize,
    before: usize,
    before_len: usize,
    head: usize,
    key_head: usize,
}

impl Tile {
    /// Keys that its last query sees.
    fn all_keys(&self) -> usize {
        self.before_len + self.keys
    }

    /// Where its keys lie: (first token, tokens, column of the scores), own ones first.
    fn spans(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let own = (self.start, self.keys, self.before_len);
        let before = (self.before, self.before_len, 0);
        std::iter::once(own).chain((self.before_len > 0).then_some(before))
    }
}

/// Queries, keys and values; values may sit inside wider rows.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a, T> {
    /// `[n, heads · d]`.
    pub(crate) q: &'a [T],
    /// `[n, key_heads · d]`.
    pub(crate) k: &'a [T],
    /// Rows `v_stride` apart, each beginning with `[key_heads · d]`.
    pub(crate) v: &'a [T],
    /// Distance of the value rows.
    pub(crate) v_stride: usize,
}

impl<'a, T: Real> Inputs<'a, T> {
    fn q_tile(&self, shape: &Shape<'_>, tile: Tile) -> Mat<'a, T> {
        query_rows(self.q, shape, tile)
    }

    fn k_span(&self, shape: &Shape<'_>, tile: Tile, start: usize, keys: usize) -> Mat<'a, T> {
        let width = shape.key_width();
        let from = start * width + tile.key_head * shape.dim;
        Mat::strided(&self.k[from..], keys, shape.dim, width)
    }

    fn v_span(&self, shape: &Shape<'_>, tile: Tile, start: usize, keys: usize) -> Mat<'a, T> {
        let from = start * self.v_stride + tile.key_head * shape.dim;
        Mat::strided(&self.v[from..], keys, shape.dim, self.v_stride)
    }
}

fn query_rows<'a, T: Real>(rows: &'a [T], shape: &Shape<'_>, tile: Tile) -> Mat<'a, T> {
    let width = shape.query_width();
    let from = (tile.start + tile.first) * width + tile.head * shape.dim;
    Mat::strided(&rows[from..], tile.rows, shape.dim, width)
}

fn query_rows_mut<'a, T: Real>(rows: &'a mut [T], shape: &Shape<'_>, tile: Tile) -> MatMut<'a, T> {
    let width = shape.query_width();
    let from = (tile.start + tile.first) * width + tile.head * shape.dim;
    MatMut::strided(&mut rows[from..], tile.rows, shape.dim, width)
}

/// Writes the attention's output and the log-sum-exp of each query's scaled scores.
///
/// # Shapes
/// `out` `[n, heads · d]`, `lse` `[n, heads]`, `room` at least [`Shape::score_room`].
pub(crate) fn attention<T: Real>(
    shape: &Shape<'_>,
    inputs: Inputs<'_, T>,
    out: &mut [T],
    lse: &mut [T],
    room: &mut [T],
) {
    shape.each_tile(|tile| {
        let (rows, all) = (tile.rows, tile.all_keys());
        let scores = &mut room[..rows * all];
        let q = inputs.q_tile(shape, tile);
        for (start, keys, column) in tile.spans() {
            let k = inputs.k_span(shape, tile, start, keys);
            let out = MatMut::strided(&mut scores[column..], rows, keys, all);
            matmul(Precision::F32, out, Write::Set, q, k.t());
        }
        let lse = &mut lse[(tile.start + tile.first) * shape.heads + tile.head..];
        let seen = tile.before_len + tile.first;
        softmax_rows(scores, all, seen, shape.scale(), lse, shape.heads);
        let mut write = Write::Set;
        for (start, keys, column) in tile.spans() {
            let v = inputs.v_span(shape, tile, start, keys);
            let p = Mat::strided(&scores[column..], rows, keys, all);
            matmul(
                Precision::F32,
                query_rows_mut(out, shape, tile),
                write,
                p,
                v,
            );
            write = Write::Add;
        }
    });
}

simd_fn! {
    /// Turns scores into probabilities: row r sees keys up to `first + r`, the rest become 0.
    fn softmax_rows(
        scores: &'a mut [T],
        keys: usize,
        first: usize,
        scale: T,
        lse: &'a mut [T],
        lse_stride: usize,
    ) {
        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let (seen, unseen) = scores.split_at_mut(first + row + 1);
            unseen.fill(T::ZERO);
            let top = max(seen) * scale;
            let sum = exp_in_place(seen, scale, top);
            let inverse = T::ONE / sum;
            for p in seen {
                *p *= inverse;
            }
            lse[row * lse_stride] = top + sum.ln();
        }
    }
}

/// Gradients on queries, keys and values; values' inside wider rows as in [`Inputs`].
pub(crate) struct InputGradients<'a, T> {
    /// `[n, heads · d]`, overwritten.
    pub(crate) dq: &'a mut [T],
    /// `[n, key_heads · d]`, overwritten.
    pub(crate) dk: &'a mut [T],
    /// As [`Inputs::v`], overwritten in its columns only.
    pub(crate) dv: &'a mut [T],
}

/// Backward of [`attention`].
///
/// `room` is twice [`Shape::score_room`].
pub(crate) fn attention_backward<T: Real>(
    shape: &Shape<'_>,
    inputs: Inputs<'_, T>,
    out: &[T],
    lse: &[T],
    dout: &[T],
    gradients: InputGradients<'_, T>,
    room: &mut [T],
) {
    let InputGradients { dq, dk, dv } = gradients;
    let (width, v_stride) = (shape.key_width(), inputs.v_stride);
    dk.fill(T::ZERO);
    for row in dv.chunks_mut(v_stride) {
        row[..width].fill(T::ZERO);
    }
    shape.each_tile(|tile| {
        let (rows, all) = (tile.rows, tile.all_keys());
        let (p, ds) = room.split_at_mut(rows * all);
        let ds = &mut ds[..rows * all];
        let q = inputs.q_tile(shape, tile);
        let dout_tile = query_rows(dout, shape, tile);
        for (start, keys, column) in tile.spans() {
            let k = inputs.k_span(shape, tile, start, keys);
            let v = inputs.v_span(shape, tile, start, keys);
            let scores = MatMut::strided(&mut p[column..], rows, keys, all);
            matmul(Precision::F32, scores, Write::Set, q, k.t());
            let slopes = MatMut::strided(&mut ds[column..], rows, keys, all);
            matmul(Precision::F32, slopes, Write::Set, dout_tile, v.t());
        }
        let token = tile.start + tile.first;
        let from = token * shape.query_width() + tile.head * shape.dim;
        let forward = Forward {
            out: &out[from..],
            dout: &dout[from..],
            stride: shape.query_width(),
            dim: shape.dim,
            lse: &lse[token * shape.heads + tile.head..],
            heads: shape.heads,
        };
        let seen = tile.before_len + tile.first;
        softmax_rows_backward(p, ds, all, seen, shape.scale(), forward);
        let mut write = Write::Set;
        for (start, keys, column) in tile.spans() {
            let p = Mat::strided(&p[column..], rows, keys, all);
            let ds = Mat::strided(&ds[column..], rows, keys, all);
            let k = inputs.k_span(shape, tile, start, keys);
            matmul(
                Precision::F32,
                query_rows_mut(dq, shape, tile),
                write,
                ds,
                k,
            );
            write = Write::Add;
            let from = start * width + tile.key_head * shape.dim;
            let dk = MatMut::strided(&mut dk[from..], keys, shape.dim, width);
            matmul(Precision::F32, dk, Write::Add, ds.t(), q);
            let from = start * v_stride + tile.key_head * shape.dim;
            let dv = MatMut::strided(&mut dv[from..], keys, shape.dim, v_stride);
            matmul(Precision::F32, dv, Write::Add, p.t(), dout_tile);
        }
    });
}

/// What the forward pass left for the rows of a tile, beginning at its first.
#[derive(Clone, Copy)]
struct Forward<'a, T> {
    out: &'a [T],
    dout: &'a [T],
    stride: usize,
    dim: usize,
    lse: &'a [T],
    heads: usize,
}

simd_fn! {
    /// Turns scores into probabilities and gradients on probabilities into gradients on scores.
    ///
    /// With D = Σ dout·out of a row: ds = p·(dp - D)·scale; both are 0 where the row does not see.
    fn softmax_rows_backward(
        p: &'a mut [T],
        ds: &'a mut [T],
        keys: usize,
        first: usize,
        scale: T,
        forward: Forward<'a, T>,
    ) {
        let pairs = p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys));
        for (row, (p, ds)) in pairs.enumerate() {
            let at = row * forward.stride..row * forward.stride + forward.dim;
            let d = dot(&forward.out[at.clone()], &forward.dout[at]);
            let (p, unseen_p) = p.split_at_mut(first + row + 1);
            let (ds, unseen_ds) = ds.split_at_mut(first + row + 1);
            unseen_p.fill(T::ZERO);
            unseen_ds.fill(T::ZERO);
            exp_in_place(p, scale, forward.lse[row * forward.heads]);
            for (ds, &p) in ds.iter_mut().zip(p.iter()) {
                *ds = p * (*ds - d) * scale;
            }
        }
    }
}
