//! `starling inspect`: looks at single rows, answers and entries.

use clap::{Args, Subcommand};

use super::{inspect_case, inspect_rollouts, inspect_sample};
use crate::cli::output::Failure;
use crate::cli::session::Session;

/// Look closely at one row: what is trained on, what was scored and why
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Case(inspect_case::Arguments),
    Rollouts(inspect_rollouts::Arguments),
    Sample(inspect_sample::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        match self.what {
            What::Case(arguments) => arguments.run(),
            What::Rollouts(arguments) => arguments.run(session),
            What::Sample(arguments) => arguments.run(session),
        }
    }
}
