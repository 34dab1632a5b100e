//! The command `starling`: the kinds and the arguments go to the engine, an exit code comes back.

mod cli;
mod tools;

use std::process::ExitCode;

use starling::Registry;

/// Rows are many small strings, which the system's allocator takes a third of their time for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(|| Registry::new(starling_stages::kinds())).into()
}
