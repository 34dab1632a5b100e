//! Throughput of checks, of dialogues, and of a whole run, on the workloads of `scripts/bench/official_bfcl.py`.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::read::MultiGzDecoder;
use starling_bench::bfcl::{Bfcl, Category, DecodedCall, Item, Verdict, decoded_calls, read_lines};
use starling_text::json::{self, Value};

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn bfcl() -> Bfcl {
    Bfcl::embedded().expect("the data of the binary")
}

/// The text of a file of expected results.
fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/bfcl");
    let bytes = fs::read(folder.join(name)).expect("expected results");
    let mut text = String::new();
    let mut reader = MultiGzDecoder::new(&bytes[..]);
    reader.read_to_string(&mut text).expect("gzip");
    text
}

fn rows(name: &str) -> Vec<Value> {
    let rows = golden(name);
    let rows = rows.lines().map(|line| json::parse(line).expect("JSON"));
    rows.collect()
}

fn field<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Cases of categories with accepted calls, whose output is a list of decoded calls.
fn cases() -> Vec<Value> {
    let is_case = |row: &Value| {
        let answered = !field(row, "category").contains("relevance");
        answered
            && row
                .get("output")
                .is_some_and(|output| output.as_list().is_some())
    };
    rows("cases_public.jsonl.gz")
        .into_iter()
        .filter(is_case)
        .collect()
}

fn item<'a>(bfcl: &'a Bfcl, row: &Value) -> &'a Item {
    bfcl.item(field(row, "id"))
        .expect("data")
        .expect("a known id")
}

/// The text that a model would write for decoded calls.
fn text(calls: &[DecodedCall<'_>]) -> String {
    let block = |call: &DecodedCall<'_>| {
        let name = Value::from(call.name.as_deref().unwrap_or_default());
        let arguments = Value::Dict(call.arguments.clone().into_map());
        let entries = [
            ("name".to_owned(), name),
            ("arguments".to_owned(), arguments),
        ];
        let call = json::dumps(&Value::Dict(entries.into_iter().collect()));
        format!("<tool_call>\n{call}\n</tool_call>")
    };
    calls.iter().map(block).collect::<Vec<_>>().join("\n")
}

#[divan::bench]
fn checks(bencher: Bencher<'_, '_>) {
    let (bfcl, rows) = (bfcl(), cases());
    let case = |row| {
        let output: &Value = Value::get(row, "output")?;
        Some((item(&bfcl, row), decoded_calls(output).ok()?))
    };
    let cases: Vec<(&Item, Vec<DecodedCall<'_>>)> = rows.iter().filter_map(case).collect();
    let check =
        |(item, calls): &(&Item, Vec<DecodedCall<'_>>)| bfcl.check_calls(item, calls, false);
    run(bencher, &cases, check);
}

#[divan::bench]
fn decode_and_check(bencher: Bencher<'_, '_>) {
    let (bfcl, rows) = (bfcl(), cases());
    let case = |row: &Value| {
        let calls = decoded_calls(row.get("output")?).ok()?;
        Some((item(&bfcl, row), text(&calls)))
    };
    let cases: Vec<(&Item, String)> = rows.iter().filter_map(case).collect();
    run(bencher, &cases, |(item, text)| bfcl.check(item, text));
}

/// Checks every case once before the clock runs, so that what is compiled once an entry is compiled.
fn run<T: Sync>(bencher: Bencher<'_, '_>, cases: &[T], check: impl Fn(&T) -> Verdict + Sync) {
    let valid = || cases.iter().filter(|case| check(case).is_valid()).count();
    let expected = valid();
    bencher
        .counter(ItemsCount::new(cases.len()))
        .bench(|| assert_eq!(valid(), expected));
}

/// Turns of steps of call strings: the accepted calls as the one step of each turn.
fn accepted(item: &Item) -> Vec<Vec<Vec<String>>> {
    let step = |turn: &Value| -> Vec<String> {
        let calls = turn.as_list().unwrap_or_default().iter();
        calls
            .filter_map(|call| call.as_str().map(str::to_owned))
            .collect()
    };
    let turns = item.answers().iter();
    turns.map(|turn| vec![step(turn)]).collect()
}

#[divan::bench(args = [Category::MultiTurnBase, Category::MultiTurnMissFunc, Category::MultiTurnMissParam, Category::MultiTurnLongContext])]
fn dialogues(bencher: Bencher<'_, '_>, category: Category) {
    let bfcl = bfcl();
    let items = bfcl.items(category).expect("data");
    let cases: Vec<_> = items.iter().map(|item| (item, accepted(item))).collect();
    run(bencher, &cases, |(item, turns)| {
        bfcl.check_turn_calls(item, turns)
    });
}

/// Results read, data unpacked, everything scored: what a process does once.
#[divan::bench]
fn whole_run(bencher: Bencher<'_, '_>) {
    let results = golden("e2e_public_results.jsonl.gz");
    let answers = || read_lines(&results, Path::new("results")).expect("results");
    bencher
        .counter(ItemsCount::new(answers().len()))
        .bench(|| bfcl().score(&answers()).expect("data").total().correct);
}
