//! The store in a folder.
//!
//! ```text
//! .starling/
//!   format                          version of this layout; a store of another version is refused
//!   blobs/sha256/ab/<digest>        files and tree manifests, read-only
//!   actions/<key>.json              records, read-only, created once
//!   retired/<key>.json              records whose artifacts may be gone: digests and recipe
//!   attempts/<key>/<n>/             started.json, beat.json, exit.json, log
//!   leases/<key>/<n>                who runs an action now
//!   snapshots/<key>/                saves of unfinished actions, and those that last
//!   runs/<id>/                      manifest of each run
//!   pins/<name>                     what must not be collected
//!   memo                            digests of files outside, a hint
//!   index                           what records say, a hint
//!   damaged/                        what was found broken, for a look
//!   tmp/                            files being written
//! ```
//!
//! Several processes may use one store at the same time, on one host or through a shared folder. There is no lock:
//! what is visible is whole, and what must happen once is created once.

mod actions;
mod attempts;
mod blobs;
pub(crate) mod files;
mod index;
mod leases;
mod snapshots;
mod trees;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    thread::JoinHandle,
};

pub(crate) use self::{
    actions::Loaded,
    files::{list, remove},
};
pub use self::{attempts::Pin, files::Fault};
use self::{
    files::{Files, WRITABLE, read_if_there},
    index::Index,
};
use crate::{
    ActionKey, ActionRecord, CacheError, Creation, Digest, KeyFields, Lease, LeaseHolder,
    LeaseOutcome, Manifest, Memo, Mode, OutputRef, Owner, SnapshotLabel, SnapshotRecord, Store,
    Warning, error::reading,
};

/// The name of a store's folder beside or above a pipeline.
pub const STORE_FOLDER: &str = ".starling";

/// What the `format` file says.
const FORMAT: &str = "starling store 1";

/// A store in a folder; see the module for its layout.
#[derive(Debug)]
pub struct LocalStore {
    pub(crate) files: Files,
    url: String,
    /// What records say, read when the first is asked for.
    index: OnceLock<Index>,
    /// Who reads the index in the background.
    ahead: Mutex<Option<JoinHandle<Index>>>,
}

/// The nearest store at or above a folder.
#[must_use]
pub fn find_store(start: &Path) -> Option<PathBuf> {
    let stores = start.ancestors().map(|folder| folder.join(STORE_FOLDER));
    stores
        .into_iter()
        .find(|store| store.join("format").is_file())
}

