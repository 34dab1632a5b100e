//! Attention of a few queries to the past of one sequence.

use pulp::{Arch, Simd, WithSimd};

use super::cache::{Block, Cache};
use super::math;
use super::tile::{Line, WIDTH, accumulate_any, for_tiles};

/// A query: where its row starts, and how many positions it sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    /// Where its head starts in `queries` and `out`.
    pub(super) start: usize,
    /// It sees positions `0..visible`.
    pub(super) visible: usize,
}

/// Buffers that are kept between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// `[head_dim, rows]`
    turned: Vec<f32>,
    /// `[rows, positions]`
    scores: Vec<f32>,
    /// `[positions, rows]`
    shares: Vec<f32>,
}

/// Queries of one head of one layer, all on the same key-value head.
pub(super) struct Attend<'a> {
    pub(super) cache: &'a Cache,
    pub(super) layer: usize,
    pub(super) head: usize,
    pub(super) head_dim: usize,
    /// Multiplies the queries, 1/√head_dim.
    pub(super) scale: f32,
    pub(super) list: &'a [Query],
    pub(super) queries: &'a [f32],
    pub(super) buffers: &'a mut Buffers,
    pub(super) out: &'a mut [f32],
}

impl Attend<'_> {
    /// Writes the attended values of every query.
    pub(super) fn run(self, arch: Arch) {
        arch.dispatch(self);
    }
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.tiles::<S, 2, 8>(simd),
            8 => self.tiles::<S, 4, 2>(simd),
            4 => self.tiles::<S, 8, 2>(simd),
            _ => self.tiles::<S, 32, 1>(simd),
        }
    }
}

impl Attend<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const V: usize, const R: usize>(mut self, simd: S) {
        for_tiles::<R>(
            self.list.len(),
            #[inline(always)]
            |first, count| self.tile::<S, V>(simd, &self.list[first..first + count]),
        );
    }

    #[inline(always)]
    fn tile<S: Simd, const V: usize>(&mut self, simd: S, list: &[Query]) {
        let longest = list.iter().map(|query| query.visible).max().unwrap_or(0);
        self.turn_queries(list);
        self.scores::<S, V>(simd, list.len(), longest);
        let buffers = &mut *self.buffers;
        buffers.shares.clear();
        buffers.shares.resize(longest * list.len(), 0.0);
        let rows = buffers.scores.chunks_exact_mut(longest);
        for (row, (scores, query)) in rows.zip(list).enumerate() {
            let scores = &mut scores[..query.visible];
            math::softmax(scores);
            for (position, &share) in scores.iter().enumerate() {
                buffers.shares[position * list.len() + row] = share;
            }
        }
        self.values::<S, V>(simd, list, longest);
    }

    #[inline(always)]
    fn turn_queries(&mut self, list: &[Query]) {
        let turned = &mut self.buffers.turned;
        turned.resize(self.head_dim * list.len(), 0.0);
        for (row, query) in list.iter().enumerate() {
            let values = &self.queries[query.start..][..self.head_dim];
            for (coordinate, &value) in values.iter().enumerate() {
                turned[coordinate * list.len() + row] = value * self.scale;
            }
        }
    }

    /// Products of queries and keys, for the first `longest` positions.
    #[inline(always)]
    fn scores<S: Simd, const V: usize>(&mut self, simd: S, rows: usize, longest: usize) {
        let Buffers { turned, scores, .. } = &mut *self.buffers;
        scores.resize(rows * longest, 0.0);
        for (start, block) in starts(self.cache, longest) {
            let keys = self.cache.shape().keys(block, self.layer, self.head);
            let filled = block.filled.min(longest - start);
            for (panel, lines) in keys.chunks_exact(self.head_dim).enumerate() {
                let begin = panel * WIDTH;
                if begin >= filled {
                    break;
                }
                let width = WIDTH.min(filled - begin);
                let mut sums = [Line::ZERO; 8];
                accumulate_any::<S, V>(simd, turned, lines, &mut sums[..rows]);
                for (row, sums) in sums[..rows].iter().enumerate() {
                    let scores = &mut scores[row * longest + start + begin..][..width];
                    scores.copy_from_slice(&sums.0[..width]);
                }
            }
        }
    }

    /// Values weighted by shares; positions that a query does not see have share 0.
    #[inline(always)]
    fn values<S: Simd, const V: usize>(&mut self, simd: S, list: &[Query], longest: usize) {
        let rows = list.len();
        let shape = self.cache.shape();
        for panel in 0..shape.value_panels() {
            let mut sums = [Line::ZERO; 8];
            for (start, block) in starts(self.cache, longest) {
                let lines = shape.values(block, self.layer, self.head);
                let lines = &lines[panel * super::cache::BLOCK..];
                let filled = block.filled.min(longest - start);
                let shares = &self.buffers.shares[start * rows..(start + filled) * rows];
                accumulate_any::<S, V>(simd, shares, &lines[..filled], &mut sums[..rows]);
            }
            let begin = panel * WIDTH;
            let width = WIDTH.min(self.head_dim - begin);
            for (sums, query) in sums.iter().zip(list) {
                let out = &mut self.out[query.start + begin..][..width];
                out.copy_from_slice(&sums.0[..width]);
            }
        }
    }
}

/// The blocks that hold the first `longest` positions, each with its first position.
#[inline(always)]
fn starts(cache: &Cache, longest: usize) -> impl Iterator<Item = (usize, &Block)> {
    let with_start = cache.blocks().scan(0, |start, block| {
        let begin = *start;
        *start += block.filled;
        Some((begin, block))
    });
    with_start.take_while(move |&(start, _)| start < longest)
}
