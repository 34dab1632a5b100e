//! Floats as texts of a given form: `e`, `f` and `g` as C and Python know them, and Python's shortest one.

use starling_text::json::write_float;

/// How digits are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// One digit before the point, an exponent.
    Exponent,
    Fixed,
    /// So many significant digits, in whichever of the other two forms is shorter.
    General,
    /// The fewest digits that read back.
    Shortest,
}

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Style {
    pub(in super::super) form: Form,
    pub(in super::super) precision: usize,
    /// Keeps the point, and the zeros that `General` would drop.
    pub(in super::super) alternate: bool,
    /// Adds `.0` to what would look like an integer; otherwise `Shortest` has none.
    pub(in super::super) dot_zero: bool,
}

/// The text of a float, with a minus sign where it has one; `inf` and `nan` for what is not finite.
pub(in super::super) fn float_text(float: f64, style: Style) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    let sign = if float.is_sign_negative() { "-" } else { "" };
    let magnitude = float.abs();
    if magnitude.is_infinite() {
        return format!("{sign}inf");
    }
    let text = match style.form {
        Form::Exponent => with_exponent(magnitude, style.precision, style.alternate),
        Form::Fixed => {
            let text = format!("{magnitude:.*}", style.precision);
            pointed(text, style.alternate)
        }
        Form::General => general(magnitude, style),
        Form::Shortest => shortest(magnitude, style),
    };
    format!("{sign}{text}")
}

fn pointed(mut text: String, alternate: bool) -> String {
    if alternate && !text.contains('.') {
        text.push('.');
    }
    text
}

/// Digits with one before the point, and the decimal exponent.
fn scientific(magnitude: f64, decimals: usize) -> (String, i32) {
    let text = format!("{magnitude:.decimals$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => (digits.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

fn exponent_text(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn with_exponent(magnitude: f64, decimals: usize, alternate: bool) -> String {
    let (digits, exponent) = scientific(magnitude, decimals);
    exponent_text(&pointed(digits, alternate), exponent)
}

fn general(magnitude: f64, style: Style) -> String {
    let digits = style.precision.max(1);
    let (mantissa, exponent) = scientific(magnitude, digits - 1);
    // Where a `.0` would have to be added, it counts as a digit.
    let limit = digits as i64 - i64::from(style.dot_zero);
    let fixed = exponent >= -4 && i64::from(exponent) < limit;
    let text = if fixed {
        let decimals = digits as i64 - 1 - i64::from(exponent);
        format!("{magnitude:.*}", usize::try_from(decimals).unwrap_or(0))
    } else {
        mantissa
    };
    let mut text = if style.alternate {
        pointed(text, true)
    } else if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    if !fixed {
        return exponent_text(&text, exponent);
    }
    if style.dot_zero && !text.contains('.') {
        text.push_str(".0");
    }
    text
}

fn shortest(magnitude: f64, style: Style) -> String {
    let mut text = String::new();
    write_float(&mut text, magnitude);
    if !style.dot_zero && text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    if style.alternate && !text.contains('.') {
        let at = text.find('e').unwrap_or(text.len());
        text.insert(at, '.');
    }
    text
}
