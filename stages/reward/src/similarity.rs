//! How alike two argument maps are.

use starling_text::json::Value;
use starling_text::python;
use thiserror::Error;

use crate::rouge::{Words, text_similarity};

/// Arguments that are no objects and cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("arguments that are not an object cannot be compared")]
pub struct Unscorable;

/// How alike two values are, in [0, 1]: texts by ROUGE-L, numbers and booleans by equality, anything else by
/// equality of what Python prints for it.
pub fn value_similarity(generated: &Value, label: &Value, words: Words) -> f64 {
    match (generated, label) {
        (Value::Str(a), Value::Str(b)) => text_similarity(a, b, words),
        (a, b) if python::is_numeric(a) && python::is_numeric(b) => {
            f64::from(u8::from(python::eq(a, b)))
        }
        (a, b) => f64::from(u8::from(python::str(a) == python::str(b))),
    }
}

/// Sum of the similarities under shared names over the number of names in either; 1 when both are empty.
///
/// # Errors
/// [`Unscorable`] when a side is no object and the other shares a name with it.
pub fn arguments_similarity(
    generated: &Value,
    label: &Value,
    words: Words,
) -> Result<f64, Unscorable> {
    let (Value::Dict(a), Value::Dict(b)) = (generated, label) else {
        return odd_similarity(generated, label);
    };
    if a.is_empty() && b.is_empty() {
        return Ok(1.0);
    }
    let mut shared = 0;
    let mut sum = 0.0;
    for (name, value) in a {
        // Few arguments are looked through one by one, which is quicker than hashing.
        let other = if b.len() <= 8 {
            b.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, other)| other)
        } else {
            b.get(name)
        };
        if let Some(other) = other {
            shared += 1;
            sum += value_similarity(value, other, words);
        }
    }
    Ok(sum / (a.len() + b.len() - shared) as f64)
}

/// Lists and texts stand for the set of their elements or characters, which have no values.
fn odd_similarity(generated: &Value, label: &Value) -> Result<f64, Unscorable> {
    let (a, b) = (names(generated)?, names(label)?);
    match label {
        _ if a.is_empty() && b.is_empty() => Ok(1.0),
        Value::Str(text) if !text.is_empty() => Err(Unscorable),
        _ if a
            .iter()
            .any(|name| b.iter().any(|other| python::eq(name, other))) =>
        {
            Err(Unscorable)
        }
        _ => Ok(0.0),
    }
}

fn names(arguments: &Value) -> Result<Vec<Value>, Unscorable> {
    Ok(match arguments {
        Value::Dict(map) => map.keys().cloned().map(Value::Str).collect(),
        Value::List(items) => items.clone(),
        Value::Str(text) => text.chars().map(|c| Value::Str(c.into())).collect(),
        _ => return Err(Unscorable),
    })
}
