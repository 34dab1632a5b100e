//! Comparisons.

use super::super::{CompareOp, Reject};
use super::index::small_index;
use super::{Value, compare, equal, has_item, lookup, subset};

/// `left op right`.
pub(in super::super) fn holds(
    op: CompareOp,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<bool, Reject> {
    use std::cmp::Ordering::{Greater, Less};
    Ok(match op {
        CompareOp::Equal => equal(left, right),
        CompareOp::NotEqual => !equal(left, right),
        CompareOp::In => contains(right, left)?,
        CompareOp::NotIn => !contains(right, left)?,
        CompareOp::Is => identical(left, right),
        CompareOp::IsNot => !identical(left, right),
        _ => {
            if let (Value::Set(left), Value::Set(right)) = (left, right) {
                return Ok(sets(op, left, right));
            }
            let Some(order) = order(left, right)? else {
                return Ok(false);
            };
            match op {
                CompareOp::Less => order == Less,
                CompareOp::LessEqual => order != Greater,
                CompareOp::Greater => order == Greater,
                _ => order != Less,
            }
        }
    })
}

/// Identity, which for constants is an accident of the interpreter: equal ones of one type are one object.
fn identical(left: &Value<'_>, right: &Value<'_>) -> bool {
    let built = matches!(
        left,
        Value::List(_) | Value::Dict(_) | Value::Set(_) | Value::Opaque(_)
    );
    !built
        && left.kind() == right.kind()
        && identity_bits(left) == identity_bits(right)
        && equal(left, right)
}

/// The sign of a zero tells two floats apart.
fn identity_bits(value: &Value<'_>) -> u64 {
    match value {
        Value::Float(float) => float.to_bits(),
        Value::Complex(re, im) => re.to_bits() ^ im.to_bits().rotate_left(1),
        _ => 0,
    }
}

fn sets(op: CompareOp, left: &[Value<'_>], right: &[Value<'_>]) -> bool {
    match op {
        CompareOp::Less => left.len() < right.len() && subset(left, right),
        CompareOp::LessEqual => subset(left, right),
        CompareOp::Greater => right.len() < left.len() && subset(right, left),
        _ => subset(right, left),
    }
}

fn contains(container: &Value<'_>, item: &Value<'_>) -> Result<bool, Reject> {
    match (container, item) {
        (Value::List(items) | Value::Tuple(items), _) => {
            Ok(items.iter().any(|known| equal(known, item)))
        }
        (Value::Dict(entries), _) if item.hashable() => Ok(lookup(entries, item).is_some()),
        // A set stands for the frozen set that no set here holds.
        (Value::Set(_), Value::Set(_)) => Ok(false),
        (Value::Set(items), _) if item.hashable() => Ok(has_item(items, item)),
        (Value::Str(text), Value::Str(part)) => Ok(text.contains(&**part)),
        (Value::Bytes(bytes), Value::Bytes(part)) => {
            Ok(memchr::memmem::find(bytes, part).is_some())
        }
        (Value::Bytes(bytes), Value::Int(_) | Value::Bool(_)) => {
            let byte = small_index(item)?;
            let byte = u8::try_from(byte).map_err(|_| Reject)?;
            Ok(bytes.contains(&byte))
        }
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
