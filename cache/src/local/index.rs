//! The index of a local store: what many records say, in one file.
//!
//! A hint only. An entry counts when the record's file still has inode, size and times as remembered and every blob
//! that it names is there with its size, which is what reading the record would have found out; else the record is
//! read. A record whose file changed less than two seconds before it was remembered is left out, since its times
//! could not tell another change right after. A damaged index is an empty one.
//!
//! The file is a header, entries in order of their keys (each its length in four bytes, then the key), and the
//! digest of all that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rayon::prelude::*;
use rustix::fs::{AtFlags, OFlags, statat};

use super::{LocalStore, files::read_if_there};
use crate::{
    ActionKey, ActionRecord, CacheError, Digest, KeyFields, OutputRef,
    memo::{Stamp, stamp_of, stamp_of_stat, take},
};

const HEADER: &[u8; 17] = b"starling index 1\n";

/// The index as read: its bytes, and where each entry begins.
#[derive(Debug, Default)]
pub(super) struct Index {
    bytes: Vec<u8>,
    /// Keys in order, each with the place of its entry after the key.
    places: Vec<([u8; 32], usize)>,
    /// Actions that were asked for and that it could not tell of.
    missed: Mutex<BTreeSet<ActionKey>>,
    /// For each place whether files were just seen to be as remembered; each is good for one question.
    seen: Vec<AtomicBool>,
}

/// What is remembered of a record besides its fields.
struct Entry {
    inode: u64,
    stamp: Stamp,
    record: Remembered,
}

/// The parts of a record that its fields do not say.
struct Remembered {
    spec: Digest,
    attempt: u32,
    threads: u32,
    started_unix: f64,
    seconds: f64,
    max_rss_bytes: u64,
    stage: String,
    numerics: String,
    outputs: BTreeMap<String, OutputRef>,
}

impl Index {
    fn load(path: &Path) -> Self {
        let bytes = read_if_there(path).ok().flatten();
        bytes.and_then(Self::parse).unwrap_or_default()
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let (content, digest) = bytes.split_last_chunk::<32>()?;
        if Digest::of(content).as_bytes() != digest {
            return None;
        }
        let mut rest = content.strip_prefix(HEADER)?;
        let mut places = Vec::with_capacity(rest.len() / 256);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(take(&mut rest)?) as usize;
            let (entry, after) = rest.split_at_checked(length)?;
            let key = *entry.first_chunk::<32>()?;
            places.push((key, content.len() - rest.len() + 32));
            rest = after;
        }
        Some(Self {
            places,
            bytes,
            missed: Mutex::default(),
            seen: Vec::new(),
        })
    }

    /// Looks at the files of every entry, on all cores.
    ///
    /// The answer is as good as one given when somebody asks, unless the run changes things itself meanwhile; so it
    /// is given once, and then the files are looked at.
    fn look_at_all(&mut self, root: &Path) {
        // From open folders, since a long path costs more to follow than a file to look at.
        let open = |name: &str| {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(root.join(name), flags, rustix::fs::Mode::empty())
        };
        let (Ok(actions), Ok(blobs)) = (open("actions"), open("blobs/sha256")) else {
            return;
        };
        let look = |folder: &OwnedFd, name: &str| statat(folder, name, AtFlags::empty()).ok();
        let is_there = |(key, place): &([u8; 32], usize)| {
            let mut name = format!("{}.json", Digest::from_bytes(*key));
            let mut rest = self.bytes.get(*place..)?;
            if take_stamp(&mut rest)? != stamp_of_stat(&look(&actions, &name)?) {
                return None;
            }
            skip_figures(&mut rest)?;
            let mut whole = |output: OutputRef| {
                name.clear();
                let digest = output.digest;
                write!(name, "{digest:.2}/{digest}").ok()?;
                let (_, there) = stamp_of_stat(&look(&blobs, &name)?);
                (!output.tree && there.size == output.bytes).then_some(())
            };
            each_output(&mut rest, &mut |_, output| whole(output))
        };
        let seen = self
            .places
            .par_iter()
            .map(|place| AtomicBool::new(is_there(place).is_some()));
        self.seen = seen.collect();
    }

    /// An entry, and whether its files were just seen to be as remembered.
    fn entry(&self, key: &ActionKey) -> Option<(Entry, bool)> {
        let found = self
            .places
            .binary_search_by_key(key.0.as_bytes(), |(key, _)| *key);
        let at = found.ok()?;
        let seen = self.seen.get(at);
        let seen = seen.is_some_and(|seen| seen.swap(false, Ordering::Relaxed));
        Some((decode(self.bytes.get(self.places[at].1..)?)?, seen))
    }

    fn knows(&self, key: &ActionKey) -> bool {
        let places = &self.places;
        let known = places.binary_search_by_key(key.0.as_bytes(), |(key, _)| *key);
        known.is_ok() && !self.missed().contains(key)
    }

    fn missed(&self) -> MutexGuard<'_, BTreeSet<ActionKey>> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every entry as its bytes, key first.
    fn raw(&self) -> impl Iterator<Item = (ActionKey, &[u8])> {
        self.places.iter().filter_map(|(key, place)| {
            let length = u32::from_le_bytes(*self.bytes.get(place - 36..)?.first_chunk()?);
            let entry = self.bytes.get(place - 32..)?.get(..length as usize)?;
            Some((ActionKey(Digest::from_bytes(*key)), entry))
        })
    }
}

