//! Snapshots of a local store: `snapshots/<line>/<progress>.<numerics>.json`, their files among the blobs.

use std::path::{Path, PathBuf};

use super::{
    LocalStore,
    files::{list, read_if_there, remove},
};
use crate::{
    ActionKey, CacheError, Digest, OutputRef, SnapshotLabel, SnapshotRecord, collect,
    record::{seal, unseal},
};

impl LocalStore {
    /// Where the snapshots of a line are.
    pub(crate) fn snapshot_folder(&self, line: &ActionKey) -> PathBuf {
        self.files.root.join("snapshots").join(line.to_string())
    }

    pub(super) fn save_snapshot(
        &self,
        label: &SnapshotLabel,
        folder: &Path,
    ) -> Result<OutputRef, CacheError> {
        let output = self.store_tree(folder)?;
        let record = SnapshotRecord {
            label: label.clone(),
            output,
        };
        let class = Digest::of(label.numerics.as_bytes()).short();
        let path = self
            .snapshot_folder(&label.line)
            .join(format!("{}.{class}.json", label.progress));
        let bytes = seal(&record).map_err(|source| CacheError::Json {
            path: path.clone(),
            source,
        })?;
        if self.files.create(&path, &bytes, true)? {
            return Ok(output);
        }
        // Whoever comes to the same place has the same right to it, unless it would last no longer.
        let there = read_if_there(&path)?;
        let outlasts = |old: &SnapshotRecord| {
            old.label.lasts && !label.lasts && self.check(&old.output).is_ok()
        };
        let stays = there.as_ref().is_some_and(|old| {
            *old == bytes || unseal::<SnapshotRecord>(old).is_ok_and(|old| outlasts(&old))
        });
        if !stays {
            self.files.replace(&path, &bytes, true)?;
        }
        Ok(output)
    }

    pub(super) fn list_snapshots(
        &self,
        line: &ActionKey,
    ) -> Result<Vec<SnapshotRecord>, CacheError> {
        let found = self.snapshot_files(line)?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }

    /// The readable snapshots of a line with their files, newest first.
    pub(crate) fn snapshot_files(
        &self,
        line: &ActionKey,
    ) -> Result<Vec<(PathBuf, SnapshotRecord)>, CacheError> {
        let folder = self.snapshot_folder(line);
        let mut found = Vec::new();
        for name in list(&folder)? {
            let path = folder.join(name);
            let Some(bytes) = read_if_there(&path)? else {
                continue;
            };
            match unseal::<SnapshotRecord>(&bytes) {
                Ok(record) if record.label.line == *line => found.push((path, record)),
                Ok(_) => self
                    .files
                    .warn(&path, "it is a snapshot of another action; not used"),
                Err(what) => self.files.warn(&path, format!("{what}; not used")),
            }
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.label.progress));
        Ok(found)
    }

    pub(super) fn newest_good_snapshot(
        &self,
        line: &ActionKey,
        numerics: &str,
        most: u64,
    ) -> Result<Option<(u64, OutputRef)>, CacheError> {
        for (path, SnapshotRecord { label, output }) in self.snapshot_files(line)? {
            if label.numerics != numerics || label.progress > most {
                continue;
            }
            match self.check(&output) {
                Ok(()) => return Ok(Some((label.progress, output))),
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

    pub(super) fn prune_snapshots(
        &self,
        line: &ActionKey,
        most: u64,
        keep: usize,
    ) -> Result<(), CacheError> {
        let mut files = self.snapshot_files(line)?;
        files.retain(|(_, record)| !record.label.lasts && record.label.progress <= most);
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
