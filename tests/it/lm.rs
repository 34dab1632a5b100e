//! `starling lm` on small models made here.

use serde_json::{Value, json};
use starling_lm::load::{Checkpoint, SaveOptions};
use starling_lm::tokenizer::{CHAT_TOKENS, TokenizerConfig, TrainOptions, train};
use starling_lm::{Architecture, ModelConfig, Weights};

use crate::space::Space;

const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
     {% if tools %}{{ tools | length }} tools{% endif %}";

/// Writes a model folder called `model`.
fn model(space: &Space, tokenizer: bool) {
    let options = TrainOptions {
        vocab_size: 300,
        min_frequency: 1,
        special_tokens: &CHAT_TOKENS,
    };
    let words = train(["the cat sat on the mat and the hat"], &options).expect("a tokenizer");
    let settings = TokenizerConfig {
        eos_token: Some("<|im_end|>".to_owned()),
        chat_template: Some(TEMPLATE.to_owned()),
        ..TokenizerConfig::default()
    };
    let config = ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 304,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 128,
        attention_bias: false,
        bos_token_id: None,
        eos_token_ids: words.token_to_id("<|im_end|>").into_iter().collect(),
    };
    let checkpoint = Checkpoint {
        weights: Weights::init(&config, 4).expect("weights"),
        config,
        files: if tokenizer {
            words.files(&settings).expect("files")
        } else {
            std::collections::BTreeMap::new()
        },
    };
    let saved = checkpoint.save(&space.path("model"), SaveOptions::default());
    saved.expect("a folder");
}

fn rows(text: &str) -> Vec<Value> {
    let row = |line| serde_json::from_str(line).expect("a JSON row");
    text.lines().map(row).collect()
}

