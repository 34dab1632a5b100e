//! Mutated files of rows, JSON lines, lists and Parquet, plain and compressed. Rows or an error are right; a
//! panic is not. The driver is that of the parsers of text, in `reward/tests`.
#![expect(clippy::print_stdout, reason = "how many were tried, and how fast")]

#[path = "../reward/tests/support/driver.rs"]
mod driver;

use std::fs;
use std::path::Path;

use starling_stages::rows::{FileFormat, FileWriter, RowReader};
use starling_text::json;

/// A small Parquet file with texts and gaps.
fn parquet() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = FileWriter::new(
        file.reopen().expect("open"),
        FileFormat::Parquet,
        Path::new("seed"),
    )
    .expect("a writer");
    for line in [
        "{\"a\": \"x\", \"b\": null}",
        "{\"a\": \"y\", \"b\": [1, 2]}",
        "{\"b\": \"z\"}",
    ] {
        writer
            .write(&json::parse(line).expect("JSON"))
            .expect("written");
    }
    let _ = writer.finish().expect("finished");
    fs::read(file.path()).expect("bytes")
}

#[test]
fn strangers_files_never_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let targets = [("rows", Vec::new()), ("parquet", vec![parquet()])];
    driver::drive(&corpus, &targets, |_, bytes, thread| {
        let file = folder.path().join(thread.to_string());
        fs::write(&file, bytes).expect("a scratch file");
        let Ok(mut reader) = RowReader::open(&file) else {
            return;
        };
        while let Ok(chunk) = reader.chunk() {
            if chunk.is_empty() {
                break;
            }
        }
    });
}
