//! Leases of a local store: `leases/<key>/<n>`, with `<n>.beat` and `<n>.released` beside it.

use std::path::PathBuf;

use super::{
    LocalStore,
    files::{list, read_if_there},
};
use crate::{
    ActionKey, CacheError, Lease, LeaseHolder, LeaseOutcome, Liveness, Owner,
    lease::LeaseEntry,
    record::{seal, unseal},
};

impl LocalStore {
    fn lease_folder(&self, key: &ActionKey) -> PathBuf {
        self.files.root.join("leases").join(key.to_string())
    }

    fn lease_numbers(&self, key: &ActionKey) -> Result<Vec<u32>, CacheError> {
        let names = list(&self.lease_folder(key))?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn take_lease(
        &self,
        key: &ActionKey,
        owner: &Owner,
        now_unix: f64,
        stale_seconds: f64,
    ) -> Result<LeaseOutcome, CacheError> {
        let folder = self.lease_folder(key);
        let entry = LeaseEntry {
            owner: owner.clone(),
            taken_unix: now_unix,
        };
        loop {
            let last = self.lease_numbers(key)?.last().copied().unwrap_or(0);
            if last > 0
                && let Some(holder) = self.holder_of(key, last)?
                && holder.binds(now_unix, stale_seconds)
            {
                return Ok(LeaseOutcome::Busy(holder));
            }
            let Some(n) = last.checked_add(1) else {
                let source = std::io::Error::other("all numbers are taken");
                return Err(CacheError::Io {
                    verb: "take a lease in",
                    path: folder,
                    source,
                });
            };
            let path = folder.join(n.to_string());
            let bytes = seal(&entry).map_err(|source| CacheError::Json {
                path: path.clone(),
                source,
            })?;
            // Not durable: after a power cut every holder is dead anyway.
            if self.files.create(&path, &bytes, false)? {
                return Ok(LeaseOutcome::Held(Lease { key: *key, n }));
            }
            // Somebody else was faster: look again at who that is.
        }
    }

    pub(super) fn write_beat(&self, lease: &Lease, now_unix: f64) -> Result<(), CacheError> {
        let path = self
            .lease_folder(&lease.key)
            .join(format!("{}.beat", lease.n));
        self.files
            .replace(&path, now_unix.to_string().as_bytes(), false)
    }

    pub(super) fn give_back_lease(&self, lease: &Lease) -> Result<(), CacheError> {
        let path = self
            .lease_folder(&lease.key)
            .join(format!("{}.released", lease.n));
        self.files.create(&path, b"", false).map(drop)
    }

    pub(super) fn current_holder(
        &self,
        key: &ActionKey,
    ) -> Result<Option<LeaseHolder>, CacheError> {
        match self.lease_numbers(key)?.last() {
            Some(&last) => self.holder_of(key, last),
            None => Ok(None),
        }
    }

    /// Who holds a lease; none when it was given back.
    fn holder_of(&self, key: &ActionKey, n: u32) -> Result<Option<LeaseHolder>, CacheError> {
        let folder = self.lease_folder(key);
        let released = folder.join(format!("{n}.released"));
        if released
            .try_exists()
            .map_err(crate::error::reading("find", &released))?
        {
            return Ok(None);
        }
        let Some(bytes) = read_if_there(&folder.join(n.to_string()))? else {
            return Ok(None);
        };
        let beat = read_if_there(&folder.join(format!("{n}.beat")))?
            .and_then(|bytes| String::from_utf8(bytes).ok()?.parse::<f64>().ok());
        Ok(Some(match unseal::<LeaseEntry>(&bytes) {
            Ok(entry) => LeaseHolder {
                n,
                beat_unix: beat.unwrap_or(entry.taken_unix),
                liveness: entry.owner.liveness(&self.files.owner),
                owner: Some(entry.owner),
            },
            // Cut short by a power cut, so that its process is gone; a beat would show otherwise.
            Err(_) => LeaseHolder {
                n,
                owner: None,
                beat_unix: beat.unwrap_or(f64::NEG_INFINITY),
                liveness: Liveness::Unknown,
            },
        }))
    }
}
