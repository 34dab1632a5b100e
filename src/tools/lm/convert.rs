//! `starling lm convert`: writes a model in another form.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use starling::exit;
use starling_lm::load::{GgufPrecision, Precision, SaveOptions, save_gguf};

use super::{open, unusable};
use crate::cli::output::{self, Failure, story};

/// Write a model as a Hugging Face folder or as a GGUF file
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A folder, or a file that ends in `.gguf`
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// How values are stored; a folder takes the first three
    #[arg(long, value_name = "KIND", default_value = "f32")]
    dtype: Kind,
    /// Print what was written as JSON
    #[arg(long)]
    json: bool,
}

/// How values are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    F32,
    F16,
    Bf16,
    #[value(name = "q8-0")]
    Q8,
    #[value(name = "q4-k-m")]
    Q4,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let checkpoint = open(&self.model)?;
        let gguf = self.out.extension().is_some_and(|ending| ending == "gguf");
        let precision = match self.dtype {
            Kind::F32 => Some(Precision::F32),
            Kind::F16 => Some(Precision::F16),
            Kind::Bf16 => Some(Precision::Bf16),
            Kind::Q8 | Kind::Q4 => None,
        };
        if gguf {
            let precision = match self.dtype {
                Kind::F32 => GgufPrecision::F32,
                Kind::F16 => GgufPrecision::F16,
                Kind::Bf16 => GgufPrecision::Bf16,
                Kind::Q8 => GgufPrecision::Q8_0,
                Kind::Q4 => GgufPrecision::Q4KM,
            };
            save_gguf(&checkpoint, &self.out, precision).map_err(unusable)?;
        } else {
            let precision = precision.ok_or_else(|| {
                Failure::usage("a Hugging Face folder is not quantised; let `--out` end in `.gguf`, or take f32, f16 or bf16")
            })?;
            let options = SaveOptions {
                precision,
                ..SaveOptions::default()
            };
            checkpoint.save(&self.out, options).map_err(unusable)?;
        }
        if self.json {
            let dtype = self.dtype.to_possible_value();
            output::json(&serde_json::json!({
                "out": self.out.display().to_string(),
                "format": if gguf { "gguf" } else { "hugging-face" },
                "dtype": dtype.as_ref().map(clap::builder::PossibleValue::get_name),
            }));
        }
        story(&format!("wrote {}", self.out.display()));
        Ok(exit::DONE)
    }
}
