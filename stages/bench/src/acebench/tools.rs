//! Tool mode: functions go through the chat template's tool section, tool calls come back as JSON.
//!
//! The official evaluator knows only call lists written as text; a model trained on `<tool_call>` objects
//! scores zero unless its output is rewritten first. Both modes are choices of the caller.

use starling_text::json::{self, Map, Value};
use starling_text::python;

use super::{Dataset, Item};

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// A prompt whose functions are given apart.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolPrompt {
    /// What the entry says beside the conversation: the date or the user's profile; may be empty.
    pub system: String,
    /// The user message, as in text mode.
    pub user: String,
    /// `{"type": "function", "function": description}` for every function, descriptions unchanged.
    pub tools: Vec<Value>,
}

impl Dataset {
    /// The prompt of a Normal or Special entry in tool mode.
    pub fn tool_prompt(&self, item: &Item) -> ToolPrompt {
        let tool = |function: &Value| {
            let entries = [
                ("type".to_owned(), Value::Str("function".to_owned())),
                ("function".to_owned(), function.clone()),
            ];
            Value::Dict(entries.into_iter().collect())
        };
        ToolPrompt {
            system: item.profile.clone().unwrap_or_else(|| item.time.clone()),
            user: self.prompts().fill("user", &[("question", &item.question)]),
            tools: item.functions.iter().map(tool).collect(),
        }
    }
}

/// What follows the last `</think>`, without leading line ends; the whole output when there is none.
pub fn strip_thinking(output: &str) -> &str {
    match output.rsplit_once("</think>") {
        Some((_, rest)) => rest.trim_start_matches(['\n', '\r']),
        None => output,
    }
}

/// Rewrites `<tool_call>` objects as the call list that the evaluator reads, `[name(key='value')]`.
///
/// `None` when the output has no tool call, or one that is not a JSON object with a name and arguments:
/// such an output is judged as it stands.
pub fn text_from_tool_calls(output: &str) -> Option<String> {
    let mut calls = Vec::new();
    let mut rest = output;
    while let Some(at) = rest.find(OPEN) {
        let body = &rest[at + OPEN.len()..];
        // The closing tag may be cut off at the end of the output.
        let end = body.find(CLOSE).unwrap_or(body.len());
        calls.push(call_text(&body[..end])?);
        rest = body.get(end + CLOSE.len()..).unwrap_or("");
    }
    (!calls.is_empty()).then(|| format!("[{}]", calls.join(", ")))
}

fn call_text(body: &str) -> Option<String> {
    let call = json::parse(body.trim()).ok()?;
    let name = call.get("name")?.as_str()?;
    let arguments = match call.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Dict(map)) => map.clone(),
        // Some models write the object as a text.
        Some(Value::Str(text)) => json::parse(text).ok()?.as_dict()?.clone(),
        Some(_) => return None,
    };
    let arguments: Vec<String> = arguments
        .iter()
        .map(|(key, value)| format!("{key}={}", python::repr(value)))
        .collect();
    Some(format!("{name}({})", arguments.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_calls_become_a_call_list() {
        let output = "ok\n<tool_call>\n{\"name\": \"a.b\", \"arguments\": {\"x\": true, \"y\": [1.0, null, \"it's\"]}}\n</tool_call>\n<tool_call>{\"name\": \"c\", \"arguments\": \"{}\"}";
        let text = text_from_tool_calls(output);
        assert_eq!(
            text.as_deref(),
            Some("[a.b(x=True, y=[1.0, None, \"it's\"]), c()]")
        );
        assert_eq!(text_from_tool_calls("[f()]"), None);
        assert_eq!(text_from_tool_calls("<tool_call>{</tool_call>"), None);
    }

    #[test]
    fn thinking_is_cut_after_the_last_end() {
        assert_eq!(
            strip_thinking("<think>a</think>b</think>\n\n[f()]"),
            "[f()]"
        );
        assert_eq!(strip_thinking("[f()]"), "[f()]");
    }
}
