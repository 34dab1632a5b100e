//! Texts of values: `str`, `repr`, `json.dumps`, and the response that a call leaves.

use std::cell::RefCell;
use std::sync::Arc;

use starling_text::json::{self as json_text, MAX_DIGITS};
use starling_text::python;

use super::{Class, Dict, Py, Raise, Reply};

/// `str(value)`, which this simulation never fails to write; see [`response`] for the limit on digits.
pub(crate) fn str(value: &Py) -> String {
    match value {
        Py::Str(text) => text.to_string(),
        other => repr(other),
    }
}

/// `repr(value)`
pub(crate) fn repr(value: &Py) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

/// `repr` of a text.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::new();
    python::write_str_repr(&mut out, text);
    out
}

fn write_repr(out: &mut String, value: &Py) {
    match value {
        Py::None => out.push_str("None"),
        Py::Ellipsis => out.push_str("Ellipsis"),
        Py::Bool(true) => out.push_str("True"),
        Py::Bool(false) => out.push_str("False"),
        Py::Int(int) => out.push_str(&int.to_string()),
        Py::Big(int) => out.push_str(&int.to_string()),
        Py::Float(float) => json_text::write_float(out, *float),
        Py::Complex(re, im) => write_complex(out, *re, *im),
        Py::Str(text) => python::write_str_repr(out, text),
        Py::Bytes(bytes) => write_bytes(out, bytes),
        Py::List(items) => write_items(out, "[", items, "]"),
        Py::Tuple(items) if items.len() == 1 => write_items(out, "(", items, ",)"),
        Py::Tuple(items) => write_items(out, "(", items, ")"),
        Py::Set(items) if items.is_empty() => out.push_str("set()"),
        Py::Set(items) => write_items(out, "{", items, "}"),
        Py::Dict(dict) => write_dict(out, dict),
        Py::Object(_, text) => out.push_str(text),
    }
}

fn write_items(out: &mut String, open: &str, items: &[Py], close: &str) {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write_repr(out, item);
    }
    out.push_str(close);
}

fn write_dict(out: &mut String, dict: &Dict) {
    out.push('{');
    for (index, (key, value)) in dict.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write_repr(out, key);
        out.push_str(": ");
        write_repr(out, value);
    }
    out.push('}');
}

/// Parts of a complex number have no `.0`.
fn write_complex(out: &mut String, re: f64, im: f64) {
    let part = |float: f64| {
        let mut text = String::new();
        json_text::write_float(&mut text, float);
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    };
    if re.abs() > 0.0 || re.is_nan() || re.is_sign_negative() {
        let sign = if im.is_sign_negative() && !im.is_nan() {
            ""
        } else {
            "+"
        };
        out.push_str(&format!("({}{sign}{}j)", part(re), part(im)));
    } else {
        out.push_str(&format!("{}j", part(im)));
    }
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    let quote = match bytes.contains(&b'\'') && !bytes.contains(&b'"') {
        true => '"',
        false => '\'',
    };
    out.push('b');
    out.push(quote);
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b' '..=b'~' if char::from(*byte) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
}

/// `json.dumps(value)` with Python's defaults; `None` for what JSON has no form for.
pub(crate) fn json(value: &Py) -> Option<String> {
    let mut out = String::with_capacity(64);
    write_json(&mut out, value).ok()?;
    Some(out)
}

/// Why a value has no JSON text.
enum NoJson {
    /// JSON has no form for a part of it.
    Form,
    /// An integer has more digits than Python writes.
    LongInteger,
}

fn write_json(out: &mut String, value: &Py) -> Result<(), NoJson> {
    match value {
        Py::None => out.push_str("null"),
        Py::Bool(true) => out.push_str("true"),
        Py::Bool(false) => out.push_str("false"),
        Py::Big(_) if has_long_integer(value) => return Err(NoJson::LongInteger),
        Py::Int(_) | Py::Big(_) => write_repr(out, value),
        Py::Float(float) => write_json_float(out, *float),
        Py::Str(text) => write_json_text(out, text),
        Py::List(items) if items.len() >= LONG_LIST && Arc::strong_count(items) > 1 => {
            write_shared_list(out, items)?;
        }
        Py::List(items) | Py::Tuple(items) => write_json_items(out, items)?,
        Py::Dict(dict) => {
            out.push('{');
            for (index, (key, value)) in dict.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_json_key(out, key)?;
                out.push_str(": ");
                write_json(out, value)?;
            }
            out.push('}');
        }
        _ => return Err(NoJson::Form),
    }
    Ok(())
}

