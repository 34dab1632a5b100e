//! Collecting: deleting what nothing names any more.
//!
//! Roots are records, snapshots of unfinished actions, those that last, and pins. What is kept of the records is the caller's choice,
//! since only the engine knows which runs matter; a pinned action stays in any case. A blob that nothing names is
//! deleted once it is old enough: a worker first puts blobs and then their record, and whoever finds a blob already
//! there marks it as used just now.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    ActionKey, CacheError, Digest, LocalStore, OutputRef, Store,
    error::reading,
    local::{Loaded, list, remove},
};

/// Which records stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    All,
    /// These, and pinned ones.
    Actions(BTreeSet<ActionKey>),
}

/// What to collect.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectOptions {
    /// Which records stay.
    pub keep: Keep,
    /// Whether snapshots that last stay with their finished actions; those of unfinished ones stay in any case.
    pub keep_snapshots: bool,
    /// Deletes nothing and reports the same.
    pub dry_run: bool,
    /// The present, in seconds since 1970.
    pub now_unix: f64,
    /// Unnamed blobs, temporary and damaged files younger than this stay. An hour suits a store in use.
    pub grace_seconds: f64,
}

/// A thing that was, or would be, deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum CollectedItem {
    /// A record, with its stage's name.
    Action {
        /// The action.
        key: ActionKey,
        /// The stage's name when it ran first.
        stage: String,
        /// Seconds that it took, and that making it again would.
        seconds: f64,
        /// Bytes of its artifacts; what is shared with others stays.
        artifacts: u64,
    },
    /// A blob.
    Blob(Digest),
    /// Snapshots of a line whose actions are finished or not kept.
    Snapshots(ActionKey),
    /// A temporary or damaged file, by its path.
    File(PathBuf),
}

/// What was, or would be, deleted and freed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// Each thing with the bytes that it took.
    pub items: Vec<(CollectedItem, u64)>,
    /// Bytes in all.
    pub freed: u64,
    /// Bytes of the blobs that stay.
    pub kept: u64,
}

/// Deletes what nothing names.
///
/// # Errors
/// [`CacheError`] when the store cannot be read or written; what was deleted before stays deleted, and nothing
/// that is named was among it. A manifest or pin that cannot be read stops before anything is deleted.
pub fn collect(store: &LocalStore, options: &CollectOptions) -> Result<Collected, CacheError> {
    let plan = Plan::new(store, options)?;
    let mut collected = Collected::default();
    // Names go before what they name, so that an interruption leaves blobs without names and never the reverse.
    for (item, paths) in plan.doomed {
        let mut bytes = 0;
        for path in paths {
            bytes += fs::metadata(&path).map_or(0, |meta| meta.len());
            if !options.dry_run {
                store.files.point("remove", &path)?;
                remove(&path)?;
            }
        }
        collected.freed += bytes;
        collected.items.push((item, bytes));
    }
    for digest in store.blobs()? {
        let path = store.blob(&digest);
        // Looked at just before deletion, because somebody may have come to use it since.
        let Some((bytes, age)) = size_and_age(&path, options.now_unix)? else {
            continue;
        };
        if plan.named.contains(&digest) || age < options.grace_seconds {
            collected.kept += bytes;
            continue;
        }
        if !options.dry_run {
            store.files.point("remove", &path)?;
            remove(&path)?;
        }
        collected.freed += bytes;
        collected.items.push((CollectedItem::Blob(digest), bytes));
    }
    Ok(collected)
}

/// What is decided before anything is deleted.
struct Plan {
    named: BTreeSet<Digest>,
    doomed: Vec<(CollectedItem, Vec<PathBuf>)>,
}

