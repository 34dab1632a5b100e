//! The store, behind one trait; the engine and the workers know nothing else of it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    ActionKey, ActionRecord, CacheError, Digest, KeyFields, LeaseHolder, LeaseOutcome, OutputRef,
    Owner, SnapshotLabel, SnapshotRecord, lease::Lease, manifest::Manifest,
};

/// How files are placed for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Hard links to the store's read-only files; a copy where links are impossible. For workers.
    Link,
    /// Writable copies, sharing blocks where the filesystem can. For people.
    Copy,
}

/// What became of an attempt to create a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Creation {
    /// The caller's record is the record from now on.
    Created,
    /// Another was there before; it stays.
    Existing(Box<ActionRecord>),
}

/// Something was damaged and was taken for a miss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// What was wrong with it and what was done.
    pub what: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// A content-addressed store.
///
/// What an implementor promises: blobs and records become visible whole or not at all, and survive a power cut once
/// the call returned; creation is create-if-absent, the first wins; damage is a [`Warning`] and a miss, or an error
/// where the caller asked for exactly those bytes. Times come from the caller. Every method may fail with a
/// [`CacheError`] that names the path.
#[expect(
    clippy::missing_errors_doc,
    reason = "said once above: every method fails with a CacheError that names the path"
)]
pub trait Store: Send + Sync + fmt::Debug {
    /// What a worker must be given to open the same store.
    fn url(&self) -> String;

    /// Takes the warnings since the last call, oldest first.
    fn take_warnings(&self) -> Vec<Warning>;

    // Blobs.

    /// Stores bytes. Those that are there already are checked, and healed if damaged.
    fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, CacheError>;
    /// Stores a file, reading it once.
    fn put_file(&self, file: &Path) -> Result<Digest, CacheError>;
    /// Whether a blob is there; looks at no byte of it.
    fn has(&self, digest: &Digest) -> Result<bool, CacheError>;
    /// Reads a blob and checks its digest. A damaged one is set aside.
    fn read(&self, digest: &Digest) -> Result<Vec<u8>, CacheError>;
    /// Where a blob's bytes lie, if they lie in a local file.
    fn blob_path(&self, digest: &Digest) -> Option<PathBuf>;

    // Trees.

    /// Stores a file or a folder.
    ///
    /// Links are followed. Permissions and times are not content. Names must be UTF-8.
    fn put_tree(&self, path: &Path) -> Result<OutputRef, CacheError>;
    /// The files of a tree.
    fn manifest(&self, tree: &Digest) -> Result<Manifest, CacheError>;
    /// Places an artifact at `dest`, which must not exist, and checks every digest on the way. A damaged blob is set
    /// aside, so that the next plan sees a miss.
    fn materialize(&self, output: &OutputRef, dest: &Path, mode: Mode) -> Result<(), CacheError>;

    // Actions.

