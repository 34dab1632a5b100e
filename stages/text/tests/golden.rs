//! Chat texts and token ids against what the reference libraries produce.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use starling_text::json::{self, Value};
use starling_text::template::{ChatTemplate, Options};
use tokenizers::Tokenizer;

/// The rows of all files of a set, whatever their suffix.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let lines = golden::lines(folder, set);
    lines
        .iter()
        .map(|line| json::parse(line).unwrap())
        .collect()
}

/// A file of Qwen3's, from the golden folder or from that of the workspace.
fn qwen3(name: &str) -> String {
    golden::text(&golden::file("qwen3-tokenizer", name))
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(qwen3("tokenizer.json.gz")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_list().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_i64().unwrap()).unwrap())
        .collect()
}

fn finish(set: &str, cases: usize) {
    println!("golden star {set}: {cases} cases");
    assert!(cases > 0, "no cases");
}

/// Renders a row as it is expected: to this text, or not at all.
fn renders(template: &ChatTemplate, row: &Value, expected: Option<&Value>) -> Option<String> {
    let id = row.get("id").unwrap();
    let messages = row.get("messages").unwrap().as_list().unwrap();
    let options = Options {
        extra: row.get("kwargs").unwrap().as_dict().unwrap().clone(),
        ..Options::default()
    };
    let text = template.render(messages, row.get("tools"), &options);
    let Some(Value::Str(expected)) = expected else {
        assert!(text.is_err(), "{id:?} renders where the reference fails");
        return None;
    };
    let text = text.unwrap_or_else(|error| panic!("{id:?}: {error}"));
    assert_eq!(&text, expected, "{id:?}");
    Some(text)
}

#[test]
fn golden_star_chat() {
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let rows = rows("star/chat", "chat");
    for row in &rows {
        if let Some(text) = renders(&template, row, row.get("text")) {
            let encoding = tokenizer.encode_fast(text, false).unwrap();
            let expected = ids(row.get("token_ids").unwrap());
            assert_eq!(encoding.get_ids(), expected, "{:?}", row.get("id"));
        }
    }
    finish("chat", rows.len());
}

/// The template of the first release, where it renders at all, renders what the current one does.
#[test]
fn golden_star_chat_first_release() {
    let config = json::parse(&qwen3("tokenizer_config.json.gz")).unwrap();
    let source = config.get("chat_template").and_then(Value::as_str).unwrap();
    let template = ChatTemplate::from_source(source).unwrap();
    let rows = rows("star/chat", "chat");
    for row in &rows {
        let expected = row.get("first_release").or(row.get("text"));
        renders(&template, row, expected);
    }
    finish("chat_first_release", rows.len());
}

#[test]
fn golden_star_tokenizer() {
    let tokenizer = tokenizer();
    let rows = rows("star/chat", "tokenizer");
    for row in &rows {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap();
        let expected = ids(row.get("ids").unwrap());
        let encoding = tokenizer.encode_fast(text("text"), false).unwrap();
        assert_eq!(encoding.get_ids(), expected, "{row:?}");
        assert_eq!(tokenizer.decode(&expected, false).unwrap(), text("decoded"));
        assert_eq!(
            tokenizer.decode(&expected, true).unwrap(),
            text("decoded_skip_special")
        );
        for (i, prefix) in row
            .get("prefix_decodes")
            .unwrap()
            .as_list()
            .unwrap()
            .iter()
            .enumerate()
        {
            let decoded = tokenizer.decode(&expected[..=i], false).unwrap();
            assert_eq!(Some(decoded.as_str()), prefix.as_str(), "{row:?}");
        }
    }
    finish("tokenizer", rows.len());
}
