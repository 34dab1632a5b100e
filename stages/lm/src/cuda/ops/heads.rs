//! Heads of queries and keys: normalised, and turned to their positions (`rope.cu`).

use super::{Ops, int};
use crate::cuda::board::{Arg, Buffer, Precision};
use crate::error::LmError;

use Arg::{Address, Float};

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

impl Ops {
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
}
