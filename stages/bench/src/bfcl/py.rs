//! Python values, as the simulated back ends hold them.
//!
//! Scenarios are not validated and models pass anything, so state is dynamic and fails the way Python fails.
//! Containers are shared until they are changed: copying a scenario costs a counter, not its size.

mod eval;
mod mapping;
mod ops;
mod text;

use std::ops::Deref;
use std::sync::Arc;

use num_bigint::BigInt;
use starling_text::json::Value;

pub(crate) use eval::evaluate;
pub(crate) use mapping::Dict;
pub(crate) use ops::{
    abs, add, add_in_place, compare, divide, eq, float_remainder, is_number, less, less_equal,
    multiply, power, round, subtract, subtract_in_place, sum, to_float, to_int,
};
pub(crate) use text::{json, quoted, repr, response, str};

/// A string: a constant of the program or shared text.
#[derive(Debug, Clone)]
pub(crate) enum Str {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A value.
#[derive(Debug, Clone)]
pub(crate) enum Py {
    None,
    Ellipsis,
    Bool(bool),
    Int(i64),
    /// Never one that fits in an `i64`.
    Big(Arc<BigInt>),
    Float(f64),
    Complex(f64, f64),
    Str(Str),
    Bytes(Arc<[u8]>),
    List(Arc<Vec<Self>>),
    Tuple(Arc<Vec<Self>>),
    Set(Arc<Vec<Self>>),
    Dict(Arc<Dict>),
    /// Any other object, by its type and its `repr`.
    Object(&'static str, Arc<str>),
}

/// What Python raises: the class as far as it is ever caught, and the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raise {
    pub(crate) class: Class,
    pub(crate) text: String,
}

/// Classes of exceptions that some method catches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Type,
    Value,
    Overflow,
    Other,
}

pub(crate) type Reply<T = Py> = Result<T, Raise>;

impl Raise {
    pub(crate) fn new(class: Class, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { class, text }
    }

    pub(crate) fn type_error(text: impl Into<String>) -> Self {
        Self::new(Class::Type, text)
    }

    pub(crate) fn value_error(text: impl Into<String>) -> Self {
        Self::new(Class::Value, text)
    }

    /// The text of a `KeyError` is the `repr` of the key.
    pub(crate) fn key_error(key: &Py) -> Self {
        Self::new(Class::Other, repr(key))
    }

    pub(crate) fn attribute(value: &Py, name: &str) -> Self {
        let text = format!("'{}' object has no attribute '{name}'", value.type_name());
        Self::new(Class::Other, text)
    }

    /// An argument with which Python would compute for minutes or fill the memory.
    pub(crate) fn limit() -> Self {
        Self::new(
            Class::Other,
            "argument beyond the limits of this simulation",
        )
    }
}

impl From<&'static str> for Py {
    fn from(text: &'static str) -> Self {
        Self::Str(Str::Static(text))
    }
}

impl From<String> for Py {
    fn from(text: String) -> Self {
        Self::Str(Str::Shared(text.into()))
    }
}

