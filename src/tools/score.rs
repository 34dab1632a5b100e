//! `starling score`: judges answers made elsewhere.

use clap::{Args, Subcommand};

use super::{score_acebench, score_bfcl, score_reward};
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
    Bfcl(score_bfcl::Arguments),
    Acebench(score_acebench::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.what {
            What::Reward(arguments) => arguments.run(),
            What::Bfcl(arguments) => arguments.run(),
            What::Acebench(arguments) => arguments.run(),
        }
    }
}
