//! Labels, proportions, and the random numbers that choose by them.

use std::collections::BTreeMap;

use starling_reward::prepare::{self, Proportions, PythonRandom};
use starling_text::json::{self, Value};
use starling_text::python;
use starling_text::template::{ChatTemplate, Options};
use tokenizers::Tokenizer;

use crate::rows::{
    assert_same, conversations, conversations_for, count, documents, file_rows, finish, int, list,
    number, rows, suffixes, text, tokenizer,
};

#[test]
fn golden_star_labels() {
    let (sources, rows) = (conversations(), rows("star/data", "conversations_labels"));
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let sources: BTreeMap<_, _> = sources
        .iter()
        .map(|row| (text(row, "id").to_owned(), row))
        .collect();
    for row in &rows {
        let source = sources[text(row, "id")];
        let messages = list(source, "messages");
        let labels = prepare::label_messages(messages).into_iter().map(|label| {
            let tags: Vec<_> = label
                .tags
                .iter()
                .map(|tag| Value::from(tag.word()))
                .collect();
            Value::List(vec![
                int(label.position),
                tags.into(),
                int(label.turns),
                int(label.calls),
            ])
        });
        assert_same(&Value::List(labels.collect()), row.get("labels").unwrap());
        let tokens = prompt_tokens(source, &template, &tokenizer);
        assert_eq!(tokens, count(row, "prompt_tokens"), "{}", text(row, "id"));
        let estimate = prepare::estimate_tokens(messages, source.get("tools"));
        assert_eq!(
            estimate,
            count(row, "prompt_tokens_estimate"),
            "{}",
            text(row, "id")
        );
        let categories = prepare::Categories::of(messages).parts();
        for (name, got) in categories {
            let expected = row.get("categories").and_then(|all| all.get(name));
            assert_eq!(
                expected,
                Some(&Value::Bool(got)),
                "{name} {}",
                text(row, "id")
            );
        }
    }
    finish("labels", rows.len());
}

/// Tokens of the messages before the last answer, with the tools and the assistant's turn opened.
fn prompt_tokens(row: &Value, template: &ChatTemplate, tokenizer: &Tokenizer) -> usize {
    let messages = list(row, "messages");
    let last = prepare::label_last(messages).map_or(messages.len(), |label| label.position);
    let prompt = template
        .render(&messages[..last], row.get("tools"), &Options::prompt())
        .unwrap();
    tokenizer.encode_fast(prompt, false).unwrap().len()
}

#[test]
fn golden_star_label_report() {
    let mut cases = 0;
    for (only_last, set) in [(false, "label_report_all"), (true, "label_report_last")] {
        for (suffix, expected) in documents(set) {
            let rows = conversations_for(&suffix);
            let messages = rows.iter().map(|row| list(row, "messages"));
            let got = prepare::report(messages, only_last);
            assert!(
                python::eq(&got, &expected),
                "{} {}",
                json::dumps(&got),
                json::dumps(&expected)
            );
            cases += 1;
        }
    }
    finish("label_report", cases);
}

#[test]
fn golden_star_proportion() {
    let mut cases = 0;
    for suffix in suffixes("star/data", "proportion") {
        let rows = file_rows("star/data", &format!("proportion{suffix}"));
        cases += rows.len();
        check_selections(&conversations_for(&suffix), &rows);
    }
    finish("proportion", cases);
}

fn check_selections(sources: &[Value], rows: &[Value]) {
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let conversations: Vec<&[Value]> = sources.iter().map(|row| list(row, "messages")).collect();
    for row in rows {
        let config = row.get("config").unwrap();
        let wanted = Proportions {
            size: count(config, "dataset_size"),
            seed: u64::try_from(count(config, "seed")).unwrap(),
            max_turns: count(config, "max_turns"),
            single_turn: number(config, "single_turns_rate"),
            parallel: number(config, "parallel_rate"),
            response: number(config, "response_rate"),
            multi_step: number(config, "multi_step_rate"),
            max_prompt_tokens: count(config, "max_prompt_tokens"),
        };
        let exact = row.get("tokenizer") == Some(&Value::Bool(true));
        let got = prepare::select(&conversations, &wanted, |i| {
            if exact {
                prompt_tokens(&sources[i], &template, &tokenizer)
            } else {
                prepare::estimate_tokens(conversations[i], sources[i].get("tools"))
            }
        });
        for (name, got) in [
            ("shuffled", &got.shuffled),
            ("greedy", &got.greedy),
            ("filtered", &got.filtered),
            ("final", &got.taken),
        ] {
            let ids = got.iter().map(|&i| sources[i].get("id").cloned().unwrap());
            assert_same(&Value::List(ids.collect()), row.get(name).unwrap());
        }
        for (name, least) in wanted.min_counts().parts() {
            assert_eq!(
                least,
                count(row.get("min_counts").unwrap(), name),
                "{name} {config:?}"
            );
        }
        assert_eq!(wanted.target_size(), count(row, "target_size"));
        let statistics = row
            .get("statistics")
            .unwrap()
            .get("category_counts")
            .unwrap();
        for (name, counted) in got.counts.parts() {
            assert_eq!(counted, count(statistics, name), "{name} {config:?}");
        }
    }
}

#[test]
fn golden_star_cpython_random() {
    let all = documents("cpython_random");
    let rows = || all.iter().flat_map(|(_, all)| all.as_list().unwrap());
    for row in rows() {
        let mut random = PythonRandom::new(u64::try_from(count(row, "seed")).unwrap());
        let ints = |items: &[usize]| Value::List(items.iter().map(|&item| int(item)).collect());
        let mut items: Vec<usize> = (0..37).collect();
        random.shuffle(&mut items);
        assert_same(&ints(&items), row.get("shuffle_37").unwrap());
        assert_same(
            &ints(&random.sample(1000, 10)),
            row.get("then_sample_10_of_1000").unwrap(),
        );
        assert_same(
            &ints(&random.sample(20, 15)),
            row.get("then_sample_15_of_20").unwrap(),
        );
        let floats = (0..list(row, "then_random").len()).map(|_| Value::Float(random.random()));
        assert_same(
            &Value::List(floats.collect()),
            row.get("then_random").unwrap(),
        );
        let bits = (0..list(row, "then_getrandbits32").len()).map(|_| random.next_u32());
        let bits = bits.map(|bits| Value::Int(bits.into()));
        assert_same(
            &Value::List(bits.collect()),
            row.get("then_getrandbits32").unwrap(),
        );
    }
    finish("cpython_random", rows().count());
}
