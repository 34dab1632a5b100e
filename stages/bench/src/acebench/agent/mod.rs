//! Agent entries: a simulated environment, its drivers and its score.

mod calls;
mod driver;
mod food;
mod phone;
mod python;
mod score;
mod start;
mod travel;
mod world;

use starling_text::json::Value;

pub use driver::{ChatMessage, MultiStep, MultiTurn, Role, Turn};
pub use score::AgentScore;
pub(super) use start::Start;

use super::DataError;

/// What an agent entry starts from and should end in.
#[derive(Debug, Clone)]
pub(super) struct AgentTruth {
    classes: Vec<String>,
    config: Value,
    end: Vec<Value>,
    milestones: Value,
}

impl AgentTruth {
    pub(super) fn read(question: &Value, answer: &Value) -> Result<Self, DataError> {
        let list = |value: Option<&Value>, what: &'static str| {
            let list = value.and_then(Value::as_list);
            list.map(<[Value]>::to_vec).ok_or(DataError::Shape(what))
        };
        let classes = list(
            question.get("involved_classes"),
            "the entry names no classes",
        )?;
        let milestones = answer.get("mile_stone").cloned();
        Ok(Self {
            classes: classes
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            config: question
                .get("initial_config")
                .cloned()
                .unwrap_or(Value::Null),
            end: list(answer.get("ground_truth"), "the ground truth is not a list")?,
            milestones: milestones.ok_or(DataError::Shape("the answer has no milestones"))?,
        })
    }
}
