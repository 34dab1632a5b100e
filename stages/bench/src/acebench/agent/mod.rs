//! Agent entries: a simulated environment, its driver and its score.

use starling_text::json::Value;

use super::DataError;

/// What an agent entry starts from and should end in.
#[derive(Debug, Clone)]
pub(super) struct AgentTruth {
    pub(super) classes: Vec<String>,
    pub(super) config: Value,
    pub(super) end: Vec<Value>,
    pub(super) milestones: Value,
}

impl AgentTruth {
    pub(super) fn read(question: &Value, answer: &Value) -> Result<Self, DataError> {
        let list = |value: Option<&Value>, what: &'static str| {
            value
                .and_then(Value::as_list)
                .map(<[Value]>::to_vec)
                .ok_or(DataError::Shape(what))
        };
        let classes = list(
            question.get("involved_classes"),
            "the entry names no classes",
        )?;
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
            milestones: answer
                .get("mile_stone")
                .cloned()
                .ok_or(DataError::Shape("the answer has no milestones"))?,
        })
    }
}
