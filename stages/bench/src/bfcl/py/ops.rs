//! Operators on values: arithmetic, comparison, conversion.

use std::cmp::Ordering;
use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use num_traits::{Pow as _, Signed as _, ToPrimitive as _, Zero as _};
use starling_text::json::Value;
use starling_text::python;

use super::{Class, Py, Raise, Reply, quoted};
use crate::bfcl::number;

/// Integers of more bits than this are not computed: they could not be printed anyway.
const MAX_BITS: u64 = 1 << 16;

/// Repeated sequences that hold more than this, counted down to the last character, are not built.
const MAX_REPEATED: usize = 1 << 16;

/// Joined sequences longer than this are not built.
const MAX_JOINED: usize = 1 << 22;

/// `a == b`
pub(crate) fn eq(a: &Py, b: &Py) -> bool {
    match (a, b) {
        (Py::Str(a), Py::Str(b)) => std::ptr::eq(&**a, &**b) || **a == **b,
        (Py::Int(a), Py::Int(b)) => a == b,
        (Py::None, Py::None) | (Py::Ellipsis, Py::Ellipsis) => true,
        (Py::List(a), Py::List(b)) | (Py::Tuple(a), Py::Tuple(b)) => {
            Arc::ptr_eq(a, b) || (a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| eq(a, b)))
        }
        (Py::Dict(a), Py::Dict(b)) => {
            Arc::ptr_eq(a, b)
                || (a.len() == b.len()
                    && a.iter().enumerate().all(|(at, (key, a))| {
                        // Most have their keys in the same order.
                        let beside = b.at(at).filter(|(found, _)| eq(found, key));
                        let same = beside.map(|(_, value)| value);
                        let same = same.or_else(|| b.get(key).ok().flatten());
                        same.is_some_and(|b| eq(a, b))
                    }))
        }
        (Py::Set(a), Py::Set(b)) => {
            a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| eq(a, b)))
        }
        (Py::Bytes(a), Py::Bytes(b)) => a == b,
        (Py::Complex(ar, ai), Py::Complex(br, bi)) => {
            ar.partial_cmp(br) == Some(Ordering::Equal)
                && ai.partial_cmp(bi) == Some(Ordering::Equal)
        }
        (Py::Object(_, a), Py::Object(_, b)) => a == b,
        _ => compare_numbers(a, b) == Some(Ordering::Equal),
    }
}

fn compare_numbers(a: &Py, b: &Py) -> Option<Ordering> {
    match (a, b) {
        (Py::Int(a), Py::Int(b)) => Some(a.cmp(b)),
        (Py::Float(a), Py::Float(b)) => a.partial_cmp(b),
        _ => python::compare(&number_value(a)?, &number_value(b)?),
    }
}

fn number_value(value: &Py) -> Option<Value> {
    Some(match value {
        Py::Bool(value) => Value::Bool(*value),
        Py::Int(int) => Value::Int(*int),
        Py::Big(int) => Value::BigInt(Box::new((**int).clone())),
        Py::Float(float) => Value::Float(*float),
        _ => return None,
    })
}

/// Whether the value is an `int` (booleans are) or a `float`.
pub(crate) fn is_number(value: &Py) -> bool {
    matches!(value, Py::Bool(_) | Py::Int(_) | Py::Big(_) | Py::Float(_))
}

/// Orders two values; `None` when neither is less, `nan` included.
///
/// # Errors
/// A `TypeError` that names `operator` for values without order.
pub(crate) fn compare(a: &Py, b: &Py, operator: &str) -> Reply<Option<Ordering>> {
    match (a, b) {
        (Py::Str(a), Py::Str(b)) => Ok(Some(a.chars().cmp(b.chars()))),
        (Py::Bytes(a), Py::Bytes(b)) => Ok(Some(a.cmp(b))),
        (Py::List(a), Py::List(b)) | (Py::Tuple(a), Py::Tuple(b)) => {
            match a.iter().zip(&**b).find(|(a, b)| !eq(a, b)) {
                Some((a, b)) => compare(a, b, operator),
                None => Ok(Some(a.len().cmp(&b.len()))),
            }
        }
        _ if is_number(a) && is_number(b) => Ok(compare_numbers(a, b)),
        _ => {
            let (a, b) = (a.type_name(), b.type_name());
            let text = format!("'{operator}' not supported between instances of '{a}' and '{b}'");
            Err(Raise::type_error(text))
        }
    }
}

