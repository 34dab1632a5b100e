//! Commands beside the pipeline: they work on files, with the rules that the stages use.
//!
//! One file a command; what several share is in a file of its own.

mod bench_rows;
pub(crate) mod eval;
pub(crate) mod inspect;
mod inspect_case;
pub(crate) mod score;
mod score_acebench;
mod score_bfcl;
