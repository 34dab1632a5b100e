//! Arithmetic and the other operators on values.

use num_bigint::BigInt;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::super::value::complex::{Complex, complex};
use super::super::value::numbers::{Number, float, int_to_float, number};
use super::super::value::set;
use super::super::value::{Value, build_dict, same, truthy};
use super::super::{BinaryOp, Reject, UnaryOp};
use super::budget::Budget;
use super::format::{percent, percent_bytes};

/// Integers do not grow beyond this many bits.
const MAX_BITS: u64 = 1 << 18;

type Evaluated<'a> = Result<Value<'a>, Reject>;

pub(in super::super) fn unary<'a>(op: UnaryOp, operand: &Value<'a>) -> Evaluated<'a> {
    if op == UnaryOp::Not {
        return Ok(Value::Bool(!truthy(operand)));
    }
    Ok(match (op, number(operand).ok_or(Reject)?) {
        (UnaryOp::Minus, Number::Int(int)) => Value::big(-int),
        (UnaryOp::Minus, Number::Float(float)) => Value::Float(-float),
        (UnaryOp::Minus, Number::Complex(re, im)) => Value::Complex(-re, -im),
        (UnaryOp::Invert, Number::Int(int)) => Value::big(-int - 1),
        (UnaryOp::Invert, _) => return Err(Reject),
        (_, Number::Int(int)) => Value::big(int),
        (_, Number::Float(float)) => Value::Float(float),
        (_, Number::Complex(re, im)) => Value::Complex(re, im),
    })
}

pub(crate) fn binary<'a>(
    op: BinaryOp,
    left: &Value<'a>,
    right: &Value<'a>,
    budget: &mut Budget,
) -> Evaluated<'a> {
    budget.spend(1)?;
    match (op, left, right) {
        (BinaryOp::Mod, Value::Str(format), _) => {
            let text = percent(format, right)?;
            budget.spend(text.len() as u64)?;
            Ok(Value::Str(text.into()))
        }
        (BinaryOp::Mod, Value::Bytes(format), _) => {
            let bytes = percent_bytes(format, right)?;
            budget.spend(bytes.len() as u64)?;
            Ok(Value::Bytes(bytes))
        }
        (_, Value::Set(a), Value::Set(b)) => set::combine(op, a, b, budget),
        (BinaryOp::Or, Value::Dict(a), Value::Dict(b)) => {
            budget.spend((a.len() + b.len()) as u64)?;
            let entries = a.iter().chain(b).cloned();
            build_dict(entries).map(Value::Dict).ok_or(Reject)
        }
        (BinaryOp::Or | BinaryOp::And | BinaryOp::Xor, Value::Bool(a), Value::Bool(b)) => {
            Ok(Value::Bool(match op {
                BinaryOp::Or => a | b,
                BinaryOp::And => a & b,
                _ => a ^ b,
            }))
        }
        (BinaryOp::Add, _, _) => match join(left, right, budget) {
            Some(joined) => joined,
            None => arithmetic(op, left, right, budget),
        },
        (BinaryOp::Mul, _, _) => match repetition(left, right) {
            Some((sequence, times)) => repeat(sequence, times, budget),
            None => arithmetic(op, left, right, budget),
        },
        _ => arithmetic(op, left, right, budget),
    }
}

/// `+` of two sequences of one kind.
fn join<'a>(left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Option<Evaluated<'a>> {
    let joined = match (left, right) {
        (Value::Str(a), Value::Str(b)) => Value::Str(format!("{a}{b}").into()),
        (Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&a[..], b].concat()),
        (Value::List(a), Value::List(b)) => Value::List([&a[..], b].concat()),
        (Value::Tuple(a), Value::Tuple(b)) => Value::Tuple([&a[..], b].concat()),
        _ => return None,
    };
    Some(budget.spend(size(&joined)).map(|()| joined))
}

/// Everything that copying a value would copy, in bytes or so.
pub(in super::super) fn size(value: &Value<'_>) -> u64 {
    /// What an item takes beside what it holds.
    const ITEM: u64 = 32;
    match value {
        Value::Str(text) => text.len() as u64 + 1,
        Value::Bytes(bytes) => bytes.len() as u64 + 1,
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => {
            items.iter().map(|item| ITEM + size(item)).sum::<u64>() + 1
        }
        Value::Dict(entries) => {
            let entry = |(key, value): &(Value<'_>, Value<'_>)| 2 * ITEM + size(key) + size(value);
            entries.iter().map(entry).sum::<u64>() + 1
        }
        Value::BigInt(int) => int.bits() / 8 + 1,
        _ => 1,
    }
}

