//! Reads what a function-calling Qwen model wrote: thoughts, tool calls, call strings.

use std::borrow::Cow;

use starling_text::json::Value;
use starling_text::python;

use super::calls::{self, Block, DecodedCall, Given};
use super::loads::loads;
use super::verdict::ErrorKind;

/// The answer cannot be decoded; the benchmark's handler raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// A completion, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion<'a> {
    /// What is stored and scored: the text behind the last `</think>`.
    pub cleaned: &'a str,
    /// What was thought, without outer newlines.
    pub reasoning: &'a str,
    /// Parsed tool calls, those inside the thoughts included; they make up the history.
    pub tool_calls: Vec<Value>,
}

/// Takes a completion apart.
pub fn read(raw: &str) -> Completion<'_> {
    let (reasoning, cleaned) = split_thoughts(raw).unwrap_or(("", raw));
    Completion {
        cleaned,
        reasoning,
        tool_calls: tool_calls(raw),
    }
}

/// The thoughts and the rest, when the text closes a thought.
pub(super) fn split_thoughts(text: &str) -> Option<(&str, &str)> {
    let (first, _) = text.split_once("</think>")?;
    let (_, last) = text.rsplit_once("</think>")?;
    let thought = first.trim_end_matches('\n');
    let thought = thought
        .rsplit_once("<think>")
        .map_or(thought, |(_, thought)| thought);
    Some((
        thought.trim_start_matches('\n'),
        last.trim_start_matches('\n'),
    ))
}

/// The JSON values between tool-call tags; what is no JSON is skipped.
pub fn tool_calls(text: &str) -> Vec<Value> {
    calls::values(text).collect()
}

/// Decodes an answer into calls for the checker of single calls.
///
/// A text without tool calls is an empty list, which is no error.
///
/// # Errors
/// [`Undecodable`] when a tool call is no object, lacks its name or arguments, or these cannot be used.
pub fn decode_calls(text: &str) -> Result<Vec<DecodedCall<'_>>, Undecodable> {
    calls::blocks(text).map(decode_call).collect()
}

fn decode_call(block: Block<'_>) -> Result<DecodedCall<'_>, Undecodable> {
    let Block::Object {
        name: Some(name),
        arguments: Some(Given::Object(arguments)),
    } = block
    else {
        return Err(Undecodable);
    };
    let name = match name {
        Value::Str(name) => Some(Cow::Owned(name)),
        Value::List(_) | Value::Dict(_) => return Err(Undecodable),
        _ => None,
    };
    Ok(DecodedCall { name, arguments })
}

/// Reads calls that were decoded elsewhere: a list of objects with one key, whose value is an object.
///
/// # Errors
/// [`ErrorKind::DecoderWrongOutputFormat`] for anything else.
pub fn decoded_calls(value: &Value) -> Result<Vec<DecodedCall<'_>>, ErrorKind> {
    fn call(call: &Value) -> Option<DecodedCall<'_>> {
        let call = call.as_dict().filter(|call| call.len() == 1)?;
        let (name, arguments) = call.first()?;
        Some(DecodedCall {
            name: Some(Cow::Borrowed(name)),
            arguments: arguments.as_dict()?.into(),
        })
    }
    value
        .as_list()
        .and_then(|calls| calls.iter().map(call).collect())
        .ok_or(ErrorKind::DecoderWrongOutputFormat)
}

/// Decodes an answer into call strings for the back ends: `NAME(k=repr,k=repr)`.
///
/// # Errors
/// [`Undecodable`], as for [`decode_calls`]; arguments may also be a string that holds a JSON object.
pub fn decode_executable(text: &str) -> Result<Vec<String>, Undecodable> {
    calls::blocks(text).map(call_string).collect()
}

fn call_string(block: Block<'_>) -> Result<String, Undecodable> {
    let Block::Object {
        name: Some(name),
        arguments: Some(given),
    } = block
    else {
        return Err(Undecodable);
    };
    let name = match &name {
        Value::List(_) | Value::Dict(_) => return Err(Undecodable),
        name => python::str(name),
    };
    let arguments = match given {
        Given::Object(arguments) => arguments,
        Given::Other(Value::Str(text)) => match loads(&text) {
            Some(Value::Dict(arguments)) => arguments.into(),
            _ => return Err(Undecodable),
        },
        Given::Other(_) => return Err(Undecodable),
    };
    let mut out = String::with_capacity(64);
    out.push_str(&name);
    out.push('(');
    for (index, (name, value)) in arguments.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        out.push_str(name);
        out.push('=');
        python::write_repr(&mut out, value);
    }
    out.push(')');
    Ok(out)
}

/// Whether the decoded step ends the turn: no calls, or one call that is an empty text.
pub(super) fn is_empty_step(calls: &[String]) -> bool {
    matches!(calls, []) || matches!(calls, [call] if call.is_empty())
}