/// `a < b`
pub(crate) fn less(a: &Py, b: &Py) -> Reply<bool> {
    Ok(compare(a, b, "<")? == Some(Ordering::Less))
}

/// `a <= b`
pub(crate) fn less_equal(a: &Py, b: &Py) -> Reply<bool> {
    Ok(matches!(
        compare(a, b, "<=")?,
        Some(Ordering::Less | Ordering::Equal)
    ))
}

/// Two operands, lifted to a common type.
enum Pair {
    Ints(BigInt, BigInt),
    Small(i64, i64),
    Floats(f64, f64),
    Complex((f64, f64), (f64, f64)),
}

fn pair(a: &Py, b: &Py) -> Reply<Option<Pair>> {
    let complex = |value: &Py| match value {
        Py::Complex(re, im) => Ok((*re, *im)),
        other => Ok((float_of(other)?, 0.0)),
    };
    let lifts = |value: &Py| is_number(value) || matches!(value, Py::Complex(..));
    if !lifts(a) || !lifts(b) {
        return Ok(None);
    }
    if matches!(a, Py::Complex(..)) || matches!(b, Py::Complex(..)) {
        return Ok(Some(Pair::Complex(complex(a)?, complex(b)?)));
    }
    if matches!(a, Py::Float(_)) || matches!(b, Py::Float(_)) {
        return Ok(Some(Pair::Floats(float_of(a)?, float_of(b)?)));
    }
    Ok(Some(match (small(a), small(b)) {
        (Some(a), Some(b)) => Pair::Small(a, b),
        _ => Pair::Ints(big(a), big(b)),
    }))
}

fn small(value: &Py) -> Option<i64> {
    match value {
        Py::Bool(value) => Some(i64::from(*value)),
        Py::Int(int) => Some(*int),
        _ => None,
    }
}

fn big(value: &Py) -> BigInt {
    match value {
        Py::Big(int) => (**int).clone(),
        other => BigInt::from(small(other).unwrap_or(0)),
    }
}

/// A number as a float.
///
/// # Errors
/// An `OverflowError` for an integer beyond the range of floats.
fn float_of(value: &Py) -> Reply<f64> {
    match value {
        Py::Float(float) => Ok(*float),
        Py::Big(int) => {
            let float = ratio(int, &BigInt::from(1));
            let text = "int too large to convert to float";
            float.ok_or_else(|| Raise::new(Class::Overflow, text))
        }
        other => Ok(small(other).unwrap_or(0) as f64),
    }
}

fn unsupported(operator: &str, a: &Py, b: &Py) -> Raise {
    let (a, b) = (a.type_name(), b.type_name());
    Raise::type_error(format!(
        "unsupported operand type(s) for {operator}: '{a}' and '{b}'"
    ))
}

/// `a + b`
pub(crate) fn add(a: &Py, b: &Py) -> Reply {
    add_as(a, b, "+")
}

/// `a += b` as far as the result goes.
pub(crate) fn add_in_place(a: &Py, b: &Py) -> Reply {
    match (a, b) {
        // A list is extended by whatever can be gone through.
        (Py::List(_), b) => add_as(a, &b.iterate()?.into(), "+="),
        _ => add_as(a, b, "+="),
    }
}

fn add_as(a: &Py, b: &Py, operator: &str) -> Reply {
    let length = |value: &Py| match value {
        Py::Str(text) => text.len(),
        Py::Bytes(bytes) => bytes.len(),
        Py::List(items) | Py::Tuple(items) => items.len(),
        _ => 0,
    };
    if length(a) + length(b) > MAX_JOINED {
        return Err(Raise::limit());
    }
    match (a, b) {
        (Py::Str(a), Py::Str(b)) => return Ok(format!("{}{}", &**a, &**b).into()),
        (Py::List(a), Py::List(b)) => return Ok([&a[..], &b[..]].concat().into()),
        (Py::Tuple(a), Py::Tuple(b)) => return Ok(Py::Tuple(Arc::new([&a[..], &b[..]].concat()))),
        (Py::Bytes(a), Py::Bytes(b)) => return Ok(Py::Bytes([&a[..], &b[..]].concat().into())),
        (Py::Str(_) | Py::List(_) | Py::Tuple(_), _) => {
            let (name, found) = (a.type_name(), b.type_name());
            let text = format!("can only concatenate {name} (not \"{found}\") to {name}");
            return Err(Raise::type_error(text));
        }
        _ => {}
    }
    Ok(
        match pair(a, b)?.ok_or_else(|| unsupported(operator, a, b))? {
            Pair::Small(a, b) => match a.checked_add(b) {
                Some(int) => Py::Int(int),
                None => (BigInt::from(a) + b).into(),
            },
            Pair::Ints(a, b) => (a + b).into(),
            Pair::Floats(a, b) => Py::Float(a + b),
            Pair::Complex(a, b) => Py::Complex(a.0 + b.0, a.1 + b.1),
        },
    )
}

