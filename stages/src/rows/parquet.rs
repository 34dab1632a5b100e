//! Rows of a Parquet file, and text columns written as one.
//!
//! Invariant: a damaged file is an error with its place. The reader's own library checks lengths with
//! assertions in places; what it raises is caught here and told as such an error.

use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::page::Page;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use starling_contract::StageError;
use starling_text::json::{Map, Value};

/// Reads a file row by row.
pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    number: usize,
    over: bool,
}

impl ParquetRows {
    /// Opens a file.
    pub(super) fn open(path: &Path) -> Result<Self, StageError> {
        let file = File::open(path).map_err(StageError::io("open", path))?;
        let bad =
            |why: String| StageError::failed(format!("{}: not Parquet: {why}", path.display()));
        let rows = guarded(|| {
            let reader = SerializedFileReader::new(file)?;
            let sizes = reader.metadata().row_groups().iter();
            if sizes
                .clone()
                .any(|g| g.num_rows() < 0 || g.total_byte_size() < 0)
            {
                return Err(ParquetError::General("a negative size".to_owned()));
            }
            dictionaries_fit(&reader)?;
            Ok(RowIter::from_file_into(Box::new(reader)))
        });
        Ok(Self {
            rows: rows.map_err(bad)?,
            number: 0,
            over: false,
        })
    }

    /// The next row with its number, from 1. After an error there are no more.
    pub(super) fn next_row(&mut self) -> Option<(usize, Result<Value, String>)> {
        if self.over {
            return None;
        }
        self.number += 1;
        let rows = &mut self.rows;
        let read = guarded(|| rows.next().transpose());
        let row = match read {
            Ok(Some(row)) => Ok(object(row)),
            Ok(None) => return None,
            Err(why) => {
                self.over = true;
                Err(format!("the Parquet file cannot be read on: {why}"))
            }
        };
        Some((self.number, row))
    }
}

/// Refuses dictionaries that declare more values than they have bytes: the library makes room for what is declared.
fn dictionaries_fit(reader: &SerializedFileReader<File>) -> Result<(), ParquetError> {
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for column in 0..group.num_columns() {
            let first = group.get_column_page_reader(column)?.get_next_page()?;
            if let Some(Page::DictionaryPage {
                buf, num_values, ..
            }) = first
                && num_values as usize > buf.len()
            {
                let bytes = buf.len();
                let why = format!("a dictionary of {num_values} values in {bytes} bytes");
                return Err(ParquetError::General(why));
            }
        }
    }
    Ok(())
}

/// Runs a step of the library; a panic inside it is an error like any other.
fn guarded<T>(step: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "damaged".to_owned())),
    }
}

fn object(row: Row) -> Value {
    let columns = row.into_columns().into_iter();
    Value::Dict(columns.map(|(name, field)| (name, value(field))).collect())
}

/// A field as JSON has it; dates, times and decimals as the text that Parquet's tools print.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(b) => Value::Bool(b),
        Field::Byte(n) => Value::Int(n.into()),
        Field::Short(n) => Value::Int(n.into()),
        Field::Int(n) => Value::Int(n.into()),
        Field::Long(n) => Value::Int(n),
        Field::UByte(n) => Value::Int(n.into()),
        Field::UShort(n) => Value::Int(n.into()),
        Field::UInt(n) => Value::Int(n.into()),
        Field::ULong(n) => i64::try_from(n).map_or(Value::Float(n as f64), Value::Int),
        Field::Float16(x) => Value::Float(x.into()),
        Field::Float(x) => Value::Float(x.into()),
        Field::Double(x) => Value::Float(x),
        Field::Str(text) => Value::Str(text),
        Field::Bytes(bytes) => Value::Str(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => object(row),
        Field::ListInternal(list) => {
            Value::List(list.elements().iter().cloned().map(value).collect())
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned();
            let entries = entries.map(|(key, inner)| {
                let key = match value(key) {
                    Value::Str(text) => text,
                    other => starling_text::json::dumps(&other),
                };
                (key, value(inner))
            });
            Value::Dict(entries.collect::<Map>())
        }
        other => Value::Str(other.to_string()),
    }
}

/// Writes rows as columns of text, a row group at a time.
pub(super) struct TextColumns<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Vec<Option<ByteArray>>>,
}

/// Rows of a row group.
const GROUP: usize = 16_384;

impl<W: Write + Send> TextColumns<W> {
    /// Starts a file with these columns, all of them optional text.
    pub(super) fn new(out: W, names: &[&str]) -> Result<Self, ParquetError> {
        let fields = names.iter().map(|name| {
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::String))
                .build()
                .map(Arc::new)
        });
        let schema = Type::group_type_builder("rows")
            .with_fields(fields.collect::<Result<_, _>>()?)
            .build()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_created_by("starling".to_owned())
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Self {
            writer,
            columns: vec![Vec::new(); names.len()],
        })
    }

    /// Appends a row, a text or nothing for each column.
    pub(super) fn push(&mut self, row: Vec<Option<String>>) -> Result<(), ParquetError> {
        for (column, text) in self.columns.iter_mut().zip(row) {
            column.push(text.map(|t| ByteArray::from(t.into_bytes())));
        }
        if self.columns.first().is_some_and(|c| c.len() >= GROUP) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let texts = std::mem::take(column);
            let levels: Vec<i16> = texts.iter().map(|t| i16::from(t.is_some())).collect();
            let texts: Vec<ByteArray> = texts.into_iter().flatten().collect();
            if let Some(mut writer) = group.next_column()? {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(&texts, Some(&levels), None)?;
                writer.close()?;
            }
        }
        group.close().map(|_| ())
    }

    /// Writes what is left, and the end of the file.
    pub(super) fn finish(mut self) -> Result<(), ParquetError> {
        if self.columns.first().is_some_and(|c| !c.is_empty()) {
            self.flush()?;
        }
        self.writer.close().map(|_| ())
    }
}
