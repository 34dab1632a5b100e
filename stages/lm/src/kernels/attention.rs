//! Causal attention with grouped keys over packed sequences; never across their borders, but for a beginning that
//! several of them share.
//!
//! Works in tiles: some queries of all heads that share a key head, against all keys up to the last query. So keys
//! and values are read once for about [`ROWS`] rows of scores, and no score matrix is larger than `[ROWS, t]`. The
//! forward keeps one log-sum-exp a query and head; the backward recomputes the scores.

use super::gemm::{Mat, MatMut, Precision, Write, matmul};
use super::vector::{dot, exp_in_place, max};
use super::{Real, simd_fn};

/// Rows of scores handled at once, about: queries times the heads of a group. With the keys of a thousand tokens they
/// stay in the second cache.
const ROWS: usize = 96;
/// Queries of a tile, at least.
const FEWEST: usize = 8;

/// Queries of a tile.
fn tile_queries(heads: usize, key_heads: usize) -> usize {
    (ROWS / (heads / key_heads)).max(FEWEST)
}

/// Values that the backward pass needs as room, for queries that see up to so many tokens; more than the forward
/// pass.
pub(crate) fn backward_room(heads: usize, key_heads: usize, dim: usize, seen: usize) -> usize {
    tile_queries(heads, key_heads) * (heads / key_heads) * (2 * seen + 3 * dim)
}

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

    /// Heads that share a key head.
    fn group(&self) -> usize {
        self.heads / self.key_heads
    }

    /// Tokens that a query sees at most.
    fn seen(&self) -> usize {
        let seen = self.segments.iter().map(|one| one.before_len + one.len);
        seen.max().unwrap_or(0)
    }

    /// Values the forward pass needs as room.
    pub(crate) fn forward_room(&self) -> usize {
        tile_queries(self.heads, self.key_heads) * self.group() * (self.seen() + 2 * self.dim)
    }

    /// Values the backward pass needs as room.
    pub(crate) fn backward_room(&self) -> usize {
        backward_room(self.heads, self.key_heads, self.dim, self.seen())
    }

    /// Calls `f` for each segment, key head and tile of queries.
    fn each_tile(&self, mut f: impl FnMut(Tile)) {
        let most = tile_queries(self.heads, self.key_heads);
        for segment in self.segments {
            let Segment {
                start,
                len,
                before,
                before_len,
            } = *segment;
            for key_head in 0..self.key_heads {
                for first in (0..len).step_by(most) {
                    let queries = most.min(len - first);
                    f(Tile {
                        start,
                        first,
                        queries,
                        keys: first + queries,
                        before,
                        before_len,
                        key_head,
                    });
                }
            }
        }
    }
}

/// Queries `first..first + queries` of a group's heads, in the segment that begins at token `start`. Its rows are all
/// queries of the first head, then those of the next.
#[derive(Clone, Copy)]
struct Tile {
    start: usize,
    first: usize,
    queries: usize,
    keys: usize,
    before: usize,
    before_len: usize,
    key_head: usize,
}

impl Tile {
    /// Keys that its last query sees.
    fn all_keys(&self) -> usize {
        self.before_len + self.keys
    }

    /// Keys that its first query sees beside its own.
    fn seen(&self) -> usize {
        self.before_len + self.first
    }

    /// Where its keys lie: (first token, tokens, column of the scores), own ones first.
    fn spans(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let own = (self.start, self.keys, self.before_len);
        let before = (self.before, self.before_len, 0);
        std::iter::once(own).chain((self.before_len > 0).then_some(before))
    }

    /// Where the log-sum-exp of its first row lies in `[n, heads]`.
    fn first_lse(&self, shape: &Shape<'_>) -> usize {
        (self.start + self.first) * shape.heads + self.key_head * shape.group()
    }

