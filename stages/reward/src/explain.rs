//! A reward taken apart for a reader: which call met which, what each argument gave, which rule cost what.

use starling_text::json::{Map, Value};

use crate::call::{Answer, Call};
use crate::rouge::{Words, rouge_l};
use crate::score::{Label, Outcome};
use crate::similarity::value_similarity;

/// The components of an outcome: counts and formula, the alignment with the similarity of each argument, and
/// for replies the overlap of words.
pub fn explain(label: &Label, outcome: &Outcome, words: Words) -> Value {
    let mut parts = Map::new();
    if let Some(fault) = &outcome.why {
        parts.insert("rule".to_owned(), fault.rule().into());
        parts.insert("message".to_owned(), fault.to_string().into());
    }
    match label.answer() {
        Answer::Calls { calls, .. } => calls_part(&mut parts, calls, outcome, words),
        Answer::Reply(expected) => reply_part(&mut parts, expected, outcome, words),
        Answer::Unclosed => {
            parts.insert("label".to_owned(), "unclosed call".into());
        }
    }
    Value::Dict(parts)
}

fn calls_part(parts: &mut Map, expected: &[Call], outcome: &Outcome, words: Words) {
    let (generated, matches) = (outcome.calls.len(), outcome.alignment.len());
    let sum: f64 = outcome.alignment.iter().map(|m| m.similarity).sum();
    if outcome.format_reward > 0.0 && generated > 0 {
        let union = generated + expected.len() - matches;
        let formula = format!(
            "{sum:.6} / ({generated} generated + {} expected - {matches} matched) = {sum:.6} / {union}",
            expected.len(),
        );
        parts.insert("formula".to_owned(), formula.into());
    }
    let listed = |calls: &[Call]| Value::List(calls.iter().map(Call::to_value).collect());
    parts.insert("generated".to_owned(), listed(&outcome.calls));
    parts.insert("expected".to_owned(), listed(expected));
    let alignment = outcome.alignment.iter().map(|found| {
        let (a, b) = (&outcome.calls[found.generated], &expected[found.label]);
        object([
            ("generated", int(found.generated)),
            ("expected", int(found.label)),
            ("similarity", Value::Float(found.similarity)),
            ("arguments", arguments_part(a, b, words)),
        ])
    });
    parts.insert("alignment".to_owned(), Value::List(alignment.collect()));
    let unmatched = |count: usize, is: &dyn Fn(usize) -> bool| {
        Value::List((0..count).filter(|i| !is(*i)).map(int).collect())
    };
    let met = |i: usize| outcome.alignment.iter().any(|m| m.generated == i);
    parts.insert("unmatched_generated".to_owned(), unmatched(generated, &met));
    let met = |i: usize| outcome.alignment.iter().any(|m| m.label == i);
    parts.insert(
        "unmatched_expected".to_owned(),
        unmatched(expected.len(), &met),
    );
}

/// What each name in either map gives: its similarity, or why it gives nothing.
fn arguments_part(generated: &Call, expected: &Call, words: Words) -> Value {
    let (Value::Dict(a), Value::Dict(b)) = (&generated.arguments, &expected.arguments) else {
        return Value::Null;
    };
    let mut parts = Map::new();
    for (name, value) in a {
        let part = match b.get(name) {
            Some(other) => Value::Float(value_similarity(value, other, words)),
            None => "not expected".into(),
        };
        parts.insert(name.clone(), part);
    }
    for name in b.keys().filter(|name| !a.contains_key(name)) {
        parts.insert(name.clone(), "missing".into());
    }
    Value::Dict(parts)
}

fn reply_part(parts: &mut Map, expected: &str, outcome: &Outcome, words: Words) {
    parts.insert("expected".to_owned(), expected.into());
    if let Some(reply) = &outcome.reply {
        let rouge = rouge_l(reply, expected, words);
        parts.insert("generated".to_owned(), reply.as_str().into());
        parts.insert("identical".to_owned(), (reply == expected).into());
        parts.insert("precision".to_owned(), Value::Float(rouge.precision));
        parts.insert("recall".to_owned(), Value::Float(rouge.recall));
        parts.insert("f_measure".to_owned(), Value::Float(rouge.f_measure));
    }
}

fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Dict(entries.map(|(key, value)| (key.to_owned(), value)).into())
}
