//! The `%` operator of texts and of bytes.

use std::borrow::Cow;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Signed};

use super::super::Reject;
use super::super::value::float_text::{Form, Style, float_text};
use super::super::value::numbers::{Number, float, number};
use super::super::value::print::{write_ascii, write_repr, write_str};
use super::super::value::{Value, lookup, surrogate};

/// Widths and precisions beyond this are refused; Python would build the text.
pub(in super::super) const MAX_WIDTH: usize = 1 << 16;

#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// What conversions take their values from.
enum Arguments<'v, 'a> {
    Tuple(std::slice::Iter<'v, Value<'a>>),
    One(Option<&'v Value<'a>>),
}

struct Formatter<'v, 'a> {
    /// Bytes, as characters of the same numbers.
    bytes: bool,
    arguments: Arguments<'v, 'a>,
    mapping: Option<&'v Value<'a>>,
}

/// `format % argument` for texts.
pub(in super::super) fn percent(format: &str, argument: &Value<'_>) -> Result<String, Reject> {
    Formatter::new(false, argument).run(format)
}

/// `format % argument` for bytes.
pub(in super::super) fn percent_bytes(
    format: &[u8],
    argument: &Value<'_>,
) -> Result<Vec<u8>, Reject> {
    let text = Formatter::new(true, argument).run(&latin(format))?;
    Ok(text.chars().map(|c| c as u8).collect())
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

impl<'v, 'a> Formatter<'v, 'a> {
    fn new(bytes: bool, argument: &'v Value<'a>) -> Self {
        let arguments = match argument {
            Value::Tuple(items) => Arguments::Tuple(items.iter()),
            one => Arguments::One(Some(one)),
        };
        // What has items counts as a mapping, though keys are found in dicts only.
        let is_mapping = match argument {
            Value::Dict(_) | Value::List(_) => true,
            Value::Bytes(_) => !bytes,
            _ => false,
        };
        Self {
            bytes,
            arguments,
            mapping: Some(argument).filter(|_| is_mapping),
        }
    }

    fn run(&mut self, format: &str) -> Result<String, Reject> {
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push_str(&rest[..at]);
            rest = self.field(&mut out, &rest[at + 1..])?;
        }
        out.push_str(rest);
        let left = match &self.arguments {
            Arguments::Tuple(items) => items.len() > 0,
            Arguments::One(one) => one.is_some(),
        };
        // A mapping may go unused, anything else may not.
        match left && self.mapping.is_none() {
            true => Err(Reject),
            false => Ok(out),
        }
    }

    fn next(&mut self) -> Result<&'v Value<'a>, Reject> {
        match &mut self.arguments {
            Arguments::Tuple(items) => items.next().ok_or(Reject),
            Arguments::One(one) => one.take().ok_or(Reject),
        }
    }

    /// Appends one field and gives what follows it.
    fn field<'t>(&mut self, out: &mut String, mut rest: &'t str) -> Result<&'t str, Reject> {
        // With anything between the two signs, the second is an unknown conversion.
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            return Ok(after);
        }
        if let Some(after) = rest.strip_prefix('(') {
            let mapping = self.mapping.ok_or(Reject)?;
            let end = closing(after).ok_or(Reject)?;
            let (key, after) = (&after[..end], &after[end + 1..]);
            let key = match self.bytes {
                true => Value::Bytes(key.chars().map(|c| c as u8).collect()),
                false => Value::text(key),
            };
            let Value::Dict(entries) = mapping else {
                return Err(Reject);
            };
            self.arguments = Arguments::One(Some(lookup(entries, &key).ok_or(Reject)?));
            rest = after;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.chars().next() {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.blank = true,
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let width;
        (width, rest) = self.count(rest)?;
        spec.left |= width < 0;
        spec.width = within(width.unsigned_abs())?;
        if let Some(after) = rest.strip_prefix('.') {
            let precision;
            (precision, rest) = self.count(after)?;
            spec.precision = Some(within(precision.max(0).unsigned_abs())?);
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        let conversion = rest.chars().next().ok_or(Reject)?;
        rest = &rest[conversion.len_utf8()..];
        let value = self.next()?;
        let converted = self.convert(&spec, conversion, value)?;
        pad(out, &spec, &converted);
        Ok(rest)
    }

    /// Digits, or the next argument for a `*`; zero for neither.
    fn count<'t>(&mut self, text: &'t str) -> Result<(i64, &'t str), Reject> {
        if let Some(after) = text.strip_prefix('*') {
            return match self.next()? {
                Value::Int(int) => Ok((*int, after)),
                Value::Bool(bool) => Ok((i64::from(*bool), after)),
                _ => Err(Reject),
            };
        }
        let length = text.bytes().take_while(u8::is_ascii_digit).count();
        let number = match length {
            0 => 0,
            _ => text[..length].parse().map_err(|_| Reject)?,
        };
        Ok((number, &text[length..]))
    }

    fn convert(
        &self,
        spec: &Spec,
        conversion: char,
        value: &Value<'_>,
    ) -> Result<Converted, Reject> {
        let mut text = String::new();
        match (conversion, value) {
            ('s' | 'b', Value::Bytes(bytes)) if self.bytes => text = latin(bytes),
            ('s' | 'b', _) if self.bytes => return Err(Reject),
            ('a', _) => write_ascii(&mut text, value).map_err(|_| Reject)?,
            ('r', _) if self.bytes => write_ascii(&mut text, value).map_err(|_| Reject)?,
            ('r', _) => write_repr(&mut text, value).map_err(|_| Reject)?,
            ('s', _) => write_str(&mut text, value).map_err(|_| Reject)?,
            ('c', _) => {
                return Ok(Converted::text(self.character(value)?.to_string()));
            }
            ('d' | 'i' | 'u' | 'x' | 'X' | 'o', _) => return integer(spec, conversion, value),
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G', _) => return real(spec, conversion, value),
            _ => return Err(Reject),
        }
        if let Some(limit) = spec.precision {
            text = text.chars().take(limit).collect();
        }
        Ok(Converted::text(text))
    }

    /// One character, given as itself or as its number.
    fn character(&self, value: &Value<'_>) -> Result<char, Reject> {
        let code = match value {
            Value::Str(text) if !self.bytes => {
                let mut chars = text.chars();
                let first = chars.next().ok_or(Reject)?;
                return chars.next().map_or(Ok(first), |_| Err(Reject));
            }
            Value::Bytes(bytes) if self.bytes && bytes.len() == 1 => u32::from(bytes[0]),
            Value::Int(int) => u32::try_from(*int).map_err(|_| Reject)?,
            Value::Bool(bool) => u32::from(*bool),
            _ => return Err(Reject),
        };
        let limit = if self.bytes { 0xff } else { 0x10_ffff };
        match code > limit {
            true => Err(Reject),
            false => Ok(char::from_u32(code).unwrap_or_else(|| surrogate(code))),
        }
    }
}

