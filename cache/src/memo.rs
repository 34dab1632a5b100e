//! Remembered digests of files outside the store, a hint that saves reading them again.
//!
//! A file is taken for unchanged when device, inode, size, modification and change time are what they were when it
//! was digested. A file that changed less than two seconds before it was digested is not remembered, and one that
//! did so before now is not believed, since its times could not tell another change right after. The memo is one
//! file, replaced as a whole; a damaged one is an empty one.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rayon::prelude::*;

use crate::{
    CacheError, Digest, Manifest, OutputRef, TreeEntry, TreeNode, error::reading,
    local::files::read_if_there, walk::list_tree,
};

const HEADER: &[u8; 16] = b"starling memo 1\n";
/// Bytes of an entry: inode, stamp, digest.
const ENTRY: usize = 16 + STAMP + 32;
const STAMP: usize = 8 + 12 + 12;
/// Changes closer together than this may leave a file's times as they were.
const SETTLED_SECONDS: f64 = 2.0;

/// Device and inode.
pub(crate) type Inode = (u64, u64);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) modified: (i64, u32),
    pub(crate) changed: (i64, u32),
}

/// Remembered digests of files.
#[derive(Debug, Default)]
pub struct Memo {
    entries: BTreeMap<Inode, (Stamp, Digest)>,
    changed: bool,
    paranoid: bool,
}

/// What was found out about one file.
struct Seen {
    digest: Digest,
    bytes: u64,
    remember: Option<(Inode, Stamp)>,
}

impl Memo {
    /// Reads a memo; an absent or damaged one is empty.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        let entries = read_if_there(path)
            .ok()
            .flatten()
            .and_then(|bytes| decode(&bytes));
        Self {
            entries: entries.unwrap_or_default(),
            changed: false,
            paranoid: false,
        }
    }

    /// Whether to read every file whatever is remembered.
    pub const fn set_paranoid(&mut self, paranoid: bool) {
        self.paranoid = paranoid;
    }

    /// The new content of the memo's file, if it changed since the last call.
    #[must_use]
    pub fn take_changes(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| encode(&self.entries))
    }

    /// Digests a file or a folder, reading only what is not remembered; the result is what
    /// [`Store::put_tree`](crate::Store::put_tree) would say.
    ///
    /// `now_unix` is the present in seconds since 1970.
    ///
    /// # Errors
    /// [`CacheError`] when something cannot be read or stored.
    pub fn digest_path(&mut self, path: &Path, now_unix: f64) -> Result<OutputRef, CacheError> {
        let meta = fs::metadata(path).map_err(reading("read", path))?;
        if !meta.is_dir() {
            let seen = self.look(path, now_unix)?;
            self.remember(&seen);
            return Ok(OutputRef {
                digest: seen.digest,
                tree: false,
                bytes: seen.bytes,
            });
        }
        let seen = list_tree(path)?
            .into_par_iter()
            .map(|(relative, path, is_file)| {
                let seen = is_file.then(|| self.look(&path, now_unix)).transpose()?;
                Ok((relative, seen))
            })
            .collect::<Result<Vec<_>, CacheError>>()?;
        let mut entries = Vec::with_capacity(seen.len());
        for (path, seen) in seen {
            let node = match &seen {
                Some(seen) => {
                    self.remember(seen);
                    TreeNode::File {
                        digest: seen.digest,
                        bytes: seen.bytes,
                    }
                }
                None => TreeNode::EmptyFolder,
            };
            entries.push(TreeEntry { path, node });
        }
        Ok(Manifest::new(entries).output_ref())
    }

    fn look(&self, path: &Path, now_unix: f64) -> Result<Seen, CacheError> {
        let before = fs::metadata(path).map_err(reading("read", path))?;
        if !before.is_file() {
            let why = "it is neither a file nor a folder";
            return Err(CacheError::Unsupported {
                path: path.to_owned(),
                why,
            });
        }
        let (inode, stamp) = stamp_of(&before);
        let settled = stamp.settled(now_unix);
        if settled
            && !self.paranoid
            && let Some((_, digest)) = self
                .entries
                .get(&inode)
                .filter(|(known, _)| *known == stamp)
        {
            return Ok(Seen {
                digest: *digest,
                bytes: stamp.size,
                remember: None,
            });
        }
        let (digest, bytes) = Digest::of_file(path)?;
        let after = fs::metadata(path).map_err(reading("read", path))?;
        let steady = stamp_of(&after) == (inode, stamp) && bytes == stamp.size;
        Ok(Seen {
            digest,
            bytes,
            remember: (settled && steady).then_some((inode, stamp)),
        })
    }

    fn remember(&mut self, seen: &Seen) {
        if let Some((inode, stamp)) = seen.remember {
            let entry = (stamp, seen.digest);
            self.changed |= self.entries.insert(inode, entry) != Some(entry);
        }
    }
}

