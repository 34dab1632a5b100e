//! Subscripts: items and slices.

use num_traits::Signed;

use super::super::Reject;
use super::{Value, lookup};

pub(in super::super) fn small_index(index: &Value<'_>) -> Result<i64, Reject> {
    match index {
        Value::Int(int) => Ok(*int),
        Value::Bool(bool) => Ok(i64::from(*bool)),
        _ => Err(Reject),
    }
}

/// A bound of a slice: `None` where there is none, and no further off than any text is long.
pub(in super::super) fn bound(value: &Value<'_>) -> Result<Option<i64>, Reject> {
    match value {
        Value::None => Ok(None),
        Value::BigInt(int) if int.is_negative() => Ok(Some(-i64::MAX)),
        Value::BigInt(_) => Ok(Some(i64::MAX)),
        index => small_index(index).map(Some),
    }
}

pub(in super::super) fn item<'a>(
    value: &Value<'a>,
    index: &Value<'a>,
) -> Result<Value<'a>, Reject> {
    if let Value::Dict(entries) = value {
        return lookup(entries, index).cloned().ok_or(Reject);
    }
    let index = small_index(index)?;
    let at = |length: usize| {
        let index = if index < 0 {
            index + length as i64
        } else {
            index
        };
        usize::try_from(index)
            .ok()
            .filter(|&index| index < length)
            .ok_or(Reject)
    };
    match value {
        Value::List(items) | Value::Tuple(items) => Ok(items[at(items.len())?].clone()),
        Value::Bytes(bytes) => Ok(Value::Int(i64::from(bytes[at(bytes.len())?]))),
        Value::Str(text) => {
            let c = text.chars().nth(at(text.chars().count())?).ok_or(Reject)?;
            Ok(Value::Str(c.to_string().into()))
        }
        _ => Err(Reject),
    }
}

pub(in super::super) fn slice<'a>(
    value: &Value<'a>,
    bounds: [Option<i64>; 3],
) -> Result<Value<'a>, Reject> {
    match value {
        Value::List(items) => Ok(Value::List(picked(items, bounds)?)),
        Value::Tuple(items) => Ok(Value::Tuple(picked(items, bounds)?)),
        Value::Bytes(bytes) => Ok(Value::Bytes(picked(bytes, bounds)?)),
        Value::Str(text) => {
            let chars: Vec<char> = text.chars().collect();
            let part: String = picked(&chars, bounds)?.into_iter().collect();
            Ok(Value::Str(part.into()))
        }
        _ => Err(Reject),
    }
}

/// The items that `[start:stop:step]` names.
fn picked<T: Clone>(items: &[T], [start, stop, step]: [Option<i64>; 3]) -> Result<Vec<T>, Reject> {
    let length = items.len() as i64;
    let step = step.unwrap_or(1);
    // Where a bound may lie: one before the first item is the end of a backward walk.
    let (low, high) = if step < 0 {
        (-1, length - 1)
    } else {
        (0, length)
    };
    let clamp = |bound: i64| {
        let bound = if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        };
        bound.clamp(low, high)
    };
    let (first, last) = if step < 0 { (high, low) } else { (low, high) };
    let mut at = start.map_or(first, clamp);
    let stop = stop.map_or(last, clamp);
    let mut picked = Vec::new();
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        picked.push(items[usize::try_from(at).map_err(|_| Reject)?].clone());
        at = at.saturating_add(step);
    }
    if step == 0 { Err(Reject) } else { Ok(picked) }
}
