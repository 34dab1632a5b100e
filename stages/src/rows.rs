//! Conversation and training rows as JSON lines: streaming, with file and line in every error.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use starling_contract::StageError;
use starling_text::json::{self, Value};

/// Reads JSON lines, gzip-compressed or not, one value at a time.
pub(crate) struct RowReader {
    lines: Box<dyn BufRead>,
    path: PathBuf,
    line: usize,
}

impl RowReader {
    /// Opens `path`; gzip is told by its first two bytes, not by its name.
    pub(crate) fn open(path: &Path) -> Result<Self, StageError> {
        let file = File::open(path).map_err(StageError::io("open", path))?;
        let mut plain = BufReader::new(file);
        let head = plain.fill_buf().map_err(StageError::io("read", path))?;
        let lines: Box<dyn BufRead> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(MultiGzDecoder::new(plain)))
        } else {
            Box::new(plain)
        };
        Ok(Self {
            lines,
            path: path.to_owned(),
            line: 0,
        })
    }

    /// The next row with its line number, which starts at 1; blank lines are passed over.
    pub(crate) fn next_row(&mut self) -> Result<Option<(usize, Value)>, StageError> {
        let mut text = String::new();
        loop {
            text.clear();
            let read = self
                .lines
                .read_line(&mut text)
                .map_err(StageError::io("read", &self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if !text.trim().is_empty() {
                break;
            }
        }
        let value = json::parse(text.trim_end_matches(['\n', '\r'])).map_err(|e| {
            StageError::failed(format!(
                "{}:{}: not JSON: {e}",
                self.path.display(),
                self.line
            ))
        })?;
        Ok(Some((self.line, value)))
    }
}

/// Reads a whole file of rows.
pub(crate) fn read_all(path: &Path) -> Result<Vec<Value>, StageError> {
    let mut reader = RowReader::open(path)?;
    let mut rows = Vec::new();
    while let Some((_, row)) = reader.next_row()? {
        rows.push(row);
    }
    Ok(rows)
}

/// Writes JSON lines in Python's spelling, keys in their order.
pub(crate) struct RowWriter {
    file: BufWriter<File>,
    path: PathBuf,
    count: usize,
}

impl RowWriter {
    /// Creates `path`.
    pub(crate) fn create(path: &Path) -> Result<Self, StageError> {
        let file = File::create(path).map_err(StageError::io("create", path))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_owned(),
            count: 0,
        })
    }

    /// Appends a row.
    pub(crate) fn write(&mut self, row: &Value) -> Result<(), StageError> {
        self.count += 1;
        writeln!(self.file, "{}", json::dumps(row)).map_err(StageError::io("write", &self.path))
    }

    /// Flushes, and returns how many rows were written.
    pub(crate) fn finish(mut self) -> Result<usize, StageError> {
        self.file
            .flush()
            .map_err(StageError::io("write", &self.path))?;
        Ok(self.count)
    }
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
