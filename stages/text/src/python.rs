//! `str()`, `repr()`, truth and `==` of Python, over JSON values.

use std::borrow::Cow;
use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::FromPrimitive;
use unicode_general_category::{GeneralCategory as Category, get_general_category};

use crate::json::{Value, dump_fmt, write_float};

/// `str(value)`: a string is itself, everything else its [`repr`].
pub fn str(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Str(text) => Cow::Borrowed(text),
        other => Cow::Owned(repr(other)),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(&mut out, value);
    out
}

/// Appends `repr(value)`.
pub fn write_repr(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(int) => dump_fmt(out, format_args!("{int}")),
        Value::BigInt(int) => dump_fmt(out, format_args!("{int}")),
        Value::Float(float) => write_float(out, *float),
        Value::Str(text) => write_str_repr(out, text),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, item);
            }
            out.push(']');
        }
        Value::Dict(map) => {
            out.push('{');
            for (i, (name, item)) in map.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_str_repr(out, name);
                out.push_str(": ");
                write_repr(out, item);
            }
            out.push('}');
        }
    }
}

/// Appends the `repr` of a string: single quotes unless it has a single and no double one.
pub fn write_str_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => {
                out.push('\\');
                out.push(c);
            }
            _ if is_printable(c) => out.push(c),
            _ => match u32::from(c) {
                code @ ..0x100 => dump_fmt(out, format_args!("\\x{code:02x}")),
                code @ ..0x10000 => dump_fmt(out, format_args!("\\u{code:04x}")),
                code => dump_fmt(out, format_args!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// `str.isprintable` of one character: not a control, format, surrogate, private-use, unassigned or
/// separating character, but the space is.
pub fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        _ => !matches!(
            get_general_category(c),
            Category::Control
                | Category::Format
                | Category::Surrogate
                | Category::PrivateUse
                | Category::Unassigned
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::SpaceSeparator
        ),
    }
}

/// `str.isspace` of one character, which is also what `str.strip()` and `str.split()` cut at: Unicode
/// white space and the four information separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `bool(value)`: `None`, `False`, zeros and everything empty are false.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => *bool,
        Value::Int(int) => *int != 0,
        // By its invariant a big integer is not zero.
        Value::BigInt(_) => true,
        Value::Float(float) => float.is_nan() || float.abs() > 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Dict(map) => !map.is_empty(),
    }
}

/// Whether a value is a number for `==`: booleans count as 0 and 1.
pub fn is_numeric(value: &Value) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_)
    )
}

/// `a == b`: numbers and booleans by numeric value, exact at any size; lists in order; objects in any
/// order of their names. `NaN` equals nothing.
pub fn eq(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| eq(a, b))
        }
        (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name.as_str()).is_some_and(|b| eq(a, b)))
        }
        _ => compare(a, b) == Some(Ordering::Equal),
    }
}

/// Orders two numbers (or booleans) by their exact values; `None` when either is not a number or is `NaN`.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (number(a)?, number(b)?) {
        (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
        (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
        (Number::Big(a), Number::Big(b)) => Some(a.cmp(b)),
        (Number::Int(a), Number::Big(b)) => Some(BigInt::from(a).cmp(b)),
        (Number::Big(a), Number::Int(b)) => Some(a.cmp(&BigInt::from(b))),
        (Number::Int(a), Number::Float(b)) => compare_int_float(a, b),
        (Number::Float(a), Number::Int(b)) => compare_int_float(b, a).map(Ordering::reverse),
        (Number::Big(a), Number::Float(b)) => compare_big_float(a, b),
        (Number::Float(a), Number::Big(b)) => compare_big_float(b, a).map(Ordering::reverse),
    }
}

enum Number<'a> {
    Int(i64),
    Big(&'a BigInt),
    Float(f64),
}

fn number(value: &Value) -> Option<Number<'_>> {
    match value {
        Value::Bool(bool) => Some(Number::Int(i64::from(*bool))),
        Value::Int(int) => Some(Number::Int(*int)),
        Value::BigInt(int) => Some(Number::Big(int)),
        Value::Float(float) => Some(Number::Float(*float)),
        _ => None,
    }
}

fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    // Below 2^53 the conversion is exact; above, integers are compared instead.
    if int.unsigned_abs() < 1 << 53 {
        return (int as f64).partial_cmp(&float);
    }
    compare_big_float(&BigInt::from(int), float)
}

