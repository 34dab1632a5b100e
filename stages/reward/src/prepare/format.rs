//! The corpora, and the two whose rows need little: xLAM and Hammer.

use starling_text::json::{Map, Value};
use starling_text::python;

use super::{Change, DropReason, Drops, object, take, take_parsed, toolace, toolmind};
use crate::Mode;

/// A corpus whose rows can be brought into the unified form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corpus {
    /// xLAM function calling: `id`, `query`, `tools`, `answers`.
    Xlam,
    /// ToolMind: `conversations`, `tools`.
    ToolMind,
    /// ToolACE: `conversations`, `tools`; one row for each turn that can be a target.
    ToolAce,
    /// Hammer's irrelevance rows: `functions`, `messages`, `expected_output`, `trace_id`.
    Hammer,
}

/// Formats the rows of one corpus, one after the other; ids may depend on what came before.
#[derive(Debug)]
pub struct Formatter {
    corpus: Corpus,
    mode: Mode,
    read: usize,
    emitted: usize,
    drops: Drops,
}

/// What became of one raw row.
#[derive(Debug, Default)]
pub struct Formatted {
    /// No row, one row, or, for ToolACE, several.
    pub rows: Vec<Value>,
    /// Why the row was dropped; for ToolACE why turns of it were.
    pub drops: Vec<DropReason>,
    /// What was changed on the way, besides the form.
    pub changes: Vec<Change>,
}

impl Formatter {
    /// Starts a corpus.
    pub fn new(corpus: Corpus, mode: Mode) -> Self {
        Self {
            corpus,
            mode,
            read: 0,
            emitted: 0,
            drops: Drops::new(),
        }
    }

    /// Formats the next raw row into no row, one row, or, for ToolACE, several.
    pub fn push(&mut self, raw: &Value) -> Vec<Value> {
        let formatted = format_row(self.corpus, raw, self.read, self.emitted, self.mode);
        self.read += 1;
        self.emitted += formatted.rows.len();
        for reason in formatted.drops {
            *self.drops.entry(reason).or_default() += 1;
        }
        formatted.rows
    }

    /// What was dropped so far. For ToolACE turns are counted, else rows.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }
}

impl Corpus {
    /// Whether the id of a row may depend on how many rows came out before it, and not on its place alone.
    pub fn numbers_what_it_emits(self) -> bool {
        self == Self::Hammer
    }
}

/// Formats one raw row: the one at `index` of its corpus, after `emitted` rows came out of those before it.
pub fn format_row(
    corpus: Corpus,
    raw: &Value,
    index: usize,
    emitted: usize,
    mode: Mode,
) -> Formatted {
    let mut formatted = Formatted::default();
    let row = match corpus {
        Corpus::ToolAce => {
            toolace::rows(raw, index, mode, &mut formatted);
            return formatted;
        }
        Corpus::Xlam => xlam(raw, mode),
        Corpus::ToolMind => toolmind::row(raw, index, mode, &mut formatted.changes),
        Corpus::Hammer => hammer(raw, emitted),
    };
    match row {
        Ok(row) => formatted.rows.push(row),
        Err(reason) => formatted.drops.push(reason),
    }
    formatted
}

fn xlam(raw: &Value, mode: Mode) -> Result<Value, DropReason> {
    let raw = raw.as_dict().ok_or(DropReason::NotAnObject)?;
    let tools = flat_tools(take_parsed(raw, "tools")?)?;
    let mut answers = take_parsed(raw, "answers")?;
    if !python::truthy(&answers) {
        if !mode.is_faithful() {
            return Err(DropReason::NoAnswers);
        }
        answers = Value::Null;
    } else if !mode.is_faithful() && answers.as_list().is_none() {
        return Err(DropReason::WrongType("answers"));
    }
    let user = object([
        ("role", "user".into()),
        ("content", take(raw, "query")?.clone()),
    ]);
    let id = format!("xlam_{}", python::str(take(raw, "id")?));
    Ok(unified(
        id.into(),
        vec![user, target(Value::Null, answers)],
        tools,
    ))
}

fn hammer(raw: &Value, emitted: usize) -> Result<Value, DropReason> {
    let raw = raw.as_dict().ok_or(DropReason::NotAnObject)?;
    let items = take(raw, "messages")?
        .as_list()
        .ok_or(DropReason::WrongType("messages"))?;
    let mut messages = Vec::with_capacity(items.len() + 1);
    for item in items {
        let item = item.as_dict().ok_or(DropReason::WrongType("messages"))?;
        let content = item.get("content").cloned().unwrap_or_default();
        messages.push(object([
            ("role", take(item, "role")?.clone()),
            ("content", content),
        ]));
    }
    let tools = match raw.get("functions") {
        None => Value::List(Vec::new()),
        Some(_) => flat_tools(take_parsed(raw, "functions")?)?,
    };
    let output = raw
        .get("expected_output")
        .cloned()
        .unwrap_or_else(|| "".into());
    messages.push(target(output, Value::Null));
    let id = match raw.get("trace_id") {
        Some(id) if python::truthy(id) => id.clone(),
        _ => format!("hammer_{emitted}").into(),
    };
    Ok(unified(id, messages, tools))
}

fn target(content: Value, calls: Value) -> Value {
    object([
        ("role", "assistant".into()),
        ("content", content),
        ("tool_calls", calls),
    ])
}

fn unified(id: Value, messages: Vec<Value>, tools: Value) -> Value {
    object([("id", id), ("messages", messages.into()), ("tools", tools)])
}

/// Keeps name, parameters and description of each tool, in this order.
fn flat_tools(tools: Value) -> Result<Value, DropReason> {
    let items = match tools {
        Value::List(items) => items,
        Value::Dict(map) if map.is_empty() => Vec::new(),
        _ => return Err(DropReason::WrongType("tools")),
    };
    let flat = |tool: Value| {
        let tool = tool.as_dict().ok_or(DropReason::WrongType("tools"))?;
        let part = |key, default| tool.get(key).cloned().unwrap_or(default);
        Ok(object([
            ("name", take(tool, "name")?.clone()),
            ("parameters", part("parameters", Map::new().into())),
            ("description", part("description", "".into())),
        ]))
    };
    Ok(Value::List(
        items
            .into_iter()
            .map(flat)
            .collect::<Result<_, DropReason>>()?,
    ))
}
