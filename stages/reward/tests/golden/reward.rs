//! Rewards, and what they are made of.

use std::collections::BTreeMap;

use starling_reward::rouge::{Words, rouge_l, text_similarity};
use starling_reward::{Label, Mode, ToolSet, score, stem, toolrl::toolrl};
use starling_text::json::Value;

use crate::rows::{close, finish, number, rows, text};

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
