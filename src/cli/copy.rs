//! `starling copy`: brings an artifact out of the store.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use starling::exit;
use starling::plan::Status;
use starling::report::size;
use starling_cache::{CacheError, LocalStore, Mode, OutputRef, Store as _};

use super::output::{self, Failure};
use super::session::{About, Session, output_of, stage};

/// Copy what a stage made out of the store, to use it elsewhere
///
/// The copy is yours to change: it shares blocks with the store where the filesystem can, never the file. Every byte is
/// compared with its digest on the way.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// STAGE.PORT of the pipeline; the port may be left out where the stage has one
    artifact: String,
    /// Where it goes: a file or folder that is not there yet
    destination: PathBuf,
    #[command(flatten)]
    about: About,
    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let readable = session.readable_store()?;
        let pipeline = session.about(&self.about, &readable)?;
        let (name, port) = match self.artifact.rsplit_once('.') {
            Some((name, port)) if pipeline.find(&self.artifact).is_none() => (name, Some(port)),
            _ => (self.artifact.as_str(), None),
        };
        let number = stage(&pipeline, name)?;
        let plan = session.plan(&pipeline, &readable)?;
        let port = match (port, &plan.stages[number].status) {
            (Some(port), _) => port.to_owned(),
            (None, Status::Cached(record)) if record.outputs.len() == 1 => {
                record.outputs.keys().cloned().collect()
            }
            (None, Status::Cached(record)) => {
                let ports: Vec<String> = (record.outputs.keys())
                    .map(|port| format!("`{name}.{port}`"))
                    .collect();
                let text = format!("stage `{name}` has several outputs: {}", ports.join(", "));
                return Err(Failure::usage(text));
            }
            // It has no result, whatever the port: the same words as for any other.
            (None, _) => String::new(),
        };
        let artifact = output_of(&pipeline, &plan, number, &port)?;
        fits(&self.destination)?;
        copy(&store, &artifact, &self.destination)?;
        if self.json {
            output::json(&json!({
                "artifact": format!("{name}.{port}"),
                "digest": artifact.digest,
                "bytes": artifact.bytes,
                "out": self.destination.display().to_string(),
            }));
        }
        output::story(&format!(
            "{name}.{port}, {}, is in {}",
            size(artifact.bytes),
            self.destination.display()
        ));
        Ok(exit::DONE)
    }
}

/// Refuses a place that something is at already.
pub(crate) fn fits(destination: &Path) -> Result<(), Failure> {
    if destination.symlink_metadata().is_err() {
        return Ok(());
    }
    let place = destination.display();
    let text = format!("{place} is there already; name a place that is not, or remove it");
    Err(Failure::usage(text))
}

/// Copies an artifact to a place that [`fits`].
pub(crate) fn copy(
    store: &LocalStore,
    artifact: &OutputRef,
    destination: &Path,
) -> Result<(), Failure> {
    if let Some(folder) = destination.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            let place = destination.display();
            Failure::new(exit::PIPELINE, format!("cannot write {place}: {error}"))
        })?;
    }
    let copied = store.materialize(artifact, destination, Mode::Copy);
    copied.map_err(|error| match error {
        error @ CacheError::BlobMissing { .. } => Failure::new(
            exit::CACHE,
            format!("{error}; `starling verify` tells what is gone, and running the pipeline makes it again"),
        ),
        error => error.into(),
    })
}
