//! Policy gradients: rewards to advantages, and losses on log-probabilities.
//!
//! Plain functions over `f64` slices; the trainer carries their slopes on to the logits. A mask is true where a token
//! counts.

pub mod advantage;
pub mod filter;
pub mod kl;
pub mod loss;
pub mod luffy;
pub mod preference;

pub use advantage::{AdvantageSettings, Estimator};
pub use filter::keep_group;
pub use kl::KlEstimator;
pub use loss::{PolicySettings, Ratio};