/// So many entries are looked at ahead; a store with more holds mostly what no run of today asks for.
const MOST_AHEAD: usize = 1 << 16;

impl LocalStore {
    /// Reads the index in the background and looks at the files that it tells of, while the caller does other work.
    pub fn look_ahead(&self) {
        let root = self.files.root.clone();
        let look = move || {
            let mut index = Index::load(&root.join("index"));
            if index.places.len() <= MOST_AHEAD {
                index.look_at_all(&root);
            }
            index
        };
        let started = std::thread::Builder::new()
            .name("look ahead".into())
            .spawn(look);
        // Without it the files are looked at one by one.
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = started.ok();
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let ahead = self
                .ahead
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            ahead
                .and_then(|ahead| ahead.join().ok())
                .unwrap_or_else(|| Index::load(&self.files.root.join("index")))
        })
    }

    /// The record of an action as the index has it, if that can still be so; else the fields again.
    pub(super) fn indexed(
        &self,
        key: &ActionKey,
        fields: KeyFields,
    ) -> Result<Result<ActionRecord, KeyFields>, CacheError> {
        let Some(is) = self.look_up(key)? else {
            self.index().missed().insert(*key);
            return Ok(Err(fields));
        };
        Ok(Ok(ActionRecord {
            key: *key,
            kind: fields.kind.clone(),
            version: fields.version,
            stage: is.stage,
            spec: is.spec,
            fields,
            outputs: is.outputs,
            numerics: is.numerics,
            attempt: is.attempt,
            started_unix: is.started_unix,
            seconds: is.seconds,
            max_rss_bytes: is.max_rss_bytes,
            threads: is.threads,
        }))
    }

    fn look_up(&self, key: &ActionKey) -> Result<Option<Remembered>, CacheError> {
        let Some((entry, seen)) = self.index().entry(key) else {
            return Ok(None);
        };
        let believed = seen || self.is_as_remembered(key, &entry)?;
        Ok(believed.then_some(entry.record))
    }

    fn is_as_remembered(&self, key: &ActionKey, entry: &Entry) -> Result<bool, CacheError> {
        let Ok(meta) = fs::metadata(self.action_path(key)) else {
            return Ok(false);
        };
        let ((_, inode), stamp) = stamp_of(&meta);
        if (inode, stamp) != (entry.inode, entry.stamp) {
            return Ok(false);
        }
        let mut outputs = entry.record.outputs.values();
        outputs.try_fold(true, |all, output| Ok(all && self.holds(output)?))
    }

    /// Writes the index anew when it lacks one of `records`; entries of records that are gone are left out.
    pub(super) fn add_to_index(
        &self,
        records: &mut dyn Iterator<Item = &ActionRecord>,
        now_unix: f64,
    ) -> Result<(), CacheError> {
        let index = self.index();
        let mut new = BTreeMap::new();
        for record in records.filter(|record| !index.knows(&record.key)) {
            let path = self.action_path(&record.key);
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let ((_, inode), stamp) = stamp_of(&meta);
            if stamp.settled(now_unix) {
                new.insert(record.key, encode(record, inode, &stamp));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let there = self.record_keys()?;
        for (key, entry) in index.raw() {
            if there.binary_search(&key).is_ok() {
                new.entry(key).or_insert_with(|| entry.to_vec());
            }
        }
        let mut bytes = HEADER.to_vec();
        for entry in new.values() {
            let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_le_bytes());
            bytes.extend(entry);
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        let path = self.files.root.join("index");
        self.files.replace(&path, &bytes, false)
    }
}

fn encode(record: &ActionRecord, inode: u64, stamp: &Stamp) -> Vec<u8> {
    let mut bytes = record.key.0.as_bytes().to_vec();
    bytes.extend(inode.to_le_bytes());
    bytes.extend(stamp.size.to_le_bytes());
    for (whole, nanos) in [stamp.modified, stamp.changed] {
        bytes.extend(whole.to_le_bytes());
        bytes.extend(nanos.to_le_bytes());
    }
    bytes.extend(record.spec.as_bytes());
    bytes.extend(record.attempt.to_le_bytes());
    bytes.extend(record.threads.to_le_bytes());
    bytes.extend(record.started_unix.to_le_bytes());
    bytes.extend(record.seconds.to_le_bytes());
    bytes.extend(record.max_rss_bytes.to_le_bytes());
    push_text(&record.stage, &mut bytes);
    push_text(&record.numerics, &mut bytes);
    bytes.extend((record.outputs.len() as u32).to_le_bytes());
    for (port, output) in &record.outputs {
        push_text(port, &mut bytes);
        bytes.extend(output.digest.as_bytes());
        bytes.push(u8::from(output.tree));
        bytes.extend(output.bytes.to_le_bytes());
    }
    bytes
}

fn push_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn take_text<'b>(bytes: &mut &'b [u8]) -> Option<&'b str> {
    let length = u32::from_le_bytes(take(bytes)?) as usize;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

