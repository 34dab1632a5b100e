//! ToolMind: whole conversations with the thoughts inside the contents.

use starling_text::json::{Map, Value};

use super::{Change, DropReason, object, take};
use crate::Mode;
use crate::call::next_span;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Brings one row into the unified form; other keys of it are kept.
pub(super) fn row(
    raw: &Value,
    index: usize,
    mode: Mode,
    changes: &mut Vec<Change>,
) -> Result<Value, DropReason> {
    let mut row = raw.as_dict().ok_or(DropReason::NotAnObject)?.clone();
    let conversations = row.shift_remove("conversations");
    let conversations = conversations.ok_or(DropReason::Missing("conversations"))?;
    let items = conversations
        .as_list()
        .ok_or(DropReason::WrongType("conversations"))?;
    let messages = items
        .iter()
        .map(|item| message(item, mode))
        .collect::<Result<Vec<_>, _>>()?;
    let tools = take(&row, "tools")?
        .as_list()
        .ok_or(DropReason::WrongType("tools"))?;
    let tools = tools
        .iter()
        .map(|wrapped| tool(wrapped, changes))
        .collect::<Result<Vec<_>, _>>()?;
    row.insert("tools".to_owned(), tools.into());
    row.insert("id".to_owned(), format!("toolmind_{index}").into());
    row.insert("messages".to_owned(), messages.into());
    Ok(Value::Dict(row))
}

fn message(item: &Value, mode: Mode) -> Result<Value, DropReason> {
    let map = item
        .as_dict()
        .ok_or(DropReason::WrongType("conversations"))?;
    match take(map, "role")?.as_str() {
        Some("user" | "tool") => Ok(item.clone()),
        Some("system") if !mode.is_faithful() => Ok(item.clone()),
        Some("assistant") => assistant(map, mode),
        _ => Err(DropReason::UnknownRole),
    }
}

fn assistant(message: &Map, mode: Mode) -> Result<Value, DropReason> {
    let calls = match message.get("tool_calls") {
        None => Value::Null,
        Some(Value::Null) if !mode.is_faithful() => Value::Null,
        Some(Value::List(calls)) => calls.iter().map(unwrap).collect::<Vec<_>>().into(),
        Some(_) => return Err(DropReason::WrongType("tool_calls")),
    };
    let (reasoning, content) = match message.get("content") {
        None => (Value::Null, Value::Null),
        Some(Value::Null) if !mode.is_faithful() => (Value::Null, Value::Null),
        Some(Value::Str(content)) => split(content, mode)?,
        Some(_) => return Err(DropReason::WrongType("content")),
    };
    Ok(object([
        ("role", "assistant".into()),
        ("reasoning_content", reasoning),
        ("tool_calls", calls),
        ("content", content),
    ]))
}

/// Splits content into thought and rest. The released script drops a row only when the numbers of *both* tags
/// are wrong; meant is either.
fn split(content: &str, mode: Mode) -> Result<(Value, Value), DropReason> {
    let (opened, closed) = (
        content.matches(OPEN).count(),
        content.matches(CLOSE).count(),
    );
    if opened == 0 && (mode.is_faithful() || closed == 0) {
        return Ok((Value::Null, content.into()));
    }
    let broken = if mode.is_faithful() {
        opened != 1 && closed != 1
    } else {
        opened != 1 || closed != 1
    };
    match (next_span(content, OPEN, CLOSE), content.rsplit_once(CLOSE)) {
        (Some((thought, _)), Some((_, rest))) if !broken => Ok((thought.into(), rest.into())),
        _ => Err(DropReason::Thoughts),
    }
}

fn unwrap(wrapped: &Value) -> Value {
    wrapped.get("function").unwrap_or(wrapped).clone()
}

fn tool(wrapped: &Value, changes: &mut Vec<Change>) -> Result<Value, DropReason> {
    let Value::Dict(mut tool) = unwrap(wrapped) else {
        return Err(DropReason::WrongType("tools"));
    };
    take(&tool, "name")?;
    if !tool.contains_key("parameters") {
        let parameters = tool
            .shift_remove("arguments")
            .ok_or(DropReason::Missing("parameters"))?;
        tool.insert("parameters".to_owned(), parameters);
        changes.push(Change::ParametersRenamed);
    }
    Ok(Value::Dict(tool))
}
