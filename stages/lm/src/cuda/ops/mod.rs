//! Each kernel as a function: how many blocks, of how many threads, with which arguments.

use std::sync::Arc;

use super::board::{Arg, Board, Buffer, Factor, Launch, Precision, Product};
use crate::error::LmError;

use Arg::{Address, Float, Int, Long};

/// Most threads of a block that has a row of activations.
const ROW_THREADS: u32 = 256;
/// Most threads of a block that has a row of logits.
const LOGIT_THREADS: u32 = 512;
/// Heads of a block where a warp has a head.
const HEADS_A_BLOCK: usize = 4;
/// Rows whose sum one thread makes in one go.
const SLAB: usize = 64;
/// Most blocks over which squares are summed.
const SQUARE_BLOCKS: usize = 512;

/// Positions in a block of the cache, as the kernels have it.
pub(crate) const CACHE_BLOCK: usize = 64;
/// Positions that one block of threads attends to, as the kernels have it.
pub(crate) const SPLIT: usize = 512;
/// Rows that a block of the attention kernels has.
pub(crate) const ATTENTION_ROWS: usize = 16;
/// The longest list that the kernels sort.
pub(crate) const LONGEST_LIST: usize = 4096;
/// Shared memory that every device with these kernels gives to a block.
const SHARED_LIMIT: usize = 160 << 10;
/// Of it, what the top-k loss needs beside its lists.
const TOPK_ROOM: usize = 2560;

/// A device and the type of activations on it.
#[derive(Clone, Debug)]
pub(crate) struct Ops {
    pub(crate) board: Arc<dyn Board>,
    pub(crate) precision: Precision,
}

/// A matrix whose rows lie one after another, or `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    address: u64,
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl Matrix {
    pub(crate) fn new(address: u64, rows: usize, columns: usize) -> Self {
        Self {
            address,
            rows,
            columns,
            stride: columns,
            transposed: false,
        }
    }

    /// The transpose; nothing is copied.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            transposed: !self.transposed,
            ..self
        }
    }

    fn factor(self) -> Factor {
        Factor {
            address: self.address,
            transposed: self.transposed,
            stride: self.stride,
        }
    }
}

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

/// How rows are added up by target: `order[starts[b]..starts[b + 1]]` go to row `targets[b]`.
#[derive(Debug)]
pub(crate) struct Scatter {
    order: Buffer,
    starts: Buffer,
    targets: Buffer,
    count: usize,
}

/// Heads that are to be turned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'a> {
    /// The rows that hold them.
    pub(crate) rows: &'a Buffer,
    /// Distance of the rows.
    pub(crate) stride: usize,
    /// The column where they begin.
    pub(crate) offset: usize,
    /// The weight of their norm.
    pub(crate) weight: Option<u64>,
    /// Cosines and sines.
    pub(crate) angles: (u64, u64),
    /// Positions of the rows.
    pub(crate) positions: &'a Buffer,
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) dim: usize,
}

/// A C `int`; sizes are checked where a model or a batch comes in.
pub(crate) fn int(value: usize) -> Arg {
    Int(i32::try_from(value).expect("sizes are checked to fit"))
}

fn blocks(count: usize, each: usize) -> u32 {
    u32::try_from(count.div_ceil(each)).unwrap_or(u32::MAX)
}

/// Threads for so many columns: whole warps. Depends on the width alone, so that sums do.
fn threads(width: usize, most: u32) -> u32 {
    blocks(width, 32).saturating_mul(32).clamp(32, most)
}

impl Ops {
    /// Memory for numbers of the type of activations.
    pub(crate) fn values(&self, len: usize) -> Result<Buffer, LmError> {
        Buffer::new(&self.board, len * self.precision.size())
    }

    /// Memory for `f32` numbers.
    pub(crate) fn floats(&self, len: usize) -> Result<Buffer, LmError> {
        Buffer::new(&self.board, 4 * len)
    }

