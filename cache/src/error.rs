//! What can go wrong with a store.
//!
//! Every variant names the path it happened at, in the user's words. Damage of a record or a blob is mostly not an
//! error but a [`Warning`](crate::Warning) and a miss; it becomes one where a caller asked for exactly those bytes.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::Digest;

/// A failure of the store, with the path it happened at.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The operating system refused an operation.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `list`, …
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The disk (or a quota) is full; nothing half-written was left behind.
    #[error("no space left to write {}; `starling gc` frees what nothing needs", path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The store can be read but not written.
    #[error("the store cannot be written at {}; choose another one with `--store`", path.display())]
    ReadOnly {
        /// The file or folder that could not be written.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no store at this place.
    #[error("there is no store at {}", path.display())]
    NoStore {
        /// The folder that was opened.
        path: PathBuf,
    },
    /// The folder holds something else, or a layout of another version.
    #[error("{} says `{found}`, this program reads `{expected}`", path.display())]
    Format {
        /// The store's `format` file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What this program reads and writes.
        expected: &'static str,
    },
    /// A blob that was asked for is not in the store.
    #[error("blob {digest} is missing at {}", path.display())]
    BlobMissing {
        /// The digest that was asked for.
        digest: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// A blob's bytes do not have the digest of its name.
    #[error("blob {digest} is damaged at {}: {what}", path.display())]
    BlobDamaged {
        /// The digest that the name promises.
        digest: Digest,
        /// Where the bytes are, or were before they were set aside.
        path: PathBuf,
        /// How it was noticed.
        what: String,
    },
    /// A path that cannot become part of an artifact.
    #[error("{} cannot be stored: {why}", path.display())]
    Unsupported {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// A name that would leave its folder.
    #[error("`{name}` is no file name for {}", path.display())]
    BadName {
        /// The folder that the name was meant for.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A value could not be written as JSON.
    #[error("cannot write {} as JSON", path.display())]
    Json {
        /// The file that was to hold it.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
}

impl CacheError {
    /// The file or folder that the error is about.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Full { path, .. }
            | Self::ReadOnly { path, .. }
            | Self::NoStore { path }
            | Self::Format { path, .. }
            | Self::BlobMissing { path, .. }
            | Self::BlobDamaged { path, .. }
            | Self::Unsupported { path, .. }
            | Self::BadName { path, .. }
            | Self::Json { path, .. } => path,
        }
    }

    /// True when the bytes of an artifact are missing or damaged, so that re-running its stage would heal it.
    #[must_use]
    pub const fn is_lost_blob(&self) -> bool {
        matches!(self, Self::BlobMissing { .. } | Self::BlobDamaged { .. })
    }
}

/// Turns a failed read into an error with its path; for `map_err`.
pub(crate) fn reading(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { verb, path, source }
}

/// Turns a failed write into an error with its path, telling a full and a read-only disk apart; for `map_err`.
pub(crate) fn writing(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            CacheError::Full { path, source }
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            CacheError::ReadOnly { path, source }
        }
        _ => CacheError::Io { verb, path, source },
    }
}
