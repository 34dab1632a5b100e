//! Conversations whose calls are written in another format than the chat template's own.
//!
//! Templates print calls in one way only. For the others the calls become the contents of their messages, and
//! the tools go, with a line on how to call them, into the system message; the template then sees plain text.

use std::borrow::Cow;

use starling_text::json::{self, Map, Value};
use starling_text::python;

use super::{DropReason, TrainRow, messages, object, role};
use crate::call::{Answer, Call, CallFormat};
use crate::score::Label;
use crate::{END_OF_TURN, Mode};

/// The row with its calls as text. In Hermes form, which templates print by themselves, it stays as it is.
///
/// # Errors
/// [`DropReason`] when the messages or a call cannot be read.
pub fn written(row: &Value, format: CallFormat) -> Result<Cow<'_, Value>, DropReason> {
    let how = match format {
        CallFormat::Hermes => return Ok(Cow::Borrowed(row)),
        CallFormat::Json => {
            "To call functions, answer with one JSON list and nothing else:\n[{\"name\": <function>, \
             \"arguments\": {<name>: <value>, ...}}, ...]"
        }
        CallFormat::Pythonic => {
            "To call functions, answer with one list of Python calls and nothing else:\n\
             [<function>(<name>=<value>, ...), ...]"
        }
    };
    let mut out: Vec<Value> = Vec::new();
    let tools = row
        .get("tools")
        .and_then(Value::as_list)
        .unwrap_or_default();
    let mut all = messages(row)?;
    if !tools.is_empty() {
        let mut system = String::new();
        if let Some((first, rest)) = all.split_first()
            && role(first) == Some("system")
        {
            if let Some(text) = first.get("content").and_then(Value::as_str) {
                system = format!("{text}\n\n");
            }
            all = rest;
        }
        let lines: Vec<String> = tools.iter().map(json::dumps).collect();
        system.push_str("# Tools\n\nThese functions can be called:\n<tools>\n");
        system.push_str(&lines.join("\n"));
        system.push_str("\n</tools>\n\n");
        system.push_str(how);
        out.push(object([
            ("role", "system".into()),
            ("content", system.into()),
        ]));
    }
    for message in all {
        let calls = calls_of(message)?;
        match (message, calls.is_empty()) {
            (Value::Dict(map), false) => {
                let mut map: Map = map.clone();
                map.shift_remove("tool_calls");
                map.insert("content".to_owned(), format.render(&calls).into());
                out.push(Value::Dict(map));
            }
            _ => out.push(message.clone()),
        }
    }
    let mut written = row.as_dict().ok_or(DropReason::NotAnObject)?.clone();
    written.insert("messages".to_owned(), out.into());
    written.insert("tools".to_owned(), Value::Null);
    Ok(Cow::Owned(Value::Dict(written)))
}

/// The calls of a message, bare or wrapped, their arguments as values or as JSON text.
fn calls_of(message: &Value) -> Result<Vec<Call>, DropReason> {
    let items = match message.get("tool_calls") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::List(items)) => items,
        Some(_) => return Err(DropReason::WrongType("tool_calls")),
    };
    let read = |item: &Value| {
        let call = item.get("function").unwrap_or(item);
        let name = call.get("name").ok_or(DropReason::Missing("name"))?.clone();
        let arguments = match call.get("arguments") {
            None => return Err(DropReason::Missing("arguments")),
            Some(Value::Str(text)) => {
                json::parse(text).map_err(|_| DropReason::NotJson("arguments"))?
            }
            Some(value) => value.clone(),
        };
        Ok(Call { name, arguments })
    };
    items.iter().map(read).collect()
}

