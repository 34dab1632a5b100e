//! Running a pipeline: every stage's outputs in the store, or a clear reason why not.

pub mod clock;
mod exit_record;
mod host;
pub mod numerics;
mod process;
mod scratch;
mod spec;
pub mod worker;

pub use exit_record::ExitRecord;
pub use spec::{ActionSpec, SpecError, SpecExternal, SpecInput};
