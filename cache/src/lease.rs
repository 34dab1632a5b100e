//! Leases: who runs an action now.
//!
//! A lease never makes a result right, for a record is created once whoever runs; it only saves work that would be
//! done twice. It is a numbered entry made with create-if-absent, `leases/<key>/<n>`. Only the highest number counts. It is free
//! again when it was given back, when its process ended (seen at once on the same host), or when its beat is older
//! than the caller tolerates. So nothing ever has to be unlocked by hand.

use serde::{Deserialize, Serialize};

use crate::{ActionKey, Liveness, Owner};

/// The right to run an action, held by a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The action.
    pub key: ActionKey,
    /// Its number, from 1.
    pub n: u32,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeaseHolder {
    /// The lease's number.
    pub n: u32,
    /// The process; none when the entry is damaged.
    pub owner: Option<Owner>,
    /// The last beat, seconds since 1970.
    pub beat_unix: f64,
    /// Whether the process lives.
    pub liveness: Liveness,
}

impl LeaseHolder {
    /// Whether the lease still binds others at the time `now_unix`.
    ///
    /// A holder on this host binds as long as it lives, whatever the clocks say. One elsewhere binds while its beat
    /// is younger than `stale_seconds`; a beat from the future is as old as it is far, so that a clock set back
    /// cannot hold a lease for ever.
    #[must_use]
    pub fn binds(&self, now_unix: f64, stale_seconds: f64) -> bool {
        match self.liveness {
            Liveness::Alive => true,
            Liveness::Dead => false,
            Liveness::Unknown => (now_unix - self.beat_unix).abs() <= stale_seconds,
        }
    }
}

/// What became of an attempt to take a lease.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseOutcome {
    /// The caller holds it until it gives it back or ends.
    Held(Lease),
    /// Somebody else has it.
    Busy(LeaseHolder),
}

/// What a lease entry holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseEntry {
    pub(crate) owner: Owner,
    pub(crate) taken_unix: f64,
}
