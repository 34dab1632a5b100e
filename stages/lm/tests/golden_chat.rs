//! The tokenizer against ids and texts made by the original library with Qwen3's vocabulary.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it cannot read, and tells how many cases it saw"
)]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use starling_lm::tokenizer::Tokenizer;

#[expect(
    clippy::disallowed_methods,
    reason = "a test asks where the golden data is"
)]
fn golden_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = std::env::var_os("STARLING_GOLDEN");
    root.join(named.map_or_else(|| PathBuf::from("tests/golden"), PathBuf::from))
}

fn unpacked(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The rows of every file of a set, whatever its suffix.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let folder = golden_folder().join(folder);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut rows = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(&format!("{set}_")) && name.ends_with(".jsonl.gz") {
            let text = String::from_utf8(unpacked(&path)).unwrap();
            rows.extend(
                text.lines()
                    .map(|line| serde_json::from_str::<Value>(line).unwrap()),
            );
        }
    }
    rows
}

/// Qwen3's tokenizer, kept beside the sets.
fn qwen3() -> Tokenizer {
    let inside = golden_folder().join("qwen3-tokenizer/tokenizer.json.gz");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/qwen3-tokenizer/tokenizer.json.gz");
    let path = if inside.exists() { inside } else { kept };
    Tokenizer::from_bytes(&unpacked(&path)).unwrap()
}

fn ids_of(row: &Value, field: &str) -> Vec<u32> {
    serde_json::from_value(row[field].clone()).unwrap()
}

fn text_of<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap()
}

#[test]
fn golden_star_tokenizer() {
    let tokenizer = qwen3();
    let rows = rows("star/chat", "tokenizer");
    for row in &rows {
        let name = text_of(row, "id");
        let ids = ids_of(row, "ids");
        assert_eq!(
            tokenizer.encode(text_of(row, "text")).unwrap(),
            ids,
            "{name}"
        );
        assert_eq!(
            tokenizer.decode(&ids, false),
            text_of(row, "decoded"),
            "{name}"
        );
        let shown = text_of(row, "decoded_skip_special");
        assert_eq!(tokenizer.decode(&ids, true), shown, "{name}");
        let mut stream = tokenizer.stream(false);
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, text_of(row, "decoded"), "{name}");
        for (index, prefix) in row["prefix_decodes"].as_array().unwrap().iter().enumerate() {
            let decoded = tokenizer.decode(&ids[..=index], false);
            assert_eq!(decoded, prefix.as_str().unwrap(), "{name}, {index}");
        }
    }
    println!("golden star tokenizer: {} cases", rows.len());
    assert!(!rows.is_empty(), "no cases");
}

#[test]
fn golden_star_chat_ids() {
    let tokenizer = qwen3();
    let mut count = 0;
    for row in rows("star/chat", "chat") {
        if row.get("token_ids").is_some_and(Value::is_array) {
            let ids = tokenizer.encode(text_of(&row, "text")).unwrap();
            assert_eq!(ids, ids_of(&row, "token_ids"), "{}", text_of(&row, "id"));
            count += 1;
        }
    }
    println!("golden star chat_ids: {count} cases");
    assert!(count > 0, "no cases");
}
