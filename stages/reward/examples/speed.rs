//! Speed of the reward and of ROUGE on the golden rows, one thread, as JSON lines: `{"step", "per_second"}`.
//!
//! What counts is the time on the processor, so that other programs on the machine change little; the median of
//! nine rounds is told. An argument chooses the steps whose names contain it. `scripts/bench/data.sh` sets it beside the released program's figures.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement may stop, and prints"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use starling_reward::prepare::{
    Corpus, ThinkFormat, format_row, label_messages, reads_back, self_reward, train_row,
};
use starling_reward::rouge::{Words, text_similarity};
use starling_reward::{CallFormat, Label, Mode, ToolSet, arguments_similarity, score, stem};
use starling_text::json::{self, Value};
use starling_text::template::ChatTemplate;

/// The command's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn rows(path: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .filter_map(|line| json::parse(line).ok())
        .collect()
}

fn text(row: &Value, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap().to_owned()
}

/// Seconds that this thread spent on the processor; of the clock where the system does not tell.
fn seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.and_then(|t| t.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn measure(step: &str, items: usize, mut work: impl FnMut()) {
    if std::env::args()
        .nth(1)
        .is_some_and(|part| !step.contains(&part))
    {
        return;
    }
    work();
    let mut rates: Vec<f64> = (0..9)
        .map(|_| {
            let (start, mut rounds) = (seconds(), 0);
            while rounds == 0 || seconds() - start < 0.2 {
                work();
                rounds += 1;
            }
            (items * rounds) as f64 / (seconds() - start)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{{\"step\": \"{step}\", \"items\": {items}, \"per_second\": {:.0}}}",
        rates[4]
    );
}

fn main() {
    let tools: BTreeMap<String, (ToolSet, String)> =
        rows("tests/golden/star/reward/tools.jsonl.gz")
            .iter()
            .filter_map(|row| {
                let lines: Vec<_> = row
                    .get("tools")?
                    .as_list()?
                    .iter()
                    .map(json::dumps)
                    .collect();
                let prompt = format!("<tools></tools><tools>\n{}\n</tools>", lines.join("\n"));
                let set = ToolSet::from_prompt(&prompt, Mode::Faithful).ok()?;
                Some((text(row, "tools_id"), (set, prompt)))
            })
            .collect();
    let rewards = rows("tests/golden/star/reward/reward_public.jsonl.gz");
    let cases: Vec<_> = rewards
        .iter()
        .filter_map(|row| {
            let (set, prompt) = tools.get(&text(row, "tools_id"))?;
            let label = text(row, "label");
            let parsed = Label::parse(&label, Mode::Faithful).ok()?;
            Some((set, prompt, label, parsed, text(row, "generation")))
        })
        .collect();
    measure("reward, from texts", cases.len(), || {
        for (_, prompt, label, _, generation) in &cases {
            let tools = ToolSet::from_prompt(prompt, Mode::Faithful).unwrap();
            let label = Label::parse(label, Mode::Faithful).unwrap();
            black_box(score(&tools, &label, generation, Mode::Faithful));
        }
    });
    measure("reward, tools read once a prompt", cases.len(), || {
        for (tools, _, label, _, generation) in &cases {
            let label = Label::parse(label, Mode::Faithful).unwrap();
            black_box(score(tools, &label, generation, Mode::Faithful));
        }
    });
    measure(
        "reward, tools and label read once a prompt",
        cases.len(),
        || {
            for (tools, _, _, label, generation) in &cases {
                black_box(score(tools, label, generation, Mode::Faithful));
            }
        },
    );
    let calls: Vec<_> = cases
        .iter()
        .filter_map(|(tools, _, _, label, generation)| {
            let outcome = score(tools, label, generation, Mode::Faithful);
            let expected = label.answer().calls().first()?.clone();
            Some((outcome.calls.first()?.clone(), expected))
        })
        .collect();
    measure("similarity of two calls' arguments", calls.len(), || {
        for (a, b) in &calls {
            let alike = arguments_similarity(&a.arguments, &b.arguments, Words::Ascii);
            let _alike = black_box(alike);
        }
    });
    let pairs: Vec<_> = rows("tests/golden/star/rouge/rouge_public.jsonl.gz")
        .iter()
        .map(|row| (text(row, "pred"), text(row, "ref")))
        .collect();
    measure("ROUGE-L pairs", pairs.len(), || {
        let sum: f64 = pairs
            .iter()
            .map(|(a, b)| text_similarity(a, b, Words::Ascii))
            .sum();
        black_box(sum);
    });
    measure("ROUGE-L pairs, words of any script", pairs.len(), || {
        let sum: f64 = pairs
            .iter()
            .map(|(a, b)| text_similarity(a, b, Words::AnyScript))
            .sum();
        black_box(sum);
    });
    let raw: Vec<String> = rows("tests/golden/star/data/xlam_examples_raw.jsonl.gz")
        .iter()
        .map(json::dumps)
        .collect();
    measure("format, from text to text", raw.len(), || {
        for (i, line) in raw.iter().enumerate() {
            let row = json::parse(line).unwrap();
            let formatted = format_row(Corpus::Xlam, &row, i, i, Mode::Fixed);
            black_box(
                formatted
                    .rows
                    .iter()
                    .map(json::dumps)
                    .map(|t| t.len())
                    .sum::<usize>(),
            );
        }
    });
    let lines: Vec<String> = rows("pipelines/data/xlam-1024.jsonl.gz")
        .iter()
        .map(json::dumps)
        .collect();
    let template = ChatTemplate::qwen3();
    measure("filter, from text to text", lines.len(), || {
        for line in &lines {
            let row = json::parse(line).unwrap();
            if self_reward(&row, &template, Mode::Fixed).is_ok() {
                black_box(json::dumps(&row).len());
            }
        }
    });
    measure("label, from text to text", lines.len(), || {
        for line in &lines {
            let row = json::parse(line).unwrap();
            black_box(label_messages(
                row.get("messages").and_then(Value::as_list).unwrap(),
            ));
            black_box(json::dumps(&row).len());
        }
    });
    measure("trainset, from text to text", lines.len(), || {
        for line in &lines {
            let row = json::parse(line).unwrap();
            let format = ThinkFormat::Native;
            let trained = train_row(&row, &template, format, false, Mode::Fixed).unwrap();
            assert!(reads_back(&row, &trained, CallFormat::Hermes).is_ok());
            black_box(json::dumps(&trained.to_value()).len());
        }
    });
    let words: Vec<_> = rows("tests/golden/star/rouge/stems_public.jsonl.gz")
        .iter()
        .map(|row| text(row, "word"))
        .collect();
    measure("stems", words.len(), || {
        words.iter().for_each(|word| drop(black_box(stem(word))));
    });
}
