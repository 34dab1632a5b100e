//! `starling schema`: the JSON Schema of pipelines.

use clap::Args;
use starling::{exit, schema};

use super::output::{self, Failure};
use super::session::Session;

/// Print the JSON Schema of pipelines, for editors
///
/// `starling schema > schema.json` beside a pipeline whose first line is `#:schema ./schema.json` lets an
/// editor that knows TOML complete names, show documentation and underline mistakes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

impl Arguments {
    #[expect(clippy::unnecessary_wraps, reason = "every command has this form")]
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        output::json(&schema::schema(&session.registry));
        Ok(exit::DONE)
    }
}
