//! The reward, ROUGE and data preparation against the reference programs' own answers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

mod corpora;
mod examples;
#[path = "../../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;
mod labels;
mod reward;
mod rollout;
mod rows;
