//! Reading rows of golden sets, and comparing with them.

use starling_text::json::{self, ParseErrorKind, Value};
use tokenizers::Tokenizer;

use crate::golden;

/// What follows a set's name in the names of its files; mostly one, `""` or `"_public"`.
pub(crate) fn suffixes(folder: &str, set: &str) -> Vec<String> {
    let mut suffixes: Vec<_> = golden::files(folder, |name| name.ends_with(".jsonl.gz"))
        .iter()
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let suffix = name.strip_suffix(".jsonl.gz")?.strip_prefix(set)?;
            (suffix.is_empty() || suffix.starts_with('_')).then(|| suffix.to_owned())
        })
        .collect();
    suffixes.sort();
    suffixes
}

/// The rows of one file. A row with an escaped lone surrogate, which UTF-8 cannot hold, is null.
pub(crate) fn file_rows(folder: &str, name: &str) -> Vec<Value> {
    let parse = |line: &str| match json::parse(line) {
        Err(error) if error.kind == ParseErrorKind::LoneSurrogate => Value::Null,
        parsed => parsed.unwrap_or_else(|error| panic!("{error}: {line}")),
    };
    golden::text(&golden::folder(folder).join(format!("{name}.jsonl.gz")))
        .lines()
        .map(parse)
        .collect()
}

/// The rows of all files of a set, whatever their suffix.
pub(crate) fn rows(folder: &str, set: &str) -> Vec<Value> {
    let suffixes = suffixes(folder, set);
    suffixes
        .iter()
        .flat_map(|suffix| file_rows(folder, &format!("{set}{suffix}")))
        .collect()
}

pub(crate) fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text {key}: {row:?}"))
}

pub(crate) fn number(row: &Value, key: &str) -> f64 {
    row.get(key)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number {key}: {row:?}"))
}

pub(crate) fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

pub(crate) fn finish(set: &str, cases: usize) {
    println!("golden star {set}: {cases} cases");
    assert!(cases > 0, "no cases");
}

/// The documents of a set, files of one JSON value, each with what follows the set's name in the file's.
pub(crate) fn documents(set: &str) -> Vec<(String, Value)> {
    let area = "star/data";
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name()?.to_str()?;
        let suffix = name.strip_suffix(".json")?.strip_prefix(set)?;
        let document = || json::parse(&golden::text(path)).unwrap();
        (suffix.is_empty() || suffix.starts_with('_')).then(|| (suffix.to_owned(), document()))
    };
    let files = golden::files(area, |name| name.ends_with(".json"));
    files.iter().filter_map(read).collect()
}

pub(crate) fn tokenizer() -> Tokenizer {
    let text = golden::text(&golden::file("qwen3-tokenizer", "tokenizer.json.gz"));
    Tokenizer::from_bytes(text).unwrap()
}

pub(crate) fn list<'a>(row: &'a Value, key: &str) -> &'a [Value] {
    row.get(key)
        .and_then(Value::as_list)
        .unwrap_or_else(|| panic!("no list {key}: {row:?}"))
}

pub(crate) fn count(row: &Value, key: &str) -> usize {
    let count = row.get(key).and_then(Value::as_i64);
    usize::try_from(count.unwrap_or_else(|| panic!("no count {key}: {row:?}"))).unwrap()
}

/// Texts agree including the order of keys, and `1` against `1.0`.
pub(crate) fn assert_same(got: &Value, expected: &Value) {
    assert_eq!(json::dumps(got), json::dumps(expected));
}

pub(crate) fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap())
}

/// The conversations by id.
pub(crate) fn conversations() -> Vec<Value> {
    let mut rows = rows("star/data", "conversations");
    // Sets whose names begin alike hold answers, not conversations.
    rows.retain(|row| row.get("messages").is_some());
    rows
}

/// The rows of a set that a file with this suffix is about: those of the same suffix, else those without one.
pub(crate) fn rows_for(set: &str, suffix: &str) -> Option<Vec<Value>> {
    let all = suffixes("star/data", set);
    let own = [suffix, ""]
        .into_iter()
        .find(|own| all.iter().any(|s| s == own))?;
    Some(file_rows("star/data", &format!("{set}{own}")))
}

/// The conversations that a file with this suffix is about; all when there are none of its suffix or without one.
pub(crate) fn conversations_for(suffix: &str) -> Vec<Value> {
    rows_for("conversations", suffix).unwrap_or_else(conversations)
}
