//! Sets, which only operators can make.

use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive};

use super::super::{BinaryOp, Budget, Reject};
use super::numbers::{Number, number};
use super::{Value, build_dict, has_item, same};

type Evaluated<'a> = Result<Value<'a>, Reject>;

/// The set of these items; one that cannot be a key is an error.
pub(in super::super) fn build_set<'a>(items: impl Iterator<Item = Value<'a>>) -> Evaluated<'a> {
    let entries = build_dict(items.map(|item| (item, Value::None))).ok_or(Reject)?;
    Ok(Value::Set(
        entries.into_iter().map(|(item, _)| item).collect(),
    ))
}

/// `|`, `&`, `-` and `^`.
pub(in super::super) fn combine<'a>(
    op: BinaryOp,
    a: &[Value<'a>],
    b: &[Value<'a>],
    budget: &mut Budget,
) -> Evaluated<'a> {
    budget.spend((a.len() as u64 + 1) * (b.len() as u64 + 1))?;
    let only = |these: &[Value<'a>], others: &[Value<'a>], inside: bool| -> Vec<Value<'a>> {
        let chosen = these.iter().filter(|item| has_item(others, item) == inside);
        chosen.cloned().collect()
    };
    Ok(Value::Set(match op {
        BinaryOp::Or => [a.to_vec(), only(b, a, false)].concat(),
        // The smaller set is walked.
        BinaryOp::And if b.len() > a.len() => only(a, b, true),
        BinaryOp::And => only(b, a, true),
        BinaryOp::Sub => only(a, b, false),
        BinaryOp::Xor => [only(b, a, false), only(a, b, false)].concat(),
        _ => return Err(Reject),
    }))
}

/// The items in the order in which Python walks its table: known for whole numbers; others keep the order of
/// insertion, since Python gives them another place in every process.
pub(in super::super) fn walking_order<'v, 'a>(items: &'v [Value<'a>]) -> Vec<&'v Value<'a>> {
    let mut table: Vec<Option<(&Value<'_>, u64)>> = vec![None; 8];
    for (count, item) in items.iter().enumerate() {
        let Some(hash) = hash(item) else {
            return items.iter().collect();
        };
        insert(&mut table, item, hash);
        // Three fifths full: four times as many places as items.
        if (count + 1) * 5 >= (table.len() - 1) * 3 {
            let size = ((count + 1) * 4 + 1).next_power_of_two().max(8);
            let old = std::mem::replace(&mut table, vec![None; size]);
            for (item, hash) in old.into_iter().flatten() {
                insert(&mut table, item, hash);
            }
        }
    }
    table.into_iter().flatten().map(|(item, _)| item).collect()
}

/// The hash of a whole number: its remainder by a Mersenne prime, with its sign; -1 is taken.
fn hash(value: &Value<'_>) -> Option<u64> {
    const PRIME: i64 = (1 << 61) - 1;
    let remainder = match number(value)? {
        Number::Int(int) => (int % PRIME).to_i64()?,
        Number::Float(float) if same(float.fract(), 0.0) => {
            (BigInt::from_f64(float)? % PRIME).to_i64()?
        }
        _ => return None,
    };
    Some(if remainder == -1 { -2 } else { remainder } as u64)
}

fn insert<'v, 'a>(table: &mut [Option<(&'v Value<'a>, u64)>], item: &'v Value<'a>, hash: u64) {
    const NEIGHBOURS: usize = 9;
    let mask = table.len() - 1;
    let (mut perturb, mut at) = (hash, hash as usize & mask);
    loop {
        let last = if at + NEIGHBOURS <= mask {
            at + NEIGHBOURS
        } else {
            at
        };
        if let Some(free) = (at..=last).find(|&place| table[place].is_none()) {
            table[free] = Some((item, hash));
            return;
        }
        perturb >>= 5;
        at = at
            .wrapping_mul(5)
            .wrapping_add(1)
            .wrapping_add(perturb as usize)
            & mask;
    }
}