/// `a - b`
pub(crate) fn subtract(a: &Py, b: &Py) -> Reply {
    subtract_as(a, b, "-")
}

/// `a -= b` as far as the result goes.
pub(crate) fn subtract_in_place(a: &Py, b: &Py) -> Reply {
    subtract_as(a, b, "-=")
}

fn subtract_as(a: &Py, b: &Py, operator: &str) -> Reply {
    Ok(
        match pair(a, b)?.ok_or_else(|| unsupported(operator, a, b))? {
            Pair::Small(a, b) => match a.checked_sub(b) {
                Some(int) => Py::Int(int),
                None => (BigInt::from(a) - b).into(),
            },
            Pair::Ints(a, b) => (a - b).into(),
            Pair::Floats(a, b) => Py::Float(a - b),
            Pair::Complex(a, b) => Py::Complex(a.0 - b.0, a.1 - b.1),
        },
    )
}

/// `a * b`
pub(crate) fn multiply(a: &Py, b: &Py) -> Reply {
    let sequence = |value: &Py| {
        matches!(
            value,
            Py::Str(_) | Py::List(_) | Py::Tuple(_) | Py::Bytes(_)
        )
    };
    match (sequence(a), sequence(b)) {
        (true, _) => return repeat(a, b),
        (_, true) => return repeat(b, a),
        _ => {}
    }
    Ok(match pair(a, b)?.ok_or_else(|| unsupported("*", a, b))? {
        Pair::Small(a, b) => match a.checked_mul(b) {
            Some(int) => Py::Int(int),
            None => (BigInt::from(a) * b).into(),
        },
        Pair::Ints(a, b) if a.bits() + b.bits() > MAX_BITS => return Err(Raise::limit()),
        Pair::Ints(a, b) => (a * b).into(),
        Pair::Floats(a, b) => Py::Float(a * b),
        Pair::Complex(a, b) => Py::Complex(a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0),
    })
}

fn repeat(sequence: &Py, times: &Py) -> Reply {
    let (Py::Int(_) | Py::Bool(_) | Py::Big(_)) = times else {
        let name = times.type_name();
        let text = format!("can't multiply sequence by non-int of type '{name}'");
        return Err(Raise::type_error(text));
    };
    let times = match times {
        Py::Big(int) if int.is_negative() => 0,
        Py::Big(_) => {
            return Err(Raise::new(
                Class::Overflow,
                "cannot fit 'int' into an index-sized integer",
            ));
        }
        other => usize::try_from(small(other).unwrap_or(0)).unwrap_or(0),
    };
    if size(sequence).saturating_mul(times) > MAX_REPEATED {
        return Err(Raise::limit());
    }
    Ok(match sequence {
        Py::Str(text) => text.repeat(times).into(),
        Py::List(items) => repeated(items, times).into(),
        Py::Tuple(items) => Py::Tuple(Arc::new(repeated(items, times))),
        Py::Bytes(bytes) => Py::Bytes(bytes.repeat(times).into()),
        _ => return Err(Raise::limit()),
    })
}

/// Everything that printing a value would visit.
fn size(value: &Py) -> usize {
    match value {
        Py::Str(text) => text.len(),
        Py::Bytes(bytes) => bytes.len(),
        Py::List(items) | Py::Tuple(items) | Py::Set(items) => {
            items.iter().map(size).sum::<usize>() + items.len()
        }
        Py::Dict(dict) => {
            let entries = dict.iter().map(|(key, value)| size(key) + size(value) + 1);
            entries.sum()
        }
        _ => 1,
    }
}

fn repeated(items: &[Py], times: usize) -> Vec<Py> {
    std::iter::repeat_n(items, times)
        .flatten()
        .cloned()
        .collect()
}

fn zero_division(text: &str) -> Raise {
    Raise::new(Class::Other, text)
}

