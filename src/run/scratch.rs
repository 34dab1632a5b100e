//! The private folder of an attempt.
//!
//! It lies beside the attempt's log where that is a local file, and so on the store's filesystem, where
//! inputs and outputs can be linked instead of copied. What a killed worker leaves there is removed by
//! the next attempt at the same action, once the process that owned it is known to be gone; where there is
//! no next attempt, since the action was finished, by `gc`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use starling_cache::{ActionKey, CacheError, Liveness, LocalStore, Owner, Store};
use starling_contract::StageError;

const FOLDER: &str = "scratch";
const STARTED: &str = "started.json";

/// Who began an attempt, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Started {
    pub(crate) owner: Owner,
    pub(crate) started_unix: f64,
    pub(crate) numerics: String,
}

impl Started {
    pub(crate) fn write(
        &self,
        store: &dyn Store,
        key: &ActionKey,
        attempt: u32,
    ) -> Result<(), CacheError> {
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        store.put_attempt(key, attempt, STARTED, &bytes)
    }
}

/// A folder that is gone when its owner is done with it.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder of an attempt, with empty folders `inputs`, `outputs`, `work` and `resume`.
    pub(crate) fn make(
        store: &dyn Store,
        key: &ActionKey,
        attempt: u32,
    ) -> Result<Self, StageError> {
        let path = match store
            .attempt_log(key, attempt)
            .as_deref()
            .and_then(Path::parent)
        {
            Some(folder) => folder.join(FOLDER),
            None => tempfile::Builder::new()
                .prefix("starling-")
                .tempdir()
                .map_err(StageError::io("create", Path::new("a temporary folder")))?
                .keep(),
        };
        // The same attempt run twice by hand.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(StageError::io("remove", &path))?;
        }
        let scratch = Self { path };
        for part in ["inputs", "outputs", "work", "resume"] {
            let folder = scratch.path.join(part);
            fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        }
        Ok(scratch)
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next attempt or by `gc`.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Removes what dead workers left of earlier attempts at an action.
pub(crate) fn sweep(store: &dyn Store, key: &ActionKey) -> Result<(), CacheError> {
    for folder in abandoned_of(store, key)? {
        drop(fs::remove_dir_all(&folder));
    }
    Ok(())
}

/// The scratch folders whose workers are gone, of all actions of a store.
///
/// # Errors
/// [`CacheError`] when the store cannot be read.
pub fn abandoned(store: &LocalStore) -> Result<Vec<PathBuf>, CacheError> {
    let mut folders = Vec::new();
    for key in store.attempted()? {
        folders.extend(abandoned_of(store, &key)?);
    }
    Ok(folders)
}

fn abandoned_of(store: &dyn Store, key: &ActionKey) -> Result<Vec<PathBuf>, CacheError> {
    let me = Owner::current();
    let mut folders = Vec::new();
    for attempt in store.attempts(key)? {
        let Some(folder) = store
            .attempt_log(key, attempt)
            .and_then(|log| Some(log.parent()?.join(FOLDER)))
        else {
            continue;
        };
        if !folder.exists() {
            continue;
        }
        let dead = store
            .attempt(key, attempt, STARTED)?
            .and_then(|bytes| serde_json::from_slice::<Started>(&bytes).ok())
            .is_some_and(|started| started.owner.liveness(&me) == Liveness::Dead);
        if dead {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// Whether a living process on this host still works on an earlier attempt at an action.
///
/// A worker outlives a killed engine for a moment, and one may have been started by hand.
pub(crate) fn somebody_works(store: &dyn Store, key: &ActionKey) -> Result<bool, CacheError> {
    let me = Owner::current();
    for attempt in store.attempts(key)? {
        if store.attempt(key, attempt, "exit.json")?.is_some() {
            continue;
        }
        let alive = store
            .attempt(key, attempt, STARTED)?
            .and_then(|bytes| serde_json::from_slice::<Started>(&bytes).ok())
            .is_some_and(|started| started.owner.liveness(&me) == Liveness::Alive);
        if alive {
            return Ok(true);
        }
    }
    Ok(false)
}
