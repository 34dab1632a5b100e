//! Attention over packed segments, and over a cache (`attention.cu`).

use super::{Ops, blocks, int};
use crate::cuda::board::{Arg, Buffer};
use crate::error::LmError;

use Arg::{Address, Float};

/// Positions in a block of the cache, as the kernels have it.
pub(crate) const CACHE_BLOCK: usize = 64;

/// Positions that one block of threads attends to, as the kernels have it.
pub(crate) const SPLIT: usize = 512;

/// Rows that a block of the attention kernels has.
pub(crate) const ATTENTION_ROWS: usize = 16;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    pub(crate) dim: usize,
}

impl Heads {
    /// The width that kernels are compiled for, in warps.
    fn warps(self) -> Result<usize, LmError> {
        match self.dim {
            0..=64 => Ok(2),
            65..=128 => Ok(4),
            129..=256 => Ok(8),
            dim => Err(LmError::Config(format!(
                "heads of {dim} coordinates: CUDA kernels have at most 256"
            ))),
        }
    }

    fn args(self) -> [Arg; 4] {
        let scale = 1.0 / (self.dim as f64).sqrt();
        [
            int(self.heads),
            int(self.key_heads),
            int(self.dim),
            Float(scale as f32),
        ]
    }
}

/// Queries, keys and values of an attention; values inside rows `v_stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attended<'a> {
    pub(crate) q: &'a Buffer,
    pub(crate) k: &'a Buffer,
    pub(crate) v: u64,
    pub(crate) v_stride: usize,
}

impl Attended<'_> {
    fn args(&self) -> [Arg; 4] {
        [
            self.q.arg(),
            self.k.arg(),
            Address(self.v),
            int(self.v_stride),
        ]
    }
}

impl Ops {
    fn attend(
        &self,
        kernel: &str,
        grid: [u32; 3],
        heads: Heads,
        matrices: (usize, usize),
        args: &[Arg],
    ) -> Result<(), LmError> {
        let warps = heads.warps()?;
        let (turned, shares) = matrices;
        let shared = 256 * (32 * warps + 1) + turned * 2048 * warps + shares * 2048;
        let name = self.name(&format!("{kernel}_{}", 32 * warps));
        self.run(&name, grid, 128, shared, args)
    }

    /// Attention over packed segments, with its log-sum-exp.
    pub(crate) fn attention(
        &self,
        heads: Heads,
        inputs: Attended<'_>,
        tiles: (&Buffer, usize),
        tokens: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        let out = self.values(tokens * heads.heads * heads.dim)?;
        let lse = self.floats(tokens * heads.heads)?;
        let mut args = inputs.args().to_vec();
        args.extend([tiles.0.arg(), out.arg(), lse.arg()]);
        args.extend(heads.args());
        let grid = [blocks(tiles.1, 1), heads.heads as u32, 1];
        self.attend("attention_forward", grid, heads, (1, 1), &args)?;
        Ok((out, lse))
    }

    /// Gradients on queries and keys; those on values are written to `dv`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward pass has all of its forward's"
    )]
    pub(crate) fn attention_backward(
        &self,
        heads: Heads,
        inputs: Attended<'_>,
        (out, lse, dout): (&Buffer, &Buffer, &Buffer),
        query_tiles: (&Buffer, usize),
        key_tiles: (&Buffer, usize),
        ranges: &Buffer,
        dv: u64,
        tokens: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        let count = tokens * heads.heads;
        let along = self.floats(count)?;
        let args = [
            out.arg(),
            dout.arg(),
            along.arg(),
            int(count),
            int(heads.dim),
        ];
        self.heads("attention_along", count, &args)?;
        let dq = self.values(count * heads.dim)?;
        let dk = self.values(tokens * heads.key_heads * heads.dim)?;
        let mut args = inputs.args().to_vec();
        args.extend([dout.arg(), lse.arg(), along.arg()]);
        let common = args.clone();
        args.extend([query_tiles.0.arg(), dq.arg()]);
        args.extend(heads.args());
        let grid = [blocks(query_tiles.1, 1), heads.heads as u32, 1];
        self.attend("attention_queries", grid, heads, (2, 1), &args)?;
        let mut args = common;
        args.extend([key_tiles.0.arg(), ranges.arg(), dk.arg(), Address(dv)]);
        args.extend(heads.args());
        let grid = [blocks(key_tiles.1, 1), heads.key_heads as u32, 1];
        self.attend("attention_keys", grid, heads, (2, 2), &args)?;
        Ok((dq, dk))
    }

    /// Puts keys, and the values inside `rows` (their distance and first column), into the cache.
    #[expect(
        clippy::too_many_arguments,
        reason = "where from, where to, and the sizes"
    )]
    pub(crate) fn cache_write(
        &self,
        keys: &Buffer,
        (rows, stride, offset): (&Buffer, usize, usize),
        positions: &Buffer,
        table: [Arg; 2],
        layer: usize,
        count: usize,
        heads: Heads,
    ) -> Result<(), LmError> {
        let mut args = vec![keys.arg(), rows.arg(), int(stride), int(offset)];
        args.push(positions.arg());
        args.extend(table);
        args.extend([int(layer), int(heads.key_heads), int(heads.dim)]);
        self.rows("cache_write", count, heads.key_heads * heads.dim, &args)
    }

    /// Attention of each row to its past in the cache, in up to `splits` parts.
    #[expect(clippy::too_many_arguments, reason = "where from, and the sizes")]
    pub(crate) fn cached_attention(
        &self,
        q: &Buffer,
        positions: &Buffer,
        table: [Arg; 2],
        layer: usize,
        count: usize,
        splits: usize,
        heads: Heads,
    ) -> Result<Buffer, LmError> {
        let units = count * heads.heads * splits;
        let (sums, measures) = (self.floats(units * heads.dim)?, self.floats(2 * units)?);
        let mut args = vec![q.arg(), positions.arg()];
        args.extend(table);
        args.extend([sums.arg(), measures.arg(), int(layer)]);
        args.extend(heads.args());
        let parts = (heads.heads / heads.key_heads).div_ceil(ATTENTION_ROWS);
        let grid = [
            blocks(count, 1),
            (heads.key_heads * parts) as u32,
            splits as u32,
        ];
        self.attend("cached_attention", grid, heads, (1, 1), &args)?;
        let out = self.values(count * heads.heads * heads.dim)?;
        let args = [
            sums.arg(),
            measures.arg(),
            positions.arg(),
            out.arg(),
            int(count),
            int(heads.heads),
            int(heads.dim),
            int(splits),
        ];
        self.heads("join_splits", count * heads.heads, &args)?;
        Ok(out)
    }
}
