//! Language models on candle: decoder, generation, training.

pub mod config;
pub mod error;
pub mod generate;
pub mod load;
pub mod rng;
pub mod tokenizer;
pub mod weights;

pub use config::{Architecture, ModelConfig, RopeScaling};
pub use error::LmError;
pub use weights::Weights;