#[test]
fn log_probabilities_of_rows_and_what_is_wrong_with_others() {
    let space = Space::new();
    model(&space, true);
    space.write(
        "in.jsonl",
        "{\"id\": \"a\", \"ids\": [1, 2, 3]}\n\nnothing\n{\"id\": 7, \"text\": \"the cat\"}\n{\"ids\": [1, 999]}\n\
         {\"id\": {\"x\": 1}, \"ids\": [1, -2]}\n[1]\n{\"id\": \"one\", \"ids\": [5]}\n{\"id\": \"b\"}\n",
    );
    let said = space.starling("lm logprobs --model model --in in.jsonl --out out.jsonl --topk 2");
    assert_eq!(said.code, 4, "{}", said.all());
    let written = std::fs::read_to_string(space.path("out.jsonl")).expect("rows");
    let found = rows(&written);
    assert_eq!(found.len(), 8);
    assert_eq!((&found[0]["id"], found[0].get("ids")), (&json!("a"), None));
    assert_eq!(found[0]["logprobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(found[0]["top_ids"][1].as_array().map(Vec::len), Some(2));
    let error = |at: usize| found[at]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error(1).starts_with("in.jsonl:3: not JSON"), "{}", error(1));
    assert_eq!(found[1]["id"], 3);
    assert_eq!(found[2]["id"], 7);
    let tokens = found[2]["ids"].as_array().map_or(0, Vec::len);
    assert_eq!(
        found[2]["logprobs"].as_array().map(Vec::len),
        Some(tokens - 1)
    );
    assert_eq!(
        error(3),
        "in.jsonl:5: token 999 is not in the vocabulary of 304"
    );
    assert_eq!(error(4), "in.jsonl:6: `ids[1]` is -2, not a token id");
    assert_eq!(found[4]["id"], json!({"x": 1}));
    assert!(error(5).contains("not an object"), "{}", error(5));
    assert_eq!(found[6]["logprobs"], json!([]));
    assert!(error(7).contains("needs `ids` or `text`"), "{}", error(7));
    assert!(said.stderr.contains("5 of 8 rows"), "{}", said.stderr);

    space.write("good.jsonl", "{\"id\": \"a\", \"ids\": [1, 2, 3]}\n");
    let alone =
        space.starling("lm logprobs --model model --in good.jsonl --out - --topk 2 --threads 1");
    assert_eq!((alone.code, rows(&alone.stdout)), (0, found[..1].to_vec()));
}

#[test]
fn samples_do_not_depend_on_batch_order_or_threads() {
    let space = Space::new();
    model(&space, true);
    let lines = [
        r#"{"id": "a", "prompt": "the cat", "n": 3}"#,
        r#"{"id": "b", "ids": [1, 2, 3], "max_tokens": 4}"#,
        r#"{"id": "c", "messages": [{"role": "user", "content": "the mat"}], "tools": [{"name": "f"}]}"#,
        r#"{"id": "d", "prompt": "the cat sat"}"#,
    ];
    let run = |lines: &[&str], more: &str| {
        space.write("in.jsonl", &format!("{}\n", lines.join("\n")));
        let said = space.starling(&format!(
            "lm generate --model model --in in.jsonl --out - --temperature 1.2 --top-p 0.95 --min-p 0.001 \
             --repetition-penalty 1.1 --max-tokens 12 --seed 5 {more}"
        ));
        assert_eq!(said.code, 0, "{}", said.all());
        let mut found = rows(&said.stdout);
        found.sort_by_key(|row| (row["id"].to_string(), row["sample"].as_u64()));
        found
    };
    let first = run(&lines, "");
    assert_eq!(first.len(), 6);
    assert_eq!(first[3]["ids"].as_array().map(Vec::len), Some(4));
    assert_eq!(first[3]["stop"], "length");
    let reversed: Vec<&str> = lines.iter().rev().copied().collect();
    assert_eq!(run(&reversed, "--batch 1 --threads 1"), first);
    assert_eq!(run(&lines[..1], "--batch 2 --threads 2"), first[..3]);
    for row in &first {
        let (ids, logprobs) = (row["ids"].as_array(), row["logprobs"].as_array());
        assert_eq!(ids.map(Vec::len), logprobs.map(Vec::len), "{row}");
        assert!(row["text"].is_string(), "{row}");
    }
    let greedy = |stop: &str| {
        space.write("in.jsonl", "{\"id\": 1, \"prompt\": \"the cat\"}\n");
        let command = format!(
            "lm generate --model model --in in.jsonl --out - --max-tokens 20 --ignore-end {stop}"
        );
        rows(&space.starling(&command).stdout).remove(0)
    };
    let whole = greedy("");
    let text = whole["text"].as_str().expect("a text").to_owned();
    let stop: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(1)
        .collect();
    if !stop.is_empty() {
        let cut = greedy(&format!("--stop {stop}"));
        assert_eq!(cut["stop"], "text");
        assert_eq!(
            cut["text"].as_str(),
            text.find(&stop).map(|end| &text[..end])
        );
    }
}

#[test]
fn a_model_goes_to_gguf_and_back() {
    let space = Space::new();
    model(&space, true);
    space.write("in.jsonl", "{\"id\": \"a\", \"text\": \"the cat sat\"}\n");
    let score = |model: &str| {
        let said = space.starling(&format!(
            "lm logprobs --model {model} --in in.jsonl --out -"
        ));
        assert_eq!(said.code, 0, "{}", said.all());
        said.stdout
    };
    let first = score("model");
    for (from, to) in [
        ("model", "one.gguf"),
        ("one.gguf", "two"),
        ("two", "three.gguf"),
    ] {
        let said = space.starling(&format!("lm convert --model {from} --out {to}"));
        assert_eq!(said.code, 0, "{}", said.all());
        assert_eq!(score(to), first, "{to}");
    }
    let said = space.starling("lm convert --model model --out quantised.gguf --dtype q8-0");
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(score("quantised.gguf"), score("quantised.gguf --keep q8-0"));
    let info = space.starling("lm info three.gguf --json");
    let info: Value = serde_json::from_str(&info.stdout).expect("JSON");
    assert_eq!(
        (&info["layers"], &info["chat-template"]),
        (&json!(2), &json!(true))
    );
    let said = space.starling("lm convert --model model --out folder --dtype q8-0");
    assert_eq!(said.code, 2, "{}", said.all());
}

#[test]
fn what_is_missing_or_damaged_is_named() {
    let space = Space::new();
    model(&space, false);
    space.write(
        "in.jsonl",
        "{\"id\": 1, \"prompt\": \"x\"}\n{\"id\": 2, \"ids\": [1]}\n",
    );
    let said = space.starling("lm generate --model model --in in.jsonl --out - --max-tokens 2");
    assert_eq!(said.code, 4, "{}", said.all());
    let found = rows(&said.stdout);
    assert!(
        found[0]["error"]
            .as_str()
            .is_some_and(|e| e.contains("tokenizer")),
        "{found:?}"
    );
    assert_eq!(found[1]["text"], Value::Null);
    assert_eq!(found[1]["ids"].as_array().map(Vec::len), Some(2));

    for (arguments, code, word) in [
        ("lm info nowhere", 3, "nowhere"),
        (
            "lm generate --model model --in in.jsonl --out - --top-p 2",
            2,
            "top-p",
        ),
        (
            "lm generate --model model --in in.jsonl --out - --stop x",
            2,
            "tokenizer",
        ),
        ("lm logprobs --model model --in absent --out -", 3, "absent"),
        ("lm logprobs --model model --in in.jsonl", 2, "--out"),
    ] {
        let said = space.starling(arguments);
        assert_eq!(said.code, code, "{arguments}: {}", said.all());
        assert!(said.stderr.contains(word), "{arguments}: {}", said.stderr);
    }
    let path = space.path("model").join("model.safetensors");
    let bytes = std::fs::read(&path).expect("weights");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("half of them");
    let said = space.starling("lm info model");
    assert_eq!(said.code, 3, "{}", said.all());
    assert!(said.stderr.contains("model.safetensors"), "{}", said.stderr);
}
