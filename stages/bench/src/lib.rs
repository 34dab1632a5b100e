//! BFCL and ACEBench: data, prompts, checkers, back ends.

pub mod acebench;
pub mod bfcl;
pub mod interval;
mod rows;

pub use rows::Judged;
