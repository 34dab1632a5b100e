//! Reading rows from a file, a folder of files, or standard input: one at a time, whatever the format.
//!
//! The format is told by the first bytes, never by the name: gzip or Zstandard outside; Parquet, one JSON
//! list, or JSON lines inside. Memory does not grow with the file: at most one chunk of rows is held.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use starling_contract::StageError;
use starling_text::json::{self, Value};

use super::lines::{Cut, Elements, Lines};
use super::parquet::ParquetRows;

/// Rows and bytes of a chunk, whichever is reached first.
const CHUNK_ROWS: usize = 2048;
const CHUNK_BYTES: usize = 16 << 20;

/// Where a row stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file within a folder of files; empty when there is one file.
    pub file: String,
    /// The line it starts on, from 1; in Parquet the number of the row.
    pub line: usize,
}

/// A row with its place; what is no JSON is said, and does not end the reading.
pub struct ReadRow {
    /// Where it stands.
    pub place: Place,
    /// Its value, or why it has none.
    pub value: Result<Value, String>,
}

/// Reads rows.
pub struct RowReader {
    files: std::vec::IntoIter<(String, PathBuf)>,
    name: String,
    path: PathBuf,
    source: Source,
    buffer: Vec<u8>,
}

enum Source {
    Empty,
    Lines(Lines<Box<dyn BufRead + Send>>),
    Elements(Elements<Box<dyn BufRead + Send>>),
    Parquet(Box<ParquetRows>),
}

enum Raw {
    Text(Vec<u8>),
    Value(Value),
    Bad(String),
}

impl RowReader {
    /// Opens a file, or all files below a folder in the order of their names (hidden ones left out).
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] for a folder without files.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let mut files = Vec::new();
        if path.is_dir() {
            list(path, "", &mut files)?;
            if files.is_empty() {
                return Err(StageError::failed(format!(
                    "{} holds no files",
                    path.display()
                )));
            }
        } else {
            files.push((String::new(), path.to_owned()));
        }
        let mut reader = Self {
            files: files.into_iter(),
            name: String::new(),
            path: path.to_owned(),
            source: Source::Empty,
            buffer: Vec::new(),
        };
        reader.next_file()?;
        Ok(reader)
    }

    /// Reads from a stream that is called `name` in messages; it cannot be Parquet.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn stream(input: impl Read + Send + 'static, name: &Path) -> Result<Self, StageError> {
        Ok(Self {
            files: Vec::new().into_iter(),
            name: String::new(),
            path: name.to_owned(),
            source: text(Box::new(BufReader::with_capacity(1 << 18, input)), name)?,
            buffer: Vec::new(),
        })
    }

    /// Goes to the next file; says whether there is one.
    fn next_file(&mut self) -> Result<bool, StageError> {
        let Some((name, path)) = self.files.next() else {
            self.source = Source::Empty;
            return Ok(false);
        };
        let file = File::open(&path).map_err(StageError::io("open", &path))?;
        let mut head = BufReader::with_capacity(1 << 18, file);
        let parquet = head
            .fill_buf()
            .map_err(StageError::io("read", &path))?
            .starts_with(b"PAR1");
        self.source = if parquet {
            Source::Parquet(Box::new(ParquetRows::open(&path)?))
        } else {
            text(Box::new(head), &path)?
        };
        (self.name, self.path) = (name, path);
        Ok(true)
    }

    /// The file that is read now, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn broken(&self, line: usize, why: &str) -> StageError {
        StageError::failed(format!("{}:{line}: {why}", self.path.display()))
    }

    fn next_raw(&mut self) -> Result<Option<(usize, Raw)>, StageError> {
        loop {
            let cut = match &mut self.source {
                Source::Empty => return Ok(None),
                Source::Lines(lines) => lines.cut(&mut self.buffer),
                Source::Elements(elements) => elements.cut(&mut self.buffer),
                Source::Parquet(rows) => {
                    if let Some((number, row)) = rows.next_row() {
                        return Ok(Some((number, row.map_or_else(Raw::Bad, Raw::Value))));
                    }
                    Ok(Cut::End)
                }
            };
            match cut.map_err(StageError::io("read", &self.path))? {
                Cut::Row(line) => {
                    let text = std::mem::take(&mut self.buffer);
                    return Ok(Some((line, Raw::Text(text))));
                }
                Cut::Broken(line, why) => return Err(self.broken(line, why)),
                Cut::End => {
                    if !self.next_file()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next row with its line; a row that is not JSON is an error.
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] with file and line.
    pub fn next_row(&mut self) -> Result<Option<(usize, Value)>, StageError> {
        let Some((line, raw)) = self.next_raw()? else {
            return Ok(None);
        };
        let value = parse(raw).map_err(|why| self.broken(line, &why))?;
        Ok(Some((line, value)))
    }

    /// How many rows are left, without looking into them.
    ///
    /// # Errors
    /// As [`RowReader::chunk`].
    pub fn count(&mut self) -> Result<usize, StageError> {
        let mut count = 0;
        while let Some((_, raw)) = self.next_raw()? {
            if let Raw::Text(text) = raw {
                self.buffer = text;
            }
            count += 1;
        }
        Ok(count)
    }

    /// The next rows, read one after the other and parsed side by side on the threads of the current pool;
    /// none at the end.
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] where the file is cut off or cannot be decompressed.
    pub fn chunk(&mut self) -> Result<Vec<ReadRow>, StageError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let Some((line, raw)) = self.next_raw()? else {
                break;
            };
            bytes += match &raw {
                Raw::Text(text) => text.len(),
                Raw::Value(_) | Raw::Bad(_) => CHUNK_BYTES / CHUNK_ROWS,
            };
            rows.push((self.name.clone(), line, raw));
        }
        let read = rows.into_par_iter().map(|(file, line, raw)| ReadRow {
            place: Place { file, line },
            value: parse(raw),
        });
        Ok(read.collect())
    }
}

