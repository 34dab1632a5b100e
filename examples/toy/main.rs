//! An engine with kinds of its own: all that a program needs besides the library.
//!
//! ```text
//! cargo run --no-default-features --example toy -- run pipeline.toml
//! ```
//!
//! The tests of running, killing and resuming use it, since it builds without the real kinds.

#[path = "../../stages/src/command/mod.rs"]
mod command;
mod kinds;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use starling::report::{JsonLines, Palette, Plain, Reporter};
use starling::run::worker::Request;
use starling::run::{PASSED_ON, RunOptions, Secrets};
use starling::{Registry, exit, pipeline, run};
use starling_cache::{CacheError, Digest, LocalStore};
use starling_contract::Shard;

/// An engine with toy kinds.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a pipeline.
    Run {
        /// The TOML file.
        pipeline: PathBuf,
        /// The store's folder.
        #[arg(long, default_value = ".starling")]
        store: PathBuf,
        /// Changes a parameter.
        #[arg(long, value_name = "STAGE.PARAM=VALUE")]
        set: Vec<String>,
        /// Threads that all stages share.
        #[arg(long)]
        threads: Option<usize>,
        /// Memory that all stages share.
        #[arg(long, value_parser = |text: &str| pipeline::parse_size(text).ok_or("no size"))]
        memory: Option<u64>,
        /// Devices that all stages share.
        #[arg(long)]
        cards: Option<usize>,
        /// Starts nothing after a failure.
        #[arg(long)]
        fail_fast: bool,
        /// Puts results of different numerics classes side by side.
        #[arg(long)]
        mixed: bool,
        /// Seconds that a stage has to stop.
        #[arg(long, default_value_t = 30.0)]
        grace: f64,
        /// Tells what happens as JSON lines on stderr.
        #[arg(long)]
        json: bool,
    },
    /// Runs one action; the engine starts this.
    RunStage {
        /// The store.
        #[arg(long)]
        store: String,
        /// The digest of the action's spec.
        #[arg(long)]
        spec: Option<Digest>,
        /// The number of the attempt.
        #[arg(long, default_value_t = 1)]
        attempt: u32,
        /// A share of its chunks.
        #[arg(long, value_parser = run::worker::parse_shard)]
        shard: Option<Shard>,
        /// Takes one light action after another.
        #[arg(long)]
        serve: bool,
        /// Ends with whoever holds the other end of stdin.
        #[arg(long)]
        tether: bool,
    },
}

fn main() -> ExitCode {
    let registry = Registry::new(kinds::kinds());
    let code = match Arguments::parse().command {
        Command::RunStage {
            store,
            spec,
            attempt,
            shard,
            serve,
            tether,
        } => {
            let request = match spec {
                Some(spec) if !serve => Request::Action {
                    spec,
                    attempt,
                    shard,
                    beside: false,
                },
                _ => Request::Serve,
            };
            run::worker::main(&store, &request, tether, &registry)
        }
        Command::Run {
            pipeline,
            store,
            set,
            threads,
            memory,
            cards,
            fail_fast,
            mixed,
            grace,
            json,
        } => {
            let mut options = options(threads, fail_fast, grace);
            options.mixed = mixed;
            options.memory = memory;
            options.cards = cards;
            run_pipeline(&registry, &pipeline, &store, &set, options, json)
        }
    };
    ExitCode::from(code)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the command, where the environment is read"
)]
fn options(threads: Option<usize>, fail_fast: bool, grace: f64) -> RunOptions {
    let program = std::env::current_exe().expect("the system knows the path of this program");
    let environment = PASSED_ON
        .iter()
        .filter_map(|name| Some(((*name).into(), std::env::var_os(name)?)));
    RunOptions {
        environment: environment.collect(),
        threads,
        keep_going: !fail_fast,
        grace: Duration::from_secs_f64(grace),
        retry_pause: Duration::from_millis(50),
        ..RunOptions::new(program)
    }
}

/// What the toy engine takes for a secret: variables whose names begin with `SECRET`.
fn secrets() -> Secrets {
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    Secrets::new(
        variables
            .filter(|(name, _)| name.starts_with("SECRET"))
            .collect(),
    )
}

fn run_pipeline(
    registry: &Registry,
    file: &Path,
    store: &Path,
    set: &[String],
    mut options: RunOptions,
    json: bool,
) -> u8 {
    options.secrets = secrets();
    match try_run(registry, file, store, set, &options, json) {
        Ok(code) => code,
        Err((code, error)) => {
            drop(writeln!(std::io::stderr(), "error: {error}"));
            code
        }
    }
}

fn try_run(
    registry: &Registry,
    file: &Path,
    store: &Path,
    set: &[String],
    options: &RunOptions,
    json: bool,
) -> Result<u8, (u8, Box<dyn Error>)> {
    let unusable = |e: CacheError| (exit::CACHE, Box::from(e));
    let ahead = LocalStore::open(store).ok();
    if let Some(store) = &ahead {
        store.look_ahead();
    }
    let pipeline =
        pipeline::load(file, set, registry).map_err(|e| (exit::PIPELINE, Box::from(e)))?;
    let store = match ahead {
        Some(store) => store.cleaned(),
        None => LocalStore::open_or_create(store),
    };
    let store = store.map_err(unusable)?.without_sync();
    let mut reporter: Box<dyn Reporter> = if json {
        Box::new(JsonLines::new(std::io::stderr()))
    } else {
        Box::new(Plain::new(std::io::stderr(), Palette::Plain, 8))
    };
    let mut memo = store.memo();
    let outcome = run::run(
        &pipeline,
        registry,
        &store,
        &mut memo,
        options,
        reporter.as_mut(),
    )
    .map_err(|e| (exit::CACHE, Box::from(e)))?;
    store
        .save_memo(&mut memo)
        .map_err(|e| (exit::CACHE, Box::from(e)))?;
    for shown in &outcome.display {
        drop(write!(std::io::stdout(), "{}", shown.text));
    }
    // The process ends now, which frees it faster.
    std::mem::forget((pipeline, memo, store));
    Ok(outcome.code)
}
