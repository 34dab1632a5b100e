//! A device as its users hold it.

use std::sync::Arc;

use super::board::{Board, Precision};
use crate::error::LmError;

/// A device, and how numbers are kept on it.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) board: Arc<dyn Board>,
    pub(crate) precision: Precision,
}

impl Device {
    /// The first device of NVIDIA's driver, or the one that `CUDA_VISIBLE_DEVICES` puts there.
    ///
    /// # Errors
    /// [`LmError::NoDevice`] when this binary, this machine or the driver has none; it says which.
    #[cfg(feature = "cuda")]
    pub fn open(precision: Precision) -> Result<Self, LmError> {
        Ok(Self {
            board: super::driver::open(0)?,
            precision,
        })
    }

    /// As with the feature `cuda`, which this binary lacks.
    ///
    /// # Errors
    /// Always [`LmError::NoDevice`].
    #[cfg(not(feature = "cuda"))]
    pub fn open(_precision: Precision) -> Result<Self, LmError> {
        Err(LmError::NoDevice(
            "this binary computes on the processor only: build it with scripts/cuda-build.sh for `device = \"cuda\"`"
                .to_owned(),
        ))
    }

    /// A device of another kind.
    pub fn with_board(board: Arc<dyn Board>, precision: Precision) -> Self {
        Self { board, precision }
    }

    /// What it is.
    pub fn name(&self) -> String {
        self.board.name()
    }
}
