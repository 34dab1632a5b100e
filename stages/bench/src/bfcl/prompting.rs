//! Prompting mode: functions are described in a system message, and calls come back as text.
//!
//! | language   | what is read                                                        |
//! |------------|---------------------------------------------------------------------|
//! | Python     | one expression: a list of calls, with or without its brackets        |
//! | Java       | the first method invocation, its arguments being assignments         |
//! | JavaScript | the first statement that is a call, its arguments being assignments  |
//!
//! Java and JavaScript are read by whole grammars of theirs, as in the package.

mod literal_call;

use std::borrow::Cow;

use starling_text::json::{Dumps, Value, dumps_with};

use super::calls::{Arguments, DecodedCall};
use super::category::Language;
use super::verdict::ErrorKind;
use crate::acebench::calls::{CallValue, NestedCalls, Resolver};
use crate::acebench::expr::{self, Expr, Reject};

/// How functions reach the model, and calls come back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Functions in the tool section of the prompt, calls as `<tool_call>` blocks.
    #[default]
    FunctionCalling,
    /// Functions in a system message, calls as texts like `[f(a=1)]`.
    Prompting,
}

/// Before the documents, in the package's words.
const BEFORE: &str = "You are an expert in composing functions.You are given a question and a set of possible functions. \
    Based on the question, you will need to make one or more function/tool calls to achieve the purpose. If none of the \
    functions can be used, point it out. If the given question lacks the parameters required by the function, also point \
    it out.\n\nYou should only return the function calls in your response.\n\nIf you decide to invoke any of the \
    function(s), you MUST put it in the format of [func_name1(params_name1=params_value1, params_name2=params_value2...), \
    func_name2(params)].  You SHOULD NOT include any other text in the response.\n\nAt each turn, you should try your \
    best to complete the tasks requested by the user within the current turn. Continue to output functions to call until \
    you have fulfilled the user's request to the best of your ability. Once you have no more functions to call, the \
    system will consider the current turn complete and proceed to the next turn or task.\n\n\
    Here is a list of functions in json format that you can invoke.\n";

/// The system message of an entry with these documents.
pub(super) fn system(documents: &[Value]) -> String {
    let options = Dumps {
        ensure_ascii: true,
        indent: Some(4),
        ..Dumps::default()
    };
    let documents = dumps_with(&Value::List(documents.to_vec()), &options);
    format!("{BEFORE}{documents}\n")
}

/// The answer without what models put around it, in brackets.
fn bracketed(text: &str) -> String {
    let text = text.trim_matches(['`', '\n', ' ']);
    let open = if text.starts_with('[') { "" } else { "[" };
    let close = if text.ends_with(']') { "" } else { "]" };
    format!("{open}{text}{close}")
}

fn python_calls(text: &str) -> Result<Vec<CallValue<'_>>, Reject> {
    let (Expr::List(items) | Expr::Tuple(items) | Expr::Set(items)) = expr::parse(text)? else {
        return Err(Reject);
    };
    let mut resolver = Resolver::new(NestedCalls::MapOrText);
    items.into_iter().map(|item| resolver.call(item)).collect()
}

/// Decodes an answer into calls for the checker of single calls.
///
/// # Errors
/// [`ErrorKind::DecoderFailed`], or [`ErrorKind::DecoderWrongOutputFormat`] where what is decoded is no list.
pub fn decode_prompted(
    text: &str,
    language: Language,
) -> Result<Vec<DecodedCall<'static>>, ErrorKind> {
    let text = bracketed(text);
    if language != Language::Python {
        let inside = text.get(1..text.len() - 1).unwrap_or_default();
        return match literal_call::read(inside, language) {
            Ok(Some(call)) => Ok(vec![call]),
            Ok(None) => Err(ErrorKind::DecoderWrongOutputFormat),
            Err(_) => Err(ErrorKind::DecoderFailed),
        };
    }
    let calls = python_calls(&text).map_err(|_| ErrorKind::DecoderFailed)?;
    Ok(calls.iter().map(decoded).collect())
}

/// What a `**value` among the arguments is called; no parameter is.
const NAMELESS: &str = "\0";

