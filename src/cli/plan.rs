//! `starling plan`: what would run, why, and what it will cost.

use std::path::PathBuf;

use clap::Args;
use starling::{exit, plan};

use super::output::{self, Failure};
use super::session::{Changes, Session};

/// Show what `run` would do: each stage cached, ready, blocked or missing a file, and why
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline [default: the built-in quickstart]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let changes = self.changes.all();
        let pipeline = session.pipeline(self.pipeline.as_deref(), &changes)?;
        let store = session.readable_store()?;
        let planned = session.plan(&pipeline, &store)?;
        if self.json {
            output::json(&plan::json(&pipeline, &planned));
        } else {
            output::data(&plan::table(&pipeline, &planned));
            output::story(&plan::counts(&pipeline, &planned));
            for text in [plan::cards(&pipeline), plan::unheeded(&pipeline)] {
                text.iter().for_each(|text| output::story(text));
            }
            if planned.cost.stages > 0 {
                output::story(&planned.cost.text());
            }
        }
        Ok(exit::DONE)
    }
}
