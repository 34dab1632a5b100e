//! The tokenizer against ids and texts made by the original library with Qwen3's vocabulary.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it cannot read, and tells how many cases it saw"
)]

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use serde_json::Value;

use starling_lm::tokenizer::Tokenizer;

/// The rows of every file of a set, whatever its suffix.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let lines = golden::lines(folder, set);
    let rows = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

/// Qwen3's tokenizer, kept beside the sets.
fn qwen3() -> Tokenizer {
    let text = golden::text(&golden::file("qwen3-tokenizer", "tokenizer.json.gz"));
    Tokenizer::from_bytes(text.as_bytes()).unwrap()
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