fn decoded(call: &CallValue<'_>) -> DecodedCall<'static> {
    let argument = |(name, value): &(Option<Cow<'_, str>>, expr::Value<'_>)| {
        let name = name.as_deref().unwrap_or(NAMELESS).to_owned();
        (Cow::Owned(name), json_value(value))
    };
    DecodedCall {
        name: Some(Cow::Owned(call.name.clone().into_owned())),
        arguments: call
            .arguments
            .iter()
            .map(argument)
            .collect::<Arguments<'_>>(),
    }
}

/// A Python value as JSON holds it; see [`foreign`] for those that it cannot.
fn json_value(value: &expr::Value<'_>) -> Value {
    match value {
        expr::Value::None => Value::Null,
        expr::Value::Bool(value) => Value::Bool(*value),
        expr::Value::Int(int) => Value::Int(*int),
        expr::Value::BigInt(int) => Value::BigInt(int.clone()),
        expr::Value::Float(float) => Value::Float(*float),
        expr::Value::Str(text) => Value::Str(text.to_string()),
        expr::Value::List(items) => Value::List(items.iter().map(json_value).collect()),
        expr::Value::Tuple(items) => foreign::tuple(items.iter().map(json_value)),
        expr::Value::Dict(entries) => {
            let entry = |(key, value): &(expr::Value<'_>, expr::Value<'_>)| {
                // No accepted object has a key that is no text; this one is in none either.
                let key = key
                    .as_str()
                    .map_or_else(|| format!("\0{key:?}"), str::to_owned);
                (key, json_value(value))
            };
            Value::Dict(entries.iter().map(entry).collect())
        }
        expr::Value::Complex(..)
        | expr::Value::Bytes(_)
        | expr::Value::Set(_)
        | expr::Value::Ellipsis
        | expr::Value::Opaque(_) => foreign::other(),
    }
}

/// Python values that JSON has no form for: they have a type of their own and equal nothing.
///
/// They are marked by a `nan` with bits that no text is read as.
pub(super) mod foreign {
    use starling_text::json::Value;

    const MARK: u64 = 0x7ff8_0000_0000_b4c1;

    fn is_mark(value: &Value) -> bool {
        matches!(value, Value::Float(float) if float.to_bits() == MARK)
    }

    /// A value that is only known not to be anything else.
    pub(in crate::bfcl) fn other() -> Value {
        Value::Float(f64::from_bits(MARK))
    }

    /// A tuple.
    pub(in crate::bfcl) fn tuple(items: impl Iterator<Item = Value>) -> Value {
        Value::List(std::iter::once(other()).chain(items).collect())
    }

    /// The elements of a tuple.
    pub(in crate::bfcl) fn elements(value: &Value) -> Option<&[Value]> {
        let (mark, items) = value.as_list()?.split_first()?;
        is_mark(mark).then_some(items)
    }

    /// Whether the value is one of these.
    pub(in crate::bfcl) fn is(value: &Value) -> bool {
        is_mark(value) || elements(value).is_some()
    }
}

/// Decodes an answer into call strings for the back ends.
///
/// # Errors
/// [`ErrorKind::DecoderFailed`].
pub fn decode_prompted_executable(text: &str) -> Result<Vec<String>, ErrorKind> {
    let text = bracketed(text);
    let calls = python_calls(&text).and_then(|calls| calls.iter().map(call_string).collect());
    calls.map_err(|_| ErrorKind::DecoderFailed)
}

fn call_string(call: &CallValue<'_>) -> Result<String, Reject> {
    let mut out = format!("{}(", call.name);
    for (index, (name, value)) in call.arguments.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        out.push_str(name.as_deref().unwrap_or("None"));
        out.push('=');
        write_nested(&mut out, value)?;
    }
    out.push(')');
    Ok(out)
}

/// An object that holds only objects is written as a call, whatever it was.
fn write_nested(out: &mut String, value: &expr::Value<'_>) -> Result<(), Reject> {
    let print =
        |out: &mut String, value: &expr::Value<'_>| expr::write_str(out, value).map_err(|_| Reject);
    let expr::Value::Dict(entries) = value else {
        return expr::write_repr(out, value).map_err(|_| Reject);
    };
    if entries
        .iter()
        .all(|(_, value)| matches!(value, expr::Value::Dict(_)))
    {
        let Some((name, expr::Value::Dict(arguments))) = entries.first() else {
            return Err(Reject);
        };
        print(out, name)?;
        out.push('(');
        for (index, (name, value)) in arguments.iter().enumerate() {
            out.push_str(if index > 0 { ", " } else { "" });
            print(out, name)?;
            out.push('=');
            write_nested(out, value)?;
        }
        out.push(')');
        return Ok(());
    }
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        out.push('\'');
        print(out, key)?;
        out.push_str("': ");
        write_nested(out, value)?;
    }
    out.push('}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_calls_are_printed_as_the_package_prints_them() {
        for (text, expected) in [
            ("[f(a=1, b='x')]", Some(vec!["f(a=1, b='x')"])),
            (
                "```\nf(a=1), g(b=[1, 'y'])\n```",
                Some(vec!["f(a=1)", "g(b=[1, 'y'])"]),
            ),
            (
                "[a.b(c={'k': 1, 'l': {'m': 2}})]",
                Some(vec!["a.b(c={'k': 1, 'l': m(2)})"]),
            ),
            (
                "[f(a=(1, 2), b=-3, c=not True)]",
                Some(vec!["f(a=(1, 2), b=-3, c=-1)"]),
            ),
            ("[f(a=g(b=1), c=h())]", Some(vec!["f(a=g(b=1), c='h()')"])),
            (
                "[f(a=x[1, 2], b=g(x[1, 2]), c=x[0][1:2, 3])]",
                Some(vec!["f(a='x[(1, 2)]', b='g(x[1, 2])', c='x[0][(1:2, 3)]')"]),
            ),
            ("[f(a={})]", None),
            ("[]", Some(vec![])),
            ("no calls at all", None),
            ("[f(a=x.y)]", None),
            ("[1]", None),
            ("", Some(vec![])),
        ] {
            let found = decode_prompted_executable(text).ok();
            let expected: Option<Vec<String>> =
                expected.map(|calls| calls.into_iter().map(str::to_owned).collect());
            if text.contains("'m': 2") {
                // `{'m': 2}` is no object of objects: it stays one.
                assert_eq!(
                    found,
                    Some(vec!["a.b(c={'k': 1, 'l': {'m': 2}})".to_owned()])
                );
                continue;
            }
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn tuples_are_no_lists() {
        let calls =
            decode_prompted("[f(a=(1, 2), b=[(1,)], c=b'x')]", Language::Python).expect("calls");
        let argument = |name| calls[0].arguments.get(name).expect("an argument");
        assert_eq!(
            foreign::elements(argument("a")).map(<[Value]>::len),
            Some(2)
        );
        assert!(foreign::is(argument("c")) && !foreign::is(argument("b")));
        let read = starling_text::json::parse("[NaN, 1]").expect("JSON");
        assert!(!foreign::is(&read));
    }
}