    /// The same, set to 0.
    pub(crate) fn zeros(&self, bytes: usize) -> Result<Buffer, LmError> {
        let buffer = Buffer::new(&self.board, bytes)?;
        buffer.clear()?;
        Ok(buffer)
    }

    /// A copy of the first bytes.
    pub(crate) fn copy_of(&self, from: &Buffer) -> Result<Buffer, LmError> {
        let buffer = Buffer::new(&self.board, from.bytes())?;
        self.board
            .copy(from.address(), buffer.address(), from.bytes())?;
        Ok(buffer)
    }

    pub(crate) fn upload_floats(&self, values: &[f32]) -> Result<Buffer, LmError> {
        let buffer = self.floats(values.len())?;
        buffer.write_floats(values)?;
        Ok(buffer)
    }

    pub(crate) fn upload(&self, bytes: &[u8]) -> Result<Buffer, LmError> {
        let buffer = Buffer::new(&self.board, bytes.len())?;
        if !bytes.is_empty() {
            self.board.write(buffer.address(), bytes)?;
        }
        Ok(buffer)
    }

    pub(crate) fn upload_ints(&self, values: &[i32]) -> Result<Buffer, LmError> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.upload(&bytes)
    }

    pub(crate) fn upload_longs(&self, values: &[u64]) -> Result<Buffer, LmError> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.upload(&bytes)
    }

    /// Runs a kernel unless there is nothing to do.
    fn run(
        &self,
        name: &str,
        grid: [u32; 3],
        block: u32,
        shared: usize,
        args: &[Arg],
    ) -> Result<(), LmError> {
        if grid.contains(&0) {
            return Ok(());
        }
        if shared > SHARED_LIMIT {
            return Err(LmError::Config(format!(
                "`{name}` would need {shared} bytes of shared memory, more than {SHARED_LIMIT}: \
                 use shorter top-k lists"
            )));
        }
        self.board.launch(&Launch {
            name,
            grid,
            block,
            shared,
            args,
        })
    }

    fn name(&self, kernel: &str) -> String {
        format!("{kernel}_{}", self.precision.suffix())
    }

    /// A kernel with a block for each row of this width.
    fn rows(&self, kernel: &str, rows: usize, width: usize, args: &[Arg]) -> Result<(), LmError> {
        let threads = threads(width, ROW_THREADS);
        self.run(
            &self.name(kernel),
            [blocks(rows, 1), 1, 1],
            threads,
            0,
            args,
        )
    }

    /// A kernel that runs over numbers in strides of the whole grid.
    fn over(&self, name: &str, count: usize, args: &[Arg]) -> Result<(), LmError> {
        let grid = blocks(count, ROW_THREADS as usize).min(4096);
        self.run(name, [grid, 1, 1], ROW_THREADS, 0, args)
    }

    /// dst = a·b or dst += a·b, for matrices of the type of activations.
    ///
    /// # Panics
    /// When the inner or outer sizes disagree.
    pub(crate) fn matmul(
        &self,
        dst: Matrix,
        output: Precision,
        add: bool,
        a: Matrix,
        b: Matrix,
    ) -> Result<(), LmError> {
        assert!(
            a.columns == b.rows && dst.rows == a.rows && dst.columns == b.columns,
            "matrices do not fit: [{}, {}] = [{}, {}]·[{}, {}]",
            dst.rows,
            dst.columns,
            a.rows,
            a.columns,
            b.rows,
            b.columns
        );
        if dst.rows == 0 || dst.columns == 0 || a.columns == 0 {
            return Ok(());
        }
        // A row-major matrix is the transpose of a column-major one, and (a·b)ᵀ = bᵀ·aᵀ.
        self.board.product(&Product {
            m: dst.columns,
            n: dst.rows,
            k: a.columns,
            a: b.factor(),
            b: a.factor(),
            input: self.precision,
            c: dst.address,
            c_stride: dst.stride,
            output,
            add,
        })
    }

    pub(crate) fn gather(
        &self,
        table: u64,
        ids: &Buffer,
        count: usize,
        width: usize,
    ) -> Result<Buffer, LmError> {
        let out = self.values(count * width)?;
        let args = [Address(table), ids.arg(), out.arg(), int(width)];
        self.rows("gather", count, width, &args)?;
        Ok(out)
    }

    /// Lists which rows go to which target.
    pub(crate) fn scatter_of(&self, targets: &[usize]) -> Result<Scatter, LmError> {
        let mut order: Vec<i32> = (0..targets.len() as i32).collect();
        order.sort_by_key(|&row| targets[row as usize]);
        let (mut starts, mut rows) = (Vec::new(), Vec::<i32>::new());
        for (at, &row) in order.iter().enumerate() {
            let target = targets[row as usize] as i32;
            if rows.last() != Some(&target) {
                rows.push(target);
                starts.push(at as i32);
            }
        }
        starts.push(order.len() as i32);
        Ok(Scatter {
            order: self.upload_ints(&order)?,
            starts: self.upload_ints(&starts)?,
            count: rows.len(),
            targets: self.upload_ints(&rows)?,
        })
    }

    /// Adds rows to those of their targets, in activations or (`gradient`) in `f32`.
    pub(crate) fn scatter(
        &self,
        rows: &Buffer,
        scatter: &Scatter,
        table: u64,
        gradient: bool,
        width: usize,
    ) -> Result<(), LmError> {
        let kernel = if gradient {
            "scatter_gradient"
        } else {
            "scatter_rows"
        };
        let args = [
            rows.arg(),
            scatter.order.arg(),
            scatter.starts.arg(),
            scatter.targets.arg(),
            Address(table),
            int(width),
        ];
        self.rows(kernel, scatter.count, width, &args)
    }

    pub(crate) fn add_row(
        &self,
        rows: &Buffer,
        row: u64,
        count: usize,
        width: usize,
    ) -> Result<(), LmError> {
        self.rows(
            "add_row",
            count,
            width,
            &[rows.arg(), Address(row), int(width)],
        )
    }

    /// `f32` numbers as activations.
    pub(crate) fn convert(&self, from: u64, to: u64, count: usize) -> Result<(), LmError> {
        let args = [Address(from), Address(to), Long(count as u64)];
        self.over(&self.name("convert"), count, &args)
    }

    /// Adds the sums of columns to `out`, which is `f32`.
    fn slabs(
        &self,
        rows: usize,
        width: usize,
        out: u64,
        sum: impl FnOnce([u32; 3], u32, &Buffer) -> Result<(), LmError>,
    ) -> Result<(), LmError> {
        if rows == 0 {
            return Ok(());
        }
        let slabs = rows.div_ceil(SLAB);
        let threads = threads(width, ROW_THREADS);
        let across = blocks(width, threads as usize);
        let sums = self.floats(slabs * width)?;
        sum([across, blocks(slabs, 1), 1], threads, &sums)?;
        let args = [sums.arg(), int(slabs), int(width), Address(out)];
        self.run("add_slabs", [across, 1, 1], threads, 0, &args)
    }

    /// Adds the sum of each column to `out`.
    pub(crate) fn column_sums(
        &self,
        values: &Buffer,
        precision: Precision,
        rows: usize,
        width: usize,
        out: u64,
    ) -> Result<(), LmError> {
        let name = format!("slab_sums_{}", precision.suffix());
        self.slabs(rows, width, out, |grid, threads, sums| {
            let args = [values.arg(), int(rows), int(width), int(SLAB), sums.arg()];
            self.run(&name, grid, threads, 0, &args)
        })
    }

    pub(crate) fn rms_norm(
        &self,
        x: &Buffer,
        weight: u64,
        epsilon: f32,
        rows: usize,
        width: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        let (y, inverse) = (self.values(rows * width)?, self.floats(rows)?);
        let args = [
            x.arg(),
            Address(weight),
            Float(epsilon),
            y.arg(),
            inverse.arg(),
            int(width),
        ];
        self.rows("rms_norm", rows, width, &args)?;
        Ok((y, inverse))
    }

    /// The normalised rows again.
    pub(crate) fn rms_norm_again(
        &self,
        x: &Buffer,
        weight: u64,
        inverse: &Buffer,
        rows: usize,
        width: usize,
    ) -> Result<Buffer, LmError> {
        let y = self.values(rows * width)?;
        let args = [x.arg(), Address(weight), inverse.arg(), y.arg(), int(width)];
        self.rows("rms_norm_again", rows, width, &args)?;
        Ok(y)
    }

    /// Adds the gradient on `x` to `sum` and that on the weight to `dweight`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a backward pass has all of its forward's"
    )]
    pub(crate) fn rms_norm_backward(
        &self,
        x: &Buffer,
        weight: u64,
        inverse: &Buffer,
        dy: &Buffer,
        sum: &Buffer,
        dweight: u64,
        rows: usize,
        width: usize,
    ) -> Result<(), LmError> {
        let args = [
            x.arg(),
            Address(weight),
            inverse.arg(),
            dy.arg(),
            sum.arg(),
            int(width),
        ];
        self.rows("rms_norm_backward", rows, width, &args)?;
        self.slabs(rows, width, dweight, |grid, threads, sums| {
            let args = [
                x.arg(),
                inverse.arg(),
                dy.arg(),
                int(rows),
                int(width),
                int(SLAB),
                sums.arg(),
            ];
            self.run(&self.name("norm_weight_slabs"), grid, threads, 0, &args)
        })
    }

    fn heads(&self, kernel: &str, count: usize, args: &[Arg]) -> Result<(), LmError> {
        let grid = [blocks(count, HEADS_A_BLOCK), 1, 1];
        self.run(&self.name(kernel), grid, 32 * HEADS_A_BLOCK as u32, 0, args)
    }

    /// Turned heads, and 1/rms of each when they are normalised.
    pub(crate) fn heads_forward(
        &self,
        turn: Turn<'_>,
        epsilon: f32,
    ) -> Result<(Buffer, Buffer), LmError> {
        let count = turn.tokens * turn.heads;
        let out = self.values(count * turn.dim)?;
        let inverse = self.floats(if turn.weight.is_some() { count } else { 0 })?;
        let args = [
            turn.rows.arg(),
            int(turn.stride),
            int(turn.offset),
            Address(turn.weight.unwrap_or(0)),
            Float(epsilon),
            Address(turn.angles.0),
            Address(turn.angles.1),
            turn.positions.arg(),
            out.arg(),
            inverse.arg(),
            int(turn.tokens),
            int(turn.heads),
            int(turn.dim),
        ];
        self.heads("heads_forward", count, &args)?;
        Ok((out, inverse))
    }

    /// Writes the gradient on the rows from that on the turned heads; adds that on the weight.
    pub(crate) fn heads_backward(
        &self,
        turn: Turn<'_>,
        inverse: &Buffer,
        dout: &Buffer,
        drows: &Buffer,
        dweight: u64,
    ) -> Result<(), LmError> {
        let count = turn.tokens * turn.heads;
        let terms = self.floats(if turn.weight.is_some() {
            count * turn.dim
        } else {
            0
        })?;
        let args = [
            turn.rows.arg(),
            int(turn.stride),
            int(turn.offset),
            Address(turn.weight.unwrap_or(0)),
            inverse.arg(),
            Address(turn.angles.0),
            Address(turn.angles.1),
            turn.positions.arg(),
            dout.arg(),
            drows.arg(),
            terms.arg(),
            int(turn.tokens),
            int(turn.heads),
            int(turn.dim),
        ];
        self.heads("heads_backward", count, &args)?;
        if turn.weight.is_some() {
            self.column_sums(&terms, Precision::F32, count, turn.dim, dweight)?;
        }
        Ok(())
    }

    pub(crate) fn swiglu(
        &self,
        gate_up: &Buffer,
        rows: usize,
        inner: usize,
    ) -> Result<Buffer, LmError> {
        let out = self.values(rows * inner)?;
        let args = [gate_up.arg(), out.arg(), Long(rows as u64), int(inner)];
        self.over(&self.name("swiglu"), rows * inner, &args)?;
        Ok(out)
    }

    pub(crate) fn swiglu_backward(
        &self,
        gate_up: &Buffer,
        dout: &Buffer,
        rows: usize,
        inner: usize,
    ) -> Result<(), LmError> {
        let args = [gate_up.arg(), dout.arg(), Long(rows as u64), int(inner)];
        self.over(&self.name("swiglu_backward"), rows * inner, &args)
    }

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

    /// What rows of logits say about their targets: four floats a row, see `cuda/head.cu`.
    pub(crate) fn row_stats(
        &self,
        logits: &Buffer,
        rows: usize,
        vocabulary: usize,
        targets: &Buffer,
    ) -> Result<Buffer, LmError> {
        let stats = self.floats(4 * rows)?;
        let args = [logits.arg(), int(vocabulary), targets.arg(), stats.arg()];
        self.logits("row_stats", rows, vocabulary, 0, &args)?;
        Ok(stats)
    }

    /// A kernel of rows of logits.
    pub(crate) fn logits(
        &self,
        name: &str,
        rows: usize,
        vocabulary: usize,
        shared: usize,
        args: &[Arg],
    ) -> Result<(), LmError> {
        let threads = threads(vocabulary, LOGIT_THREADS);
        self.run(name, [blocks(rows, 1), 1, 1], threads, shared, args)
    }

    /// Shared memory of the top-k loss.
    pub(crate) fn topk_room(k: usize, student_top: usize) -> usize {
        TOPK_ROOM + 16 * k + 8 * student_top
    }

    /// The k greatest of each row and their log-probabilities.
    pub(crate) fn top_rows(
        &self,
        logits: &Buffer,
        rows: usize,
        vocabulary: usize,
        stats: &Buffer,
        k: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        if k > LONGEST_LIST {
            return Err(LmError::Config(format!(
                "lists of {k} tokens: CUDA kernels list at most {LONGEST_LIST}"
            )));
        }
        let (ids, logprobs) = (self.floats(rows * k)?, self.floats(rows * k)?);
        let size = k.next_power_of_two();
        let args = [
            logits.arg(),
            int(vocabulary),
            stats.arg(),
            int(k),
            int(size),
            ids.arg(),
            logprobs.arg(),
        ];
        self.logits("top_rows", rows, vocabulary, 8 * size, &args)?;
        Ok((ids, logprobs))
    }

    /// The sum of all squares, in `f64`.
    pub(crate) fn square_sum(&self, values: &Buffer, count: usize) -> Result<f64, LmError> {
        let parts = count.div_ceil(1 << 14).clamp(1, SQUARE_BLOCKS);
        let sums = Buffer::new(&self.board, 8 * parts)?;
        let args = [values.arg(), Long(count as u64), sums.arg()];
        let grid = [parts as u32, 1, 1];
        self.run("square_sums", grid, ROW_THREADS, 0, &args)?;
        let bytes = sums.read(8 * parts)?;
        let words = bytes.as_chunks::<8>().0.iter();
        Ok(words.map(|word| f64::from_le_bytes(*word)).sum())
    }

    /// The optimizer on a part of the parameters; `args` from the count on, see `cuda/adamw.cu`.
    pub(crate) fn adamw(
        &self,
        places: [u64; 5],
        count: usize,
        constants: [f32; 7],
    ) -> Result<(), LmError> {
        let mut args: Vec<Arg> = places.into_iter().map(Address).collect();
        args.push(Long(count as u64));
        args.extend(constants.map(Float));
        self.over(&self.name("adamw"), count, &args)
    }
}
