//! Corpora, from raw rows to training rows.

use starling_reward::Mode;
use starling_reward::prepare::{self, Corpus, DropReason, Formatter, ThinkFormat};
use starling_text::json::Value;
use starling_text::template::ChatTemplate;

use crate::rows::{assert_same, close, file_rows, finish, number, rows, suffixes, text};

fn formats(corpus: Corpus, raw: &[Value], formatted: &[Value]) -> usize {
    let mut formatter = Formatter::new(corpus, Mode::Faithful);
    let got: Vec<Value> = raw.iter().flat_map(|row| formatter.push(row)).collect();
    for (got, expected) in got.iter().zip(formatted) {
        assert_same(got, expected);
    }
    assert_eq!(got.len(), formatted.len());
    raw.len()
}

fn filters(formatted: &[Value], expected: &[Value]) -> usize {
    let template = ChatTemplate::qwen3();
    assert_eq!(formatted.len(), expected.len());
    for (row, expected) in formatted.iter().zip(expected) {
        let got = prepare::self_reward(row, &template, Mode::Faithful);
        check_own_reward(got, expected);
    }
    expected.len()
}

pub(crate) fn check_own_reward(got: Result<f64, (DropReason, f64)>, expected: &Value) {
    if expected.get("raises").is_some() {
        let rendering = [DropReason::PromptRender, DropReason::TargetRender];
        assert!(
            matches!(&got, Err((reason, _)) if rendering.contains(reason)),
            "{expected:?} {got:?}"
        );
        return;
    }
    assert_eq!(
        got.is_ok(),
        expected.get("kept") == Some(&Value::Bool(true)),
        "{expected:?} {got:?}"
    );
    let reward = got.unwrap_or_else(|(_, reward)| reward);
    assert!(
        close(reward, number(expected, "score"), 1e-12),
        "{expected:?} {reward}"
    );
}

pub(crate) fn check_trained(row: &Value, plain: &Value, with_reasoning: &str) {
    let template = ChatTemplate::qwen3();
    let convert = |reasoning| {
        prepare::train_row(row, &template, ThinkFormat::Star, reasoning, Mode::Faithful).unwrap()
    };
    assert_eq!(convert(false).inputs, text(plain, "inputs"));
    assert_eq!(convert(false).targets, text(plain, "targets"));
    assert_eq!(convert(true).targets, with_reasoning);
}

fn trains(formatted: &[Value], kept: &[Value], expected: &[Value]) -> usize {
    let is_kept = |row: &Value| row.get("kept") == Some(&Value::Bool(true));
    let rows = formatted
        .iter()
        .zip(kept)
        .filter(|(_, kept)| is_kept(kept))
        .map(|(row, _)| row);
    let rows: Vec<&Value> = rows.collect();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.into_iter().zip(expected) {
        check_trained(row, expected, text(expected, "with_reasoning"));
    }
    expected.len()
}

/// Runs the files of one corpus, each from raw rows to training rows; the number of comparisons.
fn corpus(corpus: Corpus, name: &str) -> usize {
    let mut cases = 0;
    for suffix in suffixes("star/data", &format!("{name}_raw")) {
        let part = |part: &str| file_rows("star/data", &format!("{name}_{part}{suffix}"));
        let (raw, formatted, kept) = (part("raw"), part("formatted"), part("filter"));
        cases += formats(corpus, &raw, &formatted);
        cases += filters(&formatted, &kept);
        cases += trains(&formatted, &kept, &part("trainset"));
    }
    cases
}

#[test]
fn golden_star_xlam() {
    finish("xlam", corpus(Corpus::Xlam, "xlam"));
}

#[test]
fn golden_star_xlam_examples() {
    let part = |part: &str| rows("star/data", &format!("xlam_examples_{part}"));
    finish(
        "xlam_examples",
        formats(Corpus::Xlam, &part("raw"), &part("formatted")),
    );
}

#[test]
fn golden_star_toolace() {
    finish("toolace", corpus(Corpus::ToolAce, "toolace"));
}

#[test]
fn golden_star_hammer() {
    finish("hammer", corpus(Corpus::Hammer, "hammer"));
}

#[test]
fn golden_star_toolmind() {
    let crashes = rows("star/data", "toolmind_crash");
    for row in &crashes {
        let mut formatter = Formatter::new(Corpus::ToolMind, Mode::Faithful);
        assert!(
            formatter.push(row.get("raw").unwrap()).is_empty(),
            "{row:?}"
        );
        assert_eq!(formatter.drops().values().sum::<usize>(), 1, "{row:?}");
    }
    finish(
        "toolmind",
        corpus(Corpus::ToolMind, "toolmind") + crashes.len(),
    );
}
