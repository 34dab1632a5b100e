//! What a run leaves behind about itself: `runs/<run>/manifest.json`.
//!
//! Written when the run begins and again when it ends, so that a killed run is seen as one that began.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use starling_cache::{CacheError, OutputRef, Owner, Store};

use crate::report::Failure;

const NAME: &str = "manifest.json";

/// A run, as remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// The form of this file.
    pub format: u32,
    /// The run's name.
    pub run: String,
    /// The program's version.
    pub version: String,
    /// The pipeline file as the user named it.
    pub pipeline: String,
    /// The folder that relative paths of the pipeline start from.
    pub folder: PathBuf,
    /// Changes to it (`stage.param=value`).
    pub overrides: Vec<String>,
    /// The process that ran it.
    pub owner: Owner,
    /// The numerics class of its CPU stages.
    pub numerics: String,
    /// Threads that its stages shared.
    pub threads: usize,
    /// Begin, seconds since 1970.
    pub started_unix: f64,
    /// Wall time; none while it runs, or when it was killed.
    pub seconds: Option<f64>,
    /// Exit code; likewise.
    pub code: Option<u8>,
    /// The stages in the order of the plan.
    pub stages: Vec<ManifestStage>,
}

/// A stage of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestStage {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// Its action key, once known.
    pub key: Option<String>,
    /// What became of it.
    pub status: StageStatus,
    /// The attempt that made its outputs.
    pub attempt: Option<u32>,
    /// Wall time in this run.
    pub seconds: Option<f64>,
    /// Its outputs.
    pub outputs: BTreeMap<String, OutputRef>,
    /// Why it has none.
    pub failure: Option<Failure>,
}

/// What became of a stage in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageStatus {
    /// Its turn has not come.
    Waiting,
    /// The store had its outputs.
    Cached,
    /// It ran and succeeded, here or in another run at the same time.
    Done,
    /// It failed.
    Failed,
    /// A stage that it reads failed.
    Blocked,
    /// The run was stopped first.
    Stopped,
}

impl Manifest {
    pub(crate) const FORMAT: u32 = 1;

    pub(crate) fn write(&self, store: &dyn Store) -> Result<(), CacheError> {
        // On one line: with many stages, spaces are a quarter of it.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        store.put_run(&self.run, NAME, &bytes)
    }

    /// Reads the manifest of a run; a damaged one counts as none.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn read(store: &dyn Store, run: &str) -> Result<Option<Self>, CacheError> {
        Ok(store
            .run_file(run, NAME)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The newest run whose manifest can be read.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn newest(store: &dyn Store) -> Result<Option<Self>, CacheError> {
        for run in store.runs()?.iter().rev() {
            if let Some(manifest) = Self::read(store, run)? {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}
