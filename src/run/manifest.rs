//! What a run leaves behind about itself: `runs/<run>/manifest.json`.
//!
//! Written when the run begins and again when it ends, so that a killed run is seen as one that began.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use starling_cache::{ActionKey, CacheError, OutputRef, Owner, Store};

use crate::report::Failure;
use crate::run::machine::Machine;

const NAME: &str = "manifest.json";
/// So many stages are written by one core at a time.
const STAGES_AT_ONCE: usize = 512;

/// A run, as remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest<'a> {
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
    /// The machine.
    #[serde(default)]
    pub machine: Machine,
    /// Threads that its stages shared.
    pub threads: usize,
    /// Memory that its stages shared, in bytes; 0 where the system does not tell.
    #[serde(default)]
    pub memory: u64,
    /// The NVIDIA devices that its stages shared, one for each process; none where they were not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<String>,
    /// Begin, seconds since 1970.
    pub started_unix: f64,
    /// Wall time; none while it runs, or when it was killed.
    pub seconds: Option<f64>,
    /// Exit code; likewise.
    pub code: Option<u8>,
    /// The stages in the order of the plan. This is the last field, see `Manifest::bytes`.
    pub stages: Vec<ManifestStage<'a>>,
}

/// A stage of a run.
///
/// It borrows what the run knows anyway: ten thousand stages are written at the end of every run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestStage<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its kind.
    pub kind: Cow<'a, str>,
    /// The kind's version.
    pub version: u32,
    /// The resolved parameters, defaults filled in; values of secret variables are none.
    #[serde(default)]
    pub params: Cow<'a, Value>,
    /// What it read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<ManifestInput<'a>>,
    /// What it was given to run with; none of it is in the key.
    #[serde(default)]
    pub resources: Resources<'a>,
    /// Its action key, once known.
    pub key: Option<ActionKey>,
    /// What became of it.
    pub status: StageStatus,
    /// The attempt that made its outputs.
    pub attempt: Option<u32>,
    /// The attempts that this run made, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<u32>,
    /// Wall time in this run.
    pub seconds: Option<f64>,
    /// Its outputs.
    pub outputs: Cow<'a, BTreeMap<String, OutputRef>>,
    /// Why it has none.
    pub failure: Option<Cow<'a, Failure>>,
}

/// An input of a stage of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ManifestInput<'a> {
    /// The port that reads.
    pub port: Cow<'a, str>,
    /// The name under a port that takes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Cow<'a, str>>,
    /// The stage that wrote it.
    pub stage: Cow<'a, str>,
    /// The output of that stage.
    pub output: Cow<'a, str>,
}

/// What a stage was given to run with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resources<'a> {
    /// Where it computed.
    pub device: Cow<'a, str>,
    /// CPU threads.
    pub threads: usize,
    /// Memory that it declared, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes that shared its chunks, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// NVIDIA devices that it had at most, one for each process, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cards: Option<usize>,
    /// Seconds that an attempt might take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<f64>,
    /// Whether only digests and recipe of its outputs were to stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_digest_only: bool,
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

impl Manifest<'_> {
    pub(crate) const FORMAT: u32 = 2;

    pub(crate) fn write(self, store: &dyn Store) -> Result<(), CacheError> {
        let run = self.run.clone();
        store.put_run(&run, NAME, &self.bytes())
    }

    /// The manifest as JSON on one line (with many stages, spaces are a quarter of it), written on all cores.
    fn bytes(mut self) -> Vec<u8> {
        let stages = std::mem::take(&mut self.stages);
        let parts: Vec<Vec<u8>> = stages
            .par_chunks(STAGES_AT_ONCE)
            .map(|stages| serde_json::to_vec(stages).unwrap_or_default())
            .collect();
        let mut bytes = serde_json::to_vec(&self).unwrap_or_default();
        // `…"stages":[]}` is opened, and the parts, which are lists, go in without their brackets.
        bytes.truncate(bytes.len().saturating_sub(2));
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                bytes.push(b',');
            }
            if let [_, stages @ .., _] = part.as_slice() {
                bytes.extend(stages);
            }
        }
        bytes.extend(b"]}\n");
        bytes
    }
}

impl Manifest<'static> {
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

#[cfg(test)]
mod tests {
    use starling_cache::Digest;

    use super::*;

    fn stage(number: usize) -> ManifestStage<'static> {
        ManifestStage {
            name: Cow::Owned(format!("s{number}")),
            kind: Cow::Borrowed("k"),
            version: 3,
            params: Cow::Owned(serde_json::json!({"text": "]}", "n": number})),
            inputs: vec![ManifestInput {
                port: Cow::Borrowed("rows"),
                name: number.is_multiple_of(2).then_some(Cow::Borrowed("base")),
                stage: Cow::Borrowed("s0"),
                output: Cow::Borrowed("rows"),
            }],
            resources: Resources {
                device: Cow::Borrowed("cpu"),
                threads: 2,
                memory: Some(1 << 30),
                ..Resources::default()
            },
            key: Some(ActionKey(Digest::of(&number.to_le_bytes()))),
            status: StageStatus::Done,
            attempt: Some(2),
            attempts: vec![1, 2],
            seconds: Some(0.5),
            outputs: Cow::Owned(BTreeMap::new()),
            failure: None,
        }
    }

    fn manifest(stages: usize) -> Manifest<'static> {
        Manifest {
            format: Manifest::FORMAT,
            run: "r".into(),
            version: "1".into(),
            pipeline: "p.toml".into(),
            folder: "/".into(),
            overrides: vec!["a.b=1".into()],
            owner: Owner::current(),
            numerics: "cpu".into(),
            machine: Machine::default(),
            threads: 2,
            memory: 5,
            cards: vec!["0".into(), "3".into()],
            started_unix: 1.5,
            seconds: None,
            code: Some(0),
            stages: (0..stages).map(stage).collect(),
        }
    }

    #[test]
    fn what_is_written_in_parts_is_what_would_be_written_at_once() {
        for count in [0, 1, STAGES_AT_ONCE, 2 * STAGES_AT_ONCE + 1] {
            let manifest = manifest(count);
            let mut whole = serde_json::to_vec(&manifest).unwrap();
            whole.push(b'\n');
            assert_eq!(manifest.clone().bytes(), whole);
            let back: Manifest<'static> = serde_json::from_slice(&whole).unwrap();
            assert_eq!(back, manifest);
        }
    }

    /// A store keeps manifests for years, and a collection that could not read one would delete nothing.
    #[test]
    fn a_manifest_of_the_first_form_is_read() {
        let old = serde_json::json!({
            "format": 1, "run": "r", "version": "0.1.0", "pipeline": "p.toml", "folder": "/",
            "overrides": [], "owner": Owner::current(), "numerics": "cpu", "threads": 2,
            "started-unix": 1.5, "seconds": 2.0, "code": 0,
            "stages": [{"name": "a", "kind": "k", "version": 1, "key": Digest::of(b"a").to_string(),
                "status": "done", "attempt": 1, "seconds": 0.5, "outputs": {}, "failure": null}],
        });
        let read: Manifest<'static> = serde_json::from_value(old).unwrap();
        assert_eq!(read.stages[0].key, Some(ActionKey(Digest::of(b"a"))));
    }
}
