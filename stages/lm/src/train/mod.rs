//! Training: losses over sequences, data-parallel gradients, the optimizer.

mod accumulate;
mod adamw;
mod chunk;
mod schedule;
mod target;
mod trainer;

pub use adamw::{AdamW, AdamWConfig};
pub use schedule::Schedule;
pub use target::{LossTarget, Sequence, TopKTarget};
pub use trainer::{Normalisation, TrainConfig, Trainer, UpdateStats};
