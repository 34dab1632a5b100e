//! `str()` and `repr()` of a [`Value`].

use num_traits::Signed;
use starling_text::json::write_float;
use starling_text::python::is_printable;

use super::set::walking_order;
use super::{SURROGATES, Value};

/// Python refuses to print an integer of more digits than this.
pub(crate) const MAX_DIGITS: u64 = 4300;

/// The value has no printed form: it holds an integer of more than [`MAX_DIGITS`] digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unprintable;

/// Appends `str(value)`: a text is itself, all else its `repr`.
pub(crate) fn write_str(out: &mut String, value: &Value<'_>) -> Result<(), Unprintable> {
    match value {
        Value::Str(text) => {
            out.push_str(text);
            Ok(())
        }
        other => write_repr(out, other),
    }
}

/// Appends `ascii(value)`: its `repr` with everything beyond ASCII escaped.
pub(in super::super) fn write_ascii(
    out: &mut String,
    value: &Value<'_>,
) -> Result<(), Unprintable> {
    let mut printed = String::new();
    write_repr(&mut printed, value)?;
    for c in printed.chars() {
        match c.is_ascii() {
            true => out.push(c),
            false => write_escape(out, c),
        }
    }
    Ok(())
}

/// Appends `repr(value)`.
pub(crate) fn write_repr(out: &mut String, value: &Value<'_>) -> Result<(), Unprintable> {
    match value {
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Ellipsis => out.push_str("Ellipsis"),
        Value::Int(int) => push(out, format_args!("{int}")),
        Value::BigInt(int) => {
            // 3.33 bits a digit: decide without the quadratic conversion.
            if int.bits() > MAX_DIGITS * 10 / 3 {
                return Err(Unprintable);
            }
            let start = out.len();
            push(out, format_args!("{}", int.magnitude()));
            if (out.len() - start) as u64 > MAX_DIGITS {
                return Err(Unprintable);
            }
            out.insert_str(start, if int.is_negative() { "-" } else { "" });
        }
        Value::Float(float) => write_float(out, *float),
        Value::Complex(re, im) => write_complex(out, *re, *im),
        Value::Bytes(bytes) => write_bytes(out, bytes),
        Value::Str(text) => write_text(out, text),
        Value::List(items) => {
            out.push('[');
            write_items(out, items)?;
            out.push(']');
        }
        Value::Tuple(items) => {
            out.push('(');
            write_items(out, items)?;
            out.push_str(if items.len() == 1 { ",)" } else { ")" });
        }
        Value::Opaque(printed) => out.push_str(printed),
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => {
            out.push('{');
            for (i, item) in walking_order(items).into_iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, item)?;
            }
            out.push('}');
        }
        Value::Dict(entries) => {
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, key)?;
                out.push_str(": ");
                write_repr(out, value)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_items(out: &mut String, items: &[Value<'_>]) -> Result<(), Unprintable> {
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" });
        write_repr(out, item)?;
    }
    Ok(())
}

/// Floats inside a complex number drop their `.0`.
fn write_complex(out: &mut String, re: f64, im: f64) {
    let part = |out: &mut String, float: f64| {
        write_float(out, float);
        if out.ends_with(".0") {
            out.truncate(out.len() - 2);
        }
    };
    if re.to_bits() == 0 {
        part(out, im);
        out.push('j');
        return;
    }
    out.push('(');
    part(out, re);
    if im.is_nan() || im.is_sign_positive() {
        out.push('+');
    }
    part(out, im);
    out.push_str("j)");
}

fn write_bytes(out: &mut String, bytes: &[u8]) {
    let quote = quote_for(bytes.contains(&b'\''), bytes.contains(&b'"'));
    out.push('b');
    out.push(quote);
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            _ if char::from(byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => push(out, format_args!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
}

fn quote_for(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

/// Appends the `repr` of a text.
pub(crate) fn write_text(out: &mut String, text: &str) {
    let quote = quote_for(text.contains('\''), text.contains('"'));
    // Blanks to tildes and ideographs, of which most texts are, are copied in runs.
    let plain =
        |c: char| matches!(c, ' '..='~' | '\u{4e00}'..='\u{9fa5}') && c != '\\' && c != quote;
    out.push(quote);
    let mut rest = text;
    while let Some(at) = rest.find(|c| !plain(c)) {
        let (run, special) = rest.split_at(at);
        out.push_str(run);
        let mut chars = special.chars();
        match chars.next() {
            Some('\\') => out.push_str("\\\\"),
            Some(c) if c == quote => {
                out.push('\\');
                out.push(c);
            }
            Some(c) if is_printable(c) => out.push(c),
            Some(c) => write_escape(out, c),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push(quote);
}

/// Appends the escape of a character that is not printable.
pub(in super::super) fn write_escape(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ => match u32::from(c) {
            code @ ..0x100 => push(out, format_args!("\\x{code:02x}")),
            code @ ..0x10000 => push(out, format_args!("\\u{code:04x}")),
            code if (SURROGATES..SURROGATES + 0x800).contains(&code) => {
                push(out, format_args!("\\u{:04x}", code - SURROGATES + 0xd800));
            }
            code => push(out, format_args!("\\U{code:08x}")),
        },
    }
}

/// Appends formatted text.
pub(crate) fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    out.write_fmt(args)
        .expect("writing to a string cannot fail");
}
