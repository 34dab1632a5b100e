//! The optimizer (`adamw.cu`), and the norm that gradients are clipped by.

use super::{Ops, ROW_THREADS};
use crate::cuda::board::{Arg, Buffer};
use crate::error::LmError;

use Arg::{Address, Float, Long};

/// Most blocks over which squares are summed.
const SQUARE_BLOCKS: usize = 512;

impl Ops {
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
