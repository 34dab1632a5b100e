//! Tokenizers as files, and training one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const TEXTS: [&str; 6] = [
    "the cat sat on the mat, then the cat ate",
    "<|im_start|>user\ncall get_weather(city=\"Zürich\") now<|im_end|>",
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>",
    "numbers 12345 and 123 and 12, 名前 and ünïcödé 👩‍👩‍👧‍👦",
    "aaaa aaaaa aaaaaaaa bababababa",
    "it's the weather; they're at the theatre\n\n\n   indented\ttabs  ",
];

static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| train(TEXTS, &options(320)).unwrap());

fn options(vocab_size: usize) -> TrainOptions<'static> {
    TrainOptions {
        vocab_size,
        min_frequency: 2,
        special_tokens: &CHAT_TOKENS,
    }
}

/// A vocabulary by the definition of BPE: count everything anew before every merge.
fn merges_by_definition(words: &BTreeMap<String, u64>, count: usize) -> Vec<(String, String)> {
    let order: Vec<String> = bytes::alphabet().into_iter().map(String::from).collect();
    let mut ids: Vec<String> = order;
    let mut words: Vec<(Vec<String>, u64)> = words
        .iter()
        .map(|(word, &count)| (word.chars().map(String::from).collect(), count))
        .collect();
    let mut merges = Vec::new();
    while ids.len() < 256 + count {
        let mut pairs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                let id = |token| ids.iter().position(|other| other == token).unwrap();
                *pairs.entry((id(&pair[0]), id(&pair[1]))).or_default() += count;
            }
        }
        let Some(most) = pairs.values().max().copied().filter(|&most| most >= 2) else {
            break;
        };
        let (&(a, b), _) = pairs.iter().find(|&(_, &count)| count == most).unwrap();
        let (left, right) = (ids[a].clone(), ids[b].clone());
        let joined = format!("{left}{right}");
        for (word, _) in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == left && word[at + 1] == right {
                    word.splice(at..at + 2, [joined.clone()]);
                }
                at += 1;
            }
        }
        if !ids.contains(&joined) {
            ids.push(joined);
        }
        merges.push((left, right));
    }
    merges
}

fn trained_merges(tokenizer: &Tokenizer) -> Vec<(String, String)> {
    let file: serde_json::Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    serde_json::from_value(file["model"]["merges"].clone()).unwrap()
}

#[test]
fn merges_are_those_of_the_definition() {
    let mut words = BTreeMap::new();
    for word in [
        "aaaa", "aaaaa", "bababab", "abab", "xaab", "the", "then", "other",
    ] {
        words.insert(word.to_owned(), word.len() as u64);
    }
    let texts: Vec<String> = words
        .iter()
        .flat_map(|(word, &count)| vec![word.clone(); count as usize])
        .collect();
    let merges = trained_merges(&train(&texts, &options(256 + 7 + 12)).unwrap());
    assert_eq!(merges, merges_by_definition(&words, 12));
    assert_eq!(merges.len(), 12);
}

proptest! {
    #[test]
    fn merges_are_those_of_the_definition_for_random_words(
        words in prop::collection::btree_map("[ab]{1,8}|[abc]{2,5}", 1_u64..5, 1..12),
    ) {
        let texts: Vec<String> =
            words.iter().flat_map(|(word, &count)| vec![word.clone(); count as usize]).collect();
        let merges = trained_merges(&train(&texts, &options(256 + 7 + 10)).unwrap());
        prop_assert_eq!(merges, merges_by_definition(&words, 10));
    }

    #[test]
    fn any_text_survives(text in "\\PC*|[a-z \\n\\t]*|(<\\|im_end\\|>|<think>|x| )*") {
        let tokenizer = &*TRAINED;
        let ids = tokenizer.encode(&text).unwrap();
        let composed: String = tokenizer.decode(&ids, false);
        // NFC is part of the tokenizer, so the text comes back composed; encoding that again is stable.
        prop_assert_eq!(tokenizer.encode(&composed).unwrap(), ids);
        if text.is_ascii() {
            prop_assert_eq!(composed, text);
        }
    }

    #[test]
    fn streamed_pieces_join_to_the_decoded_text(ids in prop::collection::vec(0_u32..330, 0..40), skip: bool) {
        let tokenizer = &*TRAINED;
        let mut stream = tokenizer.stream(skip);
        let mut text: String = ids.iter().map(|&id| stream.push(id)).collect();
        text.push_str(&stream.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids, skip));
    }
}