/// The sequence and the count of `sequence * count`, in either order.
fn repetition<'v, 'a>(
    left: &'v Value<'a>,
    right: &'v Value<'a>,
) -> Option<(&'v Value<'a>, &'v Value<'a>)> {
    let sequence = |value: &Value<'_>| {
        matches!(
            value,
            Value::Str(_) | Value::Bytes(_) | Value::List(_) | Value::Tuple(_)
        )
    };
    match (sequence(left), sequence(right)) {
        (true, false) => Some((left, right)),
        (false, true) => Some((right, left)),
        _ => None,
    }
}

fn repeat<'a>(sequence: &Value<'a>, times: &Value<'a>, budget: &mut Budget) -> Evaluated<'a> {
    let times = match times {
        Value::Bool(bool) => i64::from(*bool),
        Value::Int(times) => *times,
        _ => return Err(Reject),
    };
    // What is empty stays so however often.
    let times = match truthy(sequence) {
        true => u64::try_from(times).unwrap_or(0),
        false => 0,
    };
    budget.spend(size(sequence).checked_mul(times).ok_or(Reject)?)?;
    let times = usize::try_from(times).map_err(|_| Reject)?;
    Ok(match sequence {
        Value::Str(text) => Value::Str(text.repeat(times).into()),
        Value::Bytes(bytes) => Value::Bytes(bytes.repeat(times)),
        Value::List(items) => Value::List(
            items
                .iter()
                .cloned()
                .cycle()
                .take(items.len() * times)
                .collect(),
        ),
        Value::Tuple(items) => Value::Tuple(
            items
                .iter()
                .cloned()
                .cycle()
                .take(items.len() * times)
                .collect(),
        ),
        _ => return Err(Reject),
    })
}

fn arithmetic<'a>(
    op: BinaryOp,
    left: &Value<'a>,
    right: &Value<'a>,
    budget: &mut Budget,
) -> Evaluated<'a> {
    let (left, right) = (number(left).ok_or(Reject)?, number(right).ok_or(Reject)?);
    match (left, right) {
        (Number::Int(a), Number::Int(b)) => {
            budget.spend((a.bits() + b.bits()) / 8)?;
            integers(op, &a, &b)
        }
        (left @ Number::Complex(..), right) | (left, right @ Number::Complex(..)) => {
            let (re, im) = complex(op, parts(&left)?, parts(&right)?)?;
            Ok(Value::Complex(re, im))
        }
        (left, right) => floats(op, float(&left)?, float(&right)?),
    }
}

/// Real and imaginary part.
fn parts(number: &Number) -> Result<Complex, Reject> {
    match number {
        Number::Complex(re, im) => Ok((*re, *im)),
        real => float(real).map(|re| (re, 0.0)),
    }
}

fn integers<'a>(op: BinaryOp, a: &BigInt, b: &BigInt) -> Evaluated<'a> {
    Ok(match op {
        BinaryOp::Add => Value::big(a + b),
        BinaryOp::Sub => Value::big(a - b),
        BinaryOp::Mul if a.bits() + b.bits() <= MAX_BITS => Value::big(a * b),
        BinaryOp::Or => Value::big(a | b),
        BinaryOp::And => Value::big(a & b),
        BinaryOp::Xor => Value::big(a ^ b),
        BinaryOp::Div => Value::Float(true_division(a, b)?),
        BinaryOp::FloorDiv => Value::big(floor_division(a, b)?.0),
        BinaryOp::Mod => Value::big(floor_division(a, b)?.1),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => shift(op, a, b)?,
        BinaryOp::Pow => power(a, b)?,
        BinaryOp::Mul | BinaryOp::MatMul => return Err(Reject),
    })
}

/// Quotient and remainder that round towards minus infinity.
fn floor_division(a: &BigInt, b: &BigInt) -> Result<(BigInt, BigInt), Reject> {
    if b.is_zero() {
        return Err(Reject);
    }
    let (quotient, remainder) = (a / b, a % b);
    if !remainder.is_zero() && remainder.is_negative() != b.is_negative() {
        return Ok((quotient - 1, remainder + b));
    }
    Ok((quotient, remainder))
}

