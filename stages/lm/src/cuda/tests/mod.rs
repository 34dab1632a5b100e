//! The program on the kernels' twins, compared with the one for the processor.

mod inference;
mod refining;
mod training;
mod twin;
