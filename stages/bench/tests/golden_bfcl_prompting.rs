//! Prompting mode against the package bfcl-eval: prompts, decoded calls, verdicts.

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use sha2::{Digest as _, Sha256};
use starling_bench::bfcl::{
    Bfcl, Category, DecodedCall, Language, Mode, decode_prompted, decode_prompted_executable,
};
use starling_text::json::{self, Value};

fn rows(prefix: &str) -> Vec<Value> {
    let files = golden::own_files("bfcl", |name| name.starts_with(prefix));
    let texts: Vec<String> = files.iter().map(|path| golden::text(path)).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    lines.map(|line| json::parse(line).expect("JSON")).collect()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn bfcl() -> Bfcl {
    let bfcl = Bfcl::embedded().expect("the data of the binary");
    bfcl.in_mode(Mode::Prompting)
}

/// Every row of `differing` is told, for one alone says little.
fn none(differing: &[String], all: usize) {
    assert!(
        differing.is_empty(),
        "{} of {all} differ:\n{}",
        differing.len(),
        differing[..differing.len().min(20)].join("\n")
    );
}

#[test]
fn prompts_are_the_packages() {
    let bfcl = bfcl();
    let rows = rows("prompting_prompts");
    assert!(rows.len() > 1000);
    let differs = |row: &&Value| {
        let item = bfcl.item(text(row, "id")).expect("data").expect("an entry");
        let prompt = match bfcl.dialogue(item) {
            Some(mut dialogue) => dialogue.next_query().expect("a query"),
            None => bfcl.prompt(item).text().expect("a prompt"),
        };
        let length = prompt.chars().count() as i64;
        let digest: String = Sha256::digest(&prompt)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        row.get("len").and_then(Value::as_i64) != Some(length) || digest != text(row, "sha256")
    };
    let differing: Vec<String> = rows
        .iter()
        .filter(differs)
        .map(|row| text(row, "id").to_owned())
        .collect();
    none(&differing, rows.len());
}

#[test]
fn calls_are_decoded_as_the_package_decodes_them() {
    let rows = rows("prompting_calls");
    assert!(rows.len() > 1000);
    let mut differing = Vec::new();
    for row in &rows {
        let found = decode_prompted_executable(text(row, "text")).ok();
        let found = found.map_or(Value::Null, |calls| {
            Value::List(calls.into_iter().map(Value::from).collect())
        });
        if row.get("calls") != Some(&found) {
            differing.push(format!("{row:?} {found:?}"));
        }
    }
    none(&differing, rows.len());
}

#[test]
fn verdicts_are_the_packages() {
    let bfcl = bfcl();
    let rows = rows("prompting_cases");
    assert!(rows.len() > 1000);
    let mut differing = Vec::new();
    for row in &rows {
        let item = bfcl.item(text(row, "id")).expect("data").expect("an entry");
        let verdict = bfcl.check(item, text(row, "raw"));
        let error = verdict.error.map(|error| error.name());
        let expected = row.get("error_type").and_then(Value::as_str);
        if error != expected {
            differing.push(format!("{} {error:?} {row:?}", item.category));
        }
    }
    none(&differing, rows.len());
}

#[test]
fn sources_are_read_as_the_package_reads_them() {
    let rows = rows("prompting_source_calls");
    assert!(rows.len() > 1000);
    let mut differing = Vec::new();
    for row in &rows {
        let language = match text(row, "language") {
            "java" => Language::Java,
            _ => Language::JavaScript,
        };
        let found = match decode_prompted(text(row, "text"), language) {
            Err(kind) => Value::from(kind.name()),
            Ok(calls) => Value::List(calls.iter().map(written).collect()),
        };
        if row.get("calls") != Some(&found) {
            differing.push(format!("{row:?} {found:?}"));
        }
    }
    none(&differing, rows.len());
}

/// The name, then names and values of the arguments.
fn written(call: &DecodedCall<'_>) -> Value {
    let arguments = call.arguments.iter();
    let arguments =
        arguments.flat_map(|(name, value)| [Value::from(name.to_owned()), value.clone()]);
    let name = call.name.as_deref().unwrap_or_default();
    Value::List(
        [Value::from(name.to_owned())]
            .into_iter()
            .chain(arguments)
            .collect(),
    )
}

#[test]
fn dialogues_are_played_with_texts() {
    let bfcl = bfcl();
    let items = bfcl.items(Category::MultiTurnMissFunc).expect("data");
    let valid = items[..60].iter().filter(|item| {
        let mut dialogue = bfcl.dialogue(item).expect("a dialogue");
        // The accepted calls of each turn in one answer, then an answer without calls, which ends the turn.
        for turn in item.answers() {
            let calls = turn.as_list().unwrap_or_default().iter();
            let calls: Vec<&str> = calls.filter_map(Value::as_str).collect();
            if !calls.is_empty() {
                assert!(dialogue.next_query().is_some());
                dialogue.answer(&format!(
                    "<think>\nwell\n</think>\n\n[{}]",
                    calls.join(", ")
                ));
                let query = dialogue.next_query().expect("the query behind the calls");
                assert!(query.contains("<tool_response>"));
            }
            assert!(dialogue.next_query().is_some());
            dialogue.answer("That is all.");
        }
        assert!(dialogue.next_query().is_none());
        dialogue.verdict().is_valid()
    });
    // Positional arguments, which this mode drops, keep the others from being right.
    let valid = valid.count();
    assert!(valid >= 20, "{valid}");
}
