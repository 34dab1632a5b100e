//! Preparation of training data: from four raw corpora to rows of prompt and target.
//!
//! The unified row is `{id, messages: [{role, content, tool_calls?, reasoning_content?}], tools}`, a call
//! `{name, arguments}`. The way is: format, filter by the row's own reward, label, sample by proportion,
//! convert; and, for distillation, rows from a teacher's answers. Each step is a pure function over JSON
//! values and counts what it drops, by reason. With [`Mode::Faithful`] the rows are those of the released
//! scripts, except that a row which stops them is dropped with a reason; the other modes mend their faults.
//!
//! [`Mode::Faithful`]: crate::Mode::Faithful

mod filter;
mod format;
mod labels;
mod proportion;
mod python_random;
mod rollout;
mod toolace;
mod toolmind;
mod trainset;

use std::collections::BTreeMap;

use starling_text::json::{self, Map, Value};
use thiserror::Error;

pub use filter::{KEEP_ABOVE, self_reward};
pub use format::{Corpus, Formatter};
pub use labels::{Label, Tag, label_last, label_messages, report};
pub use proportion::{Categories, MinCounts, Proportions, Selection, estimate_tokens, select};
pub use python_random::PythonRandom;
pub use rollout::{Answered, answer_rows, answers_needed, judge_answer, rollout_prompt};
pub use trainset::{ThinkFormat, TrainRow, last_alone, prompt, train_row};

/// Why a row, or a turn of it, is dropped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum DropReason {
    /// The row is not an object.
    #[error("the row is not an object")]
    NotAnObject,
    /// A key is absent.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A text that should be JSON is not.
    #[error("`{0}` is not JSON")]
    NotJson(&'static str),
    /// A value has another type than the format says.
    #[error("`{0}` has the wrong type")]
    WrongType(&'static str),
    /// The assistant's content holds another number of thoughts than one.
    #[error("an answer holds a broken thought, or several")]
    Thoughts,
    /// A message has a role that the corpus should not have.
    #[error("a message has an unknown role")]
    UnknownRole,
    /// A message of the assistant has neither content nor calls, or a user's message is empty.
    #[error("a message is empty")]
    EmptyMessage,
    /// A call names no tool of the row.
    #[error("a call names an unknown tool")]
    UnknownTool,
    /// A call has an argument that its tool does not have.
    #[error("a call has an unknown argument")]
    UnknownArgument,
    /// The query is to be answered with calls and has none.
    #[error("there are no answers")]
    NoAnswers,
    /// There is no message, so nothing to learn.
    #[error("there are no messages")]
    NoMessages,
    /// The last message is not the assistant's.
    #[error("the last message is not the assistant's")]
    NotAssistant,
    /// The template cannot render the prompt.
    #[error("the prompt cannot be rendered")]
    PromptRender,
    /// The template cannot render the last message.
    #[error("the last message cannot be rendered")]
    TargetRender,
    /// The tools of the prompt cannot be read back.
    #[error("the tools of the prompt cannot be read back")]
    Tools,
    /// The last message is no label.
    #[error("the last message is no label")]
    Label,
    /// Given its own target as the answer, the row earns too little.
    #[error("the row's own target does not earn the full reward")]
    OwnReward,
}

/// How often each reason applied.
pub type Drops = BTreeMap<DropReason, usize>;

/// Takes a key of an object.
pub(crate) fn take<'a>(map: &'a Map, key: &'static str) -> Result<&'a Value, DropReason> {
    map.get(key).ok_or(DropReason::Missing(key))
}

/// Takes a key that holds JSON, or text that is JSON.
pub(crate) fn take_parsed(map: &Map, key: &'static str) -> Result<Value, DropReason> {
    match take(map, key)? {
        Value::Str(text) => json::parse(text).map_err(|_| DropReason::NotJson(key)),
        value => Ok(value.clone()),
    }
}

pub(crate) fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Dict(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

pub(crate) fn role(message: &Value) -> Option<&str> {
    message.get("role").and_then(Value::as_str)
}

/// The messages of a unified row.
pub(crate) fn messages(row: &Value) -> Result<&[Value], DropReason> {
    let messages = row.get("messages").ok_or(DropReason::Missing("messages"))?;
    messages.as_list().ok_or(DropReason::WrongType("messages"))
}
