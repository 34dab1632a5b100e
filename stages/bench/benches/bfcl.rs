//! Throughput of checks, of dialogues, and of a whole run.

use divan::Bencher;
use divan::counter::ItemsCount;
use starling_bench::bfcl::{Answer, Answers, Bfcl, Category, DecodedCall, Item};
use starling_text::json::{Map, Value};
use starling_text::python;

fn main() {
    divan::main();
}

fn bfcl() -> Bfcl {
    Bfcl::embedded().expect("the data of the binary")
}

const AST: [Category; 10] = [
    Category::SimplePython,
    Category::SimpleJava,
    Category::SimpleJavaScript,
    Category::Multiple,
    Category::Parallel,
    Category::ParallelMultiple,
    Category::LiveSimple,
    Category::LiveMultiple,
    Category::LiveParallel,
    Category::LiveParallelMultiple,
];

/// Calls made of the first alternative of every parameter that must be given.
fn accepted_calls(item: &Item) -> Vec<DecodedCall> {
    let call = |answer: &Value| {
        let (name, parameters) = answer.as_dict()?.first()?;
        let first = |(name, alternatives): (&String, &Value)| {
            let alternatives = alternatives.as_list()?;
            let value = alternatives.first()?;
            let empty = matches!(value, Value::Str(text) if text.is_empty());
            let value = match item.category {
                // Literals of these languages are texts.
                Category::SimpleJava | Category::SimpleJavaScript => {
                    Value::Str(python::str(value).into_owned())
                }
                _ => value.clone(),
            };
            (!empty).then(|| (name.clone(), value))
        };
        let arguments: Map = parameters.as_dict()?.iter().filter_map(first).collect();
        Some(DecodedCall {
            name: Some(name.clone()),
            arguments,
        })
    };
    item.answers().iter().filter_map(call).collect()
}

/// The text that a model would write for these calls.
fn text(calls: &[DecodedCall]) -> String {
    let block = |call: &DecodedCall| {
        let name = Value::Str(call.name.clone().unwrap_or_default());
        let arguments = Value::Dict(call.arguments.clone());
        let entries = [
            ("name".to_owned(), name),
            ("arguments".to_owned(), arguments),
        ];
        let call = Value::Dict(entries.into_iter().collect());
        format!(
            "<tool_call>\n{}\n</tool_call>",
            starling_text::json::dumps(&call)
        )
    };
    calls.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[divan::bench]
fn ast_checks(bencher: Bencher<'_, '_>) {
    let bfcl = bfcl();
    let items = AST.iter().flat_map(|c| bfcl.items(*c).expect("data"));
    let cases: Vec<_> = items.map(|item| (item, accepted_calls(item))).collect();
    bencher.counter(ItemsCount::new(cases.len())).bench(|| {
        let valid = |(item, calls): &&(&Item, Vec<DecodedCall>)| {
            bfcl.check_calls(item, calls, false).is_valid()
        };
        cases.iter().filter(valid).count()
    });
}

#[divan::bench]
fn ast_decode_and_check(bencher: Bencher<'_, '_>) {
    let bfcl = bfcl();
    let items = AST.iter().flat_map(|c| bfcl.items(*c).expect("data"));
    let cases: Vec<_> = items
        .map(|item| (item, text(&accepted_calls(item))))
        .collect();
    bencher.counter(ItemsCount::new(cases.len())).bench(|| {
        cases
            .iter()
            .filter(|(item, text)| bfcl.check(item, text).is_valid())
            .count()
    });
}

/// The accepted calls as the one step of each turn.
fn accepted_turns(item: &Item) -> Vec<Vec<Vec<String>>> {
    let calls = |turn: &Value| -> Vec<String> {
        let calls = turn.as_list().unwrap_or_default().iter();
        calls
            .filter_map(|call| call.as_str().map(str::to_owned))
            .collect()
    };
    item.answers()
        .iter()
        .map(|turn| vec![calls(turn)])
        .collect()
}

#[divan::bench(args = [Category::MultiTurnBase, Category::MultiTurnMissFunc, Category::MultiTurnMissParam, Category::MultiTurnLongContext])]
fn trajectories(bencher: Bencher<'_, '_>, category: Category) {
    let bfcl = bfcl();
    let items = bfcl.items(category).expect("data");
    let cases: Vec<_> = items
        .iter()
        .map(|item| (item, accepted_turns(item)))
        .collect();
    bencher.counter(ItemsCount::new(cases.len())).bench(|| {
        let valid = |(item, turns): &&(&Item, Vec<Vec<Vec<String>>>)| {
            bfcl.check_turn_calls(item, turns).is_valid()
        };
        cases.iter().filter(valid).count()
    });
}

/// Data unpacked, every item answered, everything scored: what a process does once.
#[divan::bench]
fn whole_run(bencher: Bencher<'_, '_>) {
    let prepared = bfcl();
    let mut answers = Answers::new();
    for category in Category::ALL {
        for item in prepared.items(category).expect("data") {
            let answer = match item.scenario() {
                None => Answer::Text(text(&accepted_calls(item))),
                Some(_) => Answer::Turns(
                    item.answers()
                        .iter()
                        .map(|turn| vec![turn_text(turn)])
                        .collect(),
                ),
            };
            answers.insert(item.id.clone(), answer);
        }
    }
    bencher
        .counter(ItemsCount::new(answers.len()))
        .bench(|| bfcl().score(&answers).expect("data").total().correct);
}

/// Calls of a turn as tool calls; positional arguments, which these cannot express, are left out.
fn turn_text(turn: &Value) -> String {
    let calls = accepted_turn_calls(turn);
    text(&calls)
}

fn accepted_turn_calls(turn: &Value) -> Vec<DecodedCall> {
    let call = |call: &Value| {
        let mut calls = starling_text::pycall::parse_calls(call.as_str()?).ok()?;
        let call = calls.pop()?;
        let keyword = |(name, value): (Option<String>, starling_text::pycall::Expr)| {
            Some((name?, value.to_value()?))
        };
        Some(DecodedCall {
            name: call.function.dotted_name(),
            arguments: call.keywords.into_iter().filter_map(keyword).collect(),
        })
    };
    turn.as_list()
        .unwrap_or_default()
        .iter()
        .filter_map(call)
        .collect()
}
