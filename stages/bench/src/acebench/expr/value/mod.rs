//! The values that a decoded call can hold: what Python would have built from the same text.

pub(super) mod complex;
pub(super) mod digits;
pub(super) mod float_text;
pub(super) mod index;
pub(super) mod numbers;
pub(super) mod order;
pub(super) mod print;
pub(super) mod set;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive, Zero};
use starling_text::json;

/// A Python value, borrowing its texts from the output where they need no rewriting.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// Never one that fits in an `i64`.
    BigInt(Box<BigInt>),
    Float(f64),
    Complex(f64, f64),
    Bytes(Vec<u8>),
    /// Lone surrogates are held as the private characters of [`surrogate`].
    Str(Cow<'a, str>),
    List(Vec<Self>),
    Tuple(Vec<Self>),
    Dict(Dict<'a>),
    /// No two equal, in the order of insertion.
    Set(Vec<Self>),
    Ellipsis,
    /// A function or generator, of which only the kind counts: how it would print, but for its address.
    Opaque(&'static str),
}

/// A `dict`: entries in the order of first insertion, no two keys equal.
pub(crate) type Dict<'a> = Vec<(Value<'a>, Value<'a>)>;

/// Python's exact types, as far as the checker tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    None,
    Bool,
    Int,
    Float,
    Complex,
    Bytes,
    Str,
    List,
    Tuple,
    Dict,
    Set,
    Ellipsis,
    Opaque,
}

impl<'a> Value<'a> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::None => Kind::None,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::BigInt(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Complex(..) => Kind::Complex,
            Self::Bytes(_) => Kind::Bytes,
            Self::Str(_) => Kind::Str,
            Self::List(_) => Kind::List,
            Self::Tuple(_) => Kind::Tuple,
            Self::Dict(_) => Kind::Dict,
            Self::Set(_) => Kind::Set,
            Self::Ellipsis => Kind::Ellipsis,
            Self::Opaque(_) => Kind::Opaque,
        }
    }

    pub(crate) fn text(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }

    pub(crate) fn big(int: BigInt) -> Self {
        match int.to_i64() {
            Some(small) => Self::Int(small),
            None => Self::BigInt(Box::new(int)),
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Whether Python could use it as a key: everything but lists, dicts, sets and tuples that hold one.
    pub(crate) fn hashable(&self) -> bool {
        match self {
            Self::List(_) | Self::Dict(_) | Self::Set(_) => false,
            Self::Tuple(items) => items.iter().all(Self::hashable),
            _ => true,
        }
    }

    /// The same value without a tie to the text it was read from.
    pub(super) fn into_owned(self) -> Value<'static> {
        let all = |items: Vec<Self>| items.into_iter().map(Self::into_owned).collect();
        match self {
            Self::None => Value::None,
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(int) => Value::Int(int),
            Self::BigInt(int) => Value::BigInt(int),
            Self::Float(float) => Value::Float(float),
            Self::Complex(re, im) => Value::Complex(re, im),
            Self::Bytes(bytes) => Value::Bytes(bytes),
            Self::Str(text) => Value::Str(Cow::Owned(text.into_owned())),
            Self::List(items) => Value::List(all(items)),
            Self::Tuple(items) => Value::Tuple(all(items)),
            Self::Set(items) => Value::Set(all(items)),
            Self::Dict(entries) => {
                let entries = entries.into_iter();
                let owned = entries.map(|(key, value)| (key.into_owned(), value.into_owned()));
                Value::Dict(owned.collect())
            }
            Self::Ellipsis => Value::Ellipsis,
            Self::Opaque(printed) => Value::Opaque(printed),
        }
    }

    /// The same value as read from JSON.
    pub(crate) fn from_json(value: &json::Value) -> Value<'static> {
        match value {
            json::Value::Null => Value::None,
            json::Value::Bool(bool) => Value::Bool(*bool),
            json::Value::Int(int) => Value::Int(*int),
            json::Value::BigInt(int) => Value::BigInt(int.clone()),
            json::Value::Float(float) => Value::Float(*float),
            json::Value::Str(text) => Value::Str(Cow::Owned(text.clone())),
            json::Value::List(items) => Value::List(items.iter().map(Value::from_json).collect()),
            json::Value::Dict(map) => Value::Dict(
                map.iter()
                    .map(|(key, value)| {
                        let key = Value::Str(Cow::Owned(key.clone()));
                        (key, Value::from_json(value))
                    })
                    .collect(),
            ),
        }
    }
}

/// The stand-in for a lone surrogate, which a Rust string cannot hold: a private character that no
/// reference uses and that prints as the surrogate would.
pub(crate) fn surrogate(code: u32) -> char {
    debug_assert!((0xd800..0xe000).contains(&code));
    char::from_u32(SURROGATES + (code - 0xd800)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Where the stand-ins of [`surrogate`] begin.
pub(crate) const SURROGATES: u32 = 0x10_f800;

/// The text after a way through JSON, where two halves of a character that were written apart become the
/// character.
pub(crate) fn join_surrogates(text: &str) -> Cow<'_, str> {
    let half = |c: char| u32::from(c).checked_sub(SURROGATES).filter(|c| *c < 0x800);
    if !text.chars().any(|c| half(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut joined = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let high = half(c).filter(|high| *high < 0x400);
        let low = chars
            .peek()
            .and_then(|next| half(*next))
            .filter(|low| *low >= 0x400);
        let whole = high
            .zip(low)
            .and_then(|(high, low)| char::from_u32(0x1_0000 + (high << 10) + (low - 0x400)));
        joined.push(whole.unwrap_or(c));
        if whole.is_some() {
            chars.next();
        }
    }
    Cow::Owned(joined)
}

/// Whether every item of `a` is in `b`.
pub(super) fn subset(a: &[Value<'_>], b: &[Value<'_>]) -> bool {
    a.iter().all(|item| has_item(b, item))
}

/// Whether a set has an item.
pub(super) fn has_item(set: &[Value<'_>], item: &Value<'_>) -> bool {
    set.iter().any(|known| equal(known, item))
}

/// `a == b`.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::None, Value::None) | (Value::Ellipsis, Value::Ellipsis) => true,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| lookup(b, key).is_some_and(|b| equal(a, b)))
        }
        (Value::Set(a), Value::Set(b)) => a.len() == b.len() && subset(a, b),
        _ => numbers_equal(a, b),
    }
}