/// `a / b`
pub(crate) fn divide(a: &Py, b: &Py) -> Reply {
    let ints = |a: &BigInt, b: &BigInt| {
        let text = "integer division result too large for a float";
        ratio(a, b)
            .map(Py::Float)
            .ok_or_else(|| Raise::new(Class::Overflow, text))
    };
    match pair(a, b)?.ok_or_else(|| unsupported("/", a, b))? {
        Pair::Small(_, 0) => Err(zero_division("division by zero")),
        Pair::Ints(_, b) if b.is_zero() => Err(zero_division("division by zero")),
        Pair::Floats(_, b) if b.abs() <= 0.0 => Err(zero_division("float division by zero")),
        // Below 2^53 both are floats exactly, and one rounding is left.
        Pair::Small(a, b) if a.unsigned_abs() < 1 << 53 && b.unsigned_abs() < 1 << 53 => {
            Ok(Py::Float(a as f64 / b as f64))
        }
        Pair::Small(a, b) => ints(&a.into(), &b.into()),
        Pair::Ints(a, b) => ints(&a, &b),
        Pair::Floats(a, b) => Ok(Py::Float(a / b)),
        Pair::Complex(a, b) => {
            let norm = b.0 * b.0 + b.1 * b.1;
            if norm <= 0.0 {
                return Err(zero_division("complex division by zero"));
            }
            let re = (a.0 * b.0 + a.1 * b.1) / norm;
            Ok(Py::Complex(re, (a.1 * b.0 - a.0 * b.1) / norm))
        }
    }
}

/// `a / b`, rounded once to the nearest float, half to even; `None` beyond the range of floats.
pub(crate) fn ratio(a: &BigInt, b: &BigInt) -> Option<f64> {
    let negative = a.is_negative() != b.is_negative();
    let (a, b) = (a.magnitude(), b.magnitude());
    if a.is_zero() {
        return Some(if negative { -0.0 } else { 0.0 });
    }
    // The quotient gets 66 bits or more; what is cut off below only decides halves, as a sticky bit.
    let shift = 66 + b.bits() as i64 - a.bits() as i64;
    let (scaled, divisor) = match shift >= 0 {
        true => (a << shift.unsigned_abs(), b.clone()),
        false => (a.clone(), b << shift.unsigned_abs()),
    };
    let mut quotient = &scaled / &divisor;
    let exact = &quotient * &divisor == scaled;
    let mut exponent = -shift;
    // Subnormal results have fewer bits: cut them here, so that rounding happens once.
    let bits = quotient.bits() as i64;
    let drop = (bits - 64).max(-1074 - 10 - exponent).max(0);
    let low_exact = exact && quotient.trailing_zeros().unwrap_or(0) >= drop.unsigned_abs();
    quotient >>= drop.unsigned_abs();
    exponent += drop;
    let mantissa = quotient.to_u128()? << 1 | u128::from(!low_exact);
    let value = scale(mantissa, exponent - 1)?;
    Some(if negative { -value } else { value })
}

/// `mantissa * 2^exponent`, rounded half to even.
fn scale(mantissa: u128, exponent: i64) -> Option<f64> {
    if mantissa == 0 {
        return Some(0.0);
    }
    let bits = 128 - i64::from(mantissa.leading_zeros());
    // Bits below the last place of the result.
    let cut = (bits - 53).max(-1074 - exponent).max(0);
    let rounded = if cut >= 128 {
        0
    } else {
        let kept = mantissa.checked_shr(cut as u32).unwrap_or(0);
        let rest = mantissa - (kept << cut);
        let half = if cut > 0 {
            1_u128 << (cut - 1)
        } else {
            u128::MAX
        };
        kept + u128::from(rest > half || (rest == half && kept % 2 == 1))
    };
    let exponent = exponent + cut;
    let value = rounded as f64;
    // Two steps, so that neither power of two is subnormal.
    let half = exponent / 2;
    let value = value * 2_f64.powi(half as i32) * 2_f64.powi((exponent - half) as i32);
    value.is_finite().then_some(value)
}

/// `a % b` of floats: the sign is that of `b`.
pub(crate) fn float_remainder(a: f64, b: f64) -> f64 {
    let remainder = a % b;
    match remainder.abs() > 0.0 && (remainder < 0.0) != (b < 0.0) {
        true => remainder + b,
        false => remainder,
    }
}

