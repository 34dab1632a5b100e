//! What Python's `eval` gives for an expression without names and calls.

use super::budget::Budget;
use super::ops;
use super::value::{Dict, Value, build_dict, compare, equal, lookup, truthy};
use super::{CompareOp, Expr, Reject, UnaryOp};

/// Trees higher than this have no value: Python prints the tree before it evaluates it, and gives up.
const MAX_HEIGHT: u32 = 320;

/// Evaluates; anything without a value (a name, a call, a type error, a division by zero) is an error.
pub(crate) fn eval<'a>(expr: &Expr<'a>, budget: &mut Budget) -> Result<Value<'a>, Reject> {
    eval_at(expr, budget, 0)
}

fn eval_at<'a>(expr: &Expr<'a>, budget: &mut Budget, height: u32) -> Result<Value<'a>, Reject> {
    if height > MAX_HEIGHT {
        return Err(Reject);
    }
    let mut go = |expr: &Expr<'a>| eval_at(expr, budget, height + 1);
    match expr {
        Expr::Const(value) => Ok(value.clone()),
        Expr::List(items) => Ok(Value::List(items.iter().map(go).collect::<Result<_, _>>()?)),
        Expr::Tuple(items) => Ok(Value::Tuple(
            items.iter().map(go).collect::<Result<_, _>>()?,
        )),
        Expr::Dict(entries) => dict(entries, budget, height),
        Expr::Unary(op, operand) => ops::unary(*op, &go(operand)?),
        Expr::Binary(op, left, right) => {
            let (left, right) = (go(left)?, go(right)?);
            ops::binary(*op, &left, &right, budget)
        }
        Expr::Bool(and, operands) => {
            let mut last = Value::None;
            for operand in operands {
                last = go(operand)?;
                if truthy(&last) != *and {
                    break;
                }
            }
            Ok(last)
        }
        Expr::If(parts) => {
            let [condition, yes, no] = &**parts;
            let taken = if truthy(&go(condition)?) { yes } else { no };
            // Python compiles the other branch; it would fail only by running.
            go(taken)
        }
        Expr::Compare(first, rest) => {
            let mut left = go(first)?;
            for (op, right) in rest {
                let right = go(right)?;
                if !holds(*op, &left, &right)? {
                    return Ok(Value::Bool(false));
                }
                left = right;
            }
            Ok(Value::Bool(true))
        }
        Expr::Subscript(parts) => {
            let [value, index] = &**parts;
            let value = go(value)?;
            let Expr::Slice(bounds) = index else {
                return item(&value, &go(index)?);
            };
            let mut indices = [None, None, None];
            for (slot, bound) in indices.iter_mut().zip(&**bounds) {
                *slot = match bound.as_ref().map(&mut go).transpose()? {
                    None | Some(Value::None) => None,
                    Some(index) => Some(small_index(&index)?),
                };
            }
            slice(&value, indices)
        }
        Expr::Name(_)
        | Expr::Set(_)
        | Expr::Call(_)
        | Expr::Attribute(..)
        | Expr::Slice(_)
        | Expr::Starred(_)
        | Expr::Other(_) => Err(Reject),
    }
}

fn dict<'a>(
    entries: &[(Option<Expr<'a>>, Expr<'a>)],
    budget: &mut Budget,
    height: u32,
) -> Result<Value<'a>, Reject> {
    let mut built: Dict<'a> = Vec::new();
    for (key, value) in entries {
        let value = eval_at(value, budget, height + 1)?;
        match (key, value) {
            (Some(key), value) => built.push((eval_at(key, budget, height + 1)?, value)),
            (None, Value::Dict(inner)) => built.extend(inner),
            (None, _) => return Err(Reject),
        }
    }
    build_dict(built.into_iter()).map(Value::Dict).ok_or(Reject)
}

fn holds(op: CompareOp, left: &Value<'_>, right: &Value<'_>) -> Result<bool, Reject> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    Ok(match op {
        CompareOp::Equal => equal(left, right),
        CompareOp::NotEqual => !equal(left, right),
        CompareOp::In => contains(right, left)?,
        CompareOp::NotIn => !contains(right, left)?,
        // Identity of constants is an accident of the interpreter, but for `None` and the booleans.
        CompareOp::Is | CompareOp::IsNot => {
            let same = left.kind() == right.kind() && equal(left, right);
            same == (op == CompareOp::Is)
        }
        _ => {
            let Some(order) = order(left, right)? else {
                return Ok(false);
            };
            match op {
                CompareOp::Less => order == Less,
                CompareOp::LessEqual => order != Greater,
                CompareOp::Greater => order == Greater,
                _ => order != Less || order == Equal,
            }
        }
    })
}

fn contains(container: &Value<'_>, item: &Value<'_>) -> Result<bool, Reject> {
    match (container, item) {
        (Value::List(items) | Value::Tuple(items), _) => {
            Ok(items.iter().any(|known| equal(known, item)))
        }
        (Value::Dict(entries), _) if item.hashable() => Ok(lookup(entries, item).is_some()),
        (Value::Str(text), Value::Str(part)) => Ok(text.contains(&**part)),
        _ => Err(Reject),
    }
}

/// The order of two values; `None` beside a NaN, an error for kinds that have no order.
fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Option<std::cmp::Ordering>, Reject> {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Some(a.cmp(b))),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            match a.iter().zip(b).find(|(a, b)| !equal(a, b)) {
                Some((a, b)) => order(a, b),
                None => Ok(Some(a.len().cmp(&b.len()))),
            }
        }
        _ => {
            let real = |v: &Value<'_>| {
                matches!(
                    v,
                    Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_)
                )
            };
            if real(a) && real(b) {
                Ok(compare(a, b))
            } else {
                Err(Reject)
            }
        }
    }
}

fn small_index(index: &Value<'_>) -> Result<i64, Reject> {
    match index {
        Value::Int(int) => Ok(*int),
        Value::Bool(bool) => Ok(i64::from(*bool)),
        _ => Err(Reject),
    }
}

fn item<'a>(value: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>, Reject> {
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

fn slice<'a>(value: &Value<'a>, bounds: [Option<i64>; 3]) -> Result<Value<'a>, Reject> {
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

/// The negative of a number or boolean literal, which is what every unary operator gives in a call's
/// arguments.
pub(crate) fn negate<'a>(operand: &Value<'a>) -> Result<Value<'a>, Reject> {
    ops::unary(UnaryOp::Minus, operand)
}
