//! The reward, ROUGE and data preparation against the reference programs' own answers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use starling_reward::prepare::{
    self, Corpus, DropReason, Formatter, Proportions, PythonRandom, ThinkFormat,
};
use starling_reward::rouge::{Words, rouge_l, text_similarity};
use starling_reward::{Call, CallFormat, Label, Mode, ToolSet, score, stem, toolrl::toolrl};
use starling_text::json::{self, ParseErrorKind, Value};
use starling_text::python;
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

/// What follows a set's name in the names of its files; mostly one, `""` or `"_public"`.
fn suffixes(folder: &str, set: &str) -> Vec<String> {
    let folder = golden().join(folder);
    let mut suffixes: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().ok()?;
            let suffix = name
                .strip_suffix(".jsonl.gz")?
                .strip_prefix(set)?
                .to_owned();
            (suffix.is_empty() || suffix.starts_with('_')).then_some(suffix)
        })
        .collect();
    suffixes.sort();
    suffixes
}

/// The rows of one file. A row with an escaped lone surrogate, which UTF-8 cannot hold, is null.
fn file_rows(folder: &str, name: &str) -> Vec<Value> {
    let parse = |line: &str| match json::parse(line) {
        Err(error) if error.kind == ParseErrorKind::LoneSurrogate => Value::Null,
        parsed => parsed.unwrap_or_else(|error| panic!("{error}: {line}")),
    };
    unpack(&golden().join(folder).join(format!("{name}.jsonl.gz")))
        .lines()
        .map(parse)
        .collect()
}

/// The rows of all files of a set, whatever their suffix.
fn rows(folder: &str, set: &str) -> Vec<Value> {
    let suffixes = suffixes(folder, set);
    suffixes
        .iter()
        .flat_map(|suffix| file_rows(folder, &format!("{set}{suffix}")))
        .collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text {key}: {row:?}"))
}

fn number(row: &Value, key: &str) -> f64 {
    row.get(key)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number {key}: {row:?}"))
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

fn finish(set: &str, cases: usize) {
    println!("golden star {set}: {cases} cases");
    assert!(cases > 0, "no cases");
}

#[test]
fn golden_star_reward() {
    let tools: BTreeMap<String, _> = rows("star/reward", "tools")
        .iter()
        .map(|row| {
            let set = match row.get("tools") {
                Some(tools) => ToolSet::from_value(tools, Mode::Faithful),
                None => ToolSet::from_prompt(text(row, "prompt"), Mode::Faithful),
            };
            (text(row, "tools_id").to_owned(), set)
        })
        .collect();
    let rows = rows("star/reward", "reward");
    for row in &rows {
        if row.is_null() {
            continue;
        }
        let outcome = text(row, "outcome");
        let set = &tools[text(row, "tools_id")];
        let label = Label::parse(text(row, "label"), Mode::Faithful);
        let cause = row.get("cause").and_then(Value::as_str);
        let (set, label) = match (set, label, cause) {
            (Err(_), _, cause) => {
                assert_eq!(cause, Some("prompt"), "{row:?}");
                continue;
            }
            (_, Err(_), cause) => {
                let surrogate = row.get("note").and_then(Value::as_str) == Some("lone_surrogate");
                assert!(surrogate || cause == Some("label"), "{row:?}");
                continue;
            }
            (Ok(set), Ok(label), _) => (set, label),
        };
        let got = score(set, &label, text(row, "generation"), Mode::Faithful);
        if outcome == "raises" {
            // Where the reference stops, bad format is returned, or the label is refused beforehand.
            assert_eq!(cause, Some("scoring"), "{row:?}");
            let refused = Label::parse(text(row, "label"), Mode::Fixed).is_err();
            let fixed = Label::parse(text(row, "label"), Mode::Fixed)
                .map(|label| score(set, &label, text(row, "generation"), Mode::Fixed).reward);
            assert!(refused || fixed == Ok(-1.0), "{row:?}");
            assert!(close(got.reward, -1.0, 0.0), "{row:?} {got:?}");
            continue;
        }
        let surrogate = row.get("note").and_then(Value::as_str) == Some("lone_surrogate");
        if surrogate && close(got.reward, -1.0, 0.0) {
            continue;
        }
        for (name, got) in [
            ("reward", got.reward),
            ("format_reward", got.format_reward),
            ("answer_reward", got.answer_reward),
        ] {
            assert!(
                close(got, number(row, name), 1e-12),
                "{name} is {got}: {row:?}"
            );
        }
        let bad_format = got.why.is_some_and(|fault| fault.is_format());
        assert_eq!(bad_format, outcome == "invalid", "{row:?}");
    }
    finish("reward", rows.len());
}

#[test]
fn golden_star_rouge() {
    let rows = rows("star/rouge", "rouge");
    for row in &rows {
        let (a, b) = (text(row, "pred"), text(row, "ref"));
        let got = rouge_l(a, b, Words::Ascii);
        for (name, got) in [
            ("precision", got.precision),
            ("recall", got.recall),
            ("fmeasure", got.f_measure),
            ("similarity", text_similarity(a, b, Words::Ascii)),
        ] {
            assert!(
                close(got, number(row, name), 1e-12),
                "{name} is {got}: {row:?}"
            );
        }
    }
    finish("rouge", rows.len());
}

#[test]
fn golden_star_stems() {
    let rows = rows("star/rouge", "stems");
    for row in &rows {
        assert_eq!(stem(text(row, "word")), text(row, "stem"), "{row:?}");
    }
    finish("stems", rows.len());
}

#[test]
fn golden_star_toolrl() {
    let rows = rows("star/baselines", "toolrl");
    for row in &rows {
        let got = toolrl(text(row, "response"), text(row, "ground_truth")).unwrap();
        for (name, got) in [
            ("format", got.format),
            ("correctness", got.correctness),
            ("score", got.score()),
        ] {
            assert!(
                close(got, number(row, name), 1e-9),
                "{name} is {got}: {row:?}"
            );
        }
    }
    finish("toolrl", rows.len());
}

/// A file of one JSON value.
fn document(folder: &str, name: &str) -> Value {
    let path = golden().join(folder).join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    json::parse(&text).unwrap()
}

fn tokenizer() -> Tokenizer {
    let name = "qwen3-tokenizer/tokenizer.json.gz";
    let mut path = golden().join(name);
    if !path.exists() {
        path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden")
            .join(name);
    }
    Tokenizer::from_bytes(unpack(&path)).unwrap()
}

fn list<'a>(row: &'a Value, key: &str) -> &'a [Value] {
    row.get(key)
        .and_then(Value::as_list)
        .unwrap_or_else(|| panic!("no list {key}: {row:?}"))
}

