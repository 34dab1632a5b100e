//! Attempts, runs and pins of a local store: small named files that are replaced in one step.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    LocalStore,
    files::{list, read_if_there, remove},
};
use crate::{ActionKey, CacheError, Digest, error::writing, record};

/// What a pin protects from being collected, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Actions whose records and artifacts stay.
    #[serde(default)]
    pub actions: BTreeSet<ActionKey>,
    /// Blobs and trees that stay.
    #[serde(default)]
    pub blobs: BTreeSet<Digest>,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

impl LocalStore {
    fn attempt_folder(&self, key: &ActionKey) -> PathBuf {
        self.files.root.join("attempts").join(key.to_string())
    }

    pub(super) fn reserve_attempt(&self, key: &ActionKey) -> Result<u32, CacheError> {
        let folder = self.attempt_folder(key);
        self.files.create_folder(&folder)?;
        let mut n = self
            .attempt_numbers(key)?
            .last()
            .map_or(1, |last| last.saturating_add(1));
        loop {
            let path = folder.join(n.to_string());
            self.files.point("create", &path)?;
            match fs::create_dir(&path) {
                // Not durable: a number that a power cut takes back was of an attempt that it ended.
                Ok(()) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => {
                    n += 1;
                }
                Err(error) => return Err(writing("create", &path)(error)),
            }
        }
    }

    pub(super) fn attempt_numbers(&self, key: &ActionKey) -> Result<Vec<u32>, CacheError> {
        let names = list(&self.attempt_folder(key))?;
        let mut attempts: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        attempts.sort_unstable();
        Ok(attempts)
    }

    /// The actions that were attempted, finished or not, in order.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn attempted(&self) -> Result<Vec<ActionKey>, CacheError> {
        let names = list(&self.files.root.join("attempts"))?;
        let mut keys: Vec<ActionKey> = names.iter().filter_map(|name| name.parse().ok()).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    pub(super) fn attempt_file(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
    ) -> Result<PathBuf, CacheError> {
        named(&self.attempt_folder(key).join(attempt.to_string()), name)
    }

    pub(super) fn write_attempt(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        // Not durable: after a power cut no attempt is under way, and its record tells the rest.
        self.files
            .replace(&self.attempt_file(key, attempt, name)?, bytes, false)
    }

    pub(super) fn write_run(&self, run: &str, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
        // Not durable: no result depends on it.
        self.files.replace(&self.run_path(run, name)?, bytes, false)
    }

    pub(super) fn run_path(&self, run: &str, name: &str) -> Result<PathBuf, CacheError> {
        named(&named(&self.files.root.join("runs"), run)?, name)
    }

    pub(super) fn run_names(&self) -> Result<Vec<String>, CacheError> {
        list(&self.files.root.join("runs"))
    }

    /// Protects actions and blobs under a name, replacing the pin of that name.
    ///
    /// # Errors
    /// [`CacheError`] when the name is no file name or the store cannot be written.
    pub fn put_pin(&self, name: &str, pin: &Pin) -> Result<(), CacheError> {
        let path = named(&self.files.root.join("pins"), name)?;
        let bytes = record::seal(pin).map_err(|source| CacheError::Json {
            path: path.clone(),
            source,
        })?;
        self.files.replace(&path, &bytes, true)
    }

    /// Removes a pin; true when there was one.
    ///
    /// # Errors
    /// [`CacheError`] when the name is no file name or the store cannot be written.
    pub fn remove_pin(&self, name: &str) -> Result<bool, CacheError> {
        remove(&named(&self.files.root.join("pins"), name)?)
    }

    /// The pins by name.
    ///
    /// # Errors
    /// [`CacheError`] when one cannot be read or is damaged: guessing would delete what somebody protected.
    pub fn pins(&self) -> Result<Vec<(String, Pin)>, CacheError> {
        let folder = self.files.root.join("pins");
        let mut pins = Vec::new();
        for name in list(&folder)? {
            let path = folder.join(&name);
            let Some(bytes) = read_if_there(&path)? else {
                continue;
            };
            let pin = record::unseal(&bytes).map_err(|what| CacheError::Io {
                verb: "understand pin",
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, what),
            })?;
            pins.push((name, pin));
        }
        Ok(pins)
    }
}

/// A file in a folder, refusing names that lead elsewhere.
fn named(folder: &Path, name: &str) -> Result<PathBuf, CacheError> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(CacheError::BadName {
            path: folder.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(folder.join(name))
}
