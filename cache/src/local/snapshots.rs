//! Snapshots of a local store: `snapshots/<key>/<progress>.<numerics>.json`, their files among the blobs.

use std::path::{Path, PathBuf};

use super::{
    LocalStore,
    files::{list, read_if_there, remove},
};
use crate::{
    ActionKey, CacheError, Digest, OutputRef, SnapshotRecord, collect,
    record::{seal, unseal},
};

impl LocalStore {
    fn snapshot_folder(&self, key: &ActionKey) -> PathBuf {
        self.files.root.join("snapshots").join(key.to_string())
    }

    pub(super) fn save_snapshot(
        &self,
        key: &ActionKey,
        progress: u64,
        folder: &Path,
        numerics: &str,
    ) -> Result<OutputRef, CacheError> {
        let output = self.store_tree(folder)?;
        let record = SnapshotRecord {
            key: *key,
            progress,
            numerics: numerics.to_owned(),
            output,
        };
        let class = Digest::of(numerics.as_bytes()).short();
        let path = self
            .snapshot_folder(key)
            .join(format!("{progress}.{class}.json"));
        let bytes = seal(&record).map_err(|source| CacheError::Json {
            path: path.clone(),
            source,
        })?;
        // A snapshot is private to its action, so that the newest of one progress may take the place of another.
        if !self.files.create(&path, &bytes, true)? && read_if_there(&path)? != Some(bytes.clone())
        {
            self.files.replace(&path, &bytes, true)?;
        }
        Ok(output)
    }

    pub(super) fn list_snapshots(
        &self,
        key: &ActionKey,
    ) -> Result<Vec<SnapshotRecord>, CacheError> {
        let found = self.snapshot_files(key)?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }

    fn snapshot_files(
        &self,
        key: &ActionKey,
    ) -> Result<Vec<(PathBuf, SnapshotRecord)>, CacheError> {
        let folder = self.snapshot_folder(key);
        let mut found = Vec::new();
        for name in list(&folder)? {
            let path = folder.join(name);
            let Some(bytes) = read_if_there(&path)? else {
                continue;
            };
            match unseal::<SnapshotRecord>(&bytes) {
                Ok(record) if record.key == *key => found.push((path, record)),
                Ok(_) => self
                    .files
                    .warn(&path, "it is a snapshot of another action; not used"),
                Err(what) => self.files.warn(&path, format!("{what}; not used")),
            }
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.progress));
        Ok(found)
    }

    pub(super) fn newest_good_snapshot(
        &self,
        key: &ActionKey,
        numerics: &str,
    ) -> Result<Option<(u64, OutputRef)>, CacheError> {
        for (path, record) in self.snapshot_files(key)? {
            if record.numerics != numerics {
                continue;
            }
            match self.check(&record.output) {
                Ok(()) => return Ok(Some((record.progress, record.output))),
                Err(error) if error.is_lost_blob() => {
                    self.files
                        .warn(&path, format!("{error}; an older snapshot is used"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads every blob of an artifact and checks its digest.
    pub(crate) fn check(&self, output: &OutputRef) -> Result<(), CacheError> {
        if !output.tree {
            return self.check_blob(&output.digest);
        }
        self.read_manifest(&output.digest)?
            .files()
            .try_for_each(|(_, digest, _)| self.check_blob(&digest))
    }

    fn check_blob(&self, digest: &Digest) -> Result<(), CacheError> {
        let path = self.blob(digest);
        match Digest::of_file(&path) {
            Ok((found, _)) if found == *digest => Ok(()),
            Ok(_) => Err(self.damaged(digest, "its bytes do not have its digest")),
            Err(CacheError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(CacheError::BlobMissing {
                    digest: *digest,
                    path,
                })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn prune_snapshots(&self, key: &ActionKey, keep: usize) -> Result<(), CacheError> {
        let mut files = self.snapshot_files(key)?;
        let dropped = files.split_off(keep.min(files.len()));
        let mut candidates = std::collections::BTreeSet::new();
        for (path, record) in dropped {
            self.files.point("remove", &path)?;
            remove(&path)?;
            collect::mark_output(self, &record.output, &mut candidates)?;
        }
        if candidates.is_empty() {
            return Ok(());
        }
        // Another action may have come to the same bytes.
        let named = collect::named_blobs(self)?;
        for digest in candidates.difference(&named) {
            let path = self.blob(digest);
            self.files.point("remove", &path)?;
            remove(&path)?;
        }
        Ok(())
    }
}