fn count(row: &Value, key: &str) -> usize {
    let count = row.get(key).and_then(Value::as_i64);
    usize::try_from(count.unwrap_or_else(|| panic!("no count {key}: {row:?}"))).unwrap()
}

/// Texts agree including the order of keys, and `1` against `1.0`.
fn assert_same(got: &Value, expected: &Value) {
    assert_eq!(json::dumps(got), json::dumps(expected));
}

fn formats(corpus: Corpus, raw: &[Value], formatted: &[Value]) -> usize {
    let mut formatter = Formatter::new(corpus, Mode::Faithful);
    let got: Vec<Value> = raw.iter().flat_map(|row| formatter.push(row)).collect();
    for (got, expected) in got.iter().zip(formatted) {
        assert_same(got, expected);
    }
    assert_eq!(got.len(), formatted.len());
    raw.len()
}

fn filters(formatted: &[Value], expected: &[Value]) -> usize {
    let template = ChatTemplate::qwen3();
    assert_eq!(formatted.len(), expected.len());
    for (row, expected) in formatted.iter().zip(expected) {
        let got = prepare::self_reward(row, &template, Mode::Faithful);
        check_own_reward(got, expected);
    }
    expected.len()
}

fn check_own_reward(got: Result<f64, (DropReason, f64)>, expected: &Value) {
    if expected.get("raises").is_some() {
        let rendering = [DropReason::PromptRender, DropReason::TargetRender];
        assert!(
            matches!(&got, Err((reason, _)) if rendering.contains(reason)),
            "{expected:?} {got:?}"
        );
        return;
    }
    assert_eq!(
        got.is_ok(),
        expected.get("kept") == Some(&Value::Bool(true)),
        "{expected:?} {got:?}"
    );
    let reward = got.unwrap_or_else(|(_, reward)| reward);
    assert!(
        close(reward, number(expected, "score"), 1e-12),
        "{expected:?} {reward}"
    );
}

fn check_trained(row: &Value, plain: &Value, with_reasoning: &str) {
    let template = ChatTemplate::qwen3();
    let convert = |reasoning| {
        prepare::train_row(row, &template, ThinkFormat::Star, reasoning, Mode::Faithful).unwrap()
    };
    assert_eq!(convert(false).inputs, text(plain, "inputs"));
    assert_eq!(convert(false).targets, text(plain, "targets"));
    assert_eq!(convert(true).targets, with_reasoning);
}

fn trains(formatted: &[Value], kept: &[Value], expected: &[Value]) -> usize {
    let is_kept = |row: &Value| row.get("kept") == Some(&Value::Bool(true));
    let rows = formatted
        .iter()
        .zip(kept)
        .filter(|(_, kept)| is_kept(kept))
        .map(|(row, _)| row);
    let rows: Vec<&Value> = rows.collect();
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.into_iter().zip(expected) {
        check_trained(row, expected, text(expected, "with_reasoning"));
    }
    expected.len()
}

