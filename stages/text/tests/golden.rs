//! Chat texts and token ids against what the reference libraries produce.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use starling_text::json::{self, Value};
use starling_text::template::{ChatTemplate, Options};
use tokenizers::Tokenizer;

/// The folder of golden data: `STARLING_GOLDEN`, else `tests/golden` of the workspace.
#[expect(
    clippy::disallowed_methods,
    reason = "tests are pointed at other data by the environment"
)]
fn golden() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.join(std::env::var("STARLING_GOLDEN").unwrap_or_else(|_| "tests/golden".into()))
}

fn unpack(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// The rows of all files of a set, whatever their suffix.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let folder = golden().join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with(&format!("{set}_")) && name.ends_with(".jsonl.gz")
        })
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = unpack(file);
            text.lines()
                .map(|line| json::parse(line).unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// A file of Qwen3's, from the golden folder or from that of the workspace.
fn qwen3(name: &str) -> String {
    let name = format!("qwen3-tokenizer/{name}");
    let mut path = golden().join(&name);
    if !path.exists() {
        path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden")
            .join(&name);
    }
    unpack(&path)
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

#[test]
fn golden_star_chat() {
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let rows = rows("star/chat", "chat");
    for row in &rows {
        let id = row.get("id").unwrap();
        let messages = row.get("messages").unwrap().as_list().unwrap();
        let options = Options {
            extra: row.get("kwargs").unwrap().as_dict().unwrap().clone(),
            ..Options::default()
        };
        let text = template.render(messages, row.get("tools"), &options);
        match row.get("text") {
            Some(Value::Str(expected)) => {
                let text = text.unwrap_or_else(|error| panic!("{id:?}: {error}"));
                assert_eq!(&text, expected, "{id:?}");
                let encoding = tokenizer.encode_fast(text, false).unwrap();
                assert_eq!(
                    encoding.get_ids(),
                    ids(row.get("token_ids").unwrap()),
                    "{id:?}"
                );
            }
            _ => assert!(text.is_err(), "{id:?} renders where the reference fails"),
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
        let id = row.get("id").unwrap();
        let messages = row.get("messages").unwrap().as_list().unwrap();
        let options = Options {
            extra: row.get("kwargs").unwrap().as_dict().unwrap().clone(),
            ..Options::default()
        };
        let text = template.render(messages, row.get("tools"), &options);
        match row.get("first_release").or(row.get("text")) {
            Some(Value::Str(expected)) => {
                let text = text.unwrap_or_else(|error| panic!("{id:?}: {error}"));
                assert_eq!(&text, expected, "{id:?}");
            }
            _ => assert!(text.is_err(), "{id:?} renders where the reference fails"),
        }
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