impl Stamp {
    /// Whether the last change is long enough ago; one in the future is not.
    pub(crate) fn settled(&self, now_unix: f64) -> bool {
        let seconds = |(whole, nanos): (i64, u32)| whole as f64 + f64::from(nanos) * 1e-9;
        let last = seconds(self.modified).max(seconds(self.changed));
        now_unix - last >= SETTLED_SECONDS
    }
}

pub(crate) fn stamp_of(meta: &Metadata) -> (Inode, Stamp) {
    let nanos = |nanos: i64| u32::try_from(nanos).unwrap_or(0);
    let stamp = Stamp {
        size: meta.len(),
        modified: (meta.mtime(), nanos(meta.mtime_nsec())),
        changed: (meta.ctime(), nanos(meta.ctime_nsec())),
    };
    ((meta.dev(), meta.ino()), stamp)
}

/// As [`stamp_of`], for a file that was looked at from an open folder.
pub(crate) fn stamp_of_stat(stat: &rustix::fs::Stat) -> (u64, Stamp) {
    // The fields' types differ from system to system; a number that does not fit matches no stamp.
    fn number<T: Default>(n: impl TryInto<T>) -> T {
        n.try_into().unwrap_or_default()
    }
    let stamp = Stamp {
        size: number(stat.st_size),
        modified: (number(stat.st_mtime), number(stat.st_mtime_nsec)),
        changed: (number(stat.st_ctime), number(stat.st_ctime_nsec)),
    };
    (number(stat.st_ino), stamp)
}

