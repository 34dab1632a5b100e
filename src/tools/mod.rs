//! Commands that need more than the engine: models, rewards, benchmarks.

pub(crate) mod lm;
