//! Each kernel as a function: how many blocks, of how many threads, with which arguments.
//!
//! Here is what all have in common; each file has the kernels of the sources that it names.

mod attention;
mod heads;
mod logits;
mod matmul;
mod optimizer;
mod rows;

use std::sync::Arc;

use super::board::{Arg, Board, Buffer, Launch, Precision};
use crate::error::LmError;

pub(crate) use attention::{ATTENTION_ROWS, Attended, CACHE_BLOCK, Heads, SPLIT};
pub(crate) use heads::Turn;
pub(crate) use matmul::Matrix;
pub(crate) use rows::Scatter;

/// Most threads of a block that has a row of activations.
const ROW_THREADS: u32 = 256;
/// Shared memory that every device with these kernels gives to a block.
const SHARED_LIMIT: usize = 160 << 10;
/// Heads of a block where a warp has a head.
const HEADS_A_BLOCK: usize = 4;

/// A device and the type of activations on it.
#[derive(Clone, Debug)]
pub(crate) struct Ops {
    pub(crate) board: Arc<dyn Board>,
    pub(crate) precision: Precision,
}

/// A C `int`. A count that is none becomes negative, which kernels are not run with.
pub(crate) fn int(value: usize) -> Arg {
    Arg::Int(i32::try_from(value).unwrap_or(-1))
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
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.upload(&bytes.collect::<Vec<u8>>())
    }

    pub(crate) fn upload_longs(&self, values: &[u64]) -> Result<Buffer, LmError> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.upload(&bytes.collect::<Vec<u8>>())
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
        if args.iter().any(|arg| matches!(arg, Arg::Int(..0))) {
            return Err(LmError::Config(format!(
                "`{name}` would count further than {}: use smaller chunks or batches",
                i32::MAX
            )));
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

    /// A kernel with a warp for each head.
    fn heads(&self, kernel: &str, count: usize, args: &[Arg]) -> Result<(), LmError> {
        let grid = [blocks(count, HEADS_A_BLOCK), 1, 1];
        self.run(&self.name(kernel), grid, 32 * HEADS_A_BLOCK as u32, 0, args)
    }
}
