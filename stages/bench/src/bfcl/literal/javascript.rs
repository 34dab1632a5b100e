//! JavaScript literals.

use std::sync::LazyLock;

use regex::Regex;
use starling_text::json::{Map, Value};
use starling_text::python::{is_space, strip};

use super::{Raised, inside, number_or_text, string};
use crate::bfcl::number::{parse_float, parse_int};

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("valid pattern"));)*
    };
}

patterns! {
    INTEGER = r"^-?\d+\n?$";
    FLOAT = r"^-?\d+(\.\d+)?\n?$";
    BIGINT = r"^-?\d+n\n?$";
    TWO_DIMENSIONAL = r"^(?:\[[\s\x1c-\x1f]*\[.*?\][\s\x1c-\x1f]*(,[\s\x1c-\x1f]*\[.*?\][\s\x1c-\x1f]*)*\]|new[\s\x1c-\x1f]+Array\([\s\x1c-\x1f]*\[.*?\][\s\x1c-\x1f]*(,[\s\x1c-\x1f]*\[.*?\][\s\x1c-\x1f]*)*\))";
    ARRAY = r"^(?:\[(.*?)\]|new[\s\x1c-\x1f]+Array\((.*?)\))";
    INNER = r"\[(.*?)\]";
    OBJECT = r"^\{(.*?)\}";
}

/// Objects in objects: deeper than this the text stays a string, as it does when Python's stack is full.
const MAX_DEPTH: usize = 200;

pub(super) fn convert(text: &str, declared: &str, element: Option<&str>) -> Result<Value, Raised> {
    Ok(match declared {
        "String" => string(unquoted(text).unwrap_or(text)),
        "integer" if INTEGER.is_match(text) => parse_int(text).ok_or(Raised)?,
        "float" if FLOAT.is_match(text) => Value::Float(parse_float(text).ok_or(Raised)?),
        "Bigint" if BIGINT.is_match(text) => {
            // Only the last character is cut, whatever it is; a newline there leaves the `n`.
            parse_int(&text[..text.len() - 1]).ok_or(Raised)?
        }
        "Boolean" if matches!(text, "true" | "false") => Value::Bool(text == "true"),
        "array" => array(text, element),
        "dict" => object(text, 0),
        "integer" | "float" | "Bigint" | "Boolean" | "any" => string(text),
        _ => return Err(Raised),
    })
}

/// The text inside quotes of one kind.
fn unquoted(text: &str) -> Option<&str> {
    let quoted = |quote| text.starts_with(quote) && text.ends_with(quote);
    (quoted('"') || quoted('\'')).then(|| inside(text))
}

fn array(text: &str, element: Option<&str>) -> Value {
    let text = strip(text);
    if let Some(found) = TWO_DIMENSIONAL.find(text) {
        return Value::List(rows(found.as_str()));
    }
    let Some(found) = ARRAY.captures(text) else {
        return string(text);
    };
    let content = found
        .get(1)
        .or_else(|| found.get(2))
        .map_or("", |group| group.as_str());
    let content = strip(content);
    if content.is_empty() {
        return Value::List(Vec::new());
    }
    let values = content.split(',').map(|piece| match element {
        Some(element) => convert(strip(piece), element, None),
        None => Ok(free(piece)),
    });
    // Where an element raises, the whole text is kept.
    values
        .collect::<Result<_, _>>()
        .map_or_else(|_| string(text), Value::List)
}

/// Rows of a two-dimensional array; the elements are free values.
fn rows(text: &str) -> Vec<Value> {
    let row = |(index, found): (usize, regex::Captures<'_>)| {
        let content = strip(found.get(1).map_or("", |group| group.as_str()));
        let content = match index {
            0 => content.strip_prefix('[').unwrap_or(content),
            _ => content,
        };
        Value::List(content.split(',').map(|piece| free(strip(piece))).collect())
    };
    INNER.captures_iter(text).enumerate().map(row).collect()
}

fn object(text: &str, depth: usize) -> Value {
    let text = strip(text);
    if text == "{}" {
        return Value::Dict(Map::new());
    }
    let Some(found) = OBJECT.captures(text) else {
        return string(text);
    };
    if depth >= MAX_DEPTH {
        return string(text);
    }
    let entries = pairs(found.get(1).map_or("", |group| group.as_str()));
    let quotes = ['\'', '"'];
    Value::Dict(
        entries
            .into_iter()
            .map(|(key, value)| {
                let key = strip(key).trim_matches(quotes);
                let value = strip(value);
                let value = if value.starts_with('[') && value.ends_with(']') {
                    array(value, None)
                } else if value.starts_with('{') && value.ends_with('}') {
                    object(value, depth + 1)
                } else {
                    free(value.trim_matches(quotes))
                };
                (key.to_owned(), value)
            })
            .collect(),
    )
}

/// Keys and values: a key has no colon; a value ends at a comma behind which another key follows before the next
/// comma, or at the end.
fn pairs(content: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    let mut at = 0;
    while let Some(colon) = content[at..].find(':').map(|i| at + i) {
        if colon == at {
            // A key has at least one character.
            at += 1;
            continue;
        }
        let key = &content[at..colon];
        let behind = &content[colon + 1..];
        let start = content.len() - behind.trim_start_matches(is_space).len();
        let (end, next) = value_end(content, start);
        pairs.push((key, &content[start..end]));
        at = next;
    }
    pairs
}

/// Where the value that begins at `start` ends, and where the next key begins.
fn value_end(content: &str, start: usize) -> (usize, usize) {
    let mut from = start;
    while let Some(comma) = content[from..].find(',').map(|i| from + i) {
        let behind = comma + 1;
        let next_comma = content[behind..]
            .find(',')
            .map_or(content.len(), |i| behind + i);
        if let Some(colon) = content[behind..next_comma].rfind(':').map(|i| behind + i) {
            let spaces = &content[behind..colon];
            let key = behind + (spaces.len() - spaces.trim_start_matches(is_space).len());
            // At least one character must stand before the colon, be it one of the spaces.
            let key = match key < colon {
                true => Some(key),
                false => spaces.char_indices().next_back().map(|(i, _)| behind + i),
            };
            if let Some(key) = key {
                return (comma, key);
            }
        }
        from = behind;
    }
    (content.len(), content.len())
}

/// A value whose type is not declared.
fn free(text: &str) -> Value {
    let text = strip(text);
    if matches!(text, "true" | "false") {
        return Value::Bool(text == "true");
    }
    unquoted(text).map_or_else(|| number_or_text(text), string)
}
