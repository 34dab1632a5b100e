//! Mutated inputs for everything that reads text or bytes of strangers: tools, calls, labels, templates, raw
//! rows, files of rows, Parquet. An answer or an error is right; a panic is not.
//!
//! The seeds are in `tests/corpus`; what once failed is added there. `STARLING_FUZZ` is the number of inputs
//! (default 20,000), `STARLING_FUZZ_SEED` another stream of them:
//! `STARLING_FUZZ=10000000 cargo test --release -p starling-stages --test fuzz -- --nocapture`.
#![expect(clippy::print_stdout, reason = "how many were tried, and how fast")]
#![expect(clippy::float_cmp, reason = "a bad format is exactly -1")]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use rayon::prelude::*;
use starling_reward::prepare::{
    self, Corpus, ThinkFormat, format_row, judge_answer, reads_back, self_reward, train_row,
    written,
};
use starling_reward::rouge::{Words, text_similarity};
use starling_reward::toolrl::toolrl;
use starling_reward::{
    CallFormat, Label, Mode, ToolSet, explain, generation_of, score_as, split_thought,
};
use starling_stages::rows::{FileFormat, FileWriter, RowReader};
use starling_text::json::{self, Value};
use starling_text::pycall;
use starling_text::template::{ChatTemplate, Options};

/// Inputs of one share of the work.
const SHARE: u64 = 2_000;
/// Longest input, in bytes.
const LONGEST: usize = 4_096;

const MODES: [Mode; 3] = [Mode::Faithful, Mode::Fixed, Mode::Unicode];
const FORMATS: [CallFormat; 3] = [CallFormat::Hermes, CallFormat::Json, CallFormat::Pythonic];

/// Pieces that parsers stumble over.
const WORDS: [&str; 56] = [
    "<tools>",
    "</tools>",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<|im_end|>",
    "<|im_start|>assistant\n",
    "<response>",
    "</response>",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ",",
    ":",
    "\"",
    "'",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    "\n",
    "\r",
    "\u{feff}",
    "\u{2028}",
    "null",
    "NaN",
    "Infinity",
    "-",
    "1e400",
    "0x",
    "1_0",
    "99999999999999999999999",
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"properties\"",
    "\"type\"",
    "\"function\"",
    "\"role\"",
    "\"assistant\"",
    "\"content\"",
    "{{",
    "}}",
    "{%",
    "%}",
    "|tojson",
    "**",
    "lambda x:",
    "\"\"\"",
    "İ",
    "东",
    "\0",
];

#[expect(
    clippy::disallowed_methods,
    reason = "how much to do is asked from outside"
)]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Changes a seed a few times.
fn mutated(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                let piece = bytes[at.min(end)..end].to_vec();
                let to = random.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(200)).min(other.len())].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let word = WORDS[random.below(WORDS.len())].repeat(1 << random.below(8));
                drop(bytes.splice(at..at, word.bytes()));
            }
            6 => bytes.truncate(at),
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                drop(bytes.splice(at..at, word.bytes()));
            }
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

struct Targets {
    seeds: BTreeMap<&'static str, Vec<Vec<u8>>>,
    tools: ToolSet,
    label: Label,
    template: ChatTemplate,
}

const NAMES: [&str; 7] = [
    "tools", "calls", "label", "template", "raw", "rows", "parquet",
];

