//! The engine of starling: pipelines, plans, runs, reports.
//!
//! | module     | from → to                                                              |
//! |------------|------------------------------------------------------------------------|
//! | `pipeline` | TOML text → checked [`pipeline::Pipeline`], or every mistake with its place |
//! | `lock`     | names that can change → what they stood for, in `starling.lock`          |
//! | `plan`     | checked pipeline + store → a status and a cause for every stage          |
//! | `run`      | checked pipeline + store → every stage's outputs in the store            |
//! | `report`   | what a run tells → bars, plain lines, JSON lines                         |
//! | `board`    | figures of curves → event files for TensorBoard                          |
//! | `schema`   | kinds → the JSON Schema of pipelines                                    |
//! | `describe` | kinds → what people read about them                                      |
//! | `exit`     | the exit codes of the command                                            |
//!
//! The library knows no kind by name (they come in a [`Registry`]), prints nothing and reads neither
//! the environment nor the home folder; the command does.

pub mod board;
pub mod describe;
pub mod exit;
pub mod lock;
pub mod pipeline;
pub mod plan;
mod registry;
pub mod report;
pub mod run;
pub mod schema;
pub mod suggest;
#[cfg(test)]
mod testing;

pub use registry::Registry;
