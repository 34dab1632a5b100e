//! Calls in text: how they are found, read and written.

mod pythonic;

use memchr::memmem;
use starling_text::json::{self, Map, ParseError, Value};
use starling_text::python;
use thiserror::Error;

use crate::END_OF_TURN;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// One call of a tool.
///
/// Both parts are whatever JSON held there; the reward decides what it accepts.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool's name, a string unless the text is odd.
    pub name: Value,
    /// The arguments, an object unless the text is odd.
    pub arguments: Value,
}

impl Call {
    /// A call with a proper name and proper arguments.
    pub fn new(name: impl Into<String>, arguments: Map) -> Self {
        Self {
            name: Value::Str(name.into()),
            arguments: Value::Dict(arguments),
        }
    }

    /// Takes `name` and `arguments` out of an object; other keys are ignored.
    ///
    /// # Errors
    /// [`CallError::NotAnObject`] or [`CallError::Missing`].
    pub fn from_value(value: Value) -> Result<Self, CallError> {
        let Value::Dict(mut map) = value else {
            return Err(CallError::NotAnObject);
        };
        let mut take = |key| map.swap_remove(key).ok_or(CallError::Missing(key));
        Ok(Self {
            name: take("name")?,
            arguments: take("arguments")?,
        })
    }

    /// Reads a call from the text of its object.
    fn from_text(text: &str) -> Result<Self, CallError> {
        let (mut name, mut arguments) = (None, None);
        let is_object = json::parse_members(text, |key, value| match key {
            "name" => name = Some(value),
            "arguments" => arguments = Some(value),
            _ => {}
        })?;
        if !is_object {
            return Err(CallError::NotAnObject);
        }
        Ok(Self {
            name: name.ok_or(CallError::Missing("name"))?,
            arguments: arguments.ok_or(CallError::Missing("arguments"))?,
        })
    }

    /// The call as the object `{"name": …, "arguments": …}`.
    pub fn to_value(&self) -> Value {
        let entries = [("name", &self.name), ("arguments", &self.arguments)];
        Value::Dict(
            entries
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .into(),
        )
    }
}

/// Why a text that means to hold calls holds none that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The text of a call is not JSON.
    #[error("a call is not JSON: {0}")]
    Json(#[from] ParseError),
    /// A call is JSON, but not an object.
    #[error("a call is not a JSON object")]
    NotAnObject,
    /// A call lacks a key.
    #[error("a call has no `{0}`")]
    Missing(&'static str),
    /// A call expression cannot be read.
    #[error("a call expression cannot be read: {0}")]
    Expression(String),
}

/// What an assistant's turn says, its thought aside.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// At least one call. Text around calls means nothing.
    Calls {
        /// The calls in order.
        calls: Vec<Call>,
        /// Another call is opened after the last one and never closed.
        unclosed: bool,
    },
    /// No call: the text, without white space at its ends; possibly empty.
    Reply(String),
    /// A call is opened and none closed, so there is neither a call nor a reply.
    Unclosed,
}

impl Answer {
    /// A list of calls that was read whole; an empty list says nothing.
    fn listed(calls: Vec<Call>) -> Self {
        if calls.is_empty() {
            Self::Reply(String::new())
        } else {
            Self::Calls {
                calls,
                unclosed: false,
            }
        }
    }

    /// The calls, empty for a reply.
    pub fn calls(&self) -> &[Call] {
        match self {
            Self::Calls { calls, .. } => calls,
            _ => &[],
        }
    }

    /// The reply, when there is one.
    pub fn reply(&self) -> Option<&str> {
        match self {
            Self::Reply(text) => Some(text),
            _ => None,
        }
    }
}

/// How calls are written in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallFormat {
    /// `<tool_call>`, newline, `{"name": "f", "arguments": {…}}`, newline, `</tool_call>`; a newline between.
    #[default]
    Hermes,
    /// One JSON list of `{"name": "f", "arguments": {…}}`; a single object is read as a list of one.
    Json,
    /// One list of Python call expressions: `[f(a=1), g(b='x')]`.
    Pythonic,
}

impl CallFormat {
    /// Reads the part of a turn that follows its thought.
    ///
    /// # Errors
    /// [`CallError`] when a call is announced and cannot be read.
    pub fn parse(self, text: &str) -> Result<Answer, CallError> {
        let text = python::strip(text);
        match self {
            Self::Hermes => parse_hermes(text),
            Self::Json => parse_json(text),
            Self::Pythonic => pythonic::parse(text),
        }
    }

    /// Writes calls as the model is taught to write them.
    pub fn render(self, calls: &[Call]) -> String {
        match self {
            Self::Hermes => {
                let blocks = calls.iter().map(|call| {
                    let (name, arguments) = (json::dumps(&call.name), json::dumps(&call.arguments));
                    format!("{OPEN}\n{{\"name\": {name}, \"arguments\": {arguments}}}\n{CLOSE}")
                });
                blocks.collect::<Vec<_>>().join("\n")
            }
            Self::Json => json::dumps(&Value::List(calls.iter().map(Call::to_value).collect())),
            Self::Pythonic => pythonic::render(calls),
        }
    }
}

