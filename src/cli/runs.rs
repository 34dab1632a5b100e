//! `starling runs`: the runs of a store.

use clap::Args;
use starling::exit;
use starling::report::duration;
use starling::run::{Manifest, StageStatus};
use starling_cache::Store as _;

use super::output::{self, Failure};
use super::session::Session;

/// List the runs of the store, oldest first
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print the manifests as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let mut manifests = Vec::new();
        for run in store.runs()? {
            match Manifest::read(&store, &run)? {
                Some(manifest) => manifests.push(manifest),
                None => output::story(&format!("warning: run {run} has no readable manifest")),
            }
        }
        if self.json {
            output::json(&serde_json::json!(manifests));
            return Ok(exit::DONE);
        }
        for manifest in &manifests {
            output::data(&format!("{}\n", line(manifest)));
        }
        Ok(exit::DONE)
    }
}

fn line(run: &Manifest<'_>) -> String {
    let count = |status| run.stages.iter().filter(|s| s.status == status).count();
    let ended = match (run.code, run.seconds) {
        (Some(code), Some(seconds)) => format!("exit {code:3}  {:>10}", duration(seconds)),
        _ => format!("{:8}  {:>10}", "no end", "-"),
    };
    format!(
        "{}  {ended}  {:3} cached  {:3} run  {:3} failed  {}",
        run.run,
        count(StageStatus::Cached),
        count(StageStatus::Done),
        count(StageStatus::Failed),
        run.pipeline
    )
}