    /// Creates a record if there is none; one that is damaged or whose blobs are gone counts as none.
    fn create_action(&self, key: &ActionKey, record: &ActionRecord)
    -> Result<Creation, CacheError>;
    /// The record of an action, if there is a readable one whose blobs are all there.
    fn action(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError>;
    /// As [`Store::action`] for an action whose fields are known, so that a store may answer from its memory. Without
    /// a record the fields come back.
    fn cached(
        &self,
        key: &ActionKey,
        fields: KeyFields,
    ) -> Result<Result<ActionRecord, KeyFields>, CacheError> {
        Ok(self.action(key)?.ok_or(fields))
    }
    /// Remembers records for [`Store::cached`]; `now_unix` is the present in seconds since 1970.
    fn remember(
        &self,
        records: &mut dyn Iterator<Item = &ActionRecord>,
        now_unix: f64,
    ) -> Result<(), CacheError> {
        let _ = (records, now_unix);
        Ok(())
    }
    /// Whether all blobs that a record names are there; looks at no byte of them.
    fn complete(&self, record: &ActionRecord) -> Result<bool, CacheError>;
    /// The keys of all records, in order; some may turn out damaged.
    fn actions(&self) -> Result<Vec<ActionKey>, CacheError>;
    /// Takes an action out of those that hold their artifacts: its digests and its recipe stay, its bytes may be
    /// collected.
    fn retire_action(&self, key: &ActionKey) -> Result<(), CacheError>;
    /// The record of an action that was taken out; its artifacts may be gone.
    fn retired(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError>;
    /// Removes a record, for repair; true when there was one.
    fn remove_action(&self, key: &ActionKey) -> Result<bool, CacheError>;

    // Attempts.

    /// Reserves the next attempt of an action; they count from 1.
    fn next_attempt(&self, key: &ActionKey) -> Result<u32, CacheError>;
    /// The attempts of an action, in order.
    fn attempts(&self, key: &ActionKey) -> Result<Vec<u32>, CacheError>;
    /// Writes a file of an attempt (`started.json`, `beat.json`, `exit.json`), replacing it.
    fn put_attempt(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), CacheError>;
    /// Reads a file of an attempt.
    fn attempt(
        &self,
        key: &ActionKey,
        attempt: u32,
        name: &str,
    ) -> Result<Option<Vec<u8>>, CacheError>;
    /// Where a process of this host can append the attempt's log, if that is a local file; its folder exists after
    /// [`Store::next_attempt`].
    fn attempt_log(&self, key: &ActionKey, attempt: u32) -> Option<PathBuf>;

    // Snapshots; see [`SnapshotLabel`] for what a line is.

    /// Saves the files of a folder as a snapshot.
    ///
    /// One that lasts is not replaced by one that does not.
    fn put_snapshot(&self, label: &SnapshotLabel, folder: &Path) -> Result<OutputRef, CacheError>;
    /// The readable snapshots of a line, newest first; their blobs are not looked at.
    fn snapshots(&self, line: &ActionKey) -> Result<Vec<SnapshotRecord>, CacheError>;
    /// The newest snapshot of a line and a numerics class that is not beyond `most` and whose bytes all have their
    /// digests.
    fn newest_snapshot(
        &self,
        line: &ActionKey,
        numerics: &str,
        most: u64,
    ) -> Result<Option<(u64, OutputRef)>, CacheError>;
    /// Drops all but the newest `keep` of the snapshots of a line that are not beyond `most` and do not last, with the
    /// blobs that nothing else names.
    fn drop_snapshots(&self, line: &ActionKey, most: u64, keep: usize) -> Result<(), CacheError>;

    // Leases.

    /// Takes the lease of an action unless somebody holds it.
    ///
    /// A holder on another host is given up when its beat is more than `stale_seconds` away from `now_unix`.
    fn try_lease(
        &self,
        key: &ActionKey,
        owner: &Owner,
        now_unix: f64,
        stale_seconds: f64,
    ) -> Result<LeaseOutcome, CacheError>;
    /// Says that the holder lives.
    fn beat_lease(&self, lease: &Lease, now_unix: f64) -> Result<(), CacheError>;
    /// Gives a lease back.
    fn release_lease(&self, lease: &Lease) -> Result<(), CacheError>;
    /// Who holds the lease of an action, alive or not; none when it was given back or never taken.
    fn lease_holder(&self, key: &ActionKey) -> Result<Option<LeaseHolder>, CacheError>;

    // Runs.

    /// Writes a file of a run (`manifest.json`, …), replacing it.
    fn put_run(&self, run: &str, name: &str, bytes: &[u8]) -> Result<(), CacheError>;
    /// Reads a file of a run.
    fn run_file(&self, run: &str, name: &str) -> Result<Option<Vec<u8>>, CacheError>;
    /// Where the files of a run lie and others may be put beside them, if that is a local folder.
    fn run_folder(&self, run: &str) -> Option<PathBuf> {
        let _ = run;
        None
    }
    /// The runs, in order of their names.
    fn runs(&self) -> Result<Vec<String>, CacheError>;
}