fn parse(raw: Raw) -> Result<Value, String> {
    match raw {
        Raw::Value(value) => Ok(value),
        Raw::Bad(why) => Err(why),
        Raw::Text(bytes) => {
            let text = std::str::from_utf8(&bytes)
                .map_err(|e| format!("not UTF-8 after byte {}", e.valid_up_to()))?;
            json::parse(text).map_err(|e| format!("not JSON: {e}"))
        }
    }
}

/// Tells what the text of a stream is.
fn text(stream: Box<dyn BufRead + Send>, path: &Path) -> Result<Source, StageError> {
    let mut plain = unpacked(stream, path)?;
    // A byte-order mark before the first row is no part of it.
    if starts_with(&mut plain, &[0xef, 0xbb, 0xbf], path)? {
        plain.consume(3);
    }
    let first = plain
        .fill_buf()
        .map_err(StageError::io("read", path))?
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .copied();
    Ok(if first == Some(b'[') {
        Source::Elements(Elements::new(plain))
    } else {
        Source::Lines(Lines::new(plain))
    })
}

fn starts_with(
    stream: &mut Box<dyn BufRead + Send>,
    magic: &[u8],
    path: &Path,
) -> Result<bool, StageError> {
    let head = stream.fill_buf().map_err(StageError::io("read", path))?;
    Ok(head.starts_with(magic))
}

/// The stream without its compression.
fn unpacked(
    mut stream: Box<dyn BufRead + Send>,
    path: &Path,
) -> Result<Box<dyn BufRead + Send>, StageError> {
    if starts_with(&mut stream, &[0x1f, 0x8b], path)? {
        let decoder = MultiGzDecoder::new(stream);
        return Ok(Box::new(BufReader::with_capacity(1 << 18, decoder)));
    }
    if starts_with(&mut stream, &[0x28, 0xb5, 0x2f, 0xfd], path)? {
        let decoder = zstd::stream::read::Decoder::with_buffer(stream)
            .map_err(StageError::io("decompress", path))?;
        return Ok(Box::new(BufReader::with_capacity(1 << 18, decoder)));
    }
    Ok(stream)
}

/// The files below `folder`, by name, hidden ones left out.
fn list(folder: &Path, under: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), StageError> {
    let read = std::fs::read_dir(folder).map_err(StageError::io("list", folder))?;
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry.map_err(StageError::io("list", folder))?;
        entries.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    entries.sort();
    for (name, path) in entries {
        if name.starts_with('.') {
            continue;
        }
        let name = format!("{under}{name}");
        if path.is_dir() {
            list(&path, &format!("{name}/"), files)?;
        } else {
            files.push((name, path));
        }
    }
    Ok(())
}
