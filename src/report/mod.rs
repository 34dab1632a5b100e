//! What a run tells, and who shows it.
//!
//! The engine says what happened as [`RunEvent`]s; a [`Reporter`] decides how it looks: [`Bars`] on a
//! terminal, [`Plain`] lines elsewhere, [`JsonLines`] for programs. Nothing here decides anything about
//! the run, and no reporter may make it fail: a closed pipe is ignored.

mod bars;
mod event;
mod json;
mod line;
mod plain;

pub use bars::Bars;
pub use event::{Cause, Failure, RunEvent, StageTime, Summary};
pub use json::JsonLines;
pub use line::{Palette, duration, size};
pub use plain::Plain;

/// Shows a run to somebody.
pub trait Reporter {
    /// Takes one event; never fails and never blocks for long.
    fn report(&mut self, event: &RunEvent);

    /// Shows what was held back; the engine calls it before it waits.
    fn flush(&mut self) {}
}

/// Shows nothing; for tests and for callers who only want the outcome.
#[derive(Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: &RunEvent) {}
}
