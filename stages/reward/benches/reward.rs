//! Speed of the reward, of ROUGE and of the preparation, on the golden rows of this repository.
#![expect(clippy::unwrap_used, reason = "a bench may stop")]

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::read::GzDecoder;
use starling_reward::prepare::{self, ThinkFormat};
use starling_reward::rouge::{Words, text_similarity};
use starling_reward::{Label, Mode, ToolSet, score};
use starling_text::json::{self, Value};
use starling_text::template::ChatTemplate;

fn main() {
    divan::main();
}

fn rows(path: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    let mut text = String::new();
    GzDecoder::new(File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| json::parse(line).unwrap())
        .collect()
}

fn text(row: &Value, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap().to_owned()
}

/// What the reward of one answer is made of: prompt, label and generation.
struct Case {
    prompt: String,
    label: String,
    generation: String,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let tools = rows("tests/golden/star/reward/tools.jsonl.gz");
    let tools: BTreeMap<_, _> = tools
        .iter()
        .filter_map(|row| {
            let items = row.get("tools")?.as_list()?;
            let lines: Vec<_> = items.iter().map(json::dumps).collect();
            let prompt = format!("<tools></tools><tools>\n{}\n</tools>", lines.join("\n"));
            Some((text(row, "tools_id"), prompt))
        })
        .collect();
    let rows = rows("tests/golden/star/reward/reward_public.jsonl.gz");
    let case = |row: &Value| {
        Some(Case {
            prompt: tools.get(&text(row, "tools_id"))?.clone(),
            label: text(row, "label"),
            generation: text(row, "generation"),
        })
    };
    rows.iter().filter_map(case).collect()
});

static EXAMPLES: LazyLock<Vec<Value>> = LazyLock::new(|| rows("pipelines/data/xlam-1024.jsonl.gz"));

static PAIRS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let rows = rows("tests/golden/star/rouge/rouge_public.jsonl.gz");
    rows.iter()
        .map(|row| (text(row, "pred"), text(row, "ref")))
        .collect()
});

/// Everything from texts: prompt, label and generation are read anew for each answer.
#[divan::bench]
fn reward_from_texts(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(CASES.len())).bench(|| {
        for case in CASES.iter() {
            let tools = ToolSet::from_prompt(&case.prompt, Mode::Faithful);
            let label = Label::parse(&case.label, Mode::Faithful);
            if let (Ok(tools), Ok(label)) = (tools, label) {
                black_box(score(&tools, &label, &case.generation, Mode::Faithful));
            }
        }
    });
}

/// As training does it: tools and label are read once.
#[divan::bench]
fn reward_of_generations(bencher: Bencher<'_, '_>) {
    let read = |case: &Case| {
        let tools = ToolSet::from_prompt(&case.prompt, Mode::Fixed).ok()?;
        Some((
            tools,
            Label::parse(&case.label, Mode::Fixed).ok()?,
            case.generation.clone(),
        ))
    };
    let cases: Vec<_> = CASES.iter().filter_map(read).collect();
    bencher.counter(ItemsCount::new(cases.len())).bench(|| {
        for (tools, label, generation) in &cases {
            black_box(score(tools, label, generation, Mode::Fixed));
        }
    });
}

#[divan::bench(args = [Words::Ascii, Words::AnyScript])]
fn rouge(bencher: Bencher<'_, '_>, words: Words) {
    bencher.counter(ItemsCount::new(PAIRS.len())).bench(|| {
        PAIRS
            .iter()
            .map(|(a, b)| text_similarity(a, b, words))
            .sum::<f64>()
    });
}

#[divan::bench]
fn filter_by_own_reward(bencher: Bencher<'_, '_>) {
    let template = ChatTemplate::qwen3();
    bencher.counter(ItemsCount::new(EXAMPLES.len())).bench(|| {
        let kept = |row: &&Value| prepare::self_reward(row, &template, Mode::Fixed).is_ok();
        EXAMPLES.iter().filter(kept).count()
    });
}

#[divan::bench]
fn training_rows(bencher: Bencher<'_, '_>) {
    let template = ChatTemplate::qwen3();
    bencher.counter(ItemsCount::new(EXAMPLES.len())).bench(|| {
        for row in EXAMPLES.iter() {
            let format = ThinkFormat::Native;
            drop(black_box(prepare::train_row(
                row,
                &template,
                format,
                false,
                Mode::Fixed,
            )));
        }
    });
}

#[divan::bench]
fn json_round_trip(bencher: Bencher<'_, '_>) {
    let lines: Vec<String> = EXAMPLES.iter().map(json::dumps).collect();
    bencher.counter(ItemsCount::new(lines.len())).bench(|| {
        lines
            .iter()
            .map(|line| json::dumps(&json::parse(line).unwrap()).len())
            .sum::<usize>()
    });
}
