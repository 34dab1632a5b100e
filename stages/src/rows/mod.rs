//! Conversation and training rows: read and written streaming, with file and line in every error.

mod lines;
mod parquet;
mod read;
mod write;

use std::path::Path;

use starling_contract::StageError;
use starling_text::json::{self, Value};

pub(crate) use read::Chunk;
pub use read::{Place, ReadRow, RowReader};
pub use write::{FileFormat, FileWriter, RowWriter};

/// Reads a whole file of rows.
pub(crate) fn read_all(path: &Path) -> Result<Vec<Value>, StageError> {
    let mut reader = RowReader::open(path)?;
    let mut rows = Vec::new();
    while let Some((_, row)) = reader.next_row()? {
        rows.push(row);
    }
    Ok(rows)
}

/// A string field of a row.
pub(crate) fn text<'a>(row: &'a Value, key: &str) -> Option<&'a str> {
    match field(row, key)? {
        Value::Str(s) => Some(s),
        _ => None,
    }
}

/// A field of a row.
pub(crate) fn field<'a>(row: &'a Value, key: &str) -> Option<&'a Value> {
    match row {
        Value::Dict(map) => map.get(key),
        _ => None,
    }
}

/// The elements of a list field; none when it is absent or something else.
pub(crate) fn list<'a>(row: &'a Value, key: &str) -> &'a [Value] {
    match field(row, key) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// Builds an object from pairs, in their order.
pub(crate) fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Dict(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

/// A string value.
pub(crate) fn string(s: impl Into<String>) -> Value {
    Value::Str(s.into())
}

/// Writes `value` as indented JSON with a final newline.
pub(crate) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), StageError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| StageError::failed(format!("cannot write {}: {e}", path.display())))?;
    text.push('\n');
    std::fs::write(path, text).map_err(StageError::io("write", path))
}

/// Reads a JSON file as `T`.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let text = std::fs::read_to_string(path).map_err(StageError::io("read", path))?;
    serde_json::from_str(&text).map_err(|e| StageError::failed(format!("{}: {e}", path.display())))
}

/// The id of a row, text or number; empty when it has none.
pub(crate) fn id_of(row: &Value) -> String {
    match field(row, "id") {
        Some(Value::Str(id)) => id.clone(),
        Some(other) => json::dumps(other),
        None => String::new(),
    }
}
