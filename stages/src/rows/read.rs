//! Reading rows from a file, a folder of files, or standard input: one at a time, whatever the format.
//!
//! The format is told by the first bytes, never by the name: gzip or Zstandard outside; Parquet, one JSON
//! list, or JSON lines inside. Memory does not grow with the file: at most one chunk of rows is held.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rayon::prelude::*;
use starling_contract::StageError;
use starling_text::json::{self, Value};

use super::lines::{Cut, Elements, Lines};
use super::parquet::ParquetRows;

/// Rows and bytes of a chunk that is read whole, whichever is reached first.
const CHUNK_ROWS: usize = 2048;
const CHUNK_BYTES: usize = 16 << 20;
/// The same of a chunk that one thread works on: small enough to stay in its cache.
const RAW_ROWS: usize = 512;
const RAW_BYTES: usize = 1 << 20;

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
    file: Arc<FileRead>,
    source: Source,
    buffer: Vec<u8>,
}

/// The file that rows come from: its name within its folder, and its path.
struct FileRead {
    name: String,
    path: PathBuf,
}

enum Source {
    Empty,
    Lines(Lines<Box<dyn BufRead + Send>>),
    Elements(Elements<Box<dyn BufRead + Send>>),
    Parquet(Box<ParquetRows>),
}

enum Raw {
    /// A part of the text that was read.
    Text(Range<usize>),
    Value(Value),
    Bad(String),
}

/// Rows that are cut from their file and not looked into yet, or rows already read.
pub(crate) struct Chunk {
    text: Vec<u8>,
    rows: Vec<RawRow>,
    ready: Vec<ReadRow>,
}

struct RawRow {
    file: Arc<FileRead>,
    line: usize,
    raw: Raw,
}

impl Chunk {
    /// Rows that are read already.
    pub(crate) fn ready(ready: Vec<ReadRow>) -> Self {
        Self {
            text: Vec::new(),
            rows: Vec::new(),
            ready,
        }
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.ready.len()
    }

    /// The rows, read; of one that is no JSON, why.
    pub(crate) fn rows(self) -> impl Iterator<Item = ReadRow> {
        let Self { text, rows, ready } = self;
        let read = rows.into_iter().map(move |row| ReadRow {
            place: Place {
                file: row.file.name.clone(),
                line: row.line,
            },
            value: parse(row.raw, &text),
        });
        ready.into_iter().chain(read)
    }

    /// The rows of an artifact: what is no JSON there is damage, not data.
    pub(crate) fn values(self) -> impl Iterator<Item = Result<(Place, Value), StageError>> {
        let paths: Vec<Arc<FileRead>> = self.rows.iter().map(|row| Arc::clone(&row.file)).collect();
        self.rows()
            .enumerate()
            .map(move |(i, row)| match row.value {
                Ok(value) => Ok((row.place, value)),
                Err(why) => Err(match paths.get(i) {
                    Some(file) => broken(&file.path, row.place.line, &why),
                    None => StageError::failed(why),
                }),
            })
    }
}

fn broken(path: &Path, line: usize, why: &str) -> StageError {
    StageError::failed(format!("{}:{line}: {why}", path.display()))
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
            file: file_read(String::new(), path),
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
            file: file_read(String::new(), name),
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
        self.file = file_read(name, &path);
        Ok(true)
    }

    /// The file that is read now, for messages.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Cuts the next row out; its text is put behind what `text` holds.
    fn next_raw(&mut self, text: &mut Vec<u8>) -> Result<Option<(usize, Raw)>, StageError> {
        loop {
            let start = text.len();
            let cut = match &mut self.source {
                Source::Empty => return Ok(None),
                Source::Lines(lines) => lines.cut(text),
                Source::Elements(elements) => elements.cut(text),
                Source::Parquet(rows) => {
                    if let Some((number, row)) = rows.next_row() {
                        return Ok(Some((number, row.map_or_else(Raw::Bad, Raw::Value))));
                    }
                    Ok(Cut::End)
                }
            };
            match cut.map_err(StageError::io("read", &self.file.path))? {
                Cut::Row(line) => return Ok(Some((line, Raw::Text(start..text.len())))),
                Cut::Broken(line, why) => return Err(broken(&self.file.path, line, why)),
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
        let mut text = std::mem::take(&mut self.buffer);
        text.clear();
        let cut = self.next_raw(&mut text)?;
        let row = cut.map(|(line, raw)| {
            let value = parse(raw, &text).map_err(|why| broken(&self.file.path, line, &why))?;
            Ok((line, value))
        });
        self.buffer = text;
        row.transpose()
    }

    /// How many rows are left, without looking into them.
    ///
    /// # Errors
    /// As [`RowReader::chunk`].
    pub fn count(&mut self) -> Result<usize, StageError> {
        let (mut count, mut text) = (0, Vec::new());
        while self.next_raw(&mut text)?.is_some() {
            text.clear();
            count += 1;
        }
        Ok(count)
    }

    /// The next rows, not looked into; nothing at the end.
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] where the file is cut off or cannot be decompressed.
    pub(crate) fn raw_chunk(&mut self) -> Result<Option<Chunk>, StageError> {
        let chunk = self.cut(RAW_ROWS, RAW_BYTES)?;
        Ok((chunk.len() > 0).then_some(chunk))
    }

    fn cut(&mut self, most_rows: usize, most_bytes: usize) -> Result<Chunk, StageError> {
        let (mut text, mut rows, mut others) = (Vec::new(), Vec::new(), 0);
        while rows.len() < most_rows && text.len() + others < most_bytes {
            let Some((line, raw)) = self.next_raw(&mut text)? else {
                break;
            };
            if !matches!(raw, Raw::Text(_)) {
                others += most_bytes / most_rows;
            }
            rows.push(RawRow {
                file: Arc::clone(&self.file),
                line,
                raw,
            });
        }
        Ok(Chunk {
            text,
            rows,
            ready: Vec::new(),
        })
    }

    /// The next rows, read one after the other and parsed side by side on the threads of the current pool;
    /// none at the end.
    ///
    /// # Errors
    /// [`StageError::Io`], and [`StageError::Failed`] where the file is cut off or cannot be decompressed.
    pub fn chunk(&mut self) -> Result<Vec<ReadRow>, StageError> {
        let chunk = self.cut(CHUNK_ROWS, CHUNK_BYTES)?;
        let text = chunk.text;
        let read = chunk.rows.into_par_iter().map(|row| ReadRow {
            place: Place {
                file: row.file.name.clone(),
                line: row.line,
            },
            value: parse(row.raw, &text),
        });
        Ok(read.collect())
    }
}

fn file_read(name: String, path: &Path) -> Arc<FileRead> {
    Arc::new(FileRead {
        name,
        path: path.to_owned(),
    })
}

fn parse(raw: Raw, text: &[u8]) -> Result<Value, String> {
    match raw {
        Raw::Value(value) => Ok(value),
        Raw::Bad(why) => Err(why),
        Raw::Text(part) => {
            let text = std::str::from_utf8(&text[part])
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
