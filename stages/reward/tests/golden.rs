//! The reward, ROUGE and data preparation against the reference programs' own answers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use starling_reward::rouge::{Words, rouge_l, text_similarity};
use starling_reward::{Label, Mode, ToolSet, score, stem, toolrl::toolrl};
use starling_text::json::{self, ParseErrorKind, Value};

/// The folder of golden data: `STARLING_GOLDEN`, else `tests/golden` of the workspace.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are pointed at other data by the environment"
)]
fn golden() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join(std::env::var("STARLING_GOLDEN").unwrap_or_else(|_| "tests/golden".into()))
}

fn unpack(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// The rows of all files of a set, whatever their suffix. A row with an escaped lone surrogate, which UTF-8
/// cannot hold, is null.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let folder = golden().join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let stem = name.strip_suffix(".jsonl.gz").unwrap_or_default();
            stem == set
                || stem
                    .strip_prefix(set)
                    .is_some_and(|rest| rest.starts_with('_'))
        })
        .collect();
    files.sort();
    let parse = |line: &str| match json::parse(line) {
        Err(error) if error.kind == ParseErrorKind::LoneSurrogate => Value::Null,
        parsed => parsed.unwrap_or_else(|error| panic!("{error}: {line}")),
    };
    files
        .iter()
        .flat_map(|file| unpack(file).lines().map(parse).collect::<Vec<_>>())
        .collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text {key}: {row:?}"))
}

fn number(row: &Value, key: &str) -> f64 {
    row.get(key)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number {key}: {row:?}"))
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

fn finish(set: &str, cases: usize) {
    println!("golden star {set}: {cases} cases");
    assert!(cases > 0, "no cases");
}

#[test]
fn golden_star_reward() {
    let tools: BTreeMap<String, _> = rows("star/reward", "tools")
        .iter()
        .map(|row| {
            let set = match row.get("tools") {
                Some(tools) => ToolSet::from_value(tools, Mode::Faithful),
                None => ToolSet::from_prompt(text(row, "prompt"), Mode::Faithful),
            };
            (text(row, "tools_id").to_owned(), set)
        })
        .collect();
    let rows = rows("star/reward", "reward");
    for row in &rows {
        if row.is_null() {
            continue;
        }
        let outcome = text(row, "outcome");
        let set = &tools[text(row, "tools_id")];
        let label = Label::parse(text(row, "label"), Mode::Faithful);
        let cause = row.get("cause").and_then(Value::as_str);
        let (set, label) = match (set, label, cause) {
            (Err(_), _, cause) => {
                assert_eq!(cause, Some("prompt"), "{row:?}");
                continue;
            }
            (_, Err(_), cause) => {
                let surrogate = row.get("note").and_then(Value::as_str) == Some("lone_surrogate");
                assert!(surrogate || cause == Some("label"), "{row:?}");
                continue;
            }
            (Ok(set), Ok(label), _) => (set, label),
        };
        let got = score(set, &label, text(row, "generation"), Mode::Faithful);
        if outcome == "raises" {
            // Where the reference stops, bad format is returned, or the label is refused beforehand.
            assert_eq!(cause, Some("scoring"), "{row:?}");
            let refused = Label::parse(text(row, "label"), Mode::Fixed).is_err();
            let fixed = Label::parse(text(row, "label"), Mode::Fixed)
                .map(|label| score(set, &label, text(row, "generation"), Mode::Fixed).reward);
            assert!(refused || fixed == Ok(-1.0), "{row:?}");
            assert!(close(got.reward, -1.0, 0.0), "{row:?} {got:?}");
            continue;
        }
        let surrogate = row.get("note").and_then(Value::as_str) == Some("lone_surrogate");
        if surrogate && close(got.reward, -1.0, 0.0) {
            continue;
        }
        for (name, got) in [
            ("reward", got.reward),
            ("format_reward", got.format_reward),
            ("answer_reward", got.answer_reward),
        ] {
            assert!(
                close(got, number(row, name), 1e-12),
                "{name} is {got}: {row:?}"
            );
        }
        let bad_format = got.why.is_some_and(|fault| fault.is_format());
        assert_eq!(bad_format, outcome == "invalid", "{row:?}");
    }
    finish("reward", rows.len());
}

#[test]
fn golden_star_rouge() {
    let rows = rows("star/rouge", "rouge");
    for row in &rows {
        let (a, b) = (text(row, "pred"), text(row, "ref"));
        let got = rouge_l(a, b, Words::Ascii);
        for (name, got) in [
            ("precision", got.precision),
            ("recall", got.recall),
            ("fmeasure", got.f_measure),
            ("similarity", text_similarity(a, b, Words::Ascii)),
        ] {
            assert!(
                close(got, number(row, name), 1e-12),
                "{name} is {got}: {row:?}"
            );
        }
    }
    finish("rouge", rows.len());
}

#[test]
fn golden_star_stems() {
    let rows = rows("star/rouge", "stems");
    for row in &rows {
        assert_eq!(stem(text(row, "word")), text(row, "stem"), "{row:?}");
    }
    finish("stems", rows.len());
}

#[test]
fn golden_star_toolrl() {
    let rows = rows("star/baselines", "toolrl");
    for row in &rows {
        let got = toolrl(text(row, "response"), text(row, "ground_truth")).unwrap();
        for (name, got) in [
            ("format", got.format),
            ("correctness", got.correctness),
            ("score", got.score()),
        ] {
            assert!(
                close(got, number(row, name), 1e-9),
                "{name} is {got}: {row:?}"
            );
        }
    }
    finish("toolrl", rows.len());
}
