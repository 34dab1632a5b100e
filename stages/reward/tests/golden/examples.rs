//! The example rows of the shipped pipelines, and conversations.

use std::collections::BTreeMap;
use std::path::Path;

use starling_reward::prepare::{self, ThinkFormat};
use starling_reward::{CallFormat, Mode};
use starling_text::json::{self, Value};
use starling_text::template::ChatTemplate;

use crate::corpora::{check_own_reward, check_trained};
use crate::golden;
use crate::rows::{assert_same, conversations, count, finish, list, rows, text, tokenizer};

/// The example rows by id: those of the shipped pipelines.
fn examples() -> BTreeMap<String, Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/data/xlam-1024.jsonl.gz");
    let rows = golden::text(&path);
    let rows = rows.lines().map(|line| json::parse(line).unwrap());
    rows.map(|row| (text(&row, "id").to_owned(), row)).collect()
}

#[test]
fn golden_star_examples() {
    let (rows, examples, tokenizer) = (rows("star/data", "examples"), examples(), tokenizer());
    let template = ChatTemplate::qwen3();
    let tokens = |text: &str| {
        tokenizer
            .encode_fast(text, false)
            .unwrap()
            .get_ids()
            .to_vec()
    };
    for row in &rows {
        let source = &examples[text(row, "id")];
        let got = prepare::self_reward(source, &template, Mode::Faithful);
        check_own_reward(got, row.get("self_reward").unwrap());
        let messages = list(source, "messages");
        let label = prepare::label_last(messages).unwrap();
        let tags: Vec<_> = label
            .tags
            .iter()
            .map(|tag| Value::from(tag.word()))
            .collect();
        assert_same(&Value::List(tags), row.get("tag").unwrap());
        assert_eq!(label.turns, count(row, "turns"), "{row:?}");
        assert_eq!(label.calls, count(row, "tool_call_num"), "{row:?}");
        check_trained(source, row, text(row, "targets"));
        assert_eq!(
            tokens(text(row, "inputs")).len(),
            count(row, "inputs_tokens")
        );
        let ids: Vec<_> = tokens(text(row, "targets"))
            .into_iter()
            .map(|id| Value::Int(id.into()))
            .collect();
        assert_same(&Value::List(ids), row.get("targets_tokens").unwrap());
        let prompt = prepare::prompt(source, &template).unwrap();
        assert_eq!(tokens(&prompt).len(), count(row, "prompt_tokens"));
        let estimate = prepare::estimate_tokens(messages, source.get("tools"));
        assert_eq!(
            estimate,
            count(row, "prompt_tokens_estimate"),
            "{}",
            text(row, "id")
        );
    }
    finish("examples", rows.len());
}

/// Every row that is trained on comes back from its tokens as the text it was, and from its text as the calls
/// or the reply it was, in every format of calls and of thoughts.
#[test]
fn golden_star_round_trip() {
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let mut sources: Vec<Value> = examples().into_values().collect();
    sources.extend(conversations());
    for name in ["xlam", "toolmind", "toolace", "hammer"] {
        sources.extend(rows("star/data", &format!("{name}_formatted")));
    }
    sources.retain(|row| prepare::self_reward(row, &template, Mode::Fixed).is_ok());
    let mut cases = 0;
    for (i, row) in sources.iter().enumerate() {
        for format in [CallFormat::Hermes, CallFormat::Json, CallFormat::Pythonic] {
            for think in [ThinkFormat::Native, ThinkFormat::Star] {
                let text = prepare::written(row, format).unwrap();
                let trained =
                    prepare::train_row(&text, &template, think, true, Mode::Fixed).unwrap();
                let read = prepare::reads_back(row, &trained, format);
                // A reply that is itself a call in this form does not read back, and is found by this very check.
                let last = list(row, "messages").last().unwrap();
                let content = last.get("content").and_then(Value::as_str);
                let looks = content.is_some_and(|text| match format {
                    CallFormat::Hermes => text.contains("<tool_call>"),
                    CallFormat::Json | CallFormat::Pythonic => text.trim().starts_with(['[', '{']),
                });
                // Names of functions with spaces cannot stand before a bracket.
                let spaced = format == CallFormat::Pythonic;
                assert!(read.is_ok() || looks || spaced, "{row:?}");
                // Tokens cost the most; every seventh row in the other forms is enough.
                if format != CallFormat::Hermes && i % 7 != 0 {
                    continue;
                }
                for text in [&trained.inputs, &trained.targets] {
                    let ids = tokenizer.encode_fast(text.as_str(), false).unwrap();
                    let back = tokenizer.decode(ids.get_ids(), false).unwrap();
                    assert_eq!(&back, text);
                }
                cases += usize::from(read.is_ok());
            }
        }
    }
    finish("round_trip", cases);
}

#[test]
fn golden_star_conversations_trainset() {
    let (sources, rows) = (conversations(), rows("star/data", "conversations_trainset"));
    let template = ChatTemplate::qwen3();
    let sources: BTreeMap<_, _> = sources
        .iter()
        .map(|row| (text(row, "id").to_owned(), row))
        .collect();
    for row in &rows {
        let source = sources[text(row, "id")];
        check_trained(
            source,
            row.get("plain").unwrap(),
            text(row, "with_reasoning"),
        );
        let got = prepare::self_reward(source, &template, Mode::Faithful);
        check_own_reward(got, row.get("self_reward").unwrap());
    }
    finish("conversations_trainset", rows.len());
}
