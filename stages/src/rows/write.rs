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

    /// Appends rows that are JSON already, each with its line break.
    ///
    /// # Errors
    /// [`StageError::Io`].
    pub fn lines(&mut self, text: &str, count: usize) -> Result<(), StageError> {
        self.count += count;
        self.file
            .write_all(text.as_bytes())
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
            // A Parquet file without rows still needs a column to be read.
            Sink::Waiting(out) => match out {
                Some(out) => TextColumns::new(out, &["id"])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowReader;

    const ROWS: [&str; 3] = [
        r#"{"id": "a", "n": 1, "x": null}"#,
        r#"{"id": "é\n", "n": [1.5, {"b": true}], "x": "y"}"#,
        r#"{"id": "", "n": -3, "x": "z"}"#,
    ];

    fn written(format: FileFormat, rows: &[Value], name: &str, folder: &Path) -> PathBuf {
        let path = folder.join(name);
        let file = File::create(&path).expect("a file");
        let mut writer = FileWriter::new(file, format, &path).expect("a writer");
        for row in rows {
            writer.write(row).expect("written");
        }
        assert_eq!(writer.finish().expect("finished"), rows.len());
        path
    }

    #[test]
    fn what_is_written_in_any_format_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows: Vec<Value> = ROWS.iter().map(|r| json::parse(r).expect("JSON")).collect();
        for (format, name) in [
            (FileFormat::Lines, "rows.jsonl"),
            (FileFormat::Gzip, "rows.jsonl.gz"),
            (FileFormat::Zstandard, "rows.jsonl.zst"),
            (FileFormat::List, "rows.json"),
            (FileFormat::Parquet, "rows.parquet"),
        ] {
            assert_eq!(FileFormat::of(Path::new(name)), format);
            let path = written(format, &rows, name, folder.path());
            let again = std::fs::read(&path).expect("bytes");
            // The name says nothing to the reader.
            let plain = folder.path().join("rows");
            std::fs::rename(&path, &plain).expect("renamed");
            let mut read = Vec::new();
            let mut reader = RowReader::open(&plain).expect("opened");
            while let Some((_, row)) = reader.next_row().expect("a row") {
                read.push(row);
            }
            if format == FileFormat::Parquet {
                // What is no text is in it as JSON.
                let cell = |i: usize, key: &str| read[i].get(key).cloned();
                assert_eq!(cell(0, "n"), Some("1".into()));
                assert_eq!(cell(0, "x"), Some(Value::Null));
                assert_eq!(cell(1, "n"), Some("[1.5, {\"b\": true}]".into()));
                assert_eq!(cell(1, "id"), Some("é\n".into()));
            } else {
                assert_eq!(read, rows, "{format:?}");
            }
            let path = written(format, &rows, name, folder.path());
            assert_eq!(
                std::fs::read(path).expect("bytes"),
                again,
                "the same rows, the same bytes"
            );
            let none = written(format, &[], name, folder.path());
            let mut reader = RowReader::open(&none).expect("opened");
            assert!(reader.next_row().expect("read").is_none());
        }
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let row = |n: i64| Value::Dict([("n".to_owned(), Value::Int(n))].into_iter().collect());
        std::fs::create_dir(folder.path().join("b")).expect("a folder");
        for (n, name, format) in [
            (2, "b/x.json", FileFormat::List),
            (1, "a.gz", FileFormat::Gzip),
            (3, "c.parquet", FileFormat::Parquet),
        ] {
            written(format, &[row(n)], name, folder.path());
        }
        std::fs::write(folder.path().join(".hidden"), "{").expect("written");
        std::fs::write(
            folder.path().join("d.jsonl"),
            "{\"n\": 4}\nbroken\n\n{\"n\": 5}",
        )
        .expect("written");
        let mut reader = RowReader::open(folder.path()).expect("opened");
        let chunk = reader.chunk().expect("a chunk");
        let seen: Vec<(String, usize, bool)> = chunk
            .into_iter()
            .map(|r| (r.place.file, r.place.line, r.value.is_ok()))
            .collect();
        let expected = [
            ("a.gz", 1, true),
            // the list opens on a line of its own
            ("b/x.json", 2, true),
            ("c.parquet", 1, true),
            ("d.jsonl", 1, true),
            ("d.jsonl", 2, false),
            ("d.jsonl", 4, true),
        ];
        let expected: Vec<_> = expected.map(|(f, l, good)| (f.to_owned(), l, good)).into();
        assert_eq!(seen, expected);
    }

    #[test]
    fn files_that_are_cut_off_are_errors() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows: Vec<Value> = ROWS.iter().map(|r| json::parse(r).expect("JSON")).collect();
        for (format, name) in [
            (FileFormat::Gzip, "a"),
            (FileFormat::Zstandard, "b"),
            (FileFormat::List, "c"),
            (FileFormat::Parquet, "d"),
        ] {
            let path = written(format, &rows, name, folder.path());
            let bytes = std::fs::read(&path).expect("bytes");
            for end in [bytes.len() / 2, bytes.len() - 5] {
                std::fs::write(&path, &bytes[..end]).expect("written");
                let read = RowReader::open(&path).and_then(|mut reader| {
                    while reader.next_row()?.is_some() {}
                    Ok(())
                });
                assert!(read.is_err(), "{format:?} cut at {end}");
            }
        }
    }
}