fn parse_hermes(text: &str) -> Result<Answer, CallError> {
    let Some(first) = find_tag(text, 0, OPEN) else {
        return Ok(Answer::Reply(text.to_owned()));
    };
    let mut calls = Vec::new();
    let mut open = Some(first);
    while let Some(start) = open.map(|n| n + OPEN.len()) {
        let Some(end) = find_tag(text, start, CLOSE) else {
            break;
        };
        calls.push(Call::from_text(&text[start..end])?);
        open = find_tag(text, end + CLOSE.len(), OPEN);
    }
    if calls.is_empty() {
        return Ok(Answer::Unclosed);
    }
    let unclosed = open.is_some();
    Ok(Answer::Calls { calls, unclosed })
}

fn parse_json(text: &str) -> Result<Answer, CallError> {
    let body = without_end(text);
    if !body.starts_with(['[', '{']) {
        return Ok(Answer::Reply(text.to_owned()));
    }
    let items = match json::parse(body)? {
        Value::List(items) => items,
        object => vec![object],
    };
    let calls = items.into_iter().map(Call::from_value);
    Ok(Answer::listed(calls.collect::<Result<_, _>>()?))
}

/// A text that is one list stands alone, so an end-of-turn mark behind it means nothing.
fn without_end(text: &str) -> &str {
    python::strip(text.strip_suffix(END_OF_TURN).unwrap_or(text))
}

/// The shortest `open…close` span at or after the start: what is between, and what follows it.
pub(crate) fn next_span<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let start = memmem::find(text.as_bytes(), open.as_bytes())? + open.len();
    let length = memmem::find(&text.as_bytes()[start..], close.as_bytes())?;
    Some((
        &text[start..start + length],
        &text[start + length + close.len()..],
    ))
}

/// Where a tag, which begins with `<`, stands first at or after `from`. Texts hold few `<`, so looking at each
/// is quicker than preparing a search for the whole tag.
pub(crate) fn find_tag(text: &str, from: usize, tag: &str) -> Option<usize> {
    let (bytes, tag) = (text.as_bytes(), tag.as_bytes());
    let mut at = from;
    while let Some(found) = memchr::memchr(b'<', bytes.get(at..)?) {
        at += found;
        if bytes[at..].starts_with(tag) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Splits a turn into thought and answer: the inside of the one `<think>…</think>` span, and what follows
/// the last `</think>`. The count of spans is the error when it is not one.
///
/// # Errors
/// The number of spans found.
pub fn split_thought(generation: &str) -> Result<(&str, &str), usize> {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let (mut spans, mut open, mut thought, mut last) = (0, None, 0..0, None);
    for at in memchr::memchr_iter(b'<', generation.as_bytes()) {
        let rest = &generation[at..];
        if rest.starts_with(CLOSE) {
            if let Some(start) = open.take() {
                spans += 1;
                thought = start..at;
            }
            last = Some(at + CLOSE.len());
        } else if open.is_none() && rest.starts_with(OPEN) {
            open = Some(at + OPEN.len());
        }
    }
    match last {
        Some(last) if spans == 1 => Ok((&generation[thought], &generation[last..])),
        _ => Err(spans),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn calls(text: &str) -> Vec<Call> {
        let value = json::parse(text).expect(text);
        let items = value.as_list().expect("a list").to_vec();
        items
            .into_iter()
            .map(|item| Call::from_value(item).expect("a call"))
            .collect()
    }

    #[test]
    fn hermes_is_written_as_the_template_writes_it() {
        let calls = calls(
            r#"[{"name": "f", "arguments": {"a": "é", "b": [1.0]}}, {"name": "g", "arguments": {}}]"#,
        );
        let text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"é\", \"b\": [1.0]}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>";
        assert_eq!(CallFormat::Hermes.render(&calls), text);
        for format in [CallFormat::Hermes, CallFormat::Json, CallFormat::Pythonic] {
            let read = format.parse(&format.render(&calls)).expect("well formed");
            assert_eq!(
                read,
                Answer::Calls {
                    calls: calls.clone(),
                    unclosed: false
                }
            );
        }
    }

    #[test]
    fn odd_texts_have_their_meaning() {
        let hermes = |text| CallFormat::Hermes.parse(text);
        assert_eq!(hermes(" hi \n"), Ok(Answer::Reply("hi".into())));
        assert_eq!(hermes("<tool_call>{}"), Ok(Answer::Unclosed));
        assert_eq!(
            hermes("<tool_call>[]</tool_call>"),
            Err(CallError::NotAnObject)
        );
        assert_eq!(
            hermes("<tool_call>{\"name\": 1}</tool_call>"),
            Err(CallError::Missing("arguments"))
        );
        let call = "<tool_call>{\"name\": 1, \"arguments\": null}</tool_call>";
        assert!(matches!(
            hermes(&format!("{call}x<tool_call>")),
            Ok(Answer::Calls { unclosed: true, .. })
        ));
        assert_eq!(
            split_thought("<think>a<think>b</think>c"),
            Ok(("a<think>b", "c"))
        );
        assert_eq!(split_thought("<think>a</think>b</think>c"), Ok(("a", "c")));
        assert_eq!(split_thought("<think>a</think><think>b</think>c"), Err(2));
        assert_eq!(split_thought("</think><think>"), Err(0));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in r"(<tool_call>|</tool_call>|<think>|</think>|[\[\]{}]|.|\n){0,20}") {
            drop(CallFormat::Hermes.parse(&text));
            drop(CallFormat::Json.parse(&text));
            drop(CallFormat::Pythonic.parse(&text));
            if let Ok((thought, answer)) = split_thought(&text) {
                prop_assert!(thought.len() + answer.len() < text.len());
            }
        }
    }
}
