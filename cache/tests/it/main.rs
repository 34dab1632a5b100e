//! Black-box tests of the local store: each does a damage and looks at what comes of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at the real clock to compare with file times"
)]

mod collect;
mod crash;
mod damage;
mod leases;
mod races;
mod snapshots;
mod support;
mod trees;
