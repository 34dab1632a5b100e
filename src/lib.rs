//! The engine of starling: pipelines, plans, runs, reports.
//!
//! | module     | from → to                                                              |
//! |------------|------------------------------------------------------------------------|
//! | `pipeline` | TOML text → checked [`pipeline::Pipeline`], or every mistake with its place |
//! | `plan`     | checked pipeline + store → a status and a cause for every stage          |
//! | `exit`     | the exit codes of the command                                            |
//!
//! The library knows no kind by name (they come in a [`Registry`]), prints nothing and reads neither
//! the environment nor the home folder; the command does.

pub mod exit;
pub mod pipeline;
mod registry;
mod suggest;
#[cfg(test)]
mod testing;

pub use registry::Registry;
