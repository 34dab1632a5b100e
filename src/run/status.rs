//! What a run is at: `runs/<run>/status.json`, told every second while something runs.
//!
//! For people who look from outside; nothing depends on it. A run whose process is gone has ended, whatever it says.

use serde::{Deserialize, Serialize};
use starling_cache::{ActionKey, CacheError, Owner, Store};

const NAME: &str = "status.json";

/// What a run is at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The run.
    pub run: String,
    /// Its process.
    pub owner: Owner,
    /// The pipeline file as the user named it.
    pub pipeline: String,
    /// Begin of the run, seconds since 1970.
    pub started_unix: f64,
    /// When this was told, seconds since 1970.
    pub told_unix: f64,
    /// Stages of the pipeline.
    pub stages: usize,
    /// Those with outputs.
    pub done: usize,
    /// Those that failed or cannot run.
    pub failed: usize,
    /// Those that run.
    pub running: Vec<RunningStage>,
}

/// A stage that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunningStage {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// Its action.
    pub key: ActionKey,
    /// Since when, seconds since 1970.
    pub started_unix: f64,
    /// Threads it may use.
    pub threads: usize,
    /// The NVIDIA devices that its processes have, one each, where they are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<String>,
    /// Units done, once it told.
    pub done: Option<u64>,
    /// Units in all.
    pub total: Option<u64>,
    /// What a unit is, plural.
    pub unit: Option<String>,
    /// The figure that it told last.
    pub figure: String,
}

impl Status {
    pub(crate) fn write(&self, store: &dyn Store) -> Result<(), CacheError> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        store.put_run(&self.run, NAME, &bytes)
    }

    /// What a run said last; none when it never said anything that can be read.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn read(store: &dyn Store, run: &str) -> Result<Option<Self>, CacheError> {
        Ok(store
            .run_file(run, NAME)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

impl RunningStage {
    /// Seconds that it will still take at the pace so far; none before it told how far it is.
    #[must_use]
    pub fn seconds_left(&self, told_unix: f64) -> Option<f64> {
        let (done, total) = (self.done? as f64, self.total? as f64);
        let took = told_unix - self.started_unix;
        (done > 0.0 && took >= 0.0).then(|| (total - done).max(0.0) * took / done)
    }
}

#[cfg(test)]
mod tests {
    use starling_cache::Digest;

    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done() {
        let mut stage = RunningStage {
            stage: "a".into(),
            kind: "k".into(),
            key: ActionKey(Digest::of(b"")),
            started_unix: 100.0,
            threads: 1,
            cards: vec![],
            done: Some(30),
            total: Some(120),
            unit: Some("rows".into()),
            figure: String::new(),
        };
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        assert!(near(stage.seconds_left(160.0), 180.0));
        // A clock that was set back says nothing.
        assert_eq!(stage.seconds_left(50.0), None);
        stage.done = Some(0);
        assert_eq!(stage.seconds_left(160.0), None);
    }
}