impl Plan {
    fn new(store: &LocalStore, options: &CollectOptions) -> Result<Self, CacheError> {
        let mut named = BTreeSet::new();
        let mut doomed = Vec::new();
        let mut pinned = BTreeSet::new();
        for (_, pin) in store.pins()? {
            pinned.extend(pin.actions);
            for digest in pin.blobs {
                mark_either(store, &digest, &mut named)?;
            }
        }
        let kept = |key: &ActionKey| match &options.keep {
            Keep::All => true,
            Keep::Actions(keys) => keys.contains(key) || pinned.contains(key),
        };
        let mut finished = BTreeSet::new();
        for key in store.actions()? {
            let path = store.action_path(&key);
            match store.load_action(&key, &path)? {
                Loaded::Good(record) if kept(&key) => {
                    finished.insert(key);
                    named.insert(record.spec);
                    for output in record.outputs.values() {
                        mark_output(store, output, &mut named)?;
                    }
                }
                Loaded::Good(record) => {
                    let item = CollectedItem::Action {
                        key,
                        artifacts: record.outputs.values().map(|output| output.bytes).sum(),
                        seconds: record.seconds,
                        stage: record.stage,
                    };
                    doomed.push((item, vec![path]));
                }
                // A damaged record is a miss already, and a rerun sets it aside.
                Loaded::Damaged(_) | Loaded::Absent => {}
            }
        }
        for line in snapshot_lines(store)? {
            let folder = store.snapshot_folder(&line);
            // What cannot be read can neither be resumed from.
            let mut files: BTreeSet<PathBuf> = list(&folder)?
                .iter()
                .map(|name| folder.join(name))
                .collect();
            for (path, snapshot) in store.snapshot_files(&line)? {
                let label = &snapshot.label;
                let serves =
                    !finished.contains(&label.action) || (label.lasts && options.keep_snapshots);
                if serves && kept(&label.action) {
                    files.remove(&path);
                    mark_output(store, &snapshot.output, &mut named)?;
                }
            }
            if !files.is_empty() {
                let files = files.into_iter().collect();
                doomed.push((CollectedItem::Snapshots(line), files));
            }
        }
        for folder in ["tmp", "damaged"] {
            let folder = store.root().join(folder);
            for name in list(&folder)? {
                let path = folder.join(name);
                let age = size_and_age(&path, options.now_unix)?.map(|(_, age)| age);
                if age.is_some_and(|age| age >= options.grace_seconds) {
                    doomed.push((CollectedItem::File(path.clone()), vec![path]));
                }
            }
        }
        Ok(Self { named, doomed })
    }
}

fn size_and_age(path: &Path, now_unix: f64) -> Result<Option<(u64, f64)>, CacheError> {
    match fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.len(), now_unix - meta.mtime() as f64))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reading("read", path)(error)),
    }
}

/// The lines that have snapshots.
pub(crate) fn snapshot_lines(store: &LocalStore) -> Result<Vec<ActionKey>, CacheError> {
    let names = list(&store.root().join("snapshots"))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// All blobs that records, snapshots or pins name.
pub(crate) fn named_blobs(store: &LocalStore) -> Result<BTreeSet<Digest>, CacheError> {
    let mut named = BTreeSet::new();
    for (_, pin) in store.pins()? {
        for digest in pin.blobs {
            mark_either(store, &digest, &mut named)?;
        }
    }
    for key in store.actions()? {
        if let Loaded::Good(record) = store.load_action(&key, &store.action_path(&key))? {
            named.insert(record.spec);
            for output in record.outputs.values() {
                mark_output(store, output, &mut named)?;
            }
        }
    }
    for line in snapshot_lines(store)? {
        for snapshot in store.snapshots(&line)? {
            mark_output(store, &snapshot.output, &mut named)?;
        }
    }
    Ok(named)
}

/// Adds an artifact's blobs. A tree whose manifest is lost names only the manifest: nobody could place it anyway.
pub(crate) fn mark_output(
    store: &LocalStore,
    output: &OutputRef,
    named: &mut BTreeSet<Digest>,
) -> Result<(), CacheError> {
    // Trees recur, between arms and from one snapshot to the next; each is read once.
    if !named.insert(output.digest) || !output.tree {
        return Ok(());
    }
    match store.manifest(&output.digest) {
        Ok(manifest) => {
            named.extend(manifest.files().map(|(_, digest, _)| digest));
            Ok(())
        }
        Err(error) if error.is_lost_blob() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Adds a blob that may be the manifest of a tree.
fn mark_either(
    store: &LocalStore,
    digest: &Digest,
    named: &mut BTreeSet<Digest>,
) -> Result<(), CacheError> {
    named.insert(*digest);
    let Ok(bytes) = fs::read(store.blob(digest)) else {
        return Ok(());
    };
    let manifest = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(manifest) = manifest {
        let manifest: crate::Manifest = manifest;
        named.extend(manifest.files().map(|(_, digest, _)| digest));
    }
    Ok(())
}
