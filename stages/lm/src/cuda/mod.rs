//! The decoder on NVIDIA devices: training, scoring and generation with kernels of our own and cuBLAS.
//!
//! The program asks a [`Board`] for memory, launches and products. With the cargo feature `cuda` a driver's device is
//! one; in tests the twins are another: the same kernel source compiled for the processor, launched with the same
//! arguments, so that the whole program is compared with the one for the processor where there is no device. What that
//! cannot show is said in `docs/cuda.md`.

mod backward;
mod batch;
mod board;
mod cache;
mod device;
#[cfg(feature = "cuda")]
mod driver;
mod generate;
mod losses;
mod model;
mod ops;
mod score;
mod step;
mod train;

#[cfg(test)]
mod tests;

pub use board::{Arg, Board, Factor, Launch, Precision, Product};
pub use device::Device;
pub use generate::Generator;
pub(crate) use generate::ROWS;
pub(crate) use losses::LOGIT_BYTES;
pub use score::Scorer;
pub use train::Trainer;