/// `a ** b`
pub(crate) fn power(a: &Py, b: &Py) -> Reply {
    match pair(a, b)?.ok_or_else(|| unsupported("** or pow()", a, b))? {
        Pair::Small(_, b) if b < 0 => float_power(float_of(a)?, b as f64),
        Pair::Ints(_, ref b) if b.is_negative() => {
            float_power(float_of(a)?, float_of(&b.clone().into())?)
        }
        Pair::Small(a, b) => int_power(&a.into(), b),
        Pair::Ints(a, b) => match b.to_i64() {
            Some(b) => int_power(&a, b),
            None => int_power(&a, i64::MAX),
        },
        Pair::Floats(a, b) => float_power(a, b),
        Pair::Complex(a, b) => complex_power(a, b),
    }
}

fn int_power(base: &BigInt, exponent: i64) -> Reply {
    if base.magnitude().bits() <= 1 {
        // -1, 0 and 1: only the parity of the exponent matters.
        let exponent = if exponent > 2 {
            exponent % 2 + 2
        } else {
            exponent
        };
        return Ok(base.pow(exponent as u32).into());
    }
    let bits = base.bits().saturating_mul(exponent.unsigned_abs());
    if bits > MAX_BITS {
        // Too long for Python to print, though not to compute.
        let text = "Exceeds the limit (4300 digits) for integer string conversion";
        return Err(Raise::value_error(text));
    }
    Ok(base.pow(exponent as u32).into())
}

fn float_power(base: f64, exponent: f64) -> Reply {
    let negative = base < 0.0 && exponent.is_finite() && base.is_finite();
    if base.abs() <= 0.0 && exponent < 0.0 {
        return Err(zero_division("0.0 cannot be raised to a negative power"));
    }
    if negative && exponent.fract().abs() > 0.0 {
        return complex_power((base, 0.0), (exponent, 0.0));
    }
    let value = base.powf(exponent);
    if value.is_infinite() && base.is_finite() && exponent.is_finite() {
        return Err(Raise::new(
            Class::Overflow,
            "(34, 'Numerical result out of range')",
        ));
    }
    Ok(Py::Float(value))
}

fn complex_power(a: (f64, f64), b: (f64, f64)) -> Reply {
    let zero = |part: f64| part.abs() <= 0.0;
    if zero(b.0) && zero(b.1) {
        return Ok(Py::Complex(1.0, 0.0));
    }
    if zero(a.0) && zero(a.1) {
        if !zero(b.1) || b.0 < 0.0 {
            return Err(zero_division("0.0 to a negative or complex power"));
        }
        return Ok(Py::Complex(0.0, 0.0));
    }
    let modulus = a.0.hypot(a.1);
    let mut length = modulus.powf(b.0);
    let angle = a.1.atan2(a.0);
    let mut phase = angle * b.0;
    if !zero(b.1) {
        length /= (angle * b.1).exp();
        phase += b.1 * modulus.ln();
    }
    let result = (length * phase.cos(), length * phase.sin());
    if !result.0.is_finite() || !result.1.is_finite() {
        return Err(Raise::new(Class::Overflow, "complex exponentiation"));
    }
    Ok(Py::Complex(result.0, result.1))
}

/// `abs(value)`
pub(crate) fn abs(value: &Py) -> Reply {
    Ok(match value {
        Py::Bool(_) | Py::Int(_) | Py::Big(_) => big(value).abs().into(),
        Py::Float(float) => Py::Float(float.abs()),
        Py::Complex(re, im) => Py::Float(re.hypot(*im)),
        _ => {
            let text = format!("bad operand type for abs(): '{}'", value.type_name());
            return Err(Raise::type_error(text));
        }
    })
}

/// `sum(values)`: from the integer 0, left to right, without compensation.
pub(crate) fn sum(values: &Py) -> Reply {
    let mut total = Py::Int(0);
    for value in values.iterate()? {
        total = add(&total, &value)?;
    }
    Ok(total)
}

/// `float(value)`
pub(crate) fn to_float(value: &Py) -> Reply<f64> {
    match value {
        Py::Str(text) => number::parse_float(text).ok_or_else(|| {
            Raise::value_error(format!(
                "could not convert string to float: {}",
                quoted(text)
            ))
        }),
        _ if is_number(value) => float_of(value),
        _ => {
            let name = value.type_name();
            let text = format!("float() argument must be a string or a real number, not '{name}'");
            Err(Raise::type_error(text))
        }
    }
}

