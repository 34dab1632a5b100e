//! `starling.lock`: what names that can change under one's feet stood for when they were first asked for.
//!
//! The file lies beside the pipeline and belongs under version control. An entry goes into the parameter
//! `locked` of every stage that has its name, and so into the key: the lock decides what a stage is, and a
//! remote that changed changes nothing. Invariant: reading a pipeline asks nobody; only [`Lock::resolve`] does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use starling_contract::StageError;

use crate::Registry;
use crate::pipeline::Pipeline;

/// The file's name.
pub const LOCK_FILE: &str = "starling.lock";

const HEAD: &str = "\
# Written by starling: what the names in `fetch` stages stood for when they were first asked for. Keep it
# with the pipeline; `starling fetch --update` asks again.

";

/// Why a lock could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a lock.
    #[error("{}: {message}; mend it, or delete it to ask anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A stage could not say what it needs, or nobody could tell.
    #[error("stage `{stage}`: {source}{}", hint(source))]
    Stage {
        /// The stage.
        stage: String,
        /// Why.
        source: StageError,
    },
}

fn hint(error: &StageError) -> String {
    error
        .hint()
        .map_or_else(String::new, |hint| format!("; {hint}"))
}

/// The entries of a lock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    #[serde(default)]
    input: BTreeMap<String, serde_json::Value>,
}

/// A stage whose name is not in the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlocked {
    /// The stage, as an index of [`Pipeline::stages`].
    pub stage: usize,
    /// The name.
    pub name: String,
}

impl Lock {
    /// Reads the lock of a folder; one that is not there is empty.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn read(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(LOCK_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    version: 1,
                    input: BTreeMap::new(),
                });
            }
            Err(source) => {
                return Err(LockError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let wrong = |message: String| LockError::Content {
            path: path.clone(),
            message,
        };
        let lock: Self = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        if lock.version != 1 {
            return Err(wrong(format!(
                "version {} is of a later starling",
                lock.version
            )));
        }
        Ok(lock)
    }

    /// Writes the lock into a folder; a reader sees the old file or the new one.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn write(&self, folder: &Path) -> Result<(), LockError> {
        let path = folder.join(LOCK_FILE);
        let body = toml::to_string_pretty(self).map_err(|e| LockError::Content {
            path: path.clone(),
            message: e.to_string(),
        })?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(HEAD.as_bytes())?;
            file.write_all(body.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error).map(|_| ())
        };
        write().map_err(|source| LockError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    /// Gives every stage its entry; the stages that have none.
    ///
    /// # Errors
    /// [`LockError::Stage`].
    pub fn apply(
        &self,
        pipeline: &mut Pipeline,
        registry: &Registry,
    ) -> Result<Vec<Unlocked>, LockError> {
        let mut unlocked = Vec::new();
        for (number, stage) in pipeline.stages.iter_mut().enumerate() {
            let Some(kind) = registry.get(&stage.kind) else {
                continue;
            };
            let name = kind
                .lock_name(&stage.params)
                .map_err(|source| LockError::Stage {
                    stage: stage.name.clone(),
                    source,
                })?;
            let Some(name) = name else { continue };
            match (self.input.get(&name), stage.params.as_object_mut()) {
                (Some(entry), Some(params)) => {
                    params.insert("locked".to_owned(), entry.clone());
                }
                _ => unlocked.push(Unlocked {
                    stage: number,
                    name,
                }),
            }
        }
        Ok(unlocked)
    }

    /// Asks what a stage's name stands for now, and takes it in; says whether that is news.
    ///
    /// # Errors
    /// [`LockError::Stage`].
    pub fn resolve(
        &mut self,
        pipeline: &Pipeline,
        registry: &Registry,
        unlocked: &Unlocked,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<bool, LockError> {
        let stage = &pipeline.stages[unlocked.stage];
        let failed = |source| LockError::Stage {
            stage: stage.name.clone(),
            source,
        };
        let kind = registry
            .get(&stage.kind)
            .ok_or_else(|| failed(StageError::failed("its kind is unknown")))?;
        let entry = kind.resolve(&stage.params, variable).map_err(failed)?;
        let old = self.input.insert(unlocked.name.clone(), entry.clone());
        Ok(old.is_none_or(|old| old != entry))
    }

    /// The same lock without any entries.
    #[must_use]
    pub fn emptied() -> Self {
        Self {
            version: 1,
            input: BTreeMap::new(),
        }
    }

    /// Takes the entries of another lock for names that this one does not have.
    pub fn keep(&mut self, other: Self) {
        for (name, entry) in other.input {
            self.input.entry(name).or_insert(entry);
        }
    }

    /// Whether there is an entry of this name, and it equals the other lock's.
    #[must_use]
    pub fn agrees(&self, other: &Self, name: &str) -> bool {
        self.input.contains_key(name) && self.input.get(name) == other.input.get(name)
    }
}
