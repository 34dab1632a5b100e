//! What a stage is: its ports, parameters, context and errors.
//!
//! An author implements the typed [`Stage`]; [`erase`] turns it into the [`Kind`] that the engine
//! holds. This crate knows nothing of candle, of the command line or of how a stage is started; the
//! engine knows nothing of what a stage does. Invariant: what a stage may read is its parameters and
//! its declared inputs, and what it leaves behind is its declared outputs.
//!
//! ```text
//! starling-cache <- starling-contract <- starling-stages <- main.rs
//!                   starling-contract <- starling (engine)
//! ```

mod chunk;
mod chunks;
mod context;
mod error;
mod kind;
mod params;
mod ports;

pub use chunk::{Chunk, Chunks, Shard};
pub use chunks::{Keep, Write};
pub use context::{Event, EventSink, Host, Level, Snapshot, StageContext};
pub use error::StageError;
pub use kind::{Determinism, Kind, Stage, erase};
pub use params::{Complaint, Facts, Parsed, Problem};
pub use ports::{ArtifactType, External, Input, Need, Output, Ports};
