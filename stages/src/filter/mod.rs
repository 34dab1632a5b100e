//! Filter: keeps rows whose own answer earns the full reward.
//!
//! | port     | way | artifact | holds                                   |
//! |----------|-----|----------|-----------------------------------------|
//! | `rows`   | in  | rows     | conversations that end in an answer     |
//! | `rows`   | out | rows     | the sound ones, in their order          |
//! | `report` | out | report   | rows left out, counted by reason        |
//!
//! It finds unknown tools and arguments, arguments that are not JSON, calls inside replies, and tools
//! whose own text breaks the prompt: rows that a model could only learn mistakes from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::self_reward;
use starling_text::json;

use crate::chat::Template;
use crate::sift::{self, Fate, sift};

/// The kind `filter`.
pub(crate) struct Filter;

/// How to judge.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// The template that rows are rendered with.
    chat_template: Template,
    /// Keeps the released scripts' faults, for comparing with them byte by byte.
    faithful: bool,
    /// Largest share of rows that may be left out before the stage fails, in [0, 1].
    max_drop: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            chat_template: Template::default(),
            faithful: false,
            max_drop: 1.0,
        }
    }
}

impl Stage for Filter {
    const KIND: &'static str = "filter";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "keeps rows whose own answer earns the full reward";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows};
        const {
            Ports {
                inputs: &[Input::required(
                    "rows",
                    Rows,
                    "conversations that end in an answer",
                )],
                outputs: &[
                    Output::new("rows", Rows, "the sound ones, in their order"),
                    Output::new("report", Report, "rows left out, by reason"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        sift::share("max-drop", p.max_drop)
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let template = p.chat_template.compile()?;
        let mode = if p.faithful {
            Mode::Faithful
        } else {
            Mode::Fixed
        };
        sift(context, p.max_drop, |row, _| {
            match self_reward(row, &template, mode) {
                Ok(_) => Fate::Kept(json::dumps(row)),
                Err((reason, _)) => Fate::Dropped(reason.to_string()),
            }
        })
    }
}