fn take_stamp(b: &mut &[u8]) -> Option<(u64, Stamp)> {
    let inode = u64::from_le_bytes(take(b)?);
    let size = u64::from_le_bytes(take(b)?);
    let mut time = || {
        let whole = i64::from_le_bytes(take(b)?);
        Some((whole, u32::from_le_bytes(take(b)?)))
    };
    let (modified, changed) = (time()?, time()?);
    let stamp = Stamp {
        size,
        modified,
        changed,
    };
    Some((inode, stamp))
}

/// Passes over what lies between the stamp and the outputs.
fn skip_figures(b: &mut &[u8]) -> Option<()> {
    take::<{ 32 + 4 + 4 + 8 + 8 + 8 }>(b)?;
    take_text(b)?;
    take_text(b)?;
    Some(())
}

/// Calls `each` with every output until it says none.
fn each_output(b: &mut &[u8], each: &mut dyn FnMut(&str, OutputRef) -> Option<()>) -> Option<()> {
    for _ in 0..u32::from_le_bytes(take(b)?) {
        let port = take_text(b)?;
        let output = OutputRef {
            digest: Digest::from_bytes(take(b)?),
            tree: take::<1>(b)? != [0],
            bytes: u64::from_le_bytes(take(b)?),
        };
        each(port, output)?;
    }
    Some(())
}

