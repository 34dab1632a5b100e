//! The command line: one file a command; the text of the arguments is their documentation.
//!
//! Here alone the environment, the terminal and the working folder are looked at.

mod completions;
pub(crate) mod copy;
mod diff;
mod doctor;
mod fetch;
mod gc;
mod graph;
mod new;
pub(crate) mod output;
mod pin;
mod plan;
pub(crate) mod run;
mod run_stage;
mod runs;
mod schema;
pub(crate) mod session;
mod show;
mod stages;
mod status;
mod tensorboard;
mod verify;
mod why;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use starling::{Registry, exit};

use self::output::Failure;
use self::session::Session;
use crate::tools;

/// Turns raw function-calling corpora into a benchmarked super-tiny model.
///
/// A pipeline is a TOML file of stages. `run` does what the store does not already hold; `plan` says
/// beforehand what that is, and `why` says why.
#[derive(Debug, Parser)]
#[command(name = "starling", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The store [default: the nearest `.starling` here or above, else one made here]
    #[arg(long, global = true, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Go to this folder first
    #[arg(short = 'C', long, global = true, value_name = "FOLDER")]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 2 wrong usage, 3 wrong pipeline or missing file, 4 a stage failed, 5 store unusable,
6 device unavailable, 7 verification found a difference, 130 interrupted (the same command continues),
1 a bug of starling.";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Plan(plan::Arguments),
    Why(why::Arguments),
    Graph(graph::Arguments),
    Show(show::Arguments),
    Copy(copy::Arguments),
    Stages(stages::Arguments),
    New(new::Arguments),
    Schema(schema::Arguments),
    Runs(runs::Arguments),
    Status(status::Arguments),
    Tensorboard(tensorboard::Arguments),
    Diff(diff::Arguments),
    Doctor(doctor::Arguments),
    Fetch(fetch::Arguments),
    Gc(gc::Arguments),
    Pin(pin::Arguments),
    Verify(verify::Arguments),
    Lm(tools::lm::Arguments),
    Score(tools::score::Arguments),
    Eval(tools::eval::Arguments),
    Inspect(tools::inspect::Arguments),
    Completions(completions::Arguments),
    #[command(name = "run-stage")]
    RunStage(run_stage::Arguments),
}

/// Does what the command line says; the exit code is one of [`exit`].
///
/// The kinds are asked for only where they are needed, so that `--version` costs nothing.
pub(crate) fn main(kinds: fn() -> Registry) -> u8 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, for stdout and with no failure.
            let _closed_pipe = error.print();
            return if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
        }
    };
    match run(arguments, kinds) {
        Ok(code) => code,
        Err(failure) => failure.show(),
    }
}

fn run(arguments: Arguments, kinds: fn() -> Registry) -> Result<u8, Failure> {
    if let Some(folder) = &arguments.directory {
        std::env::set_current_dir(folder)
            .map_err(|e| Failure::usage(format!("cannot go to {}: {e}", folder.display())))?;
    }
    if let Command::Completions(arguments) = &arguments.command {
        return Ok(arguments.run());
    }
    if let Command::New(arguments) = arguments.command {
        return arguments.run();
    }
    if let Command::Lm(arguments) = arguments.command {
        return arguments.run();
    }
    let store = arguments.store.clone();
    let session = Session::new(arguments.store, kinds());
    match arguments.command {
        Command::Run(arguments) => arguments.run(&session),
        Command::Plan(arguments) => arguments.run(&session),
        Command::Why(arguments) => arguments.run(&session),
        Command::Graph(arguments) => arguments.run(&session),
        Command::Show(arguments) => arguments.run(&session),
        Command::Copy(arguments) => arguments.run(&session),
        Command::Stages(arguments) => arguments.run(&session),
        Command::New(arguments) => arguments.run(),
        Command::Schema(arguments) => arguments.run(&session),
        Command::Runs(arguments) => arguments.run(&session),
        Command::Status(arguments) => arguments.run(&session),
        Command::Tensorboard(arguments) => arguments.run(&session),
        Command::Diff(arguments) => arguments.run(&session),
        Command::Doctor(arguments) => arguments.run(&session),
        Command::Fetch(arguments) => arguments.run(&session),
        Command::Gc(arguments) => arguments.run(&session),
        Command::Pin(arguments) => arguments.run(&session),
        Command::Verify(arguments) => arguments.run(&session),
        Command::Score(arguments) => arguments.run(),
        Command::Eval(arguments) => arguments.run(&session),
        Command::Inspect(arguments) => arguments.run(&session),
        Command::RunStage(arguments) => {
            let store = store.ok_or_else(|| Failure::usage("`run-stage` needs `--store`"))?;
            Ok(arguments.run(&store.to_string_lossy(), &session))
        }
        Command::Completions(arguments) => Ok(arguments.run()),
        Command::Lm(arguments) => arguments.run(),
    }
}
