//! `int(text)` and `float(text)` of Python.

use std::borrow::Cow;
use std::sync::LazyLock;

use num_bigint::BigInt;
use num_traits::Num as _;
use regex::Regex;
use starling_text::json::{MAX_DIGITS, Value};
use starling_text::python::strip;

static DIGIT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d$").expect("valid pattern"));

/// `int(text)`; `None` where Python raises, which includes integers of more than 4300 digits.
pub(crate) fn parse_int(text: &str) -> Option<Value> {
    let text = ascii_digits(strip(text));
    let (negative, digits) = sign(&text);
    let digits = ungroup(digits)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.len() > MAX_DIGITS
    {
        return None;
    }
    if let Ok(int) = digits.parse::<i64>() {
        return Some(Value::Int(if negative { -int } else { int }));
    }
    let int = BigInt::from_str_radix(&digits, 10).ok()?;
    let int = if negative { -int } else { int };
    Some(match i64::try_from(&int) {
        Ok(int) => Value::Int(int),
        Err(_) => Value::BigInt(Box::new(int)),
    })
}

/// `text.isdigit()`: digits of any script, and those that only look like digits, which `int` refuses.
pub(crate) fn is_digits(text: &str) -> bool {
    let looks_like = |c: char| {
        let code = u32::from(c);
        LIKE_DIGITS
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&code))
    };
    let is_digit = |c: char| c.is_ascii_digit() || digit_value(c).is_some() || looks_like(c);
    !text.is_empty() && text.chars().all(is_digit)
}

/// Superscript, circled and other characters whose numeric type is a digit, but no decimal one (Unicode 14).
const LIKE_DIGITS: [(u32, u32); 20] = [
    (0xb2, 0xb3),
    (0xb9, 0xb9),
    (0x1369, 0x1371),
    (0x19da, 0x19da),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247c),
    (0x2488, 0x2490),
    (0x24ea, 0x24ea),
    (0x24f5, 0x24fd),
    (0x24ff, 0x24ff),
    (0x2776, 0x277e),
    (0x2780, 0x2788),
    (0x278a, 0x2792),
    (0x10a40, 0x10a43),
    (0x10e60, 0x10e68),
    (0x11052, 0x1105a),
    (0x1f100, 0x1f10a),
];

/// `float(text)`; `None` where Python raises.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let text = ascii_digits(strip(text));
    let (negative, digits) = sign(&text);
    let value = match digits.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => {
            let digits = ungroup(digits)?;
            let numeric =
                |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
            let first = digits.bytes().next()?;
            if !(first.is_ascii_digit() || first == b'.') || !digits.bytes().all(numeric) {
                return None;
            }
            digits.parse().ok()?
        }
    };
    Some(if negative { -value } else { value })
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Takes out underscores, each of which must stand between two digits.
fn ungroup(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let placed = bytes
        .iter()
        .enumerate()
        .all(|(i, b)| *b != b'_' || (digit(i.checked_sub(1)) && digit(Some(i + 1))));
    placed.then(|| Cow::Owned(text.replace('_', "")))
}

/// Decimal digits of any script become ASCII ones.
fn ascii_digits(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| digit_value(c).unwrap_or(c)).collect())
}

fn digit_value(c: char) -> Option<char> {
    let is_digit = |c: char| DIGIT.is_match(c.encode_utf8(&mut [0; 4]));
    if c.is_ascii() || !is_digit(c) {
        return None;
    }
    // Digits stand in runs of ten (or several tens): the distance to the start of the run tells the value.
    let code = u32::from(c);
    let run = (1..=60).take_while(|back| char::from_u32(code - back).is_some_and(is_digit));
    char::from_digit(run.count() as u32 % 10, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, int) in [
            (" 5\n", 5),
            ("+1_0", 10),
            ("-007", -7),
            ("٣", 3),
            ("𝟙𝟘", 10),
        ] {
            assert_eq!(parse_int(text), Some(Value::Int(int)), "{text}");
        }
        for text in ["", "_1", "1__0", "1_", "0x1", "1.0", "--1", "a"] {
            assert_eq!(parse_int(text), None, "{text}");
        }
        for (text, float) in [
            (".5", 0.5),
            ("5.", 5.0),
            ("1_0e-1", 1.0),
            ("-inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_float(text), Some(float), "{text}");
        }
        for text in ["", ".", "1e", "0x1", "1_.0", "e5", "infinit", "+-1"] {
            assert_eq!(parse_float(text), None, "{text}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        for (text, expected) in [
            ("10", true),
            ("٣１", true),
            ("2²", true),
            ("", false),
            ("1.", false),
            ("½", false),
        ] {
            assert_eq!(is_digits(text), expected, "{text}");
        }
    }
}
