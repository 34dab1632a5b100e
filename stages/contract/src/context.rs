//! What a running stage may touch: inputs, outputs, progress, snapshots, the wish to stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::chunk::{Chunk, Shard};
use crate::error::StageError;

/// How serious a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// Something was wrong and was dealt with.
    Warning,
}

/// What a running stage tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// So much of the work is done.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// What a unit is, plural: `updates`, `prompts`, `rows`.
        unit: String,
        /// The figure that matters, with its unit, or empty.
        figure: String,
    },
    /// Figures of a curve, as they come.
    Scalars {
        /// The update, or whatever else the curve runs over. One that is not beyond the last takes back what followed.
        step: u64,
        /// The figures by name.
        values: Vec<(String, f64)>,
    },
    /// Something to say.
    Message {
        /// How serious.
        level: Level,
        /// The text.
        text: String,
    },
    /// A snapshot was saved.
    Snapshot {
        /// Units done at that point.
        progress: u64,
    },
    /// The stage continues from a snapshot.
    Resumed {
        /// Units done at that point.
        progress: u64,
    },
}

/// Where events go.
pub trait EventSink {
    /// Takes an event; never fails and never blocks for long.
    fn emit(&self, event: Event);
}

/// A snapshot to continue from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Units of work done when it was saved.
    pub progress: u64,
    /// Its files, read-only.
    pub folder: PathBuf,
}

/// What the worker process provides to a stage; the tests provide their own.
pub trait Host: EventSink {
    /// Saves the files of `folder` as the snapshot at `progress`; afterwards they survive a power cut. One that
    /// `lasts` stays when the action is finished.
    ///
    /// # Errors
    /// [`StageError::Io`] or [`StageError::Failed`] when the store cannot take it.
    fn save_snapshot(&self, progress: u64, folder: &Path, lasts: bool) -> Result<(), StageError>;
    /// The newest snapshot that is whole, of this numerics class, and not beyond `most`.
    ///
    /// # Errors
    /// As above.
    fn newest_snapshot(&self, most: u64) -> Result<Option<Snapshot>, StageError>;
    /// Whether the engine wants the stage to stop at the next good point.
    fn interrupted(&self) -> bool;
    /// Seconds since the attempt began, for deciding when a snapshot is due; never part of an output.
    fn elapsed_seconds(&self) -> f64;
    /// The result of a chunk that was made before: a folder, read-only.
    ///
    /// # Errors
    /// As above.
    fn chunk(&self, chunk: &Chunk<'_>) -> Result<Option<PathBuf>, StageError> {
        let _ = chunk;
        Ok(None)
    }
    /// Keeps the files of `folder` as the result of a chunk, as an action with a record of its own; says where they
    /// are to be read from now on.
    ///
    /// # Errors
    /// As above.
    fn put_chunk(&self, chunk: &Chunk<'_>, folder: &Path) -> Result<PathBuf, StageError> {
        let _ = chunk;
        Ok(folder.to_owned())
    }
    /// The share of the chunks that this process works on; none when it does all and gathers them.
    fn shard(&self) -> Option<Shard> {
        None
    }
}

/// The world of a running stage.
pub struct StageContext<'a> {
    pub(crate) host: &'a dyn Host,
    inputs: BTreeMap<String, PathBuf>,
    many: BTreeMap<String, BTreeMap<String, PathBuf>>,
    externals: BTreeMap<String, PathBuf>,
    outputs: PathBuf,
    pub(crate) scratch: PathBuf,
    threads: usize,
    device: String,
}

