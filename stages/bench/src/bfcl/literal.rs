//! Java and JavaScript literals, read the way the benchmark's own patterns read them.
//!
//! Neither half is a parser of its language: quoted commas split, nested objects are cut at the first closing
//! brace, and text that fits no pattern stays a string. Answers were written against exactly that.

mod java;
mod javascript;

use starling_text::json::Value;

use super::category::Language;
use super::number::{parse_float, parse_int};

/// The benchmark's converter would raise here; its run would stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised;

/// Converts an argument text of a declared type, with the element type of arrays.
///
/// # Errors
/// [`Raised`] for a type that the converter does not know and for the few texts on which it fails.
pub fn convert(
    language: Language,
    text: &str,
    declared: &str,
    element: Option<&str>,
) -> Result<Value, Raised> {
    match language {
        Language::Java => java::convert(text, declared, element),
        Language::JavaScript => javascript::convert(text, declared, element),
        Language::Python => Ok(Value::Str(text.to_owned())),
    }
}

fn string(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// The text without its first and last character.
fn inside(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.next_back();
    chars.as_str()
}

/// Python's `int`, else its `float`, else the text itself.
fn number_or_text(text: &str) -> Value {
    parse_int(text)
        .or_else(|| parse_float(text).map(Value::Float))
        .unwrap_or_else(|| string(text))
}
