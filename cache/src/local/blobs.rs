//! Blobs of a local store: `blobs/sha256/ab/<digest>`, read-only files named by their digest.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use super::{
    LocalStore,
    files::{READ_ONLY, Tmp, list},
};
use crate::{
    CacheError, Digest, Digester,
    digest::CHUNK,
    error::{reading, writing},
};

/// Chunks that may wait between digesting and writing.
const QUEUE: usize = 8;
/// After so many bytes the disk is asked to begin.
const SYNC_EVERY: usize = 32 << 20;
/// How often a name may turn out taken by damaged bytes before that counts as a failure.
const ROUNDS: usize = 8;

/// Where the blob of a digest lies below a store's folder.
pub(super) fn blob_below(root: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    let mut path = root.join("blobs/sha256");
    path.push(&name[..2]);
    path.push(name);
    path
}

impl LocalStore {
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        blob_below(&self.files.root, digest)
    }

    pub(super) fn store_bytes(&self, bytes: &[u8]) -> Result<Digest, CacheError> {
        let digest = Digest::of(bytes);
        let dest = self.blob(&digest);
        for _ in 0..ROUNDS {
            if self.holds_bytes(&dest, bytes)? || self.files.create(&dest, bytes, true)? {
                return Ok(digest);
            }
        }
        Err(stuck(&dest))
    }

    /// Whether a blob holds exactly these bytes; other bytes are set aside.
    pub(super) fn holds_bytes(&self, dest: &Path, bytes: &[u8]) -> Result<bool, CacheError> {
        match fs::read(dest) {
            Ok(found) if found == bytes => {
                mark_used(dest);
                Ok(true)
            }
            Ok(_) => self.make_room(&Digest::of(bytes), "its bytes do not have its digest"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let what = format!("it cannot be read: {error}");
                self.make_room(&Digest::of(bytes), &what)
            }
        }
    }

    /// Whether a blob has its digest; other bytes are set aside.
    pub(super) fn holds_digest(&self, dest: &Path, digest: &Digest) -> Result<bool, CacheError> {
        match Digest::of_file(dest) {
            Ok((found, _)) if found == *digest => {
                mark_used(dest);
                Ok(true)
            }
            Ok(_) => self.make_room(digest, "its bytes do not have its digest"),
            Err(CacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => self.make_room(digest, &error.to_string()),
        }
    }

    fn make_room(&self, digest: &Digest, what: &str) -> Result<bool, CacheError> {
        self.set_blob_aside(digest, what)?;
        Ok(false)
    }

    /// Sets a damaged blob aside, and puts it back if somebody healed it after we had looked.
    pub(crate) fn set_blob_aside(&self, digest: &Digest, what: &str) -> Result<(), CacheError> {
        let path = self.blob(digest);
        let Some(aside) = self.files.set_aside(&path, what)? else {
            return Ok(());
        };
        if Digest::of_file(&aside).is_ok_and(|(found, _)| found == *digest) {
            // Either the healed blob gets its name back, or another good one has it already.
            drop(fs::hard_link(&aside, &path));
            drop(fs::remove_file(&aside));
        }
        Ok(())
    }

    /// Stores a file and says its size.
    pub(super) fn store_file(&self, file: &Path) -> Result<(Digest, u64), CacheError> {
        // Asked before opening, because opening a pipe waits for its other end.
        let meta = fs::metadata(file).map_err(reading("read", file))?;
        if !meta.is_file() {
            return Err(CacheError::Unsupported {
                path: file.to_owned(),
                why: "it is neither a file nor a folder",
            });
        }
        let source = File::open(file).map_err(reading("read", file))?;
        if meta.len() <= CHUNK as u64 {
            let mut bytes = Vec::with_capacity(CHUNK.min(meta.len() as usize + 1));
            (&source)
                .read_to_end(&mut bytes)
                .map_err(reading("read", file))?;
            return Ok((self.store_bytes(&bytes)?, bytes.len() as u64));
        }
        let (tmp, digest, bytes) = self.copy_in(file, source, true)?;
        let dest = self.blob(&digest);
        for _ in 0..ROUNDS {
            if self.files.link(&tmp, &dest)? {
                self.files.sync_parent(&dest)?;
                return Ok((digest, bytes));
            }
            if self.holds_digest(&dest, &digest)? {
                return Ok((digest, bytes));
            }
        }
        Err(stuck(&dest))
    }

    /// Copies a file under `tmp/`, digesting the copy's bytes, so that a file that changes meanwhile does no harm.
    pub(super) fn copy_in(
        &self,
        path: &Path,
        source: File,
        durable: bool,
    ) -> Result<(Tmp, Digest, u64), CacheError> {
        if let Some(shared) = self.share_in(path, durable)? {
            return Ok(shared);
        }
        let (tmp, target) = self.files.create_tmp(READ_ONLY)?;
        let digester = self.pump(path, source, &tmp, &target, durable)?;
        if durable {
            self.files.sync(&target, &tmp.path)?;
        }
        Ok((tmp, digester.digest(), digester.bytes()))
    }

    /// Shares the file's blocks where the filesystem can; none where it cannot.
    fn share_in(
        &self,
        path: &Path,
        durable: bool,
    ) -> Result<Option<(Tmp, Digest, u64)>, CacheError> {
        let tmp = self.files.tmp_path();
        self.files.point("create", &tmp.path)?;
        if reflink_copy::reflink(path, &tmp.path).is_err() {
            return Ok(None);
        }
        let (digest, bytes) = Digest::of_file(&tmp.path)?;
        let read_only = fs::Permissions::from_mode(READ_ONLY);
        let file = File::open(&tmp.path).map_err(reading("read", &tmp.path))?;
        file.set_permissions(read_only)
            .map_err(writing("write", &tmp.path))?;
        if durable {
            self.files.sync(&file, &tmp.path)?;
        }
        Ok(Some((tmp, digest, bytes)))
    }

    /// Reads and digests here while another thread writes and, where it is to last, a third one makes durable what is
    /// written, so that the disk has little left to do at the end.
    fn pump(
        &self,
        path: &Path,
        mut source: File,
        tmp: &Tmp,
        target: &File,
        durable: bool,
    ) -> Result<Digester, CacheError> {
        let early = durable && !self.files.deferred;
        thread::scope(|scope| {
            let (full, to_write) = mpsc::sync_channel::<Vec<u8>>(QUEUE);
            let (written, empty) = mpsc::channel::<Vec<u8>>();
            // One request waits at most: the next sync takes in whatever has been written until then.
            let (ask, asked) = mpsc::sync_channel::<()>(1);
            let syncer = scope.spawn(move || {
                // A failure is told to this call only, and a later one of the same file may find nothing wrong.
                asked
                    .iter()
                    .try_for_each(|()| target.sync_data())
                    .map_err(writing("sync", &tmp.path))
            });
            let writer = scope.spawn(move || {
                let mut target = target;
                let mut since = 0;
                for chunk in to_write {
                    self.files.point("write", &tmp.path)?;
                    target
                        .write_all(&chunk)
                        .map_err(writing("write", &tmp.path))?;
                    since += chunk.len();
                    if early && since >= SYNC_EVERY {
                        since = 0;
                        // A full channel has a request that will do; a syncer that failed tells so itself.
                        ask.try_send(()).unwrap_or_default();
                    }
                    // The reader has ended when nobody takes the buffer back.
                    drop(written.send(chunk));
                }
                Ok(())
            });
            let mut digester = Digester::new();
            loop {
                // Read into room that is there: growing it by and by costs a call for each doubling.
                let mut chunk = empty.try_recv().unwrap_or_default();
                chunk.resize(CHUNK, 0);
                let n = match source.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(reading("read", path)(error)),
                };
                chunk.truncate(n);
                digester.update(&chunk);
                if full.send(chunk).is_err() {
                    break; // The writer failed; its error follows.
                }
            }
            drop(full);
            writer.join().expect("the writer has no panic of its own")?;
            syncer.join().expect("the syncer has no panic of its own")?;
            Ok(digester)
        })
    }

    pub(super) fn find_blob(&self, digest: &Digest) -> Result<bool, CacheError> {
        let path = self.blob(digest);
        path.try_exists().map_err(reading("find", &path))
    }

    pub(super) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, CacheError> {
        let path = self.blob(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(_) => Err(self.damaged(digest, "its bytes do not have its digest")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CacheError::BlobMissing {
                digest: *digest,
                path,
            }),
            Err(error) => Err(reading("read", &path)(error)),
        }
    }

    /// Sets a damaged blob aside and makes the error.
    pub(super) fn damaged(&self, digest: &Digest, what: impl Into<String>) -> CacheError {
        let (path, what) = (self.blob(digest), what.into());
        // That it could not be moved is told as a warning; the damage is the error.
        drop(self.set_blob_aside(digest, &what));
        CacheError::BlobDamaged {
            digest: *digest,
            path,
            what,
        }
    }

    /// All blobs, in order of their digests.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, CacheError> {
        let root = self.files.root.join("blobs/sha256");
        let mut digests = Vec::new();
        for folder in list(&root)? {
            let names = list(&root.join(&folder))?;
            digests.extend(names.iter().filter_map(|name| name.parse::<Digest>().ok()));
        }
        Ok(digests)
    }
}

/// Tells a collection that runs at the same time that somebody counts on this blob.
pub(super) fn mark_used(path: &Path) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    // A store of somebody else cannot be marked, and cannot be collected by us either.
    utimensat(CWD, path, &times, AtFlags::empty()).unwrap_or_default();
}

fn stuck(dest: &Path) -> CacheError {
    writing("create", dest)(io::Error::other(
        "its name is taken by other bytes again and again",
    ))
}
