//! `starling completions`: what a shell needs to complete the command's words.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use starling::exit;

use super::output;

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

impl Arguments {
    pub(crate) fn run(&self) -> u8 {
        let mut text = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "starling", &mut text);
        output::data(&String::from_utf8_lossy(&text));
        exit::DONE
    }
}
