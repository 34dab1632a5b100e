//! From a message of the model to calls on the environment.

use std::sync::LazyLock;

use regex::Regex;

use crate::acebench::calls::{CallValue, NestedCalls, Resolver};
use crate::acebench::expr::{Expr, Reject, Value, is_keyword, parse, write_repr, write_str};

/// A call as the official program would run it.
///
/// It prints the call, looks for the first name before a bracket, and evaluates the text with that name
/// replaced; so what is run depends on the printed form.
#[derive(Debug, Clone)]
pub(super) struct AgentCall {
    /// The name that is replaced, and whether it is the whole of what is called.
    pub(super) method: Option<(String, bool)>,
    /// Missing when evaluating the printed arguments would raise.
    pub(super) arguments: Option<Vec<(String, Value<'static>)>>,
}

/// How elements that are no calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elements {
    /// They are an error.
    CallsOnly,
    /// They are passed over.
    SkipOthers,
}

/// Reads a message; brackets at its ends may be missing, and quotes there do not count.
pub(super) fn read_message(message: &str, elements: Elements) -> Result<Vec<AgentCall>, Reject> {
    if message.is_empty() {
        return Err(Reject);
    }
    let text = message.strip_prefix(' ').unwrap_or(message);
    // Missing brackets are added and then cut off again with any others.
    let text = text.trim_matches(['[', ']', '\'']);
    let found = match parse(text)? {
        call @ Expr::Call(_) => vec![call],
        Expr::Tuple(items) | Expr::List(items) => items,
        _ => Vec::new(),
    };
    let mut resolver = Resolver::new(NestedCalls::MapOrText);
    let mut calls = Vec::new();
    for item in found {
        match item {
            call @ Expr::Call(_) => calls.push(resolver.call(call)?),
            _ if elements == Elements::SkipOthers => {}
            _ => return Err(Reject),
        }
    }
    calls.iter().map(AgentCall::new).collect()
}

impl AgentCall {
    fn new(call: &CallValue<'_>) -> Result<Self, Reject> {
        static METHOD: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"\b([a-zA-Z_]\w*)\s*\(").expect("a fixed pattern"));
        let mut printed = format!("{}(", call.name);
        let mut arguments = Some(Vec::with_capacity(call.arguments.len()));
        for (i, (name, value)) in call.arguments.iter().enumerate() {
            printed.push_str(if i > 0 { ", " } else { "" });
            printed.push_str(name.as_deref().unwrap_or("None"));
            printed.push('=');
            print_argument(&mut printed, value)?;
            match (name, &mut arguments, read_back(value)) {
                (Some(name), Some(arguments), Some(value)) => {
                    arguments.push((name.to_string(), value));
                }
                _ => arguments = None,
            }
        }
        printed.push(')');
        let method = METHOD.captures(&printed).map(|captures| {
            let name = captures.get(1).map_or("", |found| found.as_str());
            (
                name.to_owned(),
                name == call.name && printed.starts_with(name),
            )
        });
        Ok(Self { method, arguments })
    }
}

/// A map is printed as a call of its first key.
fn print_argument(out: &mut String, value: &Value<'_>) -> Result<(), Reject> {
    let Value::Dict(entries) = value else {
        return write_repr(out, value).map_err(|_| Reject);
    };
    let Some((name, Value::Dict(arguments))) = entries.first() else {
        return Err(Reject);
    };
    write_str(out, name).map_err(|_| Reject)?;
    out.push('(');
    for (i, (key, value)) in arguments.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write_str(out, key).map_err(|_| Reject)?;
        out.push('=');
        print_argument(out, value)?;
    }
    out.push(')');
    Ok(())
}

/// What the printed value evaluates to. A map was printed as a call, of a name that nothing has unless it is
/// `dict`; infinity and NaN are names of nothing.
fn read_back(value: &Value<'_>) -> Option<Value<'static>> {
    let Value::Dict(entries) = value else {
        return finite(value).then(|| owned(value));
    };
    let Some((name, Value::Dict(arguments))) = entries.first() else {
        return None;
    };
    if name.as_str() != Some("dict") {
        return None;
    }
    let arguments = arguments.iter().map(|(key, value)| {
        let key = key.as_str().filter(|key| is_argument_name(key))?;
        Some((Value::Str(key.to_owned().into()), read_back(value)?))
    });
    arguments.collect::<Option<_>>().map(Value::Dict)
}

/// Whether a text can stand before the `=` of a keyword argument and is passed on as it is.
fn is_argument_name(text: &str) -> bool {
    !is_keyword(text)
        && text.is_ascii()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
}

fn finite(value: &Value<'_>) -> bool {
    match value {
        Value::Float(float) => float.is_finite(),
        Value::Complex(re, im) => re.is_finite() && im.is_finite(),
        Value::List(items) | Value::Tuple(items) => items.iter().all(finite),
        Value::Dict(entries) => entries
            .iter()
            .all(|(key, value)| finite(key) && finite(value)),
        _ => true,
    }
}

/// A complex number is printed as a sum, in which a zero part loses its sign, or as the negative of its
/// imaginary part, in which the real part gains one.
fn complex_read_back(re: f64, im: f64) -> (f64, f64) {
    let unsigned = |part: f64| part + 0.0;
    if re.to_bits() == 0 && im.is_sign_negative() {
        return (-0.0, im);
    }
    (unsigned(re), unsigned(im))
}

fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::None => Value::None,
        Value::Bool(bool) => Value::Bool(*bool),
        Value::Int(int) => Value::Int(*int),
        Value::BigInt(int) => Value::BigInt(int.clone()),
        Value::Float(float) => Value::Float(*float),
        Value::Complex(re, im) => {
            let (re, im) = complex_read_back(*re, *im);
            Value::Complex(re, im)
        }
        Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Value::Str(text) => Value::Str(text.to_string().into()),
        Value::List(items) => Value::List(items.iter().map(owned).collect()),
        Value::Tuple(items) => Value::Tuple(items.iter().map(owned).collect()),
        Value::Dict(entries) => Value::Dict(
            entries
                .iter()
                .map(|(key, value)| (owned(key), owned(value)))
                .collect(),
        ),
        Value::Set(items) => Value::Set(items.iter().map(owned).collect()),
        Value::Ellipsis => Value::Ellipsis,
        Value::Opaque(printed) => Value::Opaque(printed),
    }
}
