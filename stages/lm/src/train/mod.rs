//! Training: losses over sequences, data-parallel gradients, the optimizer.

mod accumulate;
mod adamw;
mod chunk;
mod exchange;
pub mod gate;
pub mod probe;
pub mod sample;
mod schedule;
mod state;
mod target;
mod trainer;

pub(crate) use accumulate::cut;
pub use adamw::{AdamW, AdamWConfig};
pub(crate) use adamw::{Step, clip_share, decays};
pub(crate) use chunk::{Scaled, Sums};
pub use exchange::TrainerState;
pub use gate::gradient_gate;
pub use schedule::{PastEnd, Schedule};
pub use target::{LossTarget, PolicyTarget, Sequence, TopKTarget};
pub(crate) use trainer::Plan;
pub use trainer::{Normalisation, TrainConfig, Trainer, UpdateStats};
