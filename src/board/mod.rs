//! Curves as TensorBoard reads them: a folder a stage, an event file in it.
//!
//! A run writes them as the figures come, under `runs/RUN/tensorboard/` of the store, and afterwards those of stages
//! that were cached. They are beside the artifacts and never in them: they hold wall times. What fails here fails no
//! run; it is said once.

mod export;
mod live;
mod tfevents;

pub use export::export;
pub(crate) use live::Boards;

/// The folder of a run in which the stages' folders are.
pub const FOLDER: &str = "tensorboard";
