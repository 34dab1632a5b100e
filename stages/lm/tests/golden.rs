//! Losses, advantages and the optimizer against results of the published implementations.

#[path = "golden/baselines.rs"]
mod baselines;
#[path = "golden/ckd.rs"]
mod ckd;
#[path = "golden/files.rs"]
mod files;
#[path = "golden/optimizer.rs"]
mod optimizer;
#[path = "golden/policy.rs"]
mod policy;
