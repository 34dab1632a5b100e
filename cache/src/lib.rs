//! Content-addressed store: digests, action keys, records, blobs.
//!
//! An *action* is a stage with resolved parameters and input digests; its [`ActionKey`] is the digest of those. A
//! *record* maps the key to the digests of what the action produced, and the bytes lie in blobs under their own
//! digests. The engine asks the [`Store`] for a record, a worker puts blobs and then creates the record if there is
//! none; the first wins. [`LocalStore`] is the store in a folder.
//!
//! Nothing here reads a clock or the environment, prints, or knows what a stage is: callers pass times, and
//! [`Warning`]s are collected for them to show.

mod collect;
mod digest;
mod error;
mod key;
mod lease;
mod local;
mod manifest;
mod memo;
mod process;
mod record;
mod store;
mod verify;
mod walk;

pub mod canonical;

pub use self::{
    collect::{CollectOptions, Collected, CollectedItem, Keep, collect},
    digest::{Digest, Digester, ParseDigestError},
    error::CacheError,
    key::{ActionKey, FieldChange, FieldSink, KeyFields, KeyInput, diff},
    lease::{Lease, LeaseHolder, LeaseOutcome},
    local::{Fault, LocalStore, Pin, STORE_FOLDER, find_store},
    manifest::{Manifest, ParseManifestError, TreeEntry, TreeNode},
    memo::Memo,
    process::{Liveness, Owner},
    record::{ActionRecord, OutputRef, SnapshotLabel, SnapshotRecord},
    store::{Creation, Mode, Store, Warning},
    verify::{BrokenRecord, BrokenSnapshot, DamagedFile, Verified, verify},
};
