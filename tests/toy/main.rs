//! Black-box tests of running: the engine with toy kinds is started, killed, stopped and started again.
//!
//! What counts is that the store ends with the digests of an unbroken run, whatever happened on the way.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of test functions"
)]

mod cached;
mod cards;
mod command;
mod damage;
mod disk;
mod fail;
mod kill;
mod lines;
mod retry;
mod shards;
mod share;
mod space;
mod stop;
