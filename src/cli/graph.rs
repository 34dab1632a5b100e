//! `starling graph`: draws a pipeline.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use starling::{exit, plan};

use super::output::{self, Failure, story};
use super::session::{Changes, Session};

/// Draw a pipeline: who reads whom, and what the store already holds
///
/// Cached stages have round ends, ready ones are boxes, blocked ones dashed hexagons, those that miss a file
/// are slanted.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline [default: the built-in quickstart]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
    /// Print stages, what they read and their status as JSON, as `plan --json` does
    #[arg(long, conflicts_with_all = ["format", "output"])]
    json: bool,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A flow chart as text, for pages that draw it
    Mermaid,
    /// A drawing for browsers
    Svg,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let pipeline = session.pipeline(self.pipeline.as_deref(), &self.changes.all())?;
        let store = session.readable_store()?;
        let planned = session.plan(&pipeline, &store)?;
        if self.json {
            output::json(&plan::json(&pipeline, &planned));
            return Ok(exit::DONE);
        }
        let text = match self.format {
            Format::Mermaid => plan::graph::mermaid(&pipeline, &planned),
            Format::Svg => plan::graph::svg(&pipeline, &planned),
        };
        match self.output {
            None => output::data(&text),
            Some(file) => {
                std::fs::write(&file, text)
                    .map_err(|e| Failure::usage(format!("cannot write {}: {e}", file.display())))?;
                story(&format!("wrote {}", file.display()));
            }
        }
        Ok(exit::DONE)
    }
}
