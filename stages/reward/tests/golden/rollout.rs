//! Rollouts of a teacher, summaries of corpora, and calls that are Python expressions.

use std::collections::BTreeMap;

use starling_reward::prepare::{self, Corpus, DropReason, Formatter};
use starling_reward::{Call, CallFormat, Mode, ToolSet};
use starling_text::json::Value;
use starling_text::template::ChatTemplate;

use crate::rows::{assert_same, count, documents, finish, int, list, rows, rows_for, text};

#[test]
fn golden_star_rollout() {
    let documents = documents("rollout");
    let cases = documents.iter().map(|(_, all)| check_rollout(all)).sum();
    finish("rollout", cases);
}

/// The number of answers that were judged.
fn check_rollout(all: &Value) -> usize {
    let seeds = list(all, "conversations");
    let answers: BTreeMap<_, _> = list(all, "generations")
        .iter()
        .map(|row| (text(row, "id"), row))
        .collect();
    let texts = |seed: &Value| -> Vec<String> {
        let texts = answers
            .get(text(seed, "id"))
            .map_or(&[][..], |row| list(row, "texts"));
        texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut cases = 0;
    for seed in seeds {
        let Some(answers) = answers.get(text(seed, "id")) else {
            continue;
        };
        let tools = ToolSet::unwrapped(seed.get("tools").unwrap(), Mode::Faithful).unwrap();
        let expected = list(answers, "valid").iter().zip(list(answers, "parsed"));
        for (text, (valid, parsed)) in texts(seed).iter().zip(expected) {
            cases += 1;
            let judged = prepare::judge_answer(&tools, text, Mode::Faithful);
            assert_eq!(&Value::Bool(judged.is_ok()), valid, "{judged:?}");
            let Ok(judged) = judged else { continue };
            for name in ["reasoning_content", "content", "tool_calls"] {
                assert_same(judged.get(name).unwrap(), parsed.get(name).unwrap());
            }
        }
    }
    let mut failures: BTreeMap<usize, i64> = all
        .get("engine_failures_by_batch")
        .and_then(Value::as_dict)
        .unwrap()
        .iter()
        .map(|(batch, failures)| (batch.parse().unwrap(), failures.as_i64().unwrap()))
        .collect();
    let (batch_size, tries) = (count(all, "batch_size"), count(all, "max_rollout"));
    let got = prepare::roll_out(seeds, batch_size, tries, Mode::Faithful, |batch, seeds| {
        let left = failures.entry(batch).or_default();
        *left -= 1;
        if *left >= 0 {
            Err(())
        } else {
            Ok(seeds.iter().map(|seed| texts(seed)).collect())
        }
    });
    assert_same(&Value::List(got.rows), all.get("results").unwrap());
    assert_same(
        &Value::List(got.calls.into_iter().map(int).collect()),
        all.get("engine_calls").unwrap(),
    );
    assert_eq!(list(all, "results").len(), count(all, "total_outputs"));
    assert_eq!(got.succeeded, count(all, "success_inputs"));
    assert_eq!(got.discarded, count(all, "discarded"));
    cases
}

#[test]
fn golden_star_handmade_summary() {
    let documents = documents("handmade_summary");
    let check = |(suffix, summary): &(String, Value)| check_summary(summary, suffix);
    finish("handmade_summary", documents.iter().map(check).sum());
}

/// The number of corpora that were summed up.
fn check_summary(summary: &Value, suffix: &str) -> usize {
    let template = ChatTemplate::qwen3();
    for (corpus, name) in [
        (Corpus::Xlam, "xlam"),
        (Corpus::ToolMind, "toolmind"),
        (Corpus::ToolAce, "toolace"),
        (Corpus::Hammer, "hammer"),
    ] {
        let expected = summary.get(name).unwrap();
        let raw = rows_for(&format!("{name}_raw"), suffix).unwrap();
        let mut formatter = Formatter::new(corpus, Mode::Faithful);
        let formatted: Vec<_> = raw.iter().flat_map(|row| formatter.push(row)).collect();
        let filtered: Vec<_> = formatted
            .iter()
            .map(|row| prepare::self_reward(row, &template, Mode::Faithful))
            .collect();
        let raised = |result: &&Result<f64, (DropReason, f64)>| {
            matches!(
                result,
                Err((DropReason::PromptRender | DropReason::TargetRender, _))
            )
        };
        assert_eq!(raw.len(), count(expected, "raw"), "{name}");
        assert_eq!(formatted.len(), count(expected, "formatted"), "{name}");
        assert_eq!(
            filtered.iter().filter(|r| r.is_ok()).count(),
            count(expected, "kept"),
            "{name}"
        );
        let raises = filtered.iter().filter(raised).count();
        assert_eq!(raises, count(expected, "filter_raises"), "{name}");
        let dropped: usize = formatter.drops().values().sum();
        assert_eq!(
            dropped,
            list(expected, "messages").len(),
            "{name} {:?}",
            formatter.drops()
        );
    }
    4
}

/// Calls as Python expressions. The released reader cuts texts at commas and brackets: it tears lists apart, takes
/// what it cannot read for text and forgets arguments without names. Where it took in the whole text, the same is
/// read here; anywhere else this reader refuses, or keeps a list whole.
#[test]
fn golden_star_python_calls() {
    let rows = rows("star/data", "python_calls");
    let plain = |text: &str| text.replace(char::is_whitespace, "").replace('"', "'");
    for row in &rows {
        let text = text(row, "text");
        // A text that stopped the released reader gave it nothing.
        let released = row.get("calls").and_then(Value::as_list);
        let released: Vec<Call> = released
            .unwrap_or_default()
            .iter()
            .map(|call| Call::from_value(call.clone()).unwrap())
            .collect();
        match CallFormat::Pythonic.parse(text) {
            Err(error) => {
                let said = plain(&CallFormat::Pythonic.render(&released));
                assert_ne!(
                    said,
                    plain(text),
                    "refused, though it was read whole: {error}"
                );
            }
            Ok(answer) => {
                assert_eq!(answer.calls().len(), released.len(), "{text}");
                for (call, released) in answer.calls().iter().zip(&released) {
                    assert_eq!(call.name, released.name, "{text}");
                    let (ours, theirs) = (&call.arguments, &released.arguments);
                    let (ours, theirs) = (ours.as_dict().unwrap(), theirs.as_dict().unwrap());
                    assert!(ours.keys().eq(theirs.keys()), "{text}");
                    for (name, value) in ours {
                        let torn = theirs[name.as_str()]
                            .as_str()
                            .is_some_and(|text| text.starts_with('['));
                        assert!(torn || theirs.get(name) == Some(value), "{text}: {name}");
                    }
                }
            }
        }
    }
    finish("python_calls", rows.len());
}