    /// Where its rows lie in `[n, heads · d]`, in their order.
    fn places(self, shape: &Shape<'_>) -> impl Iterator<Item = usize> + use<> {
        let (width, dim) = (shape.query_width(), shape.dim);
        let token = self.start + self.first;
        let heads = self.key_head * shape.group()..(self.key_head + 1) * shape.group();
        heads.flat_map(move |head| {
            (0..self.queries).map(move |query| (token + query) * width + head * dim)
        })
    }

    /// Copies its rows side by side, `[rows, d]`.
    fn gather<T: Real>(self, shape: &Shape<'_>, values: &[T], out: &mut [T]) {
        for (at, row) in self.places(shape).zip(out.chunks_exact_mut(shape.dim)) {
            row.copy_from_slice(&values[at..at + shape.dim]);
        }
    }

    /// Puts rows back where they belong.
    fn scatter<T: Real>(self, shape: &Shape<'_>, rows: &[T], out: &mut [T]) {
        for (at, row) in self.places(shape).zip(rows.chunks_exact(shape.dim)) {
            out[at..at + shape.dim].copy_from_slice(row);
        }
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

/// Writes the attention's output and the log-sum-exp of each query's scaled scores.
///
/// # Shapes
/// `out` `[n, heads · d]`, `lse` `[n, heads]`, `room` at least [`Shape::forward_room`].
pub(crate) fn attention<T: Real>(
    precision: Precision,
    shape: &Shape<'_>,
    inputs: Inputs<'_, T>,
    out: &mut [T],
    lse: &mut [T],
    room: &mut [T],
) {
    shape.each_tile(|tile| {
        let (rows, all, dim) = (tile.queries * shape.group(), tile.all_keys(), shape.dim);
        let (scores, room) = room.split_at_mut(rows * all);
        let (q, sums) = room[..2 * rows * dim].split_at_mut(rows * dim);
        tile.gather(shape, inputs.q, q);
        for (start, keys, column) in tile.spans() {
            let k = inputs.k_span(shape, tile, start, keys);
            let scores = MatMut::strided(&mut scores[column..], rows, keys, all);
            matmul(precision, scores, Write::Set, Mat::new(q, rows, dim), k.t());
        }
        let lse = &mut lse[tile.first_lse(shape)..];
        let (seen, scale) = (tile.seen(), shape.scale());
        softmax_rows(scores, all, tile.queries, seen, scale, lse, shape.heads);
        let mut write = Write::Set;
        for (start, keys, column) in tile.spans() {
            let v = inputs.v_span(shape, tile, start, keys);
            let p = Mat::strided(&scores[column..], rows, keys, all);
            matmul(precision, MatMut::new(sums, rows, dim), write, p, v);
            write = Write::Add;
        }
        tile.scatter(shape, sums, out);
    });
}

simd_fn! {
    /// Turns scores into probabilities: the row of query i sees keys up to `seen + i`, the rest become 0.
    fn softmax_rows(
        scores: &'a mut [T],
        keys: usize,
        queries: usize,
        seen: usize,
        scale: T,
        lse: &'a mut [T],
        heads: usize,
    ) {
        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let (head, query) = (row / queries, row % queries);
            let (seen, unseen) = scores.split_at_mut(seen + query + 1);
            unseen.fill(T::ZERO);
            let top = max(seen) * scale;
            let sum = exp_in_place(seen, scale, top);
            let inverse = T::ONE / sum;
            for p in seen {
                *p *= inverse;
            }
            lse[query * heads + head] = top + sum.ln();
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

/// Backward of [`attention`], whose results are `out` and `lse`.
///
/// `room` is at least [`Shape::backward_room`].
#[expect(
    clippy::too_many_arguments,
    reason = "what the forward pass read and left, and a gradient for each"
)]
pub(crate) fn attention_backward<T: Real>(
    precision: Precision,
    shape: &Shape<'_>,
    inputs: Inputs<'_, T>,
    out: &[T],
    lse: &[T],
    dout: &[T],
    gradients: InputGradients<'_, T>,
    room: &mut [T],
) {
    let InputGradients { dq, dk, dv } = gradients;
    let (width, v_stride, dim) = (shape.key_width(), inputs.v_stride, shape.dim);
    dk.fill(T::ZERO);
    for row in dv.chunks_mut(v_stride) {
        row[..width].fill(T::ZERO);
    }
    shape.each_tile(|tile| {
        let (rows, all) = (tile.queries * shape.group(), tile.all_keys());
        let (p, room) = room.split_at_mut(rows * all);
        let (ds, room) = room.split_at_mut(rows * all);
        let (q, room) = room.split_at_mut(rows * dim);
        let (dout_rows, room) = room.split_at_mut(rows * dim);
        let out_rows = &mut room[..rows * dim];
        tile.gather(shape, inputs.q, q);
        tile.gather(shape, dout, dout_rows);
        tile.gather(shape, out, out_rows);
        let (q, d) = (Mat::new(q, rows, dim), Mat::new(dout_rows, rows, dim));
        for (start, keys, column) in tile.spans() {
            let k = inputs.k_span(shape, tile, start, keys);
            let v = inputs.v_span(shape, tile, start, keys);
            let scores = MatMut::strided(&mut p[column..], rows, keys, all);
            matmul(precision, scores, Write::Set, q, k.t());
            let slopes = MatMut::strided(&mut ds[column..], rows, keys, all);
            matmul(precision, slopes, Write::Set, d, v.t());
        }
        let forward = Forward {
            out: out_rows,
            dout: dout_rows,
            dim,
            lse: &lse[tile.first_lse(shape)..],
            heads: shape.heads,
        };
        let (seen, scale) = (tile.seen(), shape.scale());
        softmax_rows_backward(p, ds, all, tile.queries, seen, scale, forward);
        // nobody reads the outputs any more
        let dq_rows = out_rows;
        let mut write = Write::Set;
        for (start, keys, column) in tile.spans() {
            let p = Mat::strided(&p[column..], rows, keys, all);
            let ds = Mat::strided(&ds[column..], rows, keys, all);
            let k = inputs.k_span(shape, tile, start, keys);
            matmul(precision, MatMut::new(dq_rows, rows, dim), write, ds, k);
            write = Write::Add;
            let from = start * width + tile.key_head * dim;
            let dk = MatMut::strided(&mut dk[from..], keys, dim, width);
            matmul(precision, dk, Write::Add, ds.t(), q);
            let from = start * v_stride + tile.key_head * dim;
            let dv = MatMut::strided(&mut dv[from..], keys, dim, v_stride);
            matmul(precision, dv, Write::Add, p.t(), d);
        }
        tile.scatter(shape, dq_rows, dq);
    });
}

/// What the forward pass left for the rows of a tile: outputs and their gradients row after row, log-sum-exps from
/// the first on.
#[derive(Clone, Copy)]
struct Forward<'a, T> {
    out: &'a [T],
    dout: &'a [T],
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
        queries: usize,
        seen: usize,
        scale: T,
        forward: Forward<'a, T>,
    ) {
        let pairs = p.chunks_exact_mut(keys).zip(ds.chunks_exact_mut(keys));
        for (row, (p, ds)) in pairs.enumerate() {
            let (head, query) = (row / queries, row % queries);
            let at = row * forward.dim..(row + 1) * forward.dim;
            let d = dot(&forward.out[at.clone()], &forward.dout[at]);
            let (p, unseen_p) = p.split_at_mut(seen + query + 1);
            let (ds, unseen_ds) = ds.split_at_mut(seen + query + 1);
            unseen_p.fill(T::ZERO);
            unseen_ds.fill(T::ZERO);
            exp_in_place(p, scale, forward.lse[query * forward.heads + head]);
            for (ds, &p) in ds.iter_mut().zip(p.iter()) {
                *ds = p * (*ds - d) * scale;
            }
        }
    }
}
