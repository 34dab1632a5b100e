use clap::{Args, Subcommand};

use super::inspect_case;
use crate::cli::output::Failure;

/// Look closely at one row: what is trained on, what was scored and why
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Case(inspect_case::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.what {
            What::Case(arguments) => arguments.run(),
        }
    }
}