/// Reads an entry after its key.
fn decode(mut bytes: &[u8]) -> Option<Entry> {
    let b = &mut bytes;
    let (inode, stamp) = take_stamp(b)?;
    let spec = Digest::from_bytes(take(b)?);
    let (attempt, threads) = (u32::from_le_bytes(take(b)?), u32::from_le_bytes(take(b)?));
    let (started_unix, seconds) = (f64::from_le_bytes(take(b)?), f64::from_le_bytes(take(b)?));
    let max_rss_bytes = u64::from_le_bytes(take(b)?);
    let (stage, numerics) = (take_text(b)?.to_owned(), take_text(b)?.to_owned());
    let mut outputs = BTreeMap::new();
    each_output(b, &mut |port, output| {
        outputs.insert(port.to_owned(), output);
        Some(())
    })?;
    Some(Entry {
        inode,
        stamp,
        record: Remembered {
            spec,
            attempt,
            threads,
            started_unix,
            seconds,
            max_rss_bytes,
            stage,
            numerics,
            outputs,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Store as _, record::tests::record};

    /// A store with one record, and a time at which its file has settled.
    fn store() -> (tempfile::TempDir, LocalStore, ActionRecord, f64) {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open_or_create(&dir.path().join("s")).unwrap();
        let digest = store.put_bytes(b"weights").unwrap();
        let output = OutputRef {
            digest,
            tree: false,
            bytes: 7,
        };
        let made = record("teacher", Digest::of(b"spec"), output);
        store.create_action(&made.key, &made).unwrap();
        let meta = fs::metadata(store.action_path(&made.key)).unwrap();
        let later = std::os::unix::fs::MetadataExt::ctime(&meta) as f64 + 10.0;
        (dir, store, made, later)
    }

    /// Another view of the store, with its index unread.
    fn again(store: &LocalStore) -> LocalStore {
        LocalStore::open(store.root()).unwrap()
    }

    #[test]
    fn what_is_remembered_is_the_record() {
        let (_dir, store, made, later) = store();
        store.remember(&mut [&made].into_iter(), later).unwrap();
        let known = again(&store)
            .indexed(&made.key, made.fields.clone())
            .unwrap();
        assert_eq!(known.as_ref(), Ok(&made));
        // A second record joins the first.
        let mut other = record("other", Digest::of(b"spec"), made.outputs["student"]);
        other.seconds = 7.25;
        store.create_action(&other.key, &other).unwrap();
        let fresh = again(&store);
        fresh.remember(&mut [&other].into_iter(), later).unwrap();
        for one in [&made, &other] {
            let known = again(&store).indexed(&one.key, one.fields.clone()).unwrap();
            assert_eq!(known.as_ref(), Ok(one));
        }
    }

    #[test]
    fn a_young_record_is_not_remembered() {
        let (_dir, store, made, later) = store();
        store
            .remember(&mut [&made].into_iter(), later - 9.5)
            .unwrap();
        assert!(!store.root().join("index").exists());
    }

    #[test]
    fn a_record_or_blob_that_changed_or_went_is_not_believed() {
        let (_dir, store, made, later) = store();
        store.remember(&mut [&made].into_iter(), later).unwrap();
        let path = store.action_path(&made.key);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(
            again(&store)
                .cached(&made.key, made.fields.clone())
                .unwrap()
                .is_err()
        );
        fs::write(&path, bytes).unwrap();
        let read = again(&store);
        assert!(
            read.indexed(&made.key, made.fields.clone())
                .unwrap()
                .is_err()
        );
        assert_eq!(
            read.cached(&made.key, made.fields.clone()).unwrap(),
            Ok(made.clone())
        );
        store.remember(&mut [&made].into_iter(), later).unwrap();
        fs::remove_file(store.blob(&made.outputs["student"].digest)).unwrap();
        assert!(
            again(&store)
                .cached(&made.key, made.fields.clone())
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn what_was_looked_at_ahead_is_believed_once() {
        let (_dir, store, made, later) = store();
        store.remember(&mut [&made].into_iter(), later).unwrap();
        let ahead = again(&store);
        ahead.look_ahead();
        let known = ahead.cached(&made.key, made.fields.clone()).unwrap();
        assert_eq!(known.as_ref(), Ok(&made));
        fs::remove_file(store.blob(&made.outputs["student"].digest)).unwrap();
        assert!(
            ahead
                .cached(&made.key, made.fields.clone())
                .unwrap()
                .is_err()
        );
        let later = again(&store);
        later.look_ahead();
        assert!(
            later
                .cached(&made.key, made.fields.clone())
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn every_cut_and_flip_is_an_empty_index() {
        let (_dir, store, made, later) = store();
        store.remember(&mut [&made].into_iter(), later).unwrap();
        let path = store.root().join("index");
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(Index::parse(flipped).is_none(), "{at}");
            assert!(Index::parse(bytes[..at].to_vec()).is_none(), "{at}");
        }
        fs::write(&path, b"").unwrap();
        assert_eq!(
            again(&store)
                .cached(&made.key, made.fields.clone())
                .unwrap(),
            Ok(made)
        );
    }
}
