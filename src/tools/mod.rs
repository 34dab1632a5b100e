//! Commands beside the pipeline: they work on files, with the rules that the stages use.
//!
//! One file or folder a command; what several share (reading rows, telling bad ones) is in [`files`].

mod bench_rows;
pub(crate) mod eval;
mod files;
pub(crate) mod inspect;
mod inspect_case;
mod inspect_rollouts;
mod inspect_sample;
pub(crate) mod lm;
pub(crate) mod score;
mod score_acebench;
mod score_bfcl;
mod score_reward;
pub(crate) mod speed;
