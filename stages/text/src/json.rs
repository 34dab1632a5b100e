//! JSON as Python's `json` module reads and writes it: any-size integers, `NaN`, insertion order.

use indexmap::IndexMap;
use num_bigint::BigInt;

/// An object: insertion-ordered; of duplicate keys the last value wins, at the first one's place.
pub type Map = IndexMap<String, Value>;

/// A value as `json.loads` would build it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`
    Null,
    /// `True` or `False`
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// Any other integer; never one that fits in an `i64`.
    BigInt(Box<BigInt>),
    /// A float; `NaN` and the infinities are allowed.
    Float(f64),
    /// A string. Lone surrogates cannot be held: the parser reports them.
    Str(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Dict(Map),
}
