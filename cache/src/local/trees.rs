//! Trees of a local store: folders in, folders out.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::{
    LocalStore,
    files::{READ_ONLY, Tmp, WRITABLE},
};
use crate::{
    CacheError, Digest, Manifest, Mode, OutputRef, TreeEntry, TreeNode,
    digest::CHUNK,
    error::{reading, writing},
    walk::{Listing, list_tree},
};

/// From so many files on, the whole filesystem is made durable once instead of each file by itself.
const BULK: usize = 64;

impl LocalStore {
    pub(super) fn store_tree(&self, path: &Path) -> Result<OutputRef, CacheError> {
        let meta = fs::metadata(path).map_err(reading("read", path))?;
        if !meta.is_dir() {
            let (digest, bytes) = self.store_file(path)?;
            return Ok(OutputRef {
                digest,
                tree: false,
                bytes,
            });
        }
        let listing = list_tree(path)?;
        let entries = if listing.len() < BULK {
            listing
                .into_par_iter()
                .map(|(relative, path, is_file)| {
                    let node = if is_file {
                        let (digest, bytes) = self.store_file(&path)?;
                        TreeNode::File { digest, bytes }
                    } else {
                        TreeNode::EmptyFolder
                    };
                    Ok(TreeEntry {
                        path: relative,
                        node,
                    })
                })
                .collect::<Result<_, CacheError>>()?
        } else {
            self.put_many(listing)?
        };
        let manifest = Manifest::new(entries);
        self.store_bytes(manifest.encode().as_bytes())?;
        Ok(manifest.output_ref())
    }

    /// Stores many files: all are written, then all made durable at once, then all linked to their places.
    fn put_many(&self, listing: Listing) -> Result<Vec<TreeEntry>, CacheError> {
        let stored: Vec<_> = listing
            .into_par_iter()
            .map(|(relative, path, is_file)| {
                if !is_file {
                    let node = TreeNode::EmptyFolder;
                    return Ok((
                        TreeEntry {
                            path: relative,
                            node,
                        },
                        None,
                    ));
                }
                let (tmp, digest, bytes) = self.stage_file(&path)?;
                let node = TreeNode::File { digest, bytes };
                Ok((
                    TreeEntry {
                        path: relative,
                        node,
                    },
                    tmp.map(|tmp| (digest, tmp)),
                ))
            })
            .collect::<Result<_, CacheError>>()?;
        let (entries, new): (Vec<_>, Vec<_>) = stored.into_iter().unzip();
        let mut new: Vec<(Digest, Tmp)> = new.into_iter().flatten().collect();
        if new.is_empty() {
            return Ok(entries);
        }
        self.sync_all(new.iter().map(|(_, tmp)| tmp.path.as_path()))?;
        new.sort_unstable_by_key(|(digest, _)| *digest);
        new.dedup_by_key(|(digest, _)| *digest);
        new.par_iter().try_for_each(|(digest, tmp)| {
            let dest = self.blob(digest);
            while !self.files.link(tmp, &dest)? && !self.holds_digest(&dest, digest)? {}
            Ok(())
        })?;
        let folders: BTreeSet<_> = new
            .iter()
            .filter_map(|(digest, _)| Some(self.blob(digest).parent()?.to_owned()))
            .collect();
        self.sync_all(folders.iter().map(PathBuf::as_path))?;
        new.into_par_iter().for_each(drop);
        Ok(entries)
    }

    /// Writes a file under `tmp/` unless its blob is there, and says digest and size.
    fn stage_file(&self, path: &Path) -> Result<(Option<Tmp>, Digest, u64), CacheError> {
        let source = File::open(path).map_err(reading("read", path))?;
        let length = source.metadata().map_err(reading("read", path))?.len();
        if length > CHUNK as u64 {
            let (tmp, digest, bytes) = self.copy_in(path, source, false)?;
            return Ok((Some(tmp), digest, bytes));
        }
        let mut bytes = Vec::with_capacity(length as usize + 1);
        (&source)
            .read_to_end(&mut bytes)
            .map_err(reading("read", path))?;
        let digest = Digest::of(&bytes);
        if self.holds_bytes(&self.blob(&digest), &bytes)? {
            return Ok((None, digest, bytes.len() as u64));
        }
        let tmp = self.files.write_tmp(&bytes, READ_ONLY, false)?;
        Ok((Some(tmp), digest, bytes.len() as u64))
    }

