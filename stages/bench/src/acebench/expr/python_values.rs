//! Values that CPython gave.
//!
//! Each row of `tests/expressions.jsonl` is an expression (`source`) and what the official evaluator's
//! `resolve_ast_by_type(ast.parse(source, mode="eval").body)` made of it under CPython 3.11.7, as its `repr` (`value`),
//! or null where it raised. Its `eval` was given no builtins and no variables, since those are the known difference (see
//! `eval/mod.rs`); addresses in the `repr` of functions and generators were made equal. Three hundred expressions
//! are chosen, rule by rule, the others are a sample of random ones.

use starling_text::json;

use super::super::calls::{NestedCalls, Resolver};
use super::{Value, parse, write_repr};

const ROWS: &str = include_str!("../../../tests/expressions.jsonl");

fn printed(value: &Value<'_>) -> String {
    let mut out = String::new();
    write_repr(&mut out, value).expect("no integer is too long");
    out
}

#[test]
fn expressions_have_the_values_that_python_gives_them() {
    let mut wrong = Vec::new();
    for line in ROWS.lines() {
        let row = json::parse(line).expect("JSON");
        let text = |key| row.get(key).and_then(json::Value::as_str);
        let source = text("source").expect("a source");
        let mut resolver = Resolver::new(NestedCalls::Map);
        let value = parse(source).and_then(|expr| resolver.value(expr));
        let value = value.ok().as_ref().map(printed);
        if value.as_deref() != text("value") {
            wrong.push((source.to_owned(), value));
        }
    }
    assert!(ROWS.lines().count() > 600);
    assert!(wrong.is_empty(), "{wrong:#?}");
}