/// `int(value)`
pub(crate) fn to_int(value: &Py) -> Reply {
    match value {
        Py::Bool(value) => Ok(Py::Int(i64::from(*value))),
        Py::Int(_) | Py::Big(_) => Ok(value.clone()),
        Py::Float(float) => float_to_int(*float),
        Py::Str(text) => match number::parse_int(text) {
            Some(int) => Ok(Py::from(&int)),
            None => {
                let text = quoted(text);
                let text = format!("invalid literal for int() with base 10: {text}");
                Err(Raise::value_error(text))
            }
        },
        _ => {
            let name = value.type_name();
            Err(Raise::type_error(format!(
                "int() argument must be a string, a bytes-like object or a real number, not '{name}'"
            )))
        }
    }
}

fn float_to_int(float: f64) -> Reply {
    if float.is_nan() {
        return Err(Raise::value_error("cannot convert float NaN to integer"));
    }
    match num_traits::FromPrimitive::from_f64(float.trunc()) {
        Some::<BigInt>(int) => Ok(int.into()),
        None => Err(Raise::new(
            Class::Overflow,
            "cannot convert float infinity to integer",
        )),
    }
}

/// `round(value, digits)`
pub(crate) fn round(value: &Py, digits: &Py) -> Reply {
    let not_integer = || {
        let name = digits.type_name();
        Raise::type_error(format!(
            "'{name}' object cannot be interpreted as an integer"
        ))
    };
    let places = match digits {
        Py::None => None,
        Py::Big(int) if int.is_negative() => Some(i64::MIN),
        Py::Big(_) => Some(i64::MAX),
        other => Some(small(other).ok_or_else(not_integer)?),
    };
    match (value, places) {
        (Py::Float(float), None) => {
            let whole = float.round_ties_even();
            float_to_int(whole)
        }
        (Py::Float(float), Some(places)) => round_float(*float, places),
        (Py::Bool(_) | Py::Int(_) | Py::Big(_), None | Some(0..)) => Ok(big(value).into()),
        (Py::Bool(_) | Py::Int(_) | Py::Big(_), Some(places)) => Ok(round_int(&big(value), places)),
        _ => {
            let name = value.type_name();
            let text = format!("type {name} doesn't define __round__ method");
            Err(Raise::type_error(text))
        }
    }
}

/// Rounds to a multiple of a power of ten, half to even; `places` is negative.
fn round_int(value: &BigInt, places: i64) -> Py {
    let digits = places.unsigned_abs();
    // Ten to the digits is more than twice the value: nothing is left.
    if digits as f64 * 3.321 > value.bits() as f64 + 4.0 {
        return Py::Int(0);
    }
    let unit = BigInt::from(10).pow(digits);
    let magnitude = BigInt::from_biguint(Sign::Plus, value.magnitude().clone());
    let (quotient, rest) = (&magnitude / &unit, &magnitude % &unit);
    let twice = &rest * 2;
    let up = twice > unit || (twice == unit && quotient.bit(0));
    let rounded = (quotient + u8::from(up)) * unit;
    if value.is_negative() {
        (-rounded).into()
    } else {
        rounded.into()
    }
}

fn round_float(value: f64, places: i64) -> Reply {
    if !value.is_finite() || places > 323 {
        return Ok(Py::Float(value));
    }
    if places < -308 {
        return Ok(Py::Float(0.0 * value));
    }
    let rounded = match usize::try_from(places) {
        Ok(places) => format!("{value:.places$}").parse().unwrap_or(value),
        Err(_) => round_float_to_tens(value, places),
    };
    if f64::is_infinite(rounded) {
        return Err(Raise::new(
            Class::Overflow,
            "rounded value too large to represent",
        ));
    }
    Ok(Py::Float(rounded))
}

/// Rounds the exact binary value to a multiple of a power of ten, half to even.
fn round_float_to_tens(value: f64, places: i64) -> f64 {
    let whole: BigInt =
        num_traits::FromPrimitive::from_f64(value.trunc().abs()).unwrap_or_default();
    let unit = BigInt::from(10).pow(places.unsigned_abs());
    let (quotient, rest) = (&whole / &unit, &whole % &unit);
    let twice: BigInt = rest * 2;
    // A fraction behind an exact half makes it more than half.
    let above = twice > unit || (twice == unit && value.fract().abs() > 0.0);
    let up = above || (twice == unit && quotient.bit(0));
    let rounded = (quotient + u8::from(up)) * unit;
    let rounded = ratio(&rounded, &BigInt::from(1)).unwrap_or(f64::INFINITY);
    rounded.copysign(value)
}
