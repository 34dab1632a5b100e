//! Matrix products.

use super::Ops;
use crate::cuda::board::{Factor, Precision, Product};
use crate::error::LmError;

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

impl Ops {
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
}
