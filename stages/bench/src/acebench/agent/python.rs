//! The little of Python that the back ends' rules lean on: argument binding, exceptions, dict and text rules.

use starling_text::json;

use crate::acebench::expr::{
    BinaryOp, Budget, Kind, Value, arithmetic, equal, join_surrogates, lookup, write_str,
};

/// An exception and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raised(pub(super) String);

/// What a back end's method gives.
pub(super) type Returned = Result<Value<'static>, Raised>;

/// Keyword arguments of a call.
pub(super) type Given = [(String, Value<'static>)];

/// Matches keyword arguments with parameters, the first `required` of which have no default.
pub(super) fn bind<const N: usize>(
    method: &str,
    parameters: [&str; N],
    required: usize,
    given: &Given,
) -> Result<[Option<Value<'static>>; N], Raised> {
    if let Some((name, _)) = given
        .iter()
        .find(|(name, _)| !parameters.contains(&name.as_str()))
    {
        return Err(Raised(format!(
            "{method}() got an unexpected keyword argument '{name}'"
        )));
    }
    let bound = parameters.map(|parameter| {
        let found = given.iter().find(|(name, _)| name == parameter);
        found.map(|(_, value)| value.clone())
    });
    let missing = parameters
        .iter()
        .zip(&bound)
        .take(required)
        .filter(|(_, value)| value.is_none());
    let missing: Vec<String> = missing.map(|(name, _)| format!("'{name}'")).collect();
    let names = match &missing[..] {
        [] => return Ok(bound),
        [name] => format!("argument: {name}"),
        [first, second] => format!("arguments: {first} and {second}"),
        [most @ .., last] => format!("arguments: {}, and {last}", most.join(", ")),
    };
    Err(Raised(format!(
        "{method}() missing {} required positional {names}",
        missing.len()
    )))
}

/// As [`bind`], for parameters without defaults.
pub(super) fn bind_all<const N: usize>(
    method: &str,
    parameters: [&str; N],
    given: &Given,
) -> Result<[Value<'static>; N], Raised> {
    Ok(bind(method, parameters, N, given)?.map(|value| value.unwrap_or(Value::None)))
}

pub(super) fn text(text: impl Into<String>) -> Value<'static> {
    Value::Str(text.into().into())
}

/// A dict with text keys.
pub(super) fn dict<const N: usize>(entries: [(&str, Value<'static>); N]) -> Value<'static> {
    Value::Dict(
        entries
            .into_iter()
            .map(|(key, value)| (text(key), value))
            .collect(),
    )
}

/// The usual answer of a back end.
pub(super) fn status(ok: bool, message: String) -> Value<'static> {
    dict([("status", Value::Bool(ok)), ("message", text(message))])
}

/// `f"..."`: each `{}` becomes the `str` of the next value.
pub(super) fn fill(template: &str, values: &[&Value<'_>]) -> Result<String, Raised> {
    let mut out = String::new();
    let mut parts = template.split("{}");
    out.push_str(parts.next().unwrap_or_default());
    for (part, value) in parts.zip(values) {
        write_str(&mut out, value)
            .map_err(|_| Raised("Exceeds the limit for integer string conversion".to_owned()))?;
        out.push_str(part);
    }
    Ok(out)
}

/// The name of a value's type.
pub(super) fn type_name(value: &Value<'_>) -> &'static str {
    match value.kind() {
        Kind::None => "NoneType",
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Float => "float",
        Kind::Complex => "complex",
        Kind::Bytes => "bytes",
        Kind::Str => "str",
        Kind::List => "list",
        Kind::Tuple => "tuple",
        Kind::Dict => "dict",
        Kind::Set => "set",
        Kind::Ellipsis => "ellipsis",
        Kind::Opaque => "function",
    }
}

/// A value that may be looked up in a dict.
pub(super) fn key<'v>(value: &'v Value<'static>) -> Result<&'v Value<'static>, Raised> {
    if value.hashable() {
        return Ok(value);
    }
    let inner = match value {
        Value::Tuple(items) => items
            .iter()
            .find(|item| !item.hashable())
            .map_or("list", type_name),
        other => type_name(other),
    };
    Err(Raised(format!("unhashable type: '{inner}'")))
}

/// The entry of a dict under a text key; Python's `KeyError` where there is none.
pub(super) fn get<'v>(
    record: &'v Value<'static>,
    name: &str,
) -> Result<&'v Value<'static>, Raised> {
    match record {
        Value::Dict(entries) => {
            lookup(entries, &text(name)).ok_or_else(|| Raised(format!("'{name}'")))
        }
        other => Err(Raised(format!(
            "'{}' object is not subscriptable",
            type_name(other)
        ))),
    }
}

/// Sets the entry of a dict under a text key.
pub(super) fn set(record: &mut Value<'static>, name: &str, value: Value<'static>) {
    if let Value::Dict(entries) = record {
        match entries
            .iter_mut()
            .find(|(known, _)| known.as_str() == Some(name))
        {
            Some((_, old)) => *old = value,
            None => entries.push((text(name), value)),
        }
    }
}

/// Whether a dict has a text key with a value equal to `value`.
pub(super) fn has(record: &Value<'static>, name: &str, value: &Value<'_>) -> bool {
    get(record, name).is_ok_and(|known| equal(known, value))
}

/// `value.lower()`.
pub(super) fn lower(value: &Value<'_>) -> Result<String, Raised> {
    match value {
        Value::Str(text) => Ok(text.to_lowercase()),
        other => Err(Raised(format!(
            "'{}' object has no attribute 'lower'",
            type_name(other)
        ))),
    }
}

/// `a op b` for numbers.
pub(super) fn calculate(op: BinaryOp, a: &Value<'static>, b: &Value<'static>) -> Returned {
    arithmetic(op, a, b, &mut Budget::default()).map_err(|_| {
        Raised(format!(
            "unsupported operand type(s): '{}' and '{}'",
            type_name(a),
            type_name(b)
        ))
    })
}

/// `a > b` for numbers.
pub(super) fn greater(a: &Value<'static>, b: &Value<'static>) -> Result<bool, Raised> {
    let real = |value: &Value<'_>| matches!(value.kind(), Kind::Bool | Kind::Int | Kind::Float);
    if real(a) && real(b) {
        return Ok(crate::acebench::expr::compare(a, b) == Some(std::cmp::Ordering::Greater));
    }
    Err(Raised(format!(
        "'>' not supported between instances of '{}' and '{}'",
        type_name(a),
        type_name(b)
    )))
}

/// What `json.loads(json.dumps(value))` gives; `None` when JSON cannot hold it.
pub(super) fn to_json(value: &Value<'_>) -> Option<json::Value> {
    Some(match value {
        Value::None => json::Value::Null,
        Value::Bool(bool) => json::Value::Bool(*bool),
        Value::Int(int) => json::Value::Int(*int),
        Value::BigInt(int) => json::Value::BigInt(int.clone()),
        Value::Float(float) => json::Value::Float(*float),
        Value::Str(text) => json::Value::Str(join_surrogates(text).into_owned()),
        Value::List(items) | Value::Tuple(items) => {
            json::Value::List(items.iter().map(to_json).collect::<Option<_>>()?)
        }
        Value::Dict(entries) => {
            let mut map = json::Map::new();
            for (key, value) in entries {
                map.insert(json_key(key)?, to_json(value)?);
            }
            json::Value::Dict(map)
        }
        Value::Bytes(_)
        | Value::Complex(..)
        | Value::Set(_)
        | Value::Ellipsis
        | Value::Opaque(_) => return None,
    })
}

fn json_key(key: &Value<'_>) -> Option<String> {
    let mut out = String::new();
    match key {
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::None => out.push_str("null"),
        Value::Str(text) => out.push_str(&join_surrogates(text)),
        Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
            write_str(&mut out, key).ok()?;
        }
        _ => return None,
    }
    Some(out)
}