/// The float nearest to the exact quotient.
fn true_division(a: &BigInt, b: &BigInt) -> Result<f64, Reject> {
    const EXACT: u64 = 53;
    if b.is_zero() {
        return Err(Reject);
    }
    if a.bits() <= EXACT && b.bits() <= EXACT {
        return Ok(int_to_float(a)? / int_to_float(b)?);
    }
    // Scale so that the quotient keeps more bits than a float, and mark an inexact one in its last bit.
    let shift = 66_i64 + b.bits() as i64 - a.bits() as i64;
    let (up, down) = (shift.max(0) as u64, (-shift).max(0) as u64);
    let (top, bottom): (BigInt, BigInt) = (a.abs() << up, b.abs() << down);
    let mut quotient = &top / &bottom;
    if !(&top % &bottom).is_zero() {
        quotient |= BigInt::one();
    }
    let magnitude = scale(int_to_float(&quotient)?, -shift);
    if magnitude.is_infinite() {
        return Err(Reject);
    }
    Ok(if a.is_negative() != b.is_negative() {
        -magnitude
    } else {
        magnitude
    })
}

/// `float * 2^exponent`, in steps that stay within a float's range.
fn scale(mut float: f64, mut exponent: i64) -> f64 {
    while exponent != 0 && float.is_finite() && float > 0.0 {
        let step = exponent.clamp(-500, 500);
        float *= 2_f64.powi(step as i32);
        exponent -= step;
    }
    float
}

fn shift<'a>(op: BinaryOp, a: &BigInt, b: &BigInt) -> Evaluated<'a> {
    if b.is_negative() {
        return Err(Reject);
    }
    if op == BinaryOp::ShiftLeft {
        if a.is_zero() {
            return Ok(Value::Int(0));
        }
        let by = b
            .to_u64()
            .filter(|by| by.saturating_add(a.bits()) <= MAX_BITS)
            .ok_or(Reject)?;
        return Ok(Value::big(a << by));
    }
    let by = b.to_u64().unwrap_or(u64::MAX).min(a.bits() + 1);
    Ok(Value::big(a >> by))
}

fn power<'a>(a: &BigInt, b: &BigInt) -> Evaluated<'a> {
    if b.is_negative() {
        return floats(BinaryOp::Pow, int_to_float(a)?, int_to_float(b)?);
    }
    if a.is_zero() || a.is_one() || (-a).is_one() {
        let odd = b.bit(0);
        let value = if b.is_zero() {
            BigInt::one()
        } else if odd {
            a.clone()
        } else {
            a * a
        };
        return Ok(Value::big(value));
    }
    let exponent = b.to_u32().ok_or(Reject)?;
    if a.bits().saturating_mul(u64::from(exponent)) > MAX_BITS {
        return Err(Reject);
    }
    Ok(Value::big(Pow::pow(a, exponent)))
}

fn floats<'a>(op: BinaryOp, a: f64, b: f64) -> Evaluated<'a> {
    let divides = matches!(op, BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Mod);
    if divides && same(b, 0.0) {
        return Err(Reject);
    }
    if op == BinaryOp::Pow {
        return float_power(a, b);
    }
    Ok(Value::Float(match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::FloorDiv => floor_floats(a, b).0,
        BinaryOp::Mod => floor_floats(a, b).1,
        _ => return Err(Reject),
    }))
}

/// Quotient and remainder of floats as Python has them: the remainder takes the divisor's sign.
fn floor_floats(a: f64, b: f64) -> (f64, f64) {
    let mut remainder = a % b;
    let mut quotient = (a - remainder) / b;
    if same(remainder, 0.0) {
        remainder = 0_f64.copysign(b);
    } else if (remainder < 0.0) != (b < 0.0) {
        remainder += b;
        quotient -= 1.0;
    }
    if same(quotient, 0.0) {
        return (0_f64.copysign(a / b), remainder);
    }
    let floor = quotient.floor();
    (
        if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        },
        remainder,
    )
}

fn float_power<'a>(a: f64, b: f64) -> Evaluated<'a> {
    if same(a, 0.0) && b < 0.0 && b.is_finite() {
        return Err(Reject);
    }
    let finite = a.is_finite() && b.is_finite();
    if a < 0.0 && finite && !same(b.fract(), 0.0) {
        let (re, im) = complex(BinaryOp::Pow, (a, 0.0), (b, 0.0))?;
        return Ok(Value::Complex(re, im));
    }
    let power = a.powf(b);
    match power.is_infinite() && finite {
        true => Err(Reject),
        false => Ok(Value::Float(power)),
    }
}
