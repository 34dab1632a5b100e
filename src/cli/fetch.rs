//! `starling fetch`: asks a hub what names stand for, and writes the lock.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use starling::exit;
use starling::lock::{LOCK_FILE, Lock};

use super::output::{self, Failure};
use super::session::Session;

/// Find out what the `fetch` stages of a pipeline name, and write it into starling.lock
///
/// `run` does this by itself for names that are not in the lock yet, and downloads. This command only asks;
/// with --update it asks for everything again, which is how newer data come in.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The pipeline
    pipeline: PathBuf,
    /// Change a value of the pipeline, for example `xlam.revision=main`
    #[arg(long, value_name = "STAGE.PARAM=VALUE")]
    set: Vec<String>,
    /// Ask again for what the lock holds already
    #[arg(long)]
    update: bool,
    /// Print what was asked for as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        if !self.update {
            let (_, added) = session.locked(Some(&self.pipeline), &self.set)?;
            if self.json {
                let asked = added.iter().map(|name| json!({"name": name, "is": "new"}));
                output::json(&json!({"lock": LOCK_FILE, "asked": asked.collect::<Vec<_>>()}));
            } else if added.is_empty() {
                output::story(&format!("{LOCK_FILE} holds everything already"));
            }
            return Ok(exit::DONE);
        }
        let mut pipeline = session.pipeline(Some(&self.pipeline), &self.set)?;
        let old = Lock::read(&pipeline.folder)?;
        let mut lock = Lock::emptied();
        let all = lock.apply(&mut pipeline, &session.registry)?;
        let mut asked = Vec::new();
        for unlocked in &all {
            lock.resolve(&pipeline, &session.registry, unlocked, &output::variable)?;
            let news = if lock.agrees(&old, &unlocked.name) {
                "as before"
            } else {
                "changed"
            };
            output::story(&format!("{}: {news}", unlocked.name));
            asked.push(json!({"name": unlocked.name, "is": news}));
        }
        lock.keep(old);
        lock.write(&pipeline.folder)?;
        if self.json {
            output::json(&json!({"lock": LOCK_FILE, "asked": asked}));
        }
        Ok(exit::DONE)
    }
}
