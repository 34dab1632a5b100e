//! The kernels of the CUDA program: `cuda/*.cu`, compiled for the device or, as twins, for the processor.
//!
//! This crate holds the code and nothing that runs it, but for `twin::launch`, which runs one kernel on the
//! processor, a thread of the device after another, so that tests can compare it with what it must compute.

/// The module that a driver loads: machine code and PTX.
#[cfg(feature = "cuda")]
pub static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.fatbin"));

#[cfg(feature = "twins")]
pub mod twin;
