//! Python-exact text: JSON values, `str()`/`repr()`, call expressions and chat templates.
//!
//! The corpora, the reward and both benchmarks were defined by Python programs, so what counts is
//! what Python's `json`, `str` and `ast` do. This crate is the one place that knows; it refuses to know
//! anything about rewards, benchmarks or models.

pub mod json;
pub mod pycall;
pub mod python;
pub mod template;