fn numbers_equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (complex_parts(a), complex_parts(b)) {
        (Some((re, im)), Some((re2, im2))) => same(re, re2) && same(im, im2),
        (Some((re, im)), None) => {
            same(im, 0.0) && compare(&Value::Float(re), b).is_some_and(Ordering::is_eq)
        }
        (None, Some(_)) => numbers_equal(b, a),
        (None, None) => compare(a, b).is_some_and(Ordering::is_eq),
    }
}

fn complex_parts(value: &Value<'_>) -> Option<(f64, f64)> {
    match value {
        Value::Complex(re, im) => Some((*re, *im)),
        _ => None,
    }
}

/// Float equality where it is meant: `==` of Python.
pub(crate) fn same(a: f64, b: f64) -> bool {
    a.partial_cmp(&b) == Some(Ordering::Equal)
}

/// Orders two real numbers (booleans count) by exact value.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    starling_text::python::compare(&number(a)?, &number(b)?)
}

fn number(value: &Value<'_>) -> Option<json::Value> {
    Some(match value {
        Value::Bool(bool) => json::Value::Bool(*bool),
        Value::Int(int) => json::Value::Int(*int),
        Value::BigInt(int) => json::Value::BigInt(int.clone()),
        Value::Float(float) => json::Value::Float(*float),
        _ => return None,
    })
}

/// The value under a key equal to `key`.
pub(crate) fn lookup<'d, 'a>(
    dict: &'d [(Value<'a>, Value<'a>)],
    key: &Value<'_>,
) -> Option<&'d Value<'a>> {
    let found = dict.iter().find(|(candidate, _)| equal(candidate, key));
    found.map(|(_, value)| value)
}

/// Builds a dict from entries in written order: a repeated key keeps the place of the first and takes the
/// value of the last. `None` when a key is a list or dict.
pub(crate) fn build_dict<'a>(
    entries: impl Iterator<Item = (Value<'a>, Value<'a>)>,
) -> Option<Dict<'a>> {
    /// Up to here a scan is quicker than an index.
    const SCAN: usize = 24;
    let mut dict: Dict<'a> = Vec::new();
    let mut index: BTreeMap<String, usize> = BTreeMap::new();
    for (key, value) in entries {
        if !key.hashable() {
            return None;
        }
        let place = if dict.len() < SCAN {
            dict.iter().position(|(known, _)| equal(known, &key))
        } else {
            if index.is_empty() {
                index = dict
                    .iter()
                    .enumerate()
                    .map(|(i, (known, _))| (identity(known), i))
                    .collect();
            }
            index.get(&identity(&key)).copied()
        };
        match place {
            Some(place) => dict[place].1 = value,
            None => {
                if !index.is_empty() {
                    index.insert(identity(&key), dict.len());
                }
                dict.push((key, value));
            }
        }
    }
    Some(dict)
}

/// A text that two hashable values share exactly when they are equal.
pub(crate) fn identity(value: &Value<'_>) -> String {
    match value {
        Value::None => "none".to_owned(),
        Value::Ellipsis => "ellipsis".to_owned(),
        Value::Bool(bool) => format!("n{}", u8::from(*bool)),
        Value::Int(int) => format!("n{int}"),
        Value::BigInt(int) => format!("n{:x}x", **int),
        Value::Float(float) => float_identity(*float),
        Value::Complex(re, im) if im.is_zero() => float_identity(*re),
        Value::Complex(re, im) => format!("c{};{}", re.to_bits(), im.to_bits()),
        Value::Bytes(bytes) => format!("b{bytes:?}"),
        Value::Str(text) => format!("s{text}"),
        Value::Tuple(items) | Value::List(items) => {
            let parts: Vec<String> = items.iter().map(identity).collect();
            format!("t{parts:?}")
        }
        Value::Opaque(printed) => format!("o{printed}"),
        // Not hashable; never asked for.
        Value::Dict(_) | Value::Set(_) => "d".to_owned(),
    }
}

fn float_identity(float: f64) -> String {
    match BigInt::from_f64(float) {
        Some(whole) if same(float.fract(), 0.0) => match whole.to_i64() {
            Some(small) => format!("n{small}"),
            None => format!("n{whole:x}x"),
        },
        _ => format!("f{}", float.to_bits()),
    }
}

/// `bool(value)`.
pub(crate) fn truthy(value: &Value<'_>) -> bool {
    match value {
        Value::None => false,
        Value::Bool(bool) => *bool,
        Value::Int(int) => *int != 0,
        Value::Float(_) | Value::Complex(..) => !equal(value, &Value::Int(0)),
        Value::BigInt(_) | Value::Ellipsis | Value::Opaque(_) => true,
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::Str(text) => !text.is_empty(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) => !items.is_empty(),
        Value::Dict(entries) => !entries.is_empty(),
    }
}