    /// Makes files or folders durable, all at once where the system can.
    fn sync_all<'a>(&self, mut paths: impl Iterator<Item = &'a Path>) -> Result<(), CacheError> {
        if self.files.deferred {
            return Ok(());
        }
        self.files.point("sync", &self.files.root)?;
        if cfg!(target_os = "linux") {
            return self.sync_everything();
        }
        paths.try_for_each(|path| {
            let file = File::open(path).map_err(reading("read", path))?;
            file.sync_all().map_err(writing("sync", path))
        })
    }

    /// Makes all that was written to the store's filesystem durable.
    pub(super) fn sync_everything(&self) -> Result<(), CacheError> {
        let root = &self.files.root;
        let folder = File::open(root).map_err(reading("read", root))?;
        sync_filesystem(&folder).map_err(writing("sync", root))
    }

    pub(super) fn read_manifest(&self, tree: &Digest) -> Result<Manifest, CacheError> {
        let bytes = self.read_blob(tree)?;
        let parsed = String::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| CacheError::BlobDamaged {
            digest: *tree,
            path: self.blob(tree),
            what: "it is not a tree manifest".to_owned(),
        })
    }

    pub(super) fn place_output(
        &self,
        output: &OutputRef,
        dest: &Path,
        mode: Mode,
    ) -> Result<(), CacheError> {
        if !output.tree {
            return self.place(&output.digest, output.bytes, dest, mode);
        }
        let manifest = self.read_manifest(&output.digest)?;
        fs::create_dir(dest).map_err(writing("create", dest))?;
        let placed = self.place_tree(&manifest, dest, mode);
        if placed.is_err() {
            // Half a tree must not be taken for a whole one; the first error is the one to tell.
            drop(fs::remove_dir_all(dest));
        }
        placed
    }

    fn place_tree(&self, manifest: &Manifest, dest: &Path, mode: Mode) -> Result<(), CacheError> {
        let mut folders = BTreeSet::new();
        for entry in manifest.entries() {
            let path = Path::new(&entry.path);
            let folder = match entry.node {
                TreeNode::File { .. } => path.parent(),
                TreeNode::EmptyFolder => Some(path),
            };
            folders.extend(folder);
        }
        for folder in folders {
            let folder = dest.join(folder);
            fs::create_dir_all(&folder).map_err(writing("create", &folder))?;
        }
        let files: Vec<_> = manifest.files().collect();
        files.into_par_iter().try_for_each(|(path, digest, bytes)| {
            self.place(&digest, bytes, &dest.join(path), mode)
        })
    }

    /// Places one blob after checking it.
    fn place(
        &self,
        digest: &Digest,
        bytes: u64,
        dest: &Path,
        mode: Mode,
    ) -> Result<(), CacheError> {
        let blob = self.blob(digest);
        let (found, length) = match Digest::of_file(&blob) {
            Err(CacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(CacheError::BlobMissing {
                    digest: *digest,
                    path: blob,
                });
            }
            read => read?,
        };
        if found != *digest || length != bytes {
            return Err(self.damaged(digest, "its bytes do not have its digest"));
        }
        self.files.point("place", dest)?;
        if mode == Mode::Link {
            match fs::hard_link(&blob, dest) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(writing("create", dest)(error));
                }
                // Another filesystem, too many links, no links at all: a copy serves as well.
                Err(_) => {}
            }
        } else if dest.symlink_metadata().is_ok() {
            return Err(writing("create", dest)(io::ErrorKind::AlreadyExists.into()));
        }
        let mode = if mode == Mode::Link {
            READ_ONLY
        } else {
            WRITABLE
        };
        let copied = reflink_copy::reflink_or_copy(&blob, dest)
            .and_then(|_| fs::set_permissions(dest, fs::Permissions::from_mode(mode)));
        if copied.is_err() {
            // Half a file must not be taken for a whole one; the first error is the one to tell.
            drop(fs::remove_file(dest));
        }
        copied.map_err(writing("write", dest))
    }

    /// Whether an artifact's blobs are all there and of their sizes; looks at no byte of a file.
    pub(super) fn holds(&self, output: &OutputRef) -> Result<bool, CacheError> {
        if !output.tree {
            return self.holds_size(&output.digest, output.bytes);
        }
        if !self.find_blob(&output.digest)? {
            return Ok(false);
        }
        let manifest = match self.read_manifest(&output.digest) {
            Err(error) if error.is_lost_blob() => return Ok(false),
            manifest => manifest?,
        };
        let files: Vec<_> = manifest.files().collect();
        let all = |files: &[(&str, Digest, u64)]| {
            files.iter().try_fold(true, |all, (_, digest, bytes)| {
                Ok(all && self.holds_size(digest, *bytes)?)
            })
        };
        if files.len() < 512 {
            return all(&files);
        }
        let parts = files.par_chunks(256).map(all);
        parts.try_reduce(|| true, |a, b| Ok(a && b))
    }

    fn holds_size(&self, digest: &Digest, bytes: u64) -> Result<bool, CacheError> {
        let path = self.blob(digest);
        match fs::metadata(&path) {
            Ok(meta) if meta.len() == bytes => Ok(true),
            Ok(meta) => {
                let what = format!("it has {} bytes instead of {bytes}", meta.len());
                // That it could not be moved is told as a warning; a miss it is in any case.
                drop(self.set_blob_aside(digest, &what));
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(reading("find", &path)(error)),
        }
    }
}

#[cfg(target_os = "linux")]
fn sync_filesystem(folder: &File) -> io::Result<()> {
    rustix::fs::syncfs(folder).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn sync_filesystem(folder: &File) -> io::Result<()> {
    folder.sync_all()
}
