//! `starling lm`: a model on its own, without a pipeline, so that its numbers can be compared with another program's.

mod convert;
mod generate;
mod info;
mod logprobs;
mod rows;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use starling::exit;
use starling_lm::LmError;
use starling_lm::generate::Kept;
use starling_lm::load::Checkpoint;
use starling_lm::place::{Generator, Place};

use crate::cli::output::{Failure, chain};

/// Score, generate, look into and convert language models
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Logprobs(logprobs::Arguments),
    Generate(generate::Arguments),
    Info(info::Arguments),
    Convert(convert::Arguments),
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.command {
            Command::Logprobs(arguments) => arguments.run(),
            Command::Generate(arguments) => arguments.run(),
            Command::Info(arguments) => arguments.run(),
            Command::Convert(arguments) => arguments.run(),
        }
    }
}

/// Which model, and how it is computed.
#[derive(Debug, Args)]
struct ModelArguments {
    /// A Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// How matrices are kept in memory
    #[arg(long, value_name = "KIND", default_value = "f32")]
    keep: Keep,
    /// Threads; changes no number [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<std::num::NonZero<usize>>,
    /// Where it is computed: `cpu`, or `cuda` in a binary that scripts/cuda-build.sh built
    #[arg(long, value_name = "PLACE", default_value = "cpu")]
    device: String,
}

/// How matrices are kept in memory.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Keep {
    /// As 32-bit floats
    F32,
    /// As 8-bit integers with a factor for 32 of them: a quarter of the memory, and exact for what was stored so
    #[value(name = "q8-0")]
    Q8,
}

impl ModelArguments {
    fn threads(&self) -> usize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, std::num::NonZero::get)
    }

    /// Reads the model and lays it out for generation.
    fn load(&self) -> Result<(Checkpoint, Generator), Failure> {
        let place = Place::named(&self.device).map_err(unusable)?;
        let checkpoint = open(&self.model)?;
        let kept = match self.keep {
            Keep::F32 => Kept::F32,
            Keep::Q8 => Kept::Q8,
        };
        let generator = Generator::keeping(&place, &checkpoint.config, &checkpoint.weights, kept)
            .map_err(unusable)?;
        Ok((checkpoint, generator))
    }
}

/// Reads a Hugging Face folder or a GGUF file.
fn open(path: &Path) -> Result<Checkpoint, Failure> {
    if !path.exists() {
        return Err(Failure::new(
            exit::PIPELINE,
            format!(
                "{}: no such folder or file; `--model` takes a Hugging Face folder or a GGUF file",
                path.display()
            ),
        ));
    }
    Checkpoint::open(path).map_err(unusable)
}

fn unusable(error: LmError) -> Failure {
    let code = match error {
        LmError::NoDevice(_) => exit::DEVICE,
        _ => exit::PIPELINE,
    };
    Failure::new(code, chain(&error))
}
