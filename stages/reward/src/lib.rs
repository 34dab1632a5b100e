//! Parsing of calls, the Sim-RL reward, ROUGE, and the preparation of training rows.
//!
//! Everything here is a pure function of texts and JSON values: no files, no clock, no model. Python
//! defined the rules, so values are compared and printed with `starling-text`; whatever text a model or a
//! corpus holds, the answer is an outcome or a typed error, never a panic.

mod call;
mod explain;
pub mod prepare;
pub mod rouge;
mod score;
mod similarity;
mod stem;
pub mod toolrl;
mod tools;

pub use call::{Answer, Call, CallError, CallFormat, split_thought};
pub use explain::explain;
pub use score::{Fault, Label, LabelError, Match, Outcome, generation_of, score, score_as};
pub use similarity::{Unscorable, arguments_similarity, value_similarity};
pub use stem::stem;
pub use tools::{Parameters, ToolError, ToolSet};

/// The token text that ends a turn.
pub const END_OF_TURN: &str = "<|im_end|>";

/// Which rules the reward follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The released program's behaviour, oddities included.
    Faithful,
    /// The released program's intent: an end-of-turn mark earns nothing, an unclosed call is bad format,
    /// wrapped tools are understood, schemas are told from flat parameter maps, labels that nothing can
    /// match are refused.
    #[default]
    Fixed,
    /// As [`Mode::Fixed`], and texts are compared by the words of any script, not by ASCII ones alone.
    Unicode,
}

impl Mode {
    /// Whether the oddities of the released program are kept.
    pub fn is_faithful(self) -> bool {
        self == Self::Faithful
    }
}
