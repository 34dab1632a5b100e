//! ACEBench: entries, prompts, checkers, the agent's environment and the scores.
//!
//! The data is inside the program; another version can be read from a folder. Nothing here runs a model:
//! [`Dataset::prompt`] says what to ask, [`Dataset::check`] judges the answer, [`MultiStep`] and
//! [`MultiTurn`] do the same message by message for the agent entries, and [`Summary`] adds up.
//!
//! Quirks of the official evaluator are reproduced, not repaired: with the reference as every answer the
//! scores stay below 100.

mod agent;
pub(crate) mod calls;
mod category;
mod check;
mod data;
mod decode;
pub(crate) mod expr;
mod item;
mod normalise;
mod plain;
mod prepare;
mod prompt;
mod reference;
pub mod report;
mod rows;
mod score;
mod special;
mod tools;
mod verdict;

pub use agent::{AgentScore, ChatMessage, MultiStep, MultiTurn, Role, Turn};
pub use category::{Category, Family, Lang, Profile};
pub use data::{DataError, Dataset};
pub use item::Item;
pub use prompt::{Prompt, Prompts};
pub use rows::Acebench;
pub use score::{CategoryScore, Outcome, Summary};
pub use tools::{ToolPrompt, strip_thinking, text_from_tool_calls};
pub use verdict::{ErrorKind, ShownCall, Verdict};
