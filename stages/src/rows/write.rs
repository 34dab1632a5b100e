//! Writing rows: plain JSON lines for artifacts, and any of the formats that can be read for files outside.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use starling_contract::StageError;
use starling_text::json::{self, Value};

use super::parquet::TextColumns;

/// Writes JSON lines in Python's spelling, keys in their order.
pub struct RowWriter {
    file: BufWriter<File>,
    path: PathBuf,
    count: usize,
}

impl RowWriter {
    /// Creates `path`.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn create(path: &Path) -> Result<Self, StageError> {
        let file = File::create(path).map_err(StageError::io("create", path))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, file),
            path: path.to_owned(),
            count: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn write(&mut self, row: &Value) -> Result<(), StageError> {
        self.line(&json::dumps(row))
    }

    /// Appends a row that is JSON already, without its line break.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn line(&mut self, text: &str) -> Result<(), StageError> {
        self.count += 1;
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(StageError::io("write", &self.path))
    }

    /// Flushes, and returns how many rows were written.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn finish(mut self) -> Result<usize, StageError> {
        self.file
            .flush()
            .map_err(StageError::io("write", &self.path))?;
        Ok(self.count)
    }
}

/// A format for rows that leave the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// JSON lines.
    Lines,
    /// JSON lines, gzip-compressed; the same rows give the same bytes.
    Gzip,
    /// JSON lines, compressed by Zstandard.
    Zstandard,
    /// One JSON list, a row a line.
    List,
    /// Parquet with a column of text for each key of the first row; what is not text is in it as JSON.
    Parquet,
}

impl FileFormat {
    /// The format that a file's name asks for: `.gz`, `.zst`, `.json`, `.parquet`, else JSON lines.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstandard,
            Some("json") => Self::List,
            Some("parquet") => Self::Parquet,
            _ => Self::Lines,
        }
    }
}

/// Writes rows in a format.
pub struct FileWriter<W: Write + Send> {
    sink: Sink<W>,
    path: PathBuf,
    count: usize,
}

enum Sink<W: Write + Send> {
    Lines(W),
    Gzip(GzEncoder<W>),
    Zstandard(zstd::stream::write::Encoder<'static, W>),
    List(W),
    Waiting(Option<W>),
    Parquet(Vec<String>, Box<TextColumns<W>>),
}

impl<W: Write + Send> FileWriter<W> {
    /// Starts a file that messages call `path`.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn new(out: W, format: FileFormat, path: &Path) -> Result<Self, StageError> {
        let sink = match format {
            FileFormat::Lines => Sink::Lines(out),
            FileFormat::Gzip => Sink::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            FileFormat::Zstandard => Sink::Zstandard(
                zstd::stream::write::Encoder::new(out, 3)
                    .map_err(StageError::io("compress", path))?,
            ),
            FileFormat::List => Sink::List(out),
            FileFormat::Parquet => Sink::Waiting(Some(out)),
        };
        Ok(Self {
            sink,
            path: path.to_owned(),
            count: 0,
        })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] for a row that is no object, or has a key that the
    /// first row of a Parquet file did not have.
    pub fn write(&mut self, row: &Value) -> Result<(), StageError> {
        let first = self.count == 0;
        self.count += 1;
        let line = |out: &mut dyn Write, text: String| {
            out.write_all(text.as_bytes())
                .and_then(|()| out.write_all(b"\n"))
        };
        let written = match &mut self.sink {
            Sink::Lines(out) => line(out, json::dumps(row)),
            Sink::Gzip(out) => line(out, json::dumps(row)),
            Sink::Zstandard(out) => line(out, json::dumps(row)),
            Sink::List(out) => {
                let before: &[u8] = if first { b"[\n" } else { b",\n" };
                out.write_all(before)
                    .and_then(|()| out.write_all(json::dumps(row).as_bytes()))
            }
            Sink::Waiting(_) | Sink::Parquet(..) => return self.columns(row),
        };
        written.map_err(StageError::io("write", &self.path))
    }

    fn columns(&mut self, row: &Value) -> Result<(), StageError> {
        let (path, count) = (self.path.clone(), self.count);
        let wrong = |what: &dyn std::fmt::Display| {
            StageError::failed(format!("{}: row {count}: {what}", path.display()))
        };
        let map = row.as_dict().ok_or_else(|| wrong(&"not an object"))?;
        if let Sink::Waiting(out) = &mut self.sink {
            let out = out
                .take()
                .ok_or_else(|| wrong(&"the file could not be begun"))?;
            let names: Vec<String> = map.keys().cloned().collect();
            let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
            let columns = TextColumns::new(out, &borrowed).map_err(|e| wrong(&e))?;
            self.sink = Sink::Parquet(names, Box::new(columns));
        }
        let Sink::Parquet(names, columns) = &mut self.sink else {
            return Err(wrong(&"not a Parquet file"));
        };
        if let Some(key) = map.keys().find(|key| !names.contains(key)) {
            return Err(wrong(&format!("`{key}` is not a key of the first row")));
        }
        let cells = names.iter().map(|name| match map.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Str(text)) => Some(text.clone()),
            Some(other) => Some(json::dumps(other)),
        });
        columns.push(cells.collect()).map_err(|e| wrong(&e))
    }

    /// Writes the end of the file and returns how many rows it holds.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub fn finish(self) -> Result<usize, StageError> {
        let path = self.path;
        let finished = match self.sink {
            Sink::Lines(mut out) => out.flush(),
            Sink::Gzip(out) => out.finish().and_then(|mut out| out.flush()),
            Sink::Zstandard(out) => out.finish().and_then(|mut out| out.flush()),
            Sink::List(mut out) => {
                let end: &[u8] = if self.count == 0 { b"[]\n" } else { b"\n]\n" };
                out.write_all(end).and_then(|()| out.flush())
            }
            // A Parquet file without rows has no columns either.
            Sink::Waiting(out) => match out {
                Some(out) => TextColumns::new(out, &[])
                    .and_then(TextColumns::finish)
                    .map_err(std::io::Error::other),
                None => Ok(()),
            },
            Sink::Parquet(_, columns) => columns.finish().map_err(std::io::Error::other),
        };
        finished.map_err(StageError::io("write", &path))?;
        Ok(self.count)
    }
}