/// Header, entries of fixed size, then the digest of all that.
fn encode(entries: &BTreeMap<Inode, (Stamp, Digest)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER.len() + entries.len() * ENTRY + 32);
    bytes.extend(HEADER);
    for ((device, inode), (stamp, digest)) in entries {
        bytes.extend(device.to_le_bytes());
        bytes.extend(inode.to_le_bytes());
        bytes.extend(stamp.size.to_le_bytes());
        for (whole, nanos) in [stamp.modified, stamp.changed] {
            bytes.extend(whole.to_le_bytes());
            bytes.extend(nanos.to_le_bytes());
        }
        bytes.extend(digest.as_bytes());
    }
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<Inode, (Stamp, Digest)>> {
    let (content, digest) = bytes.split_last_chunk::<32>()?;
    if Digest::of(content).as_bytes() != digest {
        return None;
    }
    let body = content.strip_prefix(HEADER)?;
    let entries = body.chunks_exact(ENTRY);
    if !entries.remainder().is_empty() {
        return None;
    }
    let entry = |mut bytes: &[u8]| {
        let inode = (
            u64::from_le_bytes(take(&mut bytes)?),
            u64::from_le_bytes(take(&mut bytes)?),
        );
        let size = u64::from_le_bytes(take(&mut bytes)?);
        let mut time = || {
            Some((
                i64::from_le_bytes(take(&mut bytes)?),
                u32::from_le_bytes(take(&mut bytes)?),
            ))
        };
        let (modified, changed) = (time()?, time()?);
        let digest = Digest::from_bytes(take(&mut bytes)?);
        Some((
            inode,
            (
                Stamp {
                    size,
                    modified,
                    changed,
                },
                digest,
            ),
        ))
    };
    entries.map(entry).collect()
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = bytes.split_first_chunk::<N>()?;
    *bytes = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    /// A folder of two files, and a time at which both have settled.
    fn folder() -> (tempfile::TempDir, f64) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        fs::write(dir.path().join("sub/b"), "two").unwrap();
        let later = fs::metadata(dir.path().join("sub/b")).unwrap().ctime() as f64 + 10.0;
        (dir, later)
    }

    /// Changes a file so that only its change time can tell.
    fn change_secretly(path: &Path, content: &str) {
        let before = fs::metadata(path).unwrap();
        let modified = before.modified().unwrap();
        // The filesystem's clock is coarse; the change time must be seen to move on.
        loop {
            fs::write(path, content).unwrap();
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
            let after = fs::metadata(path).unwrap();
            if (after.ctime(), after.ctime_nsec()) != (before.ctime(), before.ctime_nsec()) {
                return;
            }
        }
    }

    #[test]
    fn a_change_that_keeps_size_and_time_is_seen() {
        let (dir, later) = folder();
        let mut memo = Memo::default();
        let before = memo.digest_path(dir.path(), later).unwrap();
        assert_eq!(memo.digest_path(dir.path(), later).unwrap(), before);
        change_secretly(&dir.path().join("a"), "eno");
        assert_ne!(
            memo.digest_path(dir.path(), later).unwrap().digest,
            before.digest
        );
    }

    #[test]
    fn remembered_files_are_not_read_and_unsettled_ones_are() {
        let (dir, later) = folder();
        let file = dir.path().join("a");
        let mut memo = Memo::default();
        memo.digest_path(&file, later).unwrap();
        // A false memory shows whether the file was read.
        let lie = Digest::of(b"lie");
        memo.entries
            .values_mut()
            .for_each(|(_, digest)| *digest = lie);
        assert_eq!(memo.digest_path(&file, later).unwrap().digest, lie);
        let now = fs::metadata(&file).unwrap().ctime() as f64 + 1.0;
        assert_eq!(
            memo.digest_path(&file, now).unwrap().digest,
            Digest::of(b"one")
        );
        memo.set_paranoid(true);
        assert_eq!(
            memo.digest_path(&file, later).unwrap().digest,
            Digest::of(b"one")
        );
    }

    #[test]
    fn fresh_and_future_files_are_not_remembered() {
        let (dir, later) = folder();
        let mut memo = Memo::default();
        memo.digest_path(dir.path(), later - 10.0).unwrap();
        assert!(memo.entries.is_empty());
        assert!(memo.take_changes().is_none());
        let future = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(later + 1e6);
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join("a"))
            .unwrap();
        file.set_modified(future).unwrap();
        memo.digest_path(dir.path(), later).unwrap();
        assert_eq!(memo.entries.len(), 1);
    }

    #[test]
    fn the_file_goes_both_ways_and_damage_is_an_empty_memo() {
        let (dir, later) = folder();
        let mut memo = Memo::default();
        memo.digest_path(dir.path(), later).unwrap();
        let bytes = memo.take_changes().unwrap();
        assert!(memo.take_changes().is_none());
        let path = dir.path().join("memo");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(Memo::load(&path).entries, memo.entries);
        for (damaged, at) in [(&bytes[..bytes.len() - 1], None), (&bytes[..], Some(40))] {
            let mut damaged = damaged.to_vec();
            if let Some(at) = at {
                damaged[at] ^= 1;
            }
            fs::write(&path, damaged).unwrap();
            assert!(Memo::load(&path).entries.is_empty());
        }
        assert!(Memo::load(&dir.path().join("absent")).entries.is_empty());
    }
}
