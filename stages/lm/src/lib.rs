//! Language models on candle: decoder, generation, training.

pub mod config;
pub mod cuda;
pub mod decoder;
pub mod error;
pub mod generate;
pub mod kernels;
pub mod load;
pub mod loss;
pub mod memory;
pub mod place;
pub mod policy;
pub mod rng;
pub mod score;
pub mod speed;
pub mod tokenizer;
pub mod train;
pub mod weights;

pub use config::{Architecture, ModelConfig, RopeScaling};
pub use decoder::{Decoder, Gradients, PackedBatch};
pub use error::LmError;
pub use weights::Weights;
