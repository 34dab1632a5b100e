//! The reward of ToolRL, a baseline: format in {0, 1} plus correctness in [-3, 3].
//!
//! # Source
//! C. Qian et al., "ToolRL: reward is all tool learning needs", arXiv 2504.13958.

use starling_text::json::{self, ParseError, Value};
use starling_text::python;
use thiserror::Error;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// The highest correctness; the lowest is its negative.
const MOST: f64 = 3.0;

/// The two parts of the reward.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToolRl {
    /// 1 when the text has exactly the blocks that the label has.
    pub format: f64,
    /// In [-3, 3]; 0 when the label holds no call.
    pub correctness: f64,
}

impl ToolRl {
    /// The reward: format plus correctness.
    pub fn score(self) -> f64 {
        self.format + self.correctness
    }
}

/// A label whose calls cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the label's calls cannot be read: {0}")]
pub struct LabelError(#[from] ParseError);

/// Scores a response against a label; both are `<think>…</think>` and blocks, one JSON call a line.
///
/// # Errors
/// [`LabelError`]; nothing in the response is an error.
pub fn toolrl(response: &str, label: &str) -> Result<ToolRl, LabelError> {
    let format = f64::from(u8::from(is_well_formed(response, label)));
    let correctness = if label.contains(OPEN) {
        let expected = read_calls(label)?;
        let generated = if response.contains(OPEN) && response.contains(CLOSE) {
            read_calls(response).ok()
        } else {
            None
        };
        let score = generated.and_then(|generated| compare(&expected, &generated));
        score.map_or(-MOST, |share| 2.0 * MOST * share - MOST)
    } else {
        0.0
    };
    Ok(ToolRl {
        format,
        correctness,
    })
}

/// Reads the first block, one JSON value a line.
fn read_calls(text: &str) -> Result<Vec<Value>, ParseError> {
    let block = text.split(OPEN).nth(1).unwrap_or_default();
    let block = block.split(CLOSE).next().unwrap_or_default();
    python::strip(block).split('\n').map(json::parse).collect()
}

fn is_well_formed(response: &str, label: &str) -> bool {
    let once = |tags: [&str; 2]| tags.iter().all(|tag| response.matches(tag).count() == 1);
    let calls = || once([OPEN, CLOSE]);
    let reply = || once(["<response>", "</response>"]);
    match (label.contains(OPEN), label.contains("<response>")) {
        (false, true) => {
            matches_parts(
                response,
                &["<think>", "</think>\n<response>", "</response>"],
            ) && reply()
        }
        (true, false) => {
            let parts = ["<think>", "</think>\n<tool_call>\n", "\n</tool_call>"];
            matches_parts(response, &parts) && calls()
        }
        (true, true) => {
            let parts = [
                "<think>",
                "</think>\n<tool_call>\n",
                "\n</tool_call>\n<response>",
                "</response>",
            ];
            matches_parts(response, &parts) && calls() && reply()
        }
        (false, false) => matches_parts(response, &["<think>", "</think>"]),
    }
}

/// Whether a text is these parts in order with anything between: the first at its start, the last at its end
/// (one line break may follow).
fn matches_parts(text: &str, parts: &[&str]) -> bool {
    let [first, inner @ .., last] = parts else {
        return false;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for part in inner {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
        || rest
            .strip_suffix('\n')
            .is_some_and(|rest| rest.ends_with(last))
}

/// The share of the attainable score, `None` when a call lacks what is looked at.
fn compare(expected: &[Value], generated: &[Value]) -> Option<f64> {
    if all_equal(expected, generated) {
        return Some(1.0);
    }
    let names = |calls: &[Value]| {
        let names: Option<Vec<_>> = calls.iter().map(|call| call.get("name").cloned()).collect();
        names.filter(|names| {
            !names
                .iter()
                .any(|n| matches!(n, Value::List(_) | Value::Dict(_)))
        })
    };
    let (expected_names, generated_names) = (names(expected)?, names(generated)?);
    let mut score = jaccard(&expected_names, &generated_names);
    let mut attainable = 1.0;
    let mut used = vec![false; generated.len()];
    for (call, name) in expected.iter().zip(&expected_names) {
        let parameters = call.get("parameters")?.as_dict()?;
        attainable += 1.0 + parameters.len() as f64;
        let mut best = (0.0, None);
        for (i, (other, other_name)) in generated.iter().zip(&generated_names).enumerate() {
            if used[i] || !python::eq(name, other_name) {
                continue;
            }
            let others = other.get("parameters")?.as_dict()?;
            let keys = |map: &json::Map| -> Vec<_> {
                map.keys().map(|key| Value::from(key.as_str())).collect()
            };
            let equal = |(key, value): &(&String, &Value)| {
                others
                    .get(key)
                    .is_some_and(|other| python::eq(other, value))
            };
            let equals = parameters.iter().filter(equal).count();
            let total = jaccard(&keys(parameters), &keys(others)) + equals as f64;
            if total > best.0 {
                best = (total, Some(i));
            }
        }
        if let (total, Some(i)) = best {
            used[i] = true;
            score += total;
        }
    }
    Some(score / attainable)
}

fn all_equal(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| python::eq(a, b))
}

/// Shared items over all items of two multisets; equal lists give 1, also when empty.
fn jaccard(a: &[Value], b: &[Value]) -> f64 {
    if all_equal(a, b) {
        return 1.0;
    }
    let mut left: Vec<&Value> = b.iter().collect();
    let mut shared = 0;
    for item in a {
        if let Some(i) = left.iter().position(|other| python::eq(item, other)) {
            left.swap_remove(i);
            shared += 1;
        }
    }
    f64::from(shared) / (a.len() + left.len()) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bad_label_is_an_error_and_a_bad_response_is_not() {
        let label =
            "<think>t</think>\n<tool_call>\n{\"name\": \"f\", \"parameters\": {}}\n</tool_call>";
        assert!(toolrl(label, "<tool_call>\n{\n</tool_call>").is_err());
        let worst = ToolRl {
            format: 0.0,
            correctness: -3.0,
        };
        assert_eq!(toolrl("<tool_call>{</tool_call>", label), Ok(worst));
        assert_eq!(
            toolrl(&format!("{label}\n"), label).map(ToolRl::score),
            Ok(4.0)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_stays_in_range(
            text in r#"(<think>|</think>|\n|<tool_call>|</tool_call>|\{"name": "f", "parameters": \{\}\}|[{}"a]){0,12}"#,
            label in r#"(<think>|</think>|\n|<tool_call>|</tool_call>|\{"name": "f", "parameters": \{\}\}|[{}"a]){0,12}"#,
        ) {
            if let Ok(reward) = toolrl(&text, &label) {
                prop_assert!((-3.0..=4.0).contains(&reward.score()));
            }
        }
    }
}
