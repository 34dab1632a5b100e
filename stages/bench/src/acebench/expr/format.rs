//! The `%` operator of texts.

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Signed};

use super::Reject;
use super::print::{write_repr, write_str};
use super::value::{Value, compare, lookup};

/// Widths and precisions beyond this are refused; Python would build the text.
const MAX_WIDTH: usize = 1 << 16;

#[derive(Default)]
struct Spec {
    left: bool,
    zero: bool,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
}

/// `format % argument`.
pub(super) fn percent(format: &str, argument: &Value<'_>) -> Result<String, Reject> {
    let mut positional = match argument {
        Value::Tuple(items) => items.iter(),
        single => std::slice::from_ref(single).iter(),
    };
    let mut out = String::new();
    let mut rest = format;
    let mut mapped = false;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut named = None;
        if let Some(key) = rest.strip_prefix('(') {
            let end = key.find(')').ok_or(Reject)?;
            let Value::Dict(entries) = argument else {
                return Err(Reject);
            };
            named = Some(lookup(entries, &Value::text(&key[..end])).ok_or(Reject)?);
            mapped = true;
            rest = &key[end + 1..];
        }
        let (spec, conversion, after) = spec(rest)?;
        rest = after;
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => positional.next().ok_or(Reject)?,
        };
        pad(&mut out, &spec, convert(&spec, conversion, value)?);
    }
    out.push_str(rest);
    // A dict or list may go unused, anything else may not.
    let may_stay = mapped || matches!(argument, Value::Dict(_) | Value::List(_));
    if positional.next().is_some() && !may_stay {
        return Err(Reject);
    }
    Ok(out)
}

fn spec(text: &str) -> Result<(Spec, char, &str), Reject> {
    let mut spec = Spec::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
        match flag {
            '-' => spec.left = true,
            '+' => spec.sign = Some('+'),
            ' ' => spec.sign = spec.sign.or(Some(' ')),
            '#' => spec.alternate = true,
            _ => spec.zero = true,
        }
        rest = &rest[1..];
    }
    (spec.width, rest) = digits(rest)?;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after)?;
        spec.precision = Some(precision);
        rest = after;
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let conversion = rest.chars().next().ok_or(Reject)?;
    Ok((spec, conversion, &rest[conversion.len_utf8()..]))
}

fn digits(text: &str) -> Result<(usize, &str), Reject> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = if length == 0 {
        0
    } else {
        text[..length].parse().map_err(|_| Reject)?
    };
    if number > MAX_WIDTH {
        Err(Reject)
    } else {
        Ok((number, &text[length..]))
    }
}

/// The converted value: sign or prefix, then the rest, then whether it is a number.
type Converted = (String, String, bool);

fn convert(spec: &Spec, conversion: char, value: &Value<'_>) -> Result<Converted, Reject> {
    let mut text = String::new();
    match conversion {
        's' => write_str(&mut text, value).map_err(|_| Reject)?,
        'r' => write_repr(&mut text, value).map_err(|_| Reject)?,
        'c' => match value {
            Value::Str(one) if one.chars().count() == 1 => text.push_str(one),
            Value::Int(code) => {
                let code = u32::try_from(*code).ok().and_then(char::from_u32);
                text.push(code.ok_or(Reject)?);
            }
            _ => return Err(Reject),
        },
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => return integer(spec, conversion, value),
        'f' | 'F' => return fixed(spec, value),
        // The remaining conversions (`a`, `e`, `g`) are not worth their rules here.
        _ => return Err(Reject),
    }
    if let (Some(limit), 's' | 'r') = (spec.precision, conversion) {
        text = text.chars().take(limit).collect();
    }
    Ok((String::new(), text, false))
}

fn sign(spec: &Spec, negative: bool) -> String {
    match (negative, spec.sign) {
        (true, _) => "-".to_owned(),
        (false, Some(sign)) => sign.to_string(),
        (false, None) => String::new(),
    }
}

fn integer(spec: &Spec, conversion: char, value: &Value<'_>) -> Result<Converted, Reject> {
    let decimal = matches!(conversion, 'd' | 'i' | 'u');
    let int = match value {
        Value::Bool(bool) => BigInt::from(u8::from(*bool)),
        Value::Int(int) => BigInt::from(*int),
        Value::BigInt(int) => (**int).clone(),
        Value::Float(float) if decimal => truncated(*float).ok_or(Reject)?,
        _ => return Err(Reject),
    };
    let magnitude = int.abs();
    if magnitude.bits() > 1 << 14 {
        return Err(Reject);
    }
    let (prefix, mut text) = match conversion {
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        'o' => ("0o", format!("{magnitude:o}")),
        _ => ("", magnitude.to_string()),
    };
    let missing = spec.precision.unwrap_or(0).saturating_sub(text.len());
    text.insert_str(0, &"0".repeat(missing));
    let prefix = if spec.alternate { prefix } else { "" };
    Ok((sign(spec, int.is_negative()) + prefix, text, true))
}

fn fixed(spec: &Spec, value: &Value<'_>) -> Result<Converted, Reject> {
    use num_traits::ToPrimitive;
    let float = match value {
        Value::Bool(bool) => f64::from(u8::from(*bool)),
        Value::Int(int) => *int as f64,
        Value::BigInt(int) => int
            .to_f64()
            .filter(|float| float.is_finite())
            .ok_or(Reject)?,
        Value::Float(float) => *float,
        _ => return Err(Reject),
    };
    let negative = float.is_sign_negative() && !float.is_nan();
    debug_assert!(compare(value, value).is_some() || float.is_nan());
    let text = if float.is_finite() {
        format!("{:.*}", spec.precision.unwrap_or(6), float.abs())
    } else if float.is_nan() {
        "nan".to_owned()
    } else {
        "inf".to_owned()
    };
    Ok((sign(spec, negative), text, true))
}

fn pad(out: &mut String, spec: &Spec, (prefix, text, number): Converted) {
    let length = prefix.chars().count() + text.chars().count();
    let missing = spec.width.saturating_sub(length);
    if spec.left {
        out.push_str(&prefix);
        out.push_str(&text);
        out.push_str(&" ".repeat(missing));
    } else if spec.zero && number {
        out.push_str(&prefix);
        out.push_str(&"0".repeat(missing));
        out.push_str(&text);
    } else {
        out.push_str(&" ".repeat(missing));
        out.push_str(&prefix);
        out.push_str(&text);
    }
}

/// The integer part of a float, for `%d`.
fn truncated(float: f64) -> Option<BigInt> {
    BigInt::from_f64(float.trunc())
}
