use std::path::PathBuf;

use clap::Args;
use starling::{exit, plan};

use super::output::{self, Failure};
use super::session::Session;

/// Show what `run` would do: each stage cached, ready, blocked or missing a file, and why
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline [default: the built-in quickstart]
    pipeline: Option<PathBuf>,
    /// Change a value of the pipeline, for example `distill.lr=1e-4`
    #[arg(long, value_name = "STAGE.PARAM=VALUE")]
    set: Vec<String>,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let pipeline = session.pipeline(self.pipeline.as_deref(), &self.set)?;
        let store = session.readable_store()?;
        let planned = session.plan(&pipeline, &store)?;
        if self.json {
            output::json(&plan::json(&pipeline, &planned));
        } else {
            output::data(&plan::table(&pipeline, &planned));
            output::story(&plan::counts(&planned));
        }
        Ok(exit::DONE)
    }
}
