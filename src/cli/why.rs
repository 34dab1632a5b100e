//! `starling why`: the cause for which a stage would run.

use clap::Args;
use starling::{exit, plan};

use super::output::{self, Failure};
use super::session::{About, Session, stage};

/// Say why a stage would run: every field that differs from the nearest cached result
///
/// Each with its old and new value and the place where the new one is written.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The stage
    stage: String,
    #[command(flatten)]
    about: About,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.readable_store()?;
        let pipeline = session.about(&self.about, &store)?;
        let number = stage(&pipeline, &self.stage)?;
        let planned = session.plan(&pipeline, &store)?;
        if self.json {
            let mut all = plan::json(&pipeline, &planned);
            output::json(&all["stages"][number].take());
        } else {
            let other = plan::other(&pipeline, &planned, number, &*store)?;
            output::data(&plan::why(&pipeline, &planned, number, other.as_ref()));
        }
        Ok(exit::DONE)
    }
}