/// Where the parenthesis ends that is open.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_u32;
    text.bytes().position(|byte| {
        match byte {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        open == 0
    })
}

fn within(count: u64) -> Result<usize, Reject> {
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= MAX_WIDTH)
        .ok_or(Reject)
}

/// A value as it will be padded.
struct Converted {
    /// Sign and base, which zeros follow.
    prefix: String,
    text: String,
    is_number: bool,
}

impl Converted {
    fn text(text: String) -> Self {
        Self {
            prefix: String::new(),
            text,
            is_number: false,
        }
    }
}

fn sign(spec: &Spec, negative: bool) -> &'static str {
    match negative {
        true => "-",
        false if spec.plus => "+",
        false if spec.blank => " ",
        false => "",
    }
}

fn integer(spec: &Spec, conversion: char, value: &Value<'_>) -> Result<Converted, Reject> {
    let is_decimal = matches!(conversion, 'd' | 'i' | 'u');
    let int = match number(value).ok_or(Reject)? {
        Number::Int(int) => int,
        Number::Float(float) if is_decimal => BigInt::from_f64(float.trunc()).ok_or(Reject)?,
        _ => return Err(Reject),
    };
    let magnitude = int.abs();
    let (base, mut text) = match conversion {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        _ => {
            let mut text = String::new();
            write_repr(&mut text, &Value::big(magnitude)).map_err(|_| Reject)?;
            ("", text)
        }
    };
    let missing = spec.precision.unwrap_or(0).saturating_sub(text.len());
    text.insert_str(0, &"0".repeat(missing));
    let base = if spec.alternate { base } else { "" };
    Ok(Converted {
        prefix: format!("{}{base}", sign(spec, int.is_negative())),
        text,
        is_number: true,
    })
}

fn real(spec: &Spec, conversion: char, value: &Value<'_>) -> Result<Converted, Reject> {
    let float = match number(value).ok_or(Reject)? {
        Number::Complex(..) => return Err(Reject),
        real => float(&real)?,
    };
    let form = match conversion {
        'e' | 'E' => Form::Exponent,
        'f' | 'F' => Form::Fixed,
        _ => Form::General,
    };
    let text = float_text(
        float,
        Style {
            form,
            precision: spec.precision.unwrap_or(6),
            alternate: spec.alternate,
            dot_zero: false,
        },
    );
    let magnitude = text.strip_prefix('-').unwrap_or(&text);
    Ok(Converted {
        prefix: sign(spec, magnitude.len() < text.len()).to_owned(),
        text: ascii_upper(magnitude, conversion.is_ascii_uppercase()).into_owned(),
        is_number: true,
    })
}

pub(in super::super) fn ascii_upper(text: &str, upper: bool) -> Cow<'_, str> {
    match upper {
        true => Cow::Owned(text.to_ascii_uppercase()),
        false => Cow::Borrowed(text),
    }
}

fn pad(out: &mut String, spec: &Spec, converted: &Converted) {
    let Converted {
        prefix,
        text,
        is_number,
    } = converted;
    let length = prefix.chars().count() + text.chars().count();
    let missing = spec.width.saturating_sub(length);
    let (blanks, zeros, after) = match (spec.left, spec.zero && *is_number) {
        (true, _) => (0, 0, missing),
        (false, true) => (0, missing, 0),
        (false, false) => (missing, 0, 0),
    };
    out.push_str(&" ".repeat(blanks));
    out.push_str(prefix);
    out.push_str(&"0".repeat(zeros));
    out.push_str(text);
    out.push_str(&" ".repeat(after));
}
