//! Conversion of a conversation into the text of a prompt and the text to be learnt.

use starling_text::json::Value;
use starling_text::template::{ChatTemplate, Options};

use super::{DropReason, messages, object, role};
use crate::{END_OF_TURN, Mode};

const HEADER: &str = "<|im_start|>assistant\n";

/// How thoughts are laid out in prompt and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThinkFormat {
    /// As released: the prompt ends in `<think>`, the target begins with the thought and `</think>`.
    #[default]
    Star,
    /// As Qwen3 writes: the target begins with `<think>`, newline, thought, newline, `</think>`, empty line.
    Native,
}

/// A training row.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainRow {
    /// The conversation's id.
    pub id: Value,
    /// The prompt.
    pub inputs: String,
    /// What the model should write. In the faithful mode a line break follows the end-of-turn mark.
    pub targets: String,
}

impl TrainRow {
    /// The row as `{id, inputs, targets}`.
    pub fn to_value(&self) -> Value {
        object([
            ("id", self.id.clone()),
            ("inputs", self.inputs.as_str().into()),
            ("targets", self.targets.as_str().into()),
        ])
    }
}

/// Converts a unified row. `reasoning` puts the last message's reasoning into the target.
///
/// # Errors
/// [`DropReason`]; unless faithful, also for a row whose last message is not the assistant's.
pub fn train_row(
    row: &Value,
    template: &ChatTemplate,
    format: ThinkFormat,
    reasoning: bool,
    mode: Mode,
) -> Result<TrainRow, DropReason> {
    let last = messages(row)?.last().ok_or(DropReason::NoMessages)?;
    if !mode.is_faithful() && role(last) != Some("assistant") {
        return Err(DropReason::NotAssistant);
    }
    let thought = last
        .get("reasoning_content")
        .and_then(Value::as_str)
        .filter(|_| reasoning);
    let thought = thought.unwrap_or_default();
    let mut inputs = prompt(row, template)?;
    let body = last_alone(row, template)?;
    let mut targets = match format {
        ThinkFormat::Star => {
            inputs.push_str("<think>");
            format!("{thought}</think>{body}")
        }
        ThinkFormat::Native => {
            let (thought, body) = (thought.trim_matches('\n'), body.trim_start_matches('\n'));
            format!("<think>\n{thought}\n</think>\n\n{body}")
        }
    };
    if !mode.is_faithful() && targets.ends_with(&format!("{END_OF_TURN}\n")) {
        targets.pop();
    }
    Ok(TrainRow {
        id: row.get("id").cloned().unwrap_or_default(),
        inputs,
        targets,
    })
}

/// The prompt of a unified row: everything but its last message, with the assistant's turn opened.
///
/// # Errors
/// [`DropReason`].
pub fn prompt(row: &Value, template: &ChatTemplate) -> Result<String, DropReason> {
    let (_, before) = messages(row)?.split_last().ok_or(DropReason::NoMessages)?;
    if before.is_empty() {
        return Err(DropReason::PromptRender);
    }
    let rendered = template.render(before, row.get("tools"), &Options::prompt());
    rendered.map_err(|_| DropReason::PromptRender)
}

/// The last message of a unified row rendered on its own, without the assistant's header; alone it never
/// shows its reasoning.
///
/// # Errors
/// [`DropReason`].
pub fn last_alone(row: &Value, template: &ChatTemplate) -> Result<String, DropReason> {
    let last = messages(row)?.last().ok_or(DropReason::NoMessages)?;
    let text = template
        .render(std::slice::from_ref(last), None, &Options::default())
        .map_err(|_| DropReason::TargetRender)?;
    Ok(text.strip_prefix(HEADER).map(str::to_owned).unwrap_or(text))
}
