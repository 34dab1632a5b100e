//! Java literals.

use std::sync::LazyLock;

use regex::Regex;
use starling_text::json::{Map, Value};
use starling_text::python::strip;

use super::{Raised, inside, number_or_text, string};
use crate::bfcl::number::{parse_float, parse_int};

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("valid pattern"));)*
    };
}

// White space is Python's: the information separators count. An end anchor allows a final newline.
patterns! {
    INTEGER = r"^-?\d+\n?$";
    LONG = r"^-?\d+[lL]\n?$";
    FLOAT = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?[fF]\n?$";
    DOUBLE = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?\n?$";
    ARRAY = r"new[\s\x1c-\x1f]+\w+\[\][\s\x1c-\x1f]*\{(.*?)\}";
    AS_LIST = r"new[\s\x1c-\x1f]+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)";
    ADDS = r"(?s)new[\s\x1c-\x1f]+ArrayList<\w*>\(\)[\s\x1c-\x1f]*\{\{[\s\x1c-\x1f]*(.+?)[\s\x1c-\x1f]*\}\}";
    ADD = r"add\((.+?)\)";
    EMPTY_LIST = r"new[\s\x1c-\x1f]+ArrayList<\w*>\(\)";
    HASH_MAP = r"(?s)new[\s\x1c-\x1f]+HashMap<.*?>[\s\x1c-\x1f]*\(\)[\s\x1c-\x1f]*\{[\s\x1c-\x1f]*\{?[\s\x1c-\x1f]*(.*?)[\s\x1c-\x1f]*\}?[\s\x1c-\x1f]*\}";
    PUT = r#"put\("(.*?)",[\s\x1c-\x1f]*(.*?)\)"#;
    EMPTY_MAP = r"new[\s\x1c-\x1f]+HashMap<.*?>[\s\x1c-\x1f]*\(\)";
}

pub(super) fn convert(text: &str, declared: &str, element: Option<&str>) -> Result<Value, Raised> {
    Ok(match declared {
        "byte" | "short" | "integer" if INTEGER.is_match(text) => int(text)?,
        "long" if LONG.is_match(text) => int(&without_suffix(text, ['l', 'L']))?,
        "float" if FLOAT.is_match(text) => float(&without_suffix(text, ['f', 'F']))?,
        "double" if DOUBLE.is_match(text) => float(text)?,
        "boolean" if matches!(text, "true" | "false") => Value::Bool(text == "true"),
        "Array" => array(text, element)?,
        "ArrayList" => array_list(text, element)?,
        "HashMap" => hash_map(text),
        "byte" | "short" | "integer" | "long" | "float" | "double" | "boolean" | "char"
        | "String" | "any" => string(text),
        _ => return Err(Raised),
    })
}

fn int(text: &str) -> Result<Value, Raised> {
    parse_int(text).ok_or(Raised)
}

fn float(text: &str) -> Result<Value, Raised> {
    parse_float(text).map(Value::Float).ok_or(Raised)
}

/// Cuts one suffix letter, which may stand before a final newline.
fn without_suffix(text: &str, suffix: [char; 2]) -> String {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix(suffix).unwrap_or(line).to_owned()
}

fn array(text: &str, element: Option<&str>) -> Result<Value, Raised> {
    let Some(found) = ARRAY.captures(text) else {
        return Ok(string(text));
    };
    let pieces = found[1].split(',').map(strip);
    let values = pieces
        .filter(|piece| !piece.is_empty())
        .map(|piece| match element {
            Some(element) => convert(piece, element, None),
            None => Ok(free(piece)),
        });
    Ok(Value::List(values.collect::<Result<_, _>>()?))
}

fn array_list(text: &str, element: Option<&str>) -> Result<Value, Raised> {
    let piece = |piece: &str| {
        let piece = strip(piece);
        match element {
            Some("char" | "String") => Ok(string(inside(piece))),
            Some(element) => convert(piece, element, None),
            None => Ok(free(piece)),
        }
    };
    if let Some(found) = AS_LIST.captures(text) {
        let values = found[1].split(',').map(piece);
        return Ok(Value::List(values.collect::<Result<_, _>>()?));
    }
    if let Some(found) = ADDS.captures(text) {
        let adds = found.get(1).map_or("", |group| group.as_str());
        let values = ADD.captures_iter(adds).map(|add| piece(&add[1]));
        return Ok(Value::List(values.collect::<Result<_, _>>()?));
    }
    Ok(match EMPTY_LIST.is_match(text) {
        true => Value::List(Vec::new()),
        false => string(text),
    })
}

fn hash_map(text: &str) -> Value {
    let Some(found) = HASH_MAP.captures(text) else {
        return match EMPTY_MAP.is_match(text) {
            true => Value::Dict(Map::new()),
            false => string(text),
        };
    };
    let puts = found.get(1).map_or("", |group| group.as_str());
    let entries = PUT.captures_iter(puts);
    Value::Dict(
        entries
            .map(|put| (put[1].to_owned(), free(strip(&put[2]))))
            .collect(),
    )
}

/// A value whose type is not declared.
fn free(text: &str) -> Value {
    if matches!(text, "true" | "false") {
        return Value::Bool(text == "true");
    }
    if text.starts_with('"') && text.ends_with('"') {
        return string(inside(text));
    }
    let suffixed = if LONG.is_match(text) {
        parse_int(&without_suffix(text, ['l', 'L']))
    } else if FLOAT.is_match(text) {
        parse_float(&without_suffix(text, ['f', 'F'])).map(Value::Float)
    } else {
        None
    };
    suffixed.unwrap_or_else(|| number_or_text(text))
}
