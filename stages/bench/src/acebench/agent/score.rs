//! The score of an agent entry: end state, and milestones on the way.

use starling_text::json::Value;
use starling_text::python;

use crate::acebench::score::round3;

/// How far a conversation came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AgentScore {
    /// Whether the environment ended in the reference state.
    pub end: bool,
    /// 1 when the end is right, otherwise the share of milestones met in order; rounded to three decimals only
    /// where it is the best of several lists.
    pub process: f64,
}

/// Scores an end state and the messages that were answered by the environment.
pub(super) fn score(
    end: &[Value],
    milestones: &Value,
    state: &[Value],
    messages: &[String],
) -> AgentScore {
    let end = end_is_right(end, state);
    AgentScore {
        end,
        process: if end {
            1.0
        } else {
            process(milestones, messages)
        },
    }
}

/// A class that was not saved is not compared. An entry of several classes stands for the first of them, once
/// an entry of the same classes was saved.
fn end_is_right(reference: &[Value], state: &[Value]) -> bool {
    reference.len() == state.len()
        && reference.iter().all(|expected| {
            let saved = state.iter().find(|saved| same_classes(expected, saved));
            match (first_class(expected), saved.and_then(first_class)) {
                (Some(expected), Some(saved)) => class_is_right(expected, saved),
                _ => true,
            }
        })
}

fn first_class(entry: &Value) -> Option<&Value> {
    entry.as_dict()?.values().next()
}

fn same_classes(a: &Value, b: &Value) -> bool {
    let (Some(a), Some(b)) = (a.as_dict(), b.as_dict()) else {
        return false;
    };
    a.len() == b.len() && a.keys().all(|class| b.contains_key(class))
}

/// Every saved attribute is in the reference. A map may have keys that the reference lacks.
fn class_is_right(expected: &Value, saved: &Value) -> bool {
    let Some(saved) = saved.as_dict() else {
        return python::eq(expected, saved);
    };
    saved.iter().all(|(name, saved)| match expected.get(name) {
        Some(Value::Dict(expected)) => {
            let mut wanted = expected.iter();
            wanted.all(|(key, expected)| {
                saved
                    .get(key)
                    .is_some_and(|saved| python::eq(expected, saved))
            })
        }
        Some(expected) => python::eq(expected, saved),
        None => false,
    })
}

/// Milestones are one list, or several alternatives of which the best counts.
fn process(milestones: &Value, messages: &[String]) -> f64 {
    let Some(milestones) = milestones.as_list() else {
        return 0.0;
    };
    if !matches!(milestones.first(), Some(Value::List(_))) {
        return share(milestones, messages);
    }
    let alternatives = milestones.iter().filter_map(Value::as_list);
    alternatives
        .map(|alternative| round3(share(alternative, messages)))
        .fold(0.0, f64::max)
}

/// The share of milestones found, each searched for after the one before it.
fn share(milestones: &[Value], messages: &[String]) -> f64 {
    if milestones.is_empty() {
        return 1.0;
    }
    let mut rest = messages.iter();
    let mut met = 0_u32;
    for milestone in milestones {
        let wanted = python::str(milestone);
        let wanted = python::strip(&wanted);
        met += u32::from(rest.any(|message| python::strip(message) == wanted));
    }
    f64::from(met) / milestones.len() as f64
}