impl Targets {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let mut seeds = BTreeMap::new();
        for name in NAMES {
            let mut files: Vec<_> = fs::read_dir(folder.join(name))
                .into_iter()
                .flatten()
                .map(|e| e.expect("an entry").path())
                .collect();
            files.sort();
            let mut read: Vec<Vec<u8>> = files
                .iter()
                .map(|file| fs::read(file).expect("readable"))
                .collect();
            if name == "parquet" {
                read.push(parquet());
            }
            assert!(!read.is_empty(), "no seeds for {name}");
            seeds.insert(name, read);
        }
        let prompt = "<tools>\n{\"name\": \"f\", \"parameters\": {\"a\": {}, \"b\": {}}}\n</tools>";
        let label =
            "</think><tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x y\"}}</tool_call>";
        Self {
            seeds,
            tools: ToolSet::from_prompt(prompt, Mode::Fixed).expect("tools"),
            label: Label::parse(label, Mode::Fixed).expect("a label"),
            template: ChatTemplate::qwen3(),
        }
    }

    fn run(&self, name: &str, bytes: &[u8], file: &Path) {
        let text = String::from_utf8_lossy(bytes);
        match name {
            "tools" => {
                for mode in MODES {
                    drop(ToolSet::from_prompt(&text, mode));
                    if let Ok(value) = json::parse(&text) {
                        drop(ToolSet::unwrapped(&value, mode));
                    }
                }
            }
            "calls" => {
                drop(pycall::parse(&text));
                for format in FORMATS {
                    if let Ok(answer) = format.parse(&text) {
                        drop(format.render(answer.calls()));
                    }
                }
            }
            "label" => self.label(&text),
            "template" => {
                if let Ok(template) = ChatTemplate::from_source(&text) {
                    let message = json::parse("{\"role\": \"user\", \"content\": \"a</think>b\"}");
                    let messages = [message.expect("JSON")];
                    drop(template.render(&messages, None, &Options::prompt()));
                }
            }
            "raw" => self.raw(&text),
            "rows" | "parquet" => {
                fs::write(file, bytes).expect("a scratch file");
                let Ok(mut reader) = RowReader::open(file) else {
                    return;
                };
                while let Ok(chunk) = reader.chunk() {
                    if chunk.is_empty() {
                        break;
                    }
                }
            }
            _ => unreachable!("no such target"),
        }
    }

    fn label(&self, text: &str) {
        drop(split_thought(text));
        drop(generation_of(text));
        drop(toolrl(text, text));
        drop(judge_answer(&self.tools, text, Mode::Fixed));
        for words in [Words::Ascii, Words::AnyScript] {
            let alike = text_similarity(text, "The weather of 东京 was dying", words);
            assert!((0.0..=1.0).contains(&alike), "{alike}");
        }
        for mode in MODES {
            for format in FORMATS {
                let outcome = score_as(&self.tools, &self.label, text, format, mode);
                assert!(outcome.reward == -1.0 || (0.0..=1.0).contains(&outcome.reward));
                drop(explain(&self.label, &outcome, mode.into()));
                if let Ok(label) = Label::parse_as(text, format, mode) {
                    let outcome = score_as(&self.tools, &label, text, format, mode);
                    drop(explain(&label, &outcome, mode.into()));
                }
            }
        }
    }

    fn raw(&self, text: &str) {
        let Ok(row) = json::parse(text) else { return };
        let corpora = [
            Corpus::Xlam,
            Corpus::ToolMind,
            Corpus::ToolAce,
            Corpus::Hammer,
        ];
        for mode in [Mode::Faithful, Mode::Fixed] {
            for corpus in corpora {
                for row in format_row(corpus, &row, 3, 2, mode).rows {
                    self.prepared(&row, mode);
                }
            }
        }
        self.prepared(&row, Mode::Fixed);
    }

    fn prepared(&self, row: &Value, mode: Mode) {
        drop(self_reward(row, &self.template, mode));
        let messages = row
            .get("messages")
            .and_then(Value::as_list)
            .unwrap_or_default();
        drop(prepare::label_messages(messages));
        prepare::estimate_tokens(messages, row.get("tools"));
        for format in FORMATS {
            let Ok(text) = written(row, format) else {
                continue;
            };
            let trained = train_row(&text, &self.template, ThinkFormat::Native, true, mode);
            if let Ok(trained) = trained {
                drop(reads_back(row, &trained, format));
            }
        }
    }
}

/// A small Parquet file with texts and gaps.
fn parquet() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = FileWriter::new(
        file.reopen().expect("open"),
        FileFormat::Parquet,
        Path::new("seed"),
    )
    .expect("a writer");
    for line in [
        "{\"a\": \"x\", \"b\": null}",
        "{\"a\": \"y\", \"b\": [1, 2]}",
        "{\"b\": \"z\"}",
    ] {
        writer
            .write(&json::parse(line).expect("JSON"))
            .expect("written");
    }
    let _ = writer.finish().expect("finished");
    fs::read(file.path()).expect("bytes")
}

#[test]
fn strangers_input_never_panics() {
    let count = number("STARLING_FUZZ", 20_000);
    let seed = number("STARLING_FUZZ_SEED", 1);
    let targets = Targets::new();
    let folder = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    // Panics of a library that are told as errors would fill the screen; ours are shown below.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let failures: Vec<String> = (0..count.div_ceil(SHARE))
        .into_par_iter()
        .flat_map_iter(|share| {
            let mut random = Random(seed << 40 | share);
            let file = folder.path().join(share.to_string());
            let mut failures = Vec::new();
            for i in 0..SHARE.min(count - share * SHARE) {
                let name = NAMES[(i % NAMES.len() as u64) as usize];
                let bytes = mutated(&mut random, &targets.seeds[name]);
                let run = || targets.run(name, &bytes, &file);
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    failures.push(format!("{name}: {:?}", String::from_utf8_lossy(&bytes)));
                }
            }
            drop(fs::remove_file(&file));
            failures
        })
        .collect();
    std::panic::set_hook(hook);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "fuzz: {count} inputs in {seconds:.1} s, {} panics",
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{}",
        failures[..failures.len().min(3)].join("\n")
    );
}