impl From<bool> for Py {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Py {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Py {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Vec<Self>> for Py {
    fn from(items: Vec<Self>) -> Self {
        Self::List(Arc::new(items))
    }
}

impl From<Dict> for Py {
    fn from(dict: Dict) -> Self {
        Self::Dict(Arc::new(dict))
    }
}

impl From<BigInt> for Py {
    fn from(int: BigInt) -> Self {
        match i64::try_from(&int) {
            Ok(int) => Self::Int(int),
            Err(_) => Self::Big(Arc::new(int)),
        }
    }
}

impl From<&Value> for Py {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(int) => Self::Int(*int),
            Value::BigInt(int) => Self::Big(Arc::new((**int).clone())),
            Value::Float(float) => Self::Float(*float),
            Value::Str(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Self::from).collect::<Vec<_>>().into(),
            Value::Dict(map) => match map.get("$python").and_then(Value::as_str) {
                // The tables' way to write the one object that JSON has no form for.
                Some("Ellipsis") if map.len() == 1 => Self::Ellipsis,
                _ => {
                    let entries = map
                        .iter()
                        .map(|(key, value)| (key.clone().into(), value.into()));
                    entries.collect::<Dict>().into()
                }
            },
        }
    }
}

impl Py {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Ellipsis => "ellipsis",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Big(_) => "int",
            Self::Float(_) => "float",
            Self::Complex(..) => "complex",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::Dict(_) => "dict",
            Self::Object(name, _) => name,
        }
    }

    /// `bool(self)`
    pub(crate) fn truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::Ellipsis | Self::Big(_) | Self::Object(..) => true,
            Self::Bool(value) => *value,
            Self::Int(int) => *int != 0,
            Self::Float(float) => float.is_nan() || float.abs() > 0.0,
            Self::Complex(re, im) => re.is_nan() || im.is_nan() || re.abs() > 0.0 || im.abs() > 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::Bytes(bytes) => !bytes.is_empty(),
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => !items.is_empty(),
            Self::Dict(dict) => !dict.is_empty(),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is exactly that text.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.as_str() == Some(text)
    }

    /// The text, for a method of strings of this name.
    pub(crate) fn text_for(&self, attribute: &str) -> Reply<&str> {
        self.as_str()
            .ok_or_else(|| Raise::attribute(self, attribute))
    }

    /// The object, for one of its methods of this name.
    pub(crate) fn dict_for(&self, attribute: &str) -> Reply<&Dict> {
        match self {
            Self::Dict(dict) => Ok(dict),
            _ => Err(Raise::attribute(self, attribute)),
        }
    }

    /// The elements that a loop over this value sees.
    pub(crate) fn iterate(&self) -> Reply<Vec<Self>> {
        Ok(match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => items.to_vec(),
            Self::Dict(dict) => dict.keys().cloned().collect(),
            Self::Str(text) => text.chars().map(|c| c.to_string().into()).collect(),
            Self::Bytes(bytes) => bytes.iter().map(|b| Self::Int(i64::from(*b))).collect(),
            _ => {
                let text = format!("'{}' object is not iterable", self.type_name());
                return Err(Raise::type_error(text));
            }
        })
    }

    /// `len(self)`
    pub(crate) fn len(&self) -> Reply<usize> {
        Ok(match self {
            Self::List(items) | Self::Tuple(items) | Self::Set(items) => items.len(),
            Self::Dict(dict) => dict.len(),
            Self::Str(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            _ => {
                let text = format!("object of type '{}' has no len()", self.type_name());
                return Err(Raise::type_error(text));
            }
        })
    }

    /// `needle in self`
    pub(crate) fn contains(&self, needle: &Self) -> Reply<bool> {
        match self {
            Self::Dict(dict) => dict.contains(needle),
            Self::Set(items) => {
                needle.require_hashable()?;
                Ok(items.iter().any(|item| eq(item, needle)))
            }
            Self::List(items) | Self::Tuple(items) => Ok(items.iter().any(|item| eq(item, needle))),
            Self::Str(text) => match needle {
                Self::Str(needle) => Ok(text.contains(&**needle)),
                _ => {
                    let name = needle.type_name();
                    let text = format!("'in <string>' requires string as left operand, not {name}");
                    Err(Raise::type_error(text))
                }
            },
            _ => {
                let text = format!("argument of type '{}' is not iterable", self.type_name());
                Err(Raise::type_error(text))
            }
        }
    }

    /// `self[key]`
    pub(crate) fn item(&self, key: &Self) -> Reply<Self> {
        let index = |length: usize| match key {
            Self::Int(_) | Self::Bool(_) => {
                let at = to_int(key).unwrap_or(Self::Int(0));
                let at = if let Self::Int(at) = at { at } else { 0 };
                let at = if at < 0 { at + length as i64 } else { at };
                Ok(usize::try_from(at).ok().filter(|at| *at < length))
            }
            _ => Err(()),
        };
        match self {
            Self::Dict(dict) => dict.get(key)?.cloned().ok_or_else(|| Raise::key_error(key)),
            Self::List(items) | Self::Tuple(items) => {
                let name = self.type_name();
                match index(items.len()) {
                    Ok(Some(at)) => Ok(items[at].clone()),
                    Ok(None) => Err(Raise::new(
                        Class::Other,
                        format!("{name} index out of range"),
                    )),
                    Err(()) => {
                        let found = key.type_name();
                        let text =
                            format!("{name} indices must be integers or slices, not {found}");
                        Err(Raise::type_error(text))
                    }
                }
            }
            Self::Str(text) => match index(text.chars().count()) {
                Ok(Some(at)) => Ok(text.chars().skip(at).take(1).collect::<String>().into()),
                Ok(None) => Err(Raise::new(Class::Other, "string index out of range")),
                Err(()) => {
                    let found = key.type_name();
                    let text = format!("string indices must be integers, not '{found}'");
                    Err(Raise::type_error(text))
                }
            },
            _ => {
                let text = format!("'{}' object is not subscriptable", self.type_name());
                Err(Raise::type_error(text))
            }
        }
    }

    /// `self[key] = value`
    pub(crate) fn set_item(&mut self, key: Self, value: Self) -> Reply<()> {
        match self {
            Self::Dict(dict) => Arc::make_mut(dict).insert(key, value),
            Self::List(_) => {
                let found = key.type_name();
                let text = format!("list indices must be integers or slices, not {found}");
                Err(Raise::type_error(text))
            }
            _ => {
                let name = self.type_name();
                let text = format!("'{name}' object does not support item assignment");
                Err(Raise::type_error(text))
            }
        }
    }

    /// Changes `self[key]` in place. A value that is no container is an error, as for `self[key][...] = ...`.
    pub(crate) fn change_item<T>(
        &mut self,
        key: &Self,
        change: impl FnOnce(&mut Self) -> Reply<T>,
    ) -> Reply<T> {
        match self {
            Self::Dict(dict) => match Arc::make_mut(dict).get_mut(key)? {
                Some(value) => change(value),
                None => Err(Raise::key_error(key)),
            },
            // Strings and the like have no parts that could change: the copy takes the error.
            _ => change(&mut self.item(key)?),
        }
    }

    /// `self.append(value)`
    pub(crate) fn append(&mut self, value: Self) -> Reply<()> {
        match self {
            Self::List(items) => {
                Arc::make_mut(items).push(value);
                Ok(())
            }
            _ => Err(Raise::attribute(self, "append")),
        }
    }

    /// `self.remove(value)` of a list that holds it.
    pub(crate) fn remove(&mut self, value: &Self) -> Reply<()> {
        match self {
            Self::List(items) => {
                let items = Arc::make_mut(items);
                match items.iter().position(|item| eq(item, value)) {
                    Some(at) => drop(items.remove(at)),
                    None => return Err(Raise::value_error("list.remove(x): x not in list")),
                }
                Ok(())
            }
            _ => Err(Raise::attribute(self, "remove")),
        }
    }

    /// Unhashable values cannot be keys.
    pub(crate) fn require_hashable(&self) -> Reply<()> {
        match self {
            Self::List(_) | Self::Dict(_) | Self::Set(_) => {
                let text = format!("unhashable type: '{}'", self.type_name());
                Err(Raise::type_error(text))
            }
            Self::Tuple(items) => items.iter().try_for_each(Self::require_hashable),
            _ => Ok(()),
        }
    }
}

/// An object with constant keys.
macro_rules! dict {
    ($($key:literal => $value:expr),* $(,)?) => {
        $crate::bfcl::py::Py::from(
            [$(($crate::bfcl::py::Py::from($key), $crate::bfcl::py::Py::from($value))),*]
                .into_iter()
                .collect::<$crate::bfcl::py::Dict>(),
        )
    };
}
pub(crate) use dict;