/// Runs the files of one corpus, each from raw rows to training rows; the number of comparisons.
fn corpus(corpus: Corpus, name: &str) -> usize {
    let mut cases = 0;
    for suffix in suffixes("star/data", &format!("{name}_raw")) {
        let part = |part: &str| file_rows("star/data", &format!("{name}_{part}{suffix}"));
        let (raw, formatted, kept) = (part("raw"), part("formatted"), part("filter"));
        cases += formats(corpus, &raw, &formatted);
        cases += filters(&formatted, &kept);
        cases += trains(&formatted, &kept, &part("trainset"));
    }
    cases
}

#[test]
fn golden_star_xlam() {
    finish("xlam", corpus(Corpus::Xlam, "xlam"));
}

#[test]
fn golden_star_xlam_examples() {
    let part = |part: &str| rows("star/data", &format!("xlam_examples_{part}"));
    finish(
        "xlam_examples",
        formats(Corpus::Xlam, &part("raw"), &part("formatted")),
    );
}

#[test]
fn golden_star_toolace() {
    finish("toolace", corpus(Corpus::ToolAce, "toolace"));
}

#[test]
fn golden_star_hammer() {
    finish("hammer", corpus(Corpus::Hammer, "hammer"));
}

#[test]
fn golden_star_toolmind() {
    let crashes = rows("star/data", "toolmind_crash");
    for row in &crashes {
        let mut formatter = Formatter::new(Corpus::ToolMind, Mode::Faithful);
        assert!(
            formatter.push(row.get("raw").unwrap()).is_empty(),
            "{row:?}"
        );
        assert_eq!(formatter.drops().values().sum::<usize>(), 1, "{row:?}");
    }
    finish(
        "toolmind",
        corpus(Corpus::ToolMind, "toolmind") + crashes.len(),
    );
}

/// The example rows by id: those of the shipped pipelines.
fn examples() -> BTreeMap<String, Value> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/data/xlam-1024.jsonl.gz");
    let rows = unpack(&path);
    let rows = rows.lines().map(|line| json::parse(line).unwrap());
    rows.map(|row| (text(&row, "id").to_owned(), row)).collect()
}

