//! What counts as a number, and its float.

use num_bigint::BigInt;
use num_traits::ToPrimitive;

use super::super::Reject;
use super::Value;

/// A number with booleans counted as integers.
pub(in super::super) enum Number {
    Int(BigInt),
    Float(f64),
    Complex(f64, f64),
}

pub(in super::super) fn number(value: &Value<'_>) -> Option<Number> {
    Some(match value {
        Value::Bool(bool) => Number::Int(BigInt::from(u8::from(*bool))),
        Value::Int(int) => Number::Int(BigInt::from(*int)),
        Value::BigInt(int) => Number::Int((**int).clone()),
        Value::Float(float) => Number::Float(*float),
        Value::Complex(re, im) => Number::Complex(*re, *im),
        _ => return None,
    })
}

/// `float(number)`; an integer beyond all floats is an error.
pub(in super::super) fn float(number: &Number) -> Result<f64, Reject> {
    match number {
        Number::Int(int) => int_to_float(int),
        Number::Float(float) => Ok(*float),
        Number::Complex(..) => Err(Reject),
    }
}

pub(in super::super) fn int_to_float(int: &BigInt) -> Result<f64, Reject> {
    int.to_f64().filter(|float| float.is_finite()).ok_or(Reject)
}
