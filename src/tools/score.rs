use clap::{Args, Subcommand};

use super::score_reward;
use crate::cli::output::Failure;

/// Score outputs that were made elsewhere, with the rules that training and evaluation use
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Reward(score_reward::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.what {
            What::Reward(arguments) => arguments.run(),
        }
    }
}