/// Whether what a row teaches reads back as what its last message says: the same calls, or the same reply.
///
/// # Errors
/// [`DropReason::Label`] when it does not, and as [`written`].
pub fn reads_back(row: &Value, trained: &TrainRow, format: CallFormat) -> Result<(), DropReason> {
    let last = messages(row)?.last().ok_or(DropReason::NoMessages)?;
    let turn = match trained.targets.split_once("</think>") {
        Some((_, answer)) => format!("</think>{answer}"),
        None => return Err(DropReason::Label),
    };
    let turn = turn.trim_end_matches('\n');
    let label = Label::parse_as(turn, format, Mode::Fixed).map_err(|_| DropReason::Label)?;
    let meant = calls_of(last)?;
    let same = match label.answer() {
        Answer::Calls { calls, .. } => *calls == meant,
        Answer::Reply(text) => {
            let content = last
                .get("content")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let content = content
                .rsplit_once("</think>")
                .map_or(content, |(_, rest)| rest);
            let content = python::strip(content);
            meant.is_empty() && content.strip_suffix(END_OF_TURN).unwrap_or(content) == text
        }
        Answer::Unclosed => false,
    };
    if same { Ok(()) } else { Err(DropReason::Label) }
}

#[cfg(test)]
mod tests {
    use starling_text::template::ChatTemplate;

    use super::*;
    use crate::prepare::{ThinkFormat, train_row};
    use crate::score::{Fault, score_as};
    use crate::tools::ToolSet;

    const ROW: &str = r#"{"id": "x", "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "content": "r"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"name": "f", "arguments": {"a": "é", "b c": [true, null]}}, {"name": "f", "arguments": {}}]}],
        "tools": [{"name": "f", "parameters": {"a": {}, "b c": {}}}]}"#;

    #[test]
    fn every_format_is_taught_and_scored_alike() {
        let (row, template) = (json::parse(ROW).expect("a row"), ChatTemplate::qwen3());
        for format in [CallFormat::Hermes, CallFormat::Json, CallFormat::Pythonic] {
            for think in [ThinkFormat::Native, ThinkFormat::Star] {
                let text = written(&row, format).expect("written");
                let trained =
                    train_row(&text, &template, think, false, Mode::Fixed).expect("a training row");
                reads_back(&row, &trained, format).expect("reads back");
                let tools = ToolSet::from_prompt(&trained.inputs, Mode::Fixed).expect("tools");
                assert_eq!(
                    tools.names().collect::<Vec<_>>(),
                    ["f"],
                    "{}",
                    trained.inputs
                );
                assert!(trained.inputs.contains("Be brief."), "{}", trained.inputs);
                let turn = format!("<think>{}", trained.targets.trim_start_matches("<think>"));
                let label = Label::parse_as(&turn, format, Mode::Fixed).expect("a label");
                let reward = |text: &str| score_as(&tools, &label, text, format, Mode::Fixed);
                assert!((reward(&turn).reward - 1.0).abs() < 1e-12, "{turn}");
                let other = turn.replace("b c", "b d");
                assert!(
                    matches!(reward(&other).why, Some(Fault::UnknownArgument { .. })),
                    "{other}"
                );
            }
        }
    }

    #[test]
    fn a_reply_that_looks_like_calls_does_not_read_back() {
        let text = ROW.replace(
            "\"role\": \"tool\", \"content\": \"r\"",
            "\"role\": \"user\", \"content\": \"r\"",
        );
        let mut row = json::parse(&text).expect("a row");
        let reply = r#"{"role": "assistant", "content": "[f(a=2)]"}"#;
        if let Value::Dict(map) = &mut row
            && let Some(Value::List(all)) = map.get_mut("messages")
        {
            *all.last_mut().expect("messages") = json::parse(reply).expect("a message");
        }
        let template = ChatTemplate::qwen3();
        for (format, good) in [(CallFormat::Hermes, true), (CallFormat::Pythonic, false)] {
            let text = written(&row, format).expect("written");
            let trained = train_row(&text, &template, ThinkFormat::Native, false, Mode::Fixed);
            let trained = trained.expect("a training row");
            assert_eq!(
                reads_back(&row, &trained, format).is_ok(),
                good,
                "{format:?}"
            );
        }
    }
}