#[test]
fn threads_and_order_of_texts_change_no_byte() {
    let texts: Vec<String> = (0..3000)
        .map(|i| format!("{} {}", TEXTS[i % TEXTS.len()], i * i))
        .collect();
    let reversed: Vec<&String> = texts.iter().rev().collect();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| train(&texts, &options(400)).unwrap().to_json().unwrap())
    };
    let one = on(1);
    assert_eq!(one, on(3));
    assert_eq!(
        one,
        train(reversed, &options(400)).unwrap().to_json().unwrap()
    );
}

#[test]
fn special_tokens_are_single_ids_at_the_end() {
    let tokenizer = train(TEXTS, &options(300)).unwrap();
    assert_eq!(tokenizer.vocab_size(), 300);
    let text = "<|im_start|>user\nhi<|im_end|><think></think><tool_call></tool_call><|endoftext|>";
    let ids = tokenizer.encode(text).unwrap();
    for (index, token) in CHAT_TOKENS.iter().enumerate() {
        let id = tokenizer.token_to_id(token.content).unwrap();
        assert_eq!(id as usize, 293 + index);
        assert_eq!(ids.iter().filter(|&&other| other == id).count(), 1);
        assert_eq!(tokenizer.is_special(id), token.skipped);
    }
    assert_eq!(tokenizer.decode(&ids, false), text);
    let kept = "user\nhi<think></think><tool_call></tool_call>";
    assert_eq!(tokenizer.decode(&ids, true), kept);
}

#[test]
fn saved_files_load_to_the_same_tokenizer() {
    let tokenizer = train(TEXTS, &options(310)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = TokenizerConfig {
        eos_token: Some("<|im_end|>".into()),
        pad_token: Some("<|endoftext|>".into()),
        model_max_length: Some(512),
        chat_template: Some("{{ messages }}".into()),
    };
    tokenizer.save(folder.path(), &config).unwrap();
    let loaded = Tokenizer::from_folder(folder.path()).unwrap();
    assert_eq!(loaded.to_json().unwrap(), tokenizer.to_json().unwrap());
    assert_eq!(
        loaded.encode(TEXTS[2]).unwrap(),
        tokenizer.encode(TEXTS[2]).unwrap()
    );
    let template = folder.path().join("chat_template.jinja");
    assert_eq!(std::fs::read_to_string(template).unwrap(), "{{ messages }}");
    let text = std::fs::read_to_string(folder.path().join("tokenizer_config.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = tokenizer.token_to_id("<|endoftext|>").unwrap().to_string();
    assert_eq!(
        saved["added_tokens_decoder"][first]["content"],
        "<|endoftext|>"
    );

    let wrong = TokenizerConfig {
        eos_token: Some("</s>".into()),
        ..TokenizerConfig::default()
    };
    assert!(tokenizer.files(&wrong).is_err());
}

#[test]
fn what_cannot_be_used_is_an_error() {
    assert!(train(TEXTS, &options(262)).is_err());
    let twice = [SpecialToken::control("<x>"), SpecialToken::control("<x>")];
    let options = TrainOptions {
        special_tokens: &twice,
        ..options(400)
    };
    assert!(train(TEXTS, &options).is_err());
    for bytes in ["", "{}", "[", "{\"model\":{\"type\":\"BPE\"}}"] {
        assert!(Tokenizer::from_bytes(bytes.as_bytes()).is_err(), "{bytes}");
    }
    let missing = Tokenizer::from_folder(Path::new("no/such/folder")).unwrap_err();
    assert!(missing.to_string().contains("no/such/folder"), "{missing}");
}

#[test]
fn a_corpus_without_merges_gives_a_smaller_vocabulary() {
    let tokenizer = train(["a b c"], &options(1000)).unwrap();
    assert_eq!(tokenizer.vocab_size(), 263);
}
