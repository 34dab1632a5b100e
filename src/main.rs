//! The command `starling`: the kinds and the arguments go to the engine, an exit code comes back.

mod cli;
mod tools;

use std::process::ExitCode;

use starling::Registry;

fn main() -> ExitCode {
    cli::main(|| Registry::new(starling_stages::kinds())).into()
}
