//! Running a pipeline: every stage's outputs in the store, or a clear reason why not.
//!
//! | part        | does                                                                         |
//! |-------------|------------------------------------------------------------------------------|
//! | `engine`    | the loop: decides what starts, hears from workers, takes their results        |
//! | `launch`    | starts a worker process on this machine                                       |
//! | `active`    | a running stage: its workers, and what they told                              |
//! | `worker`    | the other side: runs one action from its spec and the store                   |
//! | `judge`     | how an attempt ended                                                          |
//! | `again`     | runs an action that is there once more, for repair or beside its result       |
//! | `compare`   | whether two results agree as far as their kind promises                       |
//! | `manifest`  | what a run leaves behind about itself                                         |
//!
//! The engine never runs a stage in its own process and never trusts one: what counts is in the store.
//! So an engine or a worker may be killed at any instant, and the same command goes on from there.

mod active;
mod again;
mod cards;
mod chunks;
pub mod clock;
pub mod compare;
mod display;
mod engine;
mod exit_record;
mod hand;
mod host;
mod judge;
mod launch;
mod machine;
mod manifest;
pub mod numerics;
mod options;
mod process;
mod scratch;
mod spec;
mod state;
mod status;
pub mod worker;

pub use again::{Again, again};
pub use chunks::CHUNK_KIND;
pub use display::Display;
pub use engine::run;
pub use exit_record::ExitRecord;
pub use machine::{Machine, memory};
pub use manifest::{Manifest, ManifestInput, ManifestStage, Resources, StageStatus};
pub use options::{PASSED_ON, RunError, RunOptions, RunOutcome, Secrets};
pub use scratch::abandoned;
pub use spec::{ActionSpec, SpecError, SpecExternal, SpecInput};
pub use status::{RunningStage, Status};