fn compare_big_float(int: &BigInt, float: f64) -> Option<Ordering> {
    match BigInt::from_f64(float.trunc()) {
        // The fraction decides between an integer and a float that share their whole part.
        Some(whole) => int
            .cmp(&whole)
            .then(0.0.partial_cmp(&float.fract())?)
            .into(),
        // Not finite: an infinity is beyond every integer, NaN is nowhere.
        None => 0.0.partial_cmp(&float),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::{parse, tests::any_value};

    fn value(text: &str) -> Value {
        parse(text).expect(text)
    }

    #[test]
    fn repr_follows_python() {
        for (json, text) in [
            (
                r#"[null, true, false, 1, 1.0, "a"]"#,
                "[None, True, False, 1, 1.0, 'a']",
            ),
            (r#"{"a": {"b": []}, "c": {}}"#, "{'a': {'b': []}, 'c': {}}"),
            (
                r#"["it's", "say \"hi\"", "both ' and \""]"#,
                r#"["it's", 'say "hi"', 'both \' and "']"#,
            ),
            (
                r#"["\n\r\t\\\u0007\u007f\u00a0\u00ad"]"#,
                r"['\n\r\t\\\x07\x7f\xa0\xad']",
            ),
            (
                r#"["\u200b\u2028\u3000\ue000\ufeff"]"#,
                r"['\u200b\u2028\u3000\ue000\ufeff']",
            ),
            (r#"["é東😀", "\udb40\udc01"]"#, r"['é東😀', '\U000e0001']"),
            (
                "[NaN, -Infinity, 1e16, 1e-7, 0.1]",
                "[nan, -inf, 1e+16, 1e-07, 0.1]",
            ),
        ] {
            assert_eq!(repr(&value(json)), text);
        }
        assert_eq!(str(&value(r#""it's""#)), "it's");
        assert_eq!(str(&value("null")), "None");
    }

    #[test]
    fn numbers_are_equal_by_value() {
        for (a, b, equal) in [
            ("1", "1.0", true),
            ("true", "1", true),
            ("false", "-0.0", true),
            ("9007199254740993", "9007199254740992.0", false),
            ("9007199254740992", "9007199254740992.0", true),
            ("9223372036854775807", "9223372036854775808.0", false),
            ("9223372036854775808", "9223372036854775808.0", true),
            ("100000000000000000000000", "1e23", false),
            ("99999999999999991611392", "1e23", true),
            ("NaN", "NaN", false),
            ("1e400", "Infinity", true),
            (
                "[1, {\"a\": 2, \"b\": 3}]",
                "[1.0, {\"b\": 3, \"a\": 2}]",
                true,
            ),
            ("[1, 2]", "[2, 1]", false),
            ("\"1\"", "1", false),
            ("null", "false", false),
        ] {
            assert_eq!(eq(&value(a), &value(b)), equal, "{a} == {b}");
            assert_eq!(eq(&value(b), &value(a)), equal, "{b} == {a}");
        }
    }

    #[test]
    fn space_is_what_python_strips() {
        assert_eq!(
            strip("\u{1c}\u{85}\u{a0}\u{3000} x\u{200b}\u{2029}"),
            "x\u{200b}"
        );
    }

    proptest! {
        #[test]
        fn eq_is_reflexive_and_symmetric(a in any_value(), b in any_value()) {
            prop_assert!(eq(&a, &a));
            prop_assert_eq!(eq(&a, &b), eq(&b, &a));
        }

        #[test]
        fn order_is_antisymmetric_and_exact(a in any::<i64>(), b in any::<f64>()) {
            let (int, float) = (Value::Int(a), Value::Float(b));
            prop_assert_eq!(compare(&int, &float), compare(&float, &int).map(Ordering::reverse));
            if !b.is_nan() && b.abs() < 1e18 {
                let expected = i128::from(a) * 1000 > (b * 1000.0) as i128;
                if (a as f64 - b).abs() > 1024.0 {
                    prop_assert_eq!(compare(&int, &float) == Some(Ordering::Greater), expected);
                }
            }
        }

        #[test]
        fn repr_of_text_is_one_printable_line(text in any::<String>()) {
            prop_assert!(repr(&Value::Str(text)).chars().all(is_printable));
        }
    }
}
