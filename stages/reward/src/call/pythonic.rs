//! Calls as a list of Python expressions.

use starling_text::json::{Map, Value};
use starling_text::pycall;
use starling_text::python;

use super::{Answer, Call, CallError, without_end};

/// Words that cannot name an argument in a call expression.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

/// Reads `[f(a=1), …]`; a text that opens no list is a reply. Arguments need names and literal values.
pub(super) fn parse(text: &str) -> Result<Answer, CallError> {
    let body = without_end(text);
    if !body.starts_with('[') {
        return Ok(Answer::Reply(text.to_owned()));
    }
    let failed = |error: &dyn std::fmt::Display| CallError::Expression(error.to_string());
    let calls = pycall::parse_calls(body).map_err(|error| failed(&error))?;
    Ok(Answer::listed(
        calls.iter().map(read).collect::<Result<_, _>>()?,
    ))
}

fn read(call: &pycall::Call) -> Result<Call, CallError> {
    let failed = |what: &str| CallError::Expression(what.to_owned());
    let name = call
        .function
        .dotted_name()
        .ok_or_else(|| failed("the function has no name"))?;
    if !call.args.is_empty() {
        return Err(failed("an argument has no name"));
    }
    let mut arguments = Map::new();
    for (keyword, expression) in &call.keywords {
        let value = expression
            .to_value()
            .ok_or_else(|| failed("an argument is no literal"))?;
        match (keyword, value) {
            (Some(keyword), value) => drop(arguments.insert(keyword.clone(), value)),
            (None, Value::Dict(more)) => arguments.extend(more),
            (None, _) => return Err(failed("`**` before something else than a dict")),
        }
    }
    Ok(Call::new(name, arguments))
}

/// Writes calls so that [`parse`] and Python read them back. What cannot stand before `=` is put into
/// `**{…}`. A function's name is written as it is, so one with spaces in it cannot be read back.
pub(super) fn render(calls: &[Call]) -> String {
    let calls: Vec<String> = calls.iter().map(write).collect();
    format!("[{}]", calls.join(", "))
}

fn write(call: &Call) -> String {
    let mut parts = Vec::new();
    let mut rest = Map::new();
    match &call.arguments {
        Value::Dict(map) => {
            for (name, value) in map {
                if is_identifier(name) {
                    parts.push(format!("{name}={}", python::repr(value)));
                } else {
                    rest.insert(name.clone(), value.clone());
                }
            }
        }
        other => parts.push(format!("*{}", python::repr(other))),
    }
    if !rest.is_empty() {
        parts.push(format!("**{}", python::repr(&Value::Dict(rest))));
    }
    format!("{}({})", python::str(&call.name), parts.join(", "))
}

/// Only ASCII names count: Python would normalise others.
fn is_identifier(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte.is_ascii_digit())
        && !KEYWORDS.contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use starling_text::json;

    use super::*;

    fn read_back(arguments: Map) -> Result<Answer, CallError> {
        parse(&render(&[Call::new("ns.f", arguments)]))
    }

    #[test]
    fn calls_are_written_as_python_writes_them() {
        let arguments =
            json::parse(r#"{"a": "it's", "from": null, "b c": [true, 1.0, {"k": "\n"}]}"#);
        let arguments = arguments
            .expect("well formed")
            .as_dict()
            .expect("an object")
            .clone();
        let text = r#"[ns.f(a="it's", **{'from': None, 'b c': [True, 1.0, {'k': '\n'}]})]"#;
        assert_eq!(render(&[Call::new("ns.f", arguments.clone())]), text);
        assert_eq!(
            read_back(arguments.clone()).map(|a| a.calls().to_vec()),
            Ok(vec![Call::new("ns.f", arguments)])
        );
    }

    #[test]
    fn what_names_no_argument_is_an_error() {
        for text in [
            "[f(1)]",
            "[f(a=b)]",
            "[f(a=g())]",
            "[1]",
            "[f(",
            "[f(**3)]",
            "[f()()]",
        ] {
            assert!(
                matches!(parse(text), Err(CallError::Expression(_))),
                "{text}"
            );
        }
        assert_eq!(parse("[]"), Ok(Answer::Reply(String::new())));
        assert_eq!(parse("f(a=1)"), Ok(Answer::Reply("f(a=1)".into())));
    }

    fn literal() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>()
                .prop_filter("finite", |float| float.is_finite())
                .prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
                prop::collection::vec((any::<String>(), inner), 0..3)
                    .prop_map(|entries| Value::Dict(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(entries in prop::collection::vec(("[a-z_]{1,3}|.{0,3}|from", literal()), 0..4)) {
            let arguments: Map = entries.into_iter().collect();
            let read = read_back(arguments.clone());
            let calls = read.map(|answer| answer.calls().to_vec());
            let calls = calls.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(calls.len(), 1);
            prop_assert!(python::eq(&calls[0].arguments, &Value::Dict(arguments)));
        }
    }
}
