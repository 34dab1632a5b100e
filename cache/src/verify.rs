//! Verifying: reading every byte of a store to see whether it is what its name says.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use rayon::prelude::*;

use crate::{
    ActionKey, CacheError, Digest, LocalStore, Store,
    collect::{mark_output, snapshot_lines},
    local::{Loaded, list},
};

/// A blob whose bytes do not have its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// The digest that its name promises.
    pub digest: Digest,
    /// The size of what is there.
    pub bytes: u64,
}

/// A record that is no longer worth what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRecord {
    /// The action.
    pub key: ActionKey,
    /// The stage's name when it ran first, empty when the record cannot be read.
    pub stage: String,
    /// What is wrong with the record itself, if anything.
    pub damage: Option<String>,
    /// Its output ports with lost blobs.
    pub lost: BTreeMap<String, Vec<Digest>>,
}

/// A snapshot that cannot be resumed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenSnapshot {
    /// The line it belongs to.
    pub line: ActionKey,
    /// Units of work done when it was saved; none when its record cannot be read.
    pub progress: Option<u64>,
    /// Its file.
    pub path: PathBuf,
    /// Its lost blobs.
    pub lost: Vec<Digest>,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
    /// Blobs whose bytes do not have their digest.
    pub damaged: Vec<DamagedFile>,
    /// Records that are damaged or name damaged or missing blobs.
    pub broken: Vec<BrokenRecord>,
    /// Snapshots read.
    pub snapshots: u64,
    /// Snapshots that are damaged or name damaged or missing blobs. Work goes on from an older one, or starts again.
    pub broken_snapshots: Vec<BrokenSnapshot>,
    /// Entries among the blobs that are no blobs.
    pub strangers: Vec<String>,
}

impl Verified {
    /// Whether everything is what it says.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.broken.is_empty() && self.broken_snapshots.is_empty()
    }
}

/// Reads every blob, record and snapshot of a store.
///
/// With `repair`, damaged blobs, broken records and broken snapshots are set aside, so that the next run makes them again; nothing is
/// deleted.
///
/// # Errors
/// [`CacheError`] when something cannot be read for another reason than damage, or not set aside.
pub fn verify(store: &LocalStore, repair: bool) -> Result<Verified, CacheError> {
    let mut found = Verified::default();
    let blobs = store.blobs()?;
    let read: Vec<(Digest, Digest, u64)> = blobs
        .into_par_iter()
        .map(|digest| {
            let (actual, bytes) = Digest::of_file(&store.blob(&digest))?;
            Ok((digest, actual, bytes))
        })
        .collect::<Result<_, CacheError>>()?;
    let mut good = BTreeSet::new();
    for (digest, actual, bytes) in read {
        found.blobs += 1;
        found.bytes += bytes;
        if digest == actual {
            good.insert(digest);
        } else {
            found.damaged.push(DamagedFile { digest, bytes });
        }
    }
    found.strangers = strangers(store)?;
    for key in store.actions()? {
        found.records += 1;
        found.broken.extend(examine(store, &key, &good)?);
    }
    examine_snapshots(store, &good, &mut found)?;
    if repair {
        for broken in &found.broken_snapshots {
            store
                .files
                .set_aside(&broken.path, "it cannot be resumed from")?;
        }
        for damaged in &found.damaged {
            store.set_blob_aside(&damaged.digest, "its bytes do not have its digest")?;
        }
        for broken in &found.broken {
            let path = store.action_path(&broken.key);
            let what = broken
                .damage
                .as_deref()
                .unwrap_or("artifacts that it names are lost");
            store.files.set_aside(&path, what)?;
        }
    }
    Ok(found)
}

fn examine(
    store: &LocalStore,
    key: &ActionKey,
    good: &BTreeSet<Digest>,
) -> Result<Option<BrokenRecord>, CacheError> {
    let record = match store.load_action(key, &store.action_path(key))? {
        Loaded::Absent => return Ok(None),
        Loaded::Damaged(what) => {
            let (stage, lost) = (String::new(), BTreeMap::new());
            return Ok(Some(BrokenRecord {
                key: *key,
                stage,
                damage: Some(what),
                lost,
            }));
        }
        Loaded::Good(record) => record,
    };
    let mut lost = BTreeMap::new();
    for (port, output) in &record.outputs {
        let mut named = BTreeSet::new();
        if good.contains(&output.digest) {
            mark_output(store, output, &mut named)?;
        } else {
            named.insert(output.digest);
        }
        let gone: Vec<_> = named.difference(good).copied().collect();
        if !gone.is_empty() {
            lost.insert(port.clone(), gone);
        }
    }
    let damage =
        (record.fields.action_key() != *key).then(|| "its fields do not give its key".to_owned());
    let broken = damage.is_some() || !lost.is_empty();
    Ok(broken.then_some(BrokenRecord {
        key: *key,
        stage: record.stage,
        damage,
        lost,
    }))
}

fn examine_snapshots(
    store: &LocalStore,
    good: &BTreeSet<Digest>,
    found: &mut Verified,
) -> Result<(), CacheError> {
    for line in snapshot_lines(store)? {
        let readable = store.snapshot_files(&line)?;
        let folder = store.snapshot_folder(&line);
        for name in list(&folder)? {
            found.snapshots += 1;
            let path = folder.join(name);
            let snapshot = readable.iter().find(|(at, _)| *at == path);
            let mut named = BTreeSet::new();
            if let Some((_, snapshot)) = snapshot {
                named.insert(snapshot.output.digest);
                if good.contains(&snapshot.output.digest) {
                    named.clear();
                    mark_output(store, &snapshot.output, &mut named)?;
                }
            }
            let lost: Vec<Digest> = named.difference(good).copied().collect();
            if snapshot.is_none() || !lost.is_empty() {
                found.broken_snapshots.push(BrokenSnapshot {
                    line,
                    progress: snapshot.map(|(_, snapshot)| snapshot.label.progress),
                    path,
                    lost,
                });
            }
        }
    }
    Ok(())
}

/// Names among the blobs that no store of ours wrote.
fn strangers(store: &LocalStore) -> Result<Vec<String>, CacheError> {
    let root = store.root().join("blobs/sha256");
    let mut strangers = Vec::new();
    for folder in list(&root)? {
        for name in list(&root.join(&folder))? {
            if !(name.starts_with(&folder) && name.parse::<Digest>().is_ok()) {
                strangers.push(format!("blobs/sha256/{folder}/{name}"));
            }
        }
    }
    Ok(strangers)
}
