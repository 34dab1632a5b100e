//! ToolACE: a row for each turn of the assistant that can be a target.

use starling_text::json::{self, Map, Value};
use starling_text::python;

use super::{Change, DropReason, Formatted, object, role, take, take_parsed};
use crate::Mode;
use crate::tools::ToolSet;

/// The rows of one conversation. Reasons are told for each turn that is skipped, and once for what ends the
/// conversation early; rows emitted before that stay.
pub(super) fn rows(raw: &Value, index: usize, mode: Mode, formatted: &mut Formatted) {
    if let Err(reason) = walk(raw, index, mode, formatted) {
        formatted.drops.push(reason);
    }
}

fn walk(
    raw: &Value,
    index: usize,
    mode: Mode,
    formatted: &mut Formatted,
) -> Result<(), DropReason> {
    let raw = raw.as_dict().ok_or(DropReason::NotAnObject)?;
    let tools = take_parsed(raw, "tools")?;
    let conversation = take_parsed(raw, "conversations")?;
    let items = conversation
        .as_list()
        .ok_or(DropReason::WrongType("conversations"))?;
    let mut history: Vec<Value> = Vec::new();
    let mut calls: Vec<Value> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let message = item
            .as_dict()
            .ok_or(DropReason::WrongType("conversations"))?;
        take(message, "role")?;
        match kind(item) {
            Turn::User(content) => history.push(spoken("user", content.clone())),
            Turn::Tool => history.push(spoken("tool", tool_content(message)?)),
            Turn::Text(content) => history.push(spoken("assistant", content.clone())),
            Turn::Calls(turn) => {
                match checked_calls(turn, &tools, mode, &mut formatted.changes)? {
                    Ok(more) => {
                        if !calls.is_empty() {
                            formatted.changes.push(Change::TurnsMerged);
                        }
                        calls.extend(more);
                    }
                    // What follows answers a call that is not there.
                    Err(reason) if !mode.is_faithful() => return Err(reason),
                    Err(reason) => {
                        formatted.drops.push(reason);
                        continue;
                    }
                }
                if items.get(i + 1).is_some_and(calls_next) {
                    continue;
                }
                let calls = std::mem::take(&mut calls);
                history.push(object([
                    ("role", "assistant".into()),
                    ("tool_calls", calls.into()),
                ]));
            }
            Turn::Skipped(reason) => {
                formatted.drops.push(reason);
                continue;
            }
        }
        if role(item) == Some("assistant") {
            formatted.rows.push(object([
                ("id", format!("toolace-{index}-{i}").into()),
                ("messages", history.clone().into()),
                ("tools", tools.clone()),
            ]));
        }
    }
    Ok(())
}

enum Turn<'a> {
    User(&'a Value),
    Tool,
    Text(&'a Value),
    Calls(&'a Value),
    Skipped(DropReason),
}

fn kind(message: &Value) -> Turn<'_> {
    let full = |key| message.get(key).filter(|value| python::truthy(value));
    match (role(message), full("content"), full("tool_calls")) {
        (Some("user"), Some(content), _) => Turn::User(content),
        (Some("tool"), _, _) => Turn::Tool,
        (Some("assistant"), Some(content), _) => Turn::Text(content),
        (Some("assistant"), None, Some(calls)) => Turn::Calls(calls),
        (Some("user" | "assistant"), None, _) => Turn::Skipped(DropReason::EmptyMessage),
        _ => Turn::Skipped(DropReason::UnknownRole),
    }
}

fn calls_next(next: &Value) -> bool {
    next.get("tool_calls").is_some_and(python::truthy)
}

fn spoken(role: &str, content: Value) -> Value {
    object([("role", role.into()), ("content", content)])
}

fn tool_content(message: &Map) -> Result<Value, DropReason> {
    Ok(match take(message, "content")? {
        Value::Str(text) => text.as_str().into(),
        other => json::dumps(other).into(),
    })
}

/// The calls of a turn with names and arguments made good. The outer error ends the conversation, the inner
/// one skips the turn.
fn checked_calls(
    calls: &Value,
    tools: &Value,
    mode: Mode,
    changes: &mut Vec<Change>,
) -> Result<Result<Vec<Value>, DropReason>, DropReason> {
    let calls = calls.as_list().ok_or(DropReason::WrongType("tool_calls"))?;
    let functions = calls
        .iter()
        .map(|call| call.get("function").ok_or(DropReason::Missing("function")))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(functions
        .into_iter()
        .map(|function| checked_call(function, tools, mode, changes))
        .collect())
}

fn checked_call(
    function: &Value,
    tools: &Value,
    mode: Mode,
    changes: &mut Vec<Change>,
) -> Result<Value, DropReason> {
    let function = function
        .as_dict()
        .ok_or(DropReason::WrongType("function"))?;
    let wanted = take(function, "name")?
        .as_str()
        .ok_or(DropReason::WrongType("name"))?;
    let tools = tools.as_list().unwrap_or_default();
    let named = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
    let guessable = mode.is_faithful() || !wanted.is_empty();
    let (name, tool) = tools
        .iter()
        .find_map(|tool| {
            named(tool)
                .filter(|name| name == wanted)
                .map(|name| (name, tool))
        })
        .or_else(|| {
            let near = |name: &String| guessable && name.contains(wanted);
            tools
                .iter()
                .find_map(|tool| named(tool).filter(near).map(|name| (name, tool)))
        })
        .ok_or(DropReason::UnknownTool)?;
    if name != wanted {
        changes.push(Change::ToolRenamed);
    }
    let arguments = take_parsed(function, "arguments")?;
    if mode.is_faithful() {
        check_faithfully(&arguments, take_parameters(tool)?)?;
    } else {
        let set = ToolSet::from_value(&Value::List(vec![tool.clone()]), mode);
        let set = set.map_err(|_| DropReason::Tools)?;
        let map = arguments
            .as_dict()
            .ok_or(DropReason::WrongType("arguments"))?;
        let known =
            |argument: &String| set.get(&name).is_some_and(|found| found.contains(argument));
        if !map.keys().all(known) {
            return Err(DropReason::UnknownArgument);
        }
    }
    Ok(object([("name", name.into()), ("arguments", arguments)]))
}

fn take_parameters(tool: &Value) -> Result<&Value, DropReason> {
    tool.get("parameters")
        .ok_or(DropReason::Missing("parameters"))
}

/// Every name must be a key of the parameters themselves, so that a JSON schema never passes.
fn check_faithfully(arguments: &Value, parameters: &Value) -> Result<(), DropReason> {
    let known = |name: &Value| match (parameters, name) {
        (Value::Dict(map), Value::Str(name)) => map.contains_key(name),
        (Value::List(items), name) => items.iter().any(|item| python::eq(item, name)),
        (Value::Str(text), Value::Str(name)) => text.contains(name.as_str()),
        _ => false,
    };
    let passes = match arguments {
        Value::Dict(map) => map.keys().all(|name| known(&name.as_str().into())),
        Value::List(items) => items.iter().all(known),
        Value::Str(text) => text.chars().all(|c| known(&c.to_string().into())),
        _ => return Err(DropReason::WrongType("arguments")),
    };
    if passes {
        Ok(())
    } else {
        Err(DropReason::UnknownArgument)
    }
}
