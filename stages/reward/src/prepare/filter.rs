//! The filter by a row's own reward: a target that does not earn the full reward cannot teach how to.

use starling_text::json::Value;
use starling_text::template::ChatTemplate;

use super::trainset::{last_alone, prompt};
use super::{DropReason, messages, role};
use crate::Mode;
use crate::score::{Label, score};
use crate::tools::ToolSet;

/// Rows are kept whose own reward exceeds this.
pub const KEEP_ABOVE: f64 = 0.99;

/// The reward of a unified row whose last message is taken both for the answer and for the label.
///
/// It finds unknown tools and arguments, arguments that are not JSON, `<tool_call>` in a reply and
/// `</think>` in a value. Tools are read back from the prompt, as the reward does later, so that a tool whose
/// description breaks the prompt is found as well.
///
/// # Errors
/// Why the row has to go. A reward that is too low is [`DropReason::OwnReward`] with the reward beside it.
pub fn self_reward(
    row: &Value,
    template: &ChatTemplate,
    mode: Mode,
) -> Result<f64, (DropReason, f64)> {
    let worst = |reason| (reason, -1.0);
    let last = messages(row).and_then(|all| all.last().ok_or(DropReason::NoMessages));
    let last = last.map_err(worst)?;
    if !mode.is_faithful() && role(last) != Some("assistant") {
        return Err(worst(DropReason::NotAssistant));
    }
    let prompt = prompt(row, template).map_err(worst)?;
    let mut text = last_alone(row, template).map_err(worst)?;
    if !text.contains("</think>") {
        text.insert_str(0, "<think></think>");
    }
    let label = Label::parse(&text, mode).map_err(|_| worst(DropReason::Label))?;
    let tools = ToolSet::from_prompt(&prompt, mode).map_err(|_| worst(DropReason::Tools))?;
    let reward = score(&tools, &label, &text, mode).reward;
    if reward > KEEP_ABOVE {
        Ok(reward)
    } else {
        Err((DropReason::OwnReward, reward))
    }
}