impl LocalStore {
    /// Opens a store that exists. A store that cannot be written can still be read.
    ///
    /// # Errors
    /// [`CacheError::NoStore`] when there is none, [`CacheError::Format`] when it is of another version.
    pub fn open(root: &Path) -> Result<Self, CacheError> {
        // Absolute, so that a changed working folder does not lead elsewhere.
        let root = match root.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CacheError::NoStore {
                    path: root.to_owned(),
                });
            }
            Err(error) => return Err(reading("open", root)(error)),
        };
        let format = root.join("format");
        let Some(found) = read_if_there(&format)? else {
            return Err(CacheError::NoStore { path: root });
        };
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        if found != FORMAT {
            let found = found.chars().take(80).collect();
            return Err(CacheError::Format {
                path: format,
                found,
                expected: FORMAT,
            });
        }
        let Some(url) = root.to_str().map(str::to_owned) else {
            return Err(CacheError::Unsupported {
                path: root,
                why: "its name is not UTF-8",
            });
        };
        Ok(Self {
            files: Files::new(root),
            url,
            index: OnceLock::new(),
            ahead: Mutex::default(),
        })
    }

    /// The store without what dead processes left half-written.
    ///
    /// # Errors
    /// [`CacheError`] when the folder cannot be listed.
    pub fn cleaned(self) -> Result<Self, CacheError> {
        self.files.clean_tmp()?;
        Ok(self)
    }

    /// Opens a store, making it where there is none, and removes what dead processes left half-written.
    ///
    /// # Errors
    /// As [`LocalStore::open`], and [`CacheError::ReadOnly`] or [`CacheError::Full`] when it cannot be made.
    pub fn open_or_create(root: &Path) -> Result<Self, CacheError> {
        match Self::open(root) {
            Ok(store) => return store.cleaned(),
            Err(CacheError::NoStore { .. }) => {}
            Err(error) => return Err(error),
        }
        let root = &std::path::absolute(root).map_err(reading("open", root))?;
        let files = Files::new(root.clone());
        for folder in ["tmp", "blobs/sha256", "actions"] {
            files.create_folder(&root.join(folder))?;
        }
        files.create(&root.join("format"), format!("{FORMAT}\n").as_bytes(), true)?;
        Self::open(root)
    }

    /// Opens a store by what [`Store::url`] said: a path, or a path after `file://`.
    ///
    /// # Errors
    /// As [`LocalStore::open`].
    pub fn open_url(url: &str) -> Result<Self, CacheError> {
        Self::open(Path::new(url.strip_prefix("file://").unwrap_or(url)))
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.files.root
    }

    /// Leaves it to the system from now on when what is written becomes durable.
    ///
    /// For work that costs less than a sync to make again. What a power cut takes is noticed, because records hold
    /// their own digest and blobs are checked when they are read, and is made again.
    #[must_use]
    pub fn without_sync(mut self) -> Self {
        self.files.deferred = true;
        self
    }

    /// Lets a test interfere with every step of writing.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.files.set_fault(fault);
        self
    }

    /// The remembered digests of files outside the store.
    #[must_use]
    pub fn memo(&self) -> Memo {
        Memo::load(&self.files.root.join("memo"))
    }

    /// Keeps the remembered digests; does nothing when none is new.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be written.
    pub fn save_memo(&self, memo: &mut Memo) -> Result<(), CacheError> {
        let Some(bytes) = memo.take_changes() else {
            return Ok(());
        };
        self.files
            .replace(&self.files.root.join("memo"), &bytes, false)
    }

    /// The spec that an action's record names, also when artifacts of it are gone; none when the record cannot be
    /// read.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn spec_of(&self, key: &ActionKey) -> Result<Option<Digest>, CacheError> {
        Ok(match self.load_action(key, &self.action_path(key))? {
            Loaded::Good(record) => Some(record.spec),
            Loaded::Absent | Loaded::Damaged(_) => None,
        })
    }

    /// How much space is left for the store, in bytes.
    ///
    /// # Errors
    /// [`CacheError`] when the system does not tell.
    pub fn free_space(&self) -> Result<u64, CacheError> {
        let root = &self.files.root;
        let told = rustix::fs::statvfs(root).map_err(io::Error::from);
        let told = told.map_err(reading("look at", root))?;
        Ok(told.f_bavail.saturating_mul(told.f_frsize))
    }

    /// How workers get their inputs on the store's filesystem: `reflink`, `hard link` or `copy`.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be written.
    pub fn placing(&self) -> Result<&'static str, CacheError> {
        let from = self.files.write_tmp(b"probe", WRITABLE, false)?;
        let to = self.files.tmp_path();
        if reflink_copy::reflink(&from.path, &to.path).is_ok() {
            return Ok("reflink");
        }
        let linked = fs::hard_link(&from.path, &to.path).is_ok();
        Ok(if linked { "hard link" } else { "copy" })
    }

    /// How much space the store's files take on disk, in bytes, damaged and temporary ones included.
    ///
    /// # Errors
    /// [`CacheError`] when a folder cannot be listed.
    pub fn size_on_disk(&self) -> Result<u64, CacheError> {
        fn sum(folder: &Path) -> io::Result<u64> {
            let mut total = 0;
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                total += if entry.file_type()?.is_dir() {
                    sum(&entry.path())?
                } else {
                    // Gone since it was listed: nothing to count.
                    entry.metadata().map_or(0, |meta| meta.len())
                };
            }
            Ok(total)
        }
        sum(&self.files.root).map_err(reading("list", &self.files.root))
    }
}

impl Store for LocalStore {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn take_warnings(&self) -> Vec<Warning> {
        self.files.take_warnings()
    }

    fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        self.store_bytes(bytes)
    }

    fn put_file(&self, file: &Path) -> Result<Digest, CacheError> {
        self.store_file(file).map(|(digest, _)| digest)
    }

    fn has(&self, digest: &Digest) -> Result<bool, CacheError> {
        self.find_blob(digest)
    }

    fn read(&self, digest: &Digest) -> Result<Vec<u8>, CacheError> {
        self.read_blob(digest)
    }

    fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.blob(digest))
    }

    fn put_tree(&self, path: &Path) -> Result<OutputRef, CacheError> {
        self.store_tree(path)
    }

    fn manifest(&self, tree: &Digest) -> Result<Manifest, CacheError> {
        self.read_manifest(tree)
    }

    fn materialize(&self, output: &OutputRef, dest: &Path, mode: Mode) -> Result<(), CacheError> {
        self.place_output(output, dest, mode)
    }

    fn create_action(
        &self,
        key: &ActionKey,
        record: &ActionRecord,
    ) -> Result<Creation, CacheError> {
        self.create_record(key, record)
    }

    fn action(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        self.read_record(key)
    }

    fn cached(
        &self,
        key: &ActionKey,
        fields: KeyFields,
    ) -> Result<Result<ActionRecord, KeyFields>, CacheError> {
        match self.indexed(key, fields)? {
            Ok(record) => Ok(Ok(record)),
            Err(fields) => Ok(self.read_record(key)?.ok_or(fields)),
        }
    }

    fn remember(
        &self,
        records: &mut dyn Iterator<Item = &ActionRecord>,
        now_unix: f64,
    ) -> Result<(), CacheError> {
        self.add_to_index(records, now_unix)
    }

    fn complete(&self, record: &ActionRecord) -> Result<bool, CacheError> {
        self.holds_all(record)
    }

    fn actions(&self) -> Result<Vec<ActionKey>, CacheError> {
        self.record_keys()
    }

    fn retire_action(&self, key: &ActionKey) -> Result<(), CacheError> {
        self.retire_record(key)
    }

    fn retired(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        self.retired_record(key)
    }

    fn remove_action(&self, key: &ActionKey) -> Result<bool, CacheError> {
        self.remove_record(key)
    }

    fn next_attempt(&self, key: &ActionKey) -> Result<u32, CacheError> {
        self.reserve_attempt(key)
    }

    fn attempts(&self, key: &ActionKey) -> Result<Vec<u32>, CacheError> {
        self.attempt_numbers(key)
    }

    fn put_attempt(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), CacheError> {
        self.write_attempt(key, attempt, name, bytes)
    }

    fn attempt(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
    ) -> Result<Option<Vec<u8>>, CacheError> {
        read_if_there(&self.attempt_file(key, attempt, name)?)
    }

    fn attempt_log(&self, key: &ActionKey, attempt: u32) -> Option<PathBuf> {
        self.attempt_file(key, attempt, "log").ok()
    }

    fn put_snapshot(&self, label: &SnapshotLabel, folder: &Path) -> Result<OutputRef, CacheError> {
        self.save_snapshot(label, folder)
    }

    fn snapshots(&self, line: &ActionKey) -> Result<Vec<SnapshotRecord>, CacheError> {
        self.list_snapshots(line)
    }

    fn newest_snapshot(
        &self,
        line: &ActionKey,
        numerics: &str,
        most: u64,
    ) -> Result<Option<(u64, OutputRef)>, CacheError> {
        self.newest_good_snapshot(line, numerics, most)
    }

    fn drop_snapshots(&self, line: &ActionKey, most: u64, keep: usize) -> Result<(), CacheError> {
        self.prune_snapshots(line, most, keep)
    }

    fn try_lease(
        &self,
        key: &ActionKey,
        owner: &Owner,
        now_unix: f64,
        stale_seconds: f64,
    ) -> Result<LeaseOutcome, CacheError> {
        self.take_lease(key, owner, now_unix, stale_seconds)
    }

    fn beat_lease(&self, lease: &Lease, now_unix: f64) -> Result<(), CacheError> {
        self.write_beat(lease, now_unix)
    }

    fn release_lease(&self, lease: &Lease) -> Result<(), CacheError> {
        self.give_back_lease(lease)
    }

    fn lease_holder(&self, key: &ActionKey) -> Result<Option<LeaseHolder>, CacheError> {
        self.current_holder(key)
    }

    fn put_run(&self, run: &str, name: &str, bytes: &[u8]) -> Result<(), CacheError> {
        self.write_run(run, name, bytes)
    }

    fn run_file(&self, run: &str, name: &str) -> Result<Option<Vec<u8>>, CacheError> {
        read_if_there(&self.run_path(run, name)?)
    }

    fn run_folder(&self, run: &str) -> Option<PathBuf> {
        self.run_path(run, "tensorboard")
            .ok()?
            .parent()
            .map(Path::to_owned)
    }

    fn runs(&self) -> Result<Vec<String>, CacheError> {
        self.run_names()
    }
}