impl<'a> StageContext<'a> {
    /// Puts a context together.
    ///
    /// `inputs` are single ports, `many` the named inputs of ports that take several, `externals` the
    /// files outside the store by parameter; `outputs` and `scratch` are existing empty folders.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "a constructor of plain parts, called twice"
    )]
    pub fn new(
        host: &'a dyn Host,
        inputs: BTreeMap<String, PathBuf>,
        many: BTreeMap<String, BTreeMap<String, PathBuf>>,
        externals: BTreeMap<String, PathBuf>,
        outputs: PathBuf,
        scratch: PathBuf,
        threads: usize,
        device: String,
    ) -> Self {
        Self {
            host,
            inputs,
            many,
            externals,
            outputs,
            scratch,
            threads,
            device,
        }
    }

    /// The path of a required input.
    ///
    /// # Errors
    /// [`StageError::Input`] when it was not given, which the plan has already ruled out.
    pub fn input(&self, port: &str) -> Result<&Path, StageError> {
        self.optional(port)
            .ok_or_else(|| StageError::input(port, "not given"))
    }

    /// The path of an optional input.
    #[must_use]
    pub fn optional(&self, port: &str) -> Option<&Path> {
        self.inputs.get(port).map(PathBuf::as_path)
    }

    /// The named inputs of a port that takes several, in name order.
    #[must_use]
    pub fn many(&self, port: &str) -> Vec<(&str, &Path)> {
        self.many
            .get(port)
            .map(|m| m.iter().map(|(n, p)| (n.as_str(), p.as_path())).collect())
            .unwrap_or_default()
    }

    /// The file outside the store that parameter `param` names.
    ///
    /// # Errors
    /// [`StageError::Failed`] when the kind did not declare it.
    pub fn external(&self, param: &str) -> Result<&Path, StageError> {
        self.externals
            .get(param)
            .map(PathBuf::as_path)
            .ok_or_else(|| StageError::failed(format!("no external file for `{param}`")))
    }

    /// Where the output `port` must be written, as a file or as a folder that the stage makes.
    #[must_use]
    pub fn output(&self, port: &str) -> PathBuf {
        self.outputs.join(port)
    }

    /// A folder for the stage's own use, gone afterwards.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// How many threads the stage may use; must not change a byte of any output.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// `cpu` or `cuda`.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Tells how far the work is.
    pub fn progress(&self, done: u64, total: u64, unit: &str, figure: impl Into<String>) {
        self.host.emit(Event::Progress {
            done,
            total,
            unit: unit.to_owned(),
            figure: figure.into(),
        });
    }

    /// Tells the figures of a curve at a step, for those who follow it.
    ///
    /// A stage that resumes tells the curve so far once more, so that every attempt tells all of it.
    pub fn scalars(&self, step: u64, values: impl IntoIterator<Item = (String, f64)>) {
        let values = values.into_iter().collect();
        self.host.emit(Event::Scalars { step, values });
    }

    /// Tells something worth knowing.
    pub fn info(&self, text: impl Into<String>) {
        self.host.emit(Event::Message {
            level: Level::Info,
            text: text.into(),
        });
    }

    /// Tells that something was wrong and how it was dealt with.
    pub fn warn(&self, text: impl Into<String>) {
        self.host.emit(Event::Message {
            level: Level::Warning,
            text: text.into(),
        });
    }

    /// Saves what `write` puts into an empty folder as the snapshot at `progress`, to go on from should the work be
    /// cut off.
    ///
    /// # Errors
    /// Those of `write`, and [`StageError::Io`] or [`StageError::Failed`] from the store.
    pub fn save_snapshot(
        &self,
        progress: u64,
        write: impl FnOnce(&Path) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        self.save(progress, false, write)
    }

    /// As [`Self::save_snapshot`], and it stays when the action is finished: actions that differ from this one only in
    /// [`crate::Stage::STOPS`] go on from it.
    ///
    /// # Errors
    /// As [`Self::save_snapshot`].
    pub fn save_lasting_snapshot(
        &self,
        progress: u64,
        write: impl FnOnce(&Path) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        self.save(progress, true, write)
    }

    fn save(
        &self,
        progress: u64,
        lasts: bool,
        write: impl FnOnce(&Path) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let folder = self.scratch.join(format!("snapshot-{progress}"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(StageError::io("remove", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        write(&folder)?;
        self.host.save_snapshot(progress, &folder, lasts)?;
        std::fs::remove_dir_all(&folder).map_err(StageError::io("remove", &folder))?;
        self.host.emit(Event::Snapshot { progress });
        Ok(())
    }

    /// The snapshot to continue from, if there is one; tells the engine that the stage resumes.
    ///
    /// # Errors
    /// [`StageError::Io`] or [`StageError::Failed`] from the store.
    pub fn resume(&self) -> Result<Option<Snapshot>, StageError> {
        self.resume_up_to(u64::MAX)
    }

    /// As [`Self::resume`], with no snapshot beyond `most`: for a stage that stops there.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub fn resume_up_to(&self, most: u64) -> Result<Option<Snapshot>, StageError> {
        let snapshot = self.host.newest_snapshot(most)?;
        if let Some(s) = &snapshot {
            self.host.emit(Event::Resumed {
                progress: s.progress,
            });
        }
        Ok(snapshot)
    }

    /// Whether the engine wants the stage to stop at the next good point.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.host.interrupted()
    }

    /// Seconds since the attempt began.
    #[must_use]
    pub fn elapsed_seconds(&self) -> f64 {
        self.host.elapsed_seconds()
    }
}
