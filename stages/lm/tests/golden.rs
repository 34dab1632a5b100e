//! Losses, advantages and the optimizer against results of the published implementations.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "golden/baselines.rs"]
mod baselines;
#[path = "golden/ckd.rs"]
mod ckd;
#[path = "golden/files.rs"]
mod files;
#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;
#[path = "golden/optimizer.rs"]
mod optimizer;
#[path = "golden/policy.rs"]
mod policy;