/// The conversations by id.
fn conversations() -> Vec<Value> {
    let mut rows = rows("star/data", "conversations");
    // Sets whose names begin alike hold answers, not conversations.
    rows.retain(|row| row.get("messages").is_some());
    rows
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

fn int(count: usize) -> Value {
    Value::Int(i64::try_from(count).unwrap())
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
    let rows = conversations();
    let messages = || rows.iter().map(|row| list(row, "messages"));
    for (only_last, name) in [
        (false, "label_report_all.json"),
        (true, "label_report_last.json"),
    ] {
        let (got, expected) = (
            prepare::report(messages(), only_last),
            document("star/data", name),
        );
        assert!(
            python::eq(&got, &expected),
            "{} {}",
            json::dumps(&got),
            json::dumps(&expected)
        );
    }
    finish("label_report", 2);
}

#[test]
fn golden_star_proportion() {
    let (sources, rows) = (conversations(), rows("star/data", "proportion"));
    let (template, tokenizer) = (ChatTemplate::qwen3(), tokenizer());
    let conversations: Vec<&[Value]> = sources.iter().map(|row| list(row, "messages")).collect();
    for row in &rows {
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
    finish("proportion", rows.len());
}

#[test]
fn golden_star_cpython_random() {
    let all = document("star/data", "cpython_random.json");
    let rows = all.as_list().unwrap();
    for row in rows {
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
    finish("cpython_random", rows.len());
}

#[test]
fn golden_star_rollout() {
    let all = document("star/data", "rollout.json");
    let seeds = list(&all, "conversations");
    let answers: BTreeMap<_, _> = list(&all, "generations")
        .iter()
        .map(|row| (text(row, "id"), row))
        .collect();
    let texts = |seed: &Value| -> Vec<String> {
        let texts = answers
            .get(text(seed, "id"))
            .map_or(&[][..], |row| list(row, "texts"));
        texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut cases = 0;
    for seed in seeds {
        let Some(answers) = answers.get(text(seed, "id")) else {
            continue;
        };
        let tools = ToolSet::unwrapped(seed.get("tools").unwrap(), Mode::Faithful).unwrap();
        let expected = list(answers, "valid").iter().zip(list(answers, "parsed"));
        for (text, (valid, parsed)) in texts(seed).iter().zip(expected) {
            cases += 1;
            let judged = prepare::judge_answer(&tools, text, Mode::Faithful);
            assert_eq!(&Value::Bool(judged.is_ok()), valid, "{judged:?}");
            let Ok(judged) = judged else { continue };
            for name in ["reasoning_content", "content", "tool_calls"] {
                assert_same(judged.get(name).unwrap(), parsed.get(name).unwrap());
            }
        }
    }
    let mut failures: BTreeMap<usize, i64> = all
        .get("engine_failures_by_batch")
        .and_then(Value::as_dict)
        .unwrap()
        .iter()
        .map(|(batch, failures)| (batch.parse().unwrap(), failures.as_i64().unwrap()))
        .collect();
    let (batch_size, tries) = (count(&all, "batch_size"), count(&all, "max_rollout"));
    let got = prepare::roll_out(seeds, batch_size, tries, Mode::Faithful, |batch, seeds| {
        let left = failures.entry(batch).or_default();
        *left -= 1;
        if *left >= 0 {
            Err(())
        } else {
            Ok(seeds.iter().map(|seed| texts(seed)).collect())
        }
    });
    assert_same(&Value::List(got.rows), all.get("results").unwrap());
    assert_same(
        &Value::List(got.calls.into_iter().map(int).collect()),
        all.get("engine_calls").unwrap(),
    );
    assert_eq!(list(&all, "results").len(), count(&all, "total_outputs"));
    assert_eq!(got.succeeded, count(&all, "success_inputs"));
    assert_eq!(got.discarded, count(&all, "discarded"));
    finish("rollout", cases);
}

#[test]
fn golden_star_handmade_summary() {
    let summary = document("star/data", "handmade_summary.json");
    let template = ChatTemplate::qwen3();
    for (corpus, name) in [
        (Corpus::Xlam, "xlam"),
        (Corpus::ToolMind, "toolmind"),
        (Corpus::ToolAce, "toolace"),
        (Corpus::Hammer, "hammer"),
    ] {
        let expected = summary.get(name).unwrap();
        let raw = file_rows("star/data", &format!("{name}_raw"));
        let mut formatter = Formatter::new(corpus, Mode::Faithful);
        let formatted: Vec<_> = raw.iter().flat_map(|row| formatter.push(row)).collect();
        let filtered: Vec<_> = formatted
            .iter()
            .map(|row| prepare::self_reward(row, &template, Mode::Faithful))
            .collect();
        let raised = |result: &&Result<f64, (DropReason, f64)>| {
            matches!(
                result,
                Err((DropReason::PromptRender | DropReason::TargetRender, _))
            )
        };
        assert_eq!(raw.len(), count(expected, "raw"), "{name}");
        assert_eq!(formatted.len(), count(expected, "formatted"), "{name}");
        assert_eq!(
            filtered.iter().filter(|r| r.is_ok()).count(),
            count(expected, "kept"),
            "{name}"
        );
        let raises = filtered.iter().filter(raised).count();
        assert_eq!(raises, count(expected, "filter_raises"), "{name}");
        let dropped: usize = formatter.drops().values().sum();
        assert_eq!(
            dropped,
            list(expected, "messages").len(),
            "{name} {:?}",
            formatter.drops()
        );
    }
    finish("handmade_summary", 4);
}

/// Calls as Python expressions. The released reader cuts texts at commas and brackets: it tears lists apart, takes
/// what it cannot read for text and forgets arguments without names. Where it took in the whole text, the same is
/// read here; anywhere else this reader refuses, or keeps a list whole.
#[test]
fn golden_star_python_calls() {
    let rows = rows("star/data", "python_calls");
    let plain = |text: &str| text.replace(char::is_whitespace, "").replace('"', "'");
    for row in &rows {
        let text = text(row, "text");
        // A text that stopped the released reader gave it nothing.
        let released = row.get("calls").and_then(Value::as_list);
        let released: Vec<Call> = released
            .unwrap_or_default()
            .iter()
            .map(|call| Call::from_value(call.clone()).unwrap())
            .collect();
        match CallFormat::Pythonic.parse(text) {
            Err(error) => {
                let said = plain(&CallFormat::Pythonic.render(&released));
                assert_ne!(
                    said,
                    plain(text),
                    "refused, though it was read whole: {error}"
                );
            }
            Ok(answer) => {
                assert_eq!(answer.calls().len(), released.len(), "{text}");
                for (call, released) in answer.calls().iter().zip(&released) {
                    assert_eq!(call.name, released.name, "{text}");
                    let (ours, theirs) = (&call.arguments, &released.arguments);
                    let (ours, theirs) = (ours.as_dict().unwrap(), theirs.as_dict().unwrap());
                    assert!(ours.keys().eq(theirs.keys()), "{text}");
                    for (name, value) in ours {
                        let torn = theirs[name.as_str()]
                            .as_str()
                            .is_some_and(|text| text.starts_with('['));
                        assert!(torn || theirs.get(name) == Some(value), "{text}: {name}");
                    }
                }
            }
        }
    }
    finish("python_calls", rows.len());
}