fn write_json_items(out: &mut String, items: &[Py]) -> Result<(), NoJson> {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        write_json(out, item)?;
    }
    out.push(']');
    Ok(())
}

/// Lists of this many elements that several values share are filler of the data, written again and again.
const LONG_LIST: usize = 64;

/// Texts of such lists that a thread keeps.
const KEPT_LISTS: usize = 16;

/// A list and its JSON text.
type Written = (Arc<Vec<Py>>, Box<str>);

thread_local! {
    static LONG_LISTS: RefCell<Vec<Written>> = const { RefCell::new(Vec::new()) };
}

fn write_shared_list(out: &mut String, items: &Arc<Vec<Py>>) -> Result<(), NoJson> {
    let known = LONG_LISTS.with_borrow(|lists| {
        let found = lists.iter().find(|(list, _)| Arc::ptr_eq(list, items));
        found.map(|(_, text)| out.push_str(text)).is_some()
    });
    if known {
        return Ok(());
    }
    let start = out.len();
    write_json_items(out, items)?;
    LONG_LISTS.with_borrow_mut(|lists| {
        if lists.len() == KEPT_LISTS {
            lists.remove(0);
        }
        lists.push((Arc::clone(items), out[start..].into()));
    });
    Ok(())
}

fn write_json_key(out: &mut String, key: &Py) -> Result<(), NoJson> {
    match key {
        Py::Str(text) => write_json_text(out, text),
        Py::None | Py::Bool(_) | Py::Int(_) | Py::Big(_) | Py::Float(_) => {
            out.push('"');
            write_json(out, key)?;
            out.push('"');
        }
        _ => return Err(NoJson::Form),
    }
    Ok(())
}

fn write_json_float(out: &mut String, float: f64) {
    if float.is_nan() {
        out.push_str("NaN");
    } else if float.is_infinite() {
        out.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        json_text::write_float(out, float);
    }
}

fn write_json_text(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let is_special = |byte: u8| !(b' '..=b'~').contains(&byte) || matches!(byte, b'"' | b'\\');
        let run = rest.bytes().position(is_special);
        let run = run.unwrap_or(rest.len());
        out.push_str(&rest[..run]);
        rest = &rest[run..];
        let Some(c) = rest.chars().next() else {
            break;
        };
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            '\u{8}' => out.push_str("\\b"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// The text that a call leaves in the dialogue: a string as it is, an object as JSON if it has that form, anything
/// else by `str`.
///
/// # Errors
/// Where an integer has more digits than Python writes.
pub(crate) fn response(value: &Py) -> Reply<String> {
    let too_long = || {
        let text = format!("Exceeds the limit ({MAX_DIGITS} digits) for integer string conversion");
        Raise::new(Class::Value, text)
    };
    if let Py::Dict(_) = value {
        let mut out = String::with_capacity(64);
        match write_json(&mut out, value) {
            Ok(()) => return Ok(out),
            Err(NoJson::LongInteger) => return Err(too_long()),
            Err(NoJson::Form) => {}
        }
    }
    match has_long_integer(value) {
        true => Err(too_long()),
        false => Ok(str(value)),
    }
}

fn has_long_integer(value: &Py) -> bool {
    match value {
        // Quick bounds first, for writing digits takes long: 4300 of them are 14285 bits.
        Py::Big(int) => match int.bits() {
            0..=14_280 => false,
            14_290.. => true,
            _ => int.magnitude().to_string().len() > MAX_DIGITS,
        },
        Py::List(items) | Py::Tuple(items) | Py::Set(items) => items.iter().any(has_long_integer),
        Py::Dict(dict) => dict
            .iter()
            .any(|(k, v)| has_long_integer(k) || has_long_integer(v)),
        _ => false,
    }
}
