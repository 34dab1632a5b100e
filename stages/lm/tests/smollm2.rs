//! The real weights of SmolLM2-135M-Instruct: what transformers computes with them, we compute.
//!
//! The file is fetched by `scripts/fetch-smollm2.sh`, so the tests run when they are asked for (the gate does):
//! `STARLING_SMOLLM2=models/SmolLM2-135M-Instruct.Q4_1.gguf cargo test --release -p starling-lm --test smollm2 -- --ignored`.
//! Expected results: `tests/golden/smollm2`, written by `scripts/peers/smollm2_golden.py`.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at what it cannot read, asks where the weights are, and tells what it saw"
)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use starling_lm::Decoder;
use starling_lm::generate::{Generator, Kept, Request, Sample, Sampling};
use starling_lm::load::Checkpoint;

/// Log-probabilities in `f32` may be off by this much, relative to their size or to 1.
const TOLERANCE: f64 = 1e-4;
/// Greedy tokens must agree where the best logit is ahead by more than twice the error of one near 20.
const MARGIN: f64 = 4e-3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn checkpoint() -> Checkpoint {
    let named = std::env::var_os("STARLING_SMOLLM2").expect(
        "STARLING_SMOLLM2 names the GGUF file (relative to the workspace root) that scripts/fetch-smollm2.sh fetches",
    );
    let path = root().join(PathBuf::from(named));
    Checkpoint::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What was computed for a prompt.
struct Expected {
    text: String,
    ids: Vec<u32>,
    row: Value,
}

impl Expected {
    fn reals(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.row[name].clone()).unwrap()
    }
}

fn expected() -> Vec<Expected> {
    let path = root().join("tests/golden/smollm2/expected.jsonl");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = text.lines().skip(1).map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        Expected {
            text: row["text"].as_str().unwrap().to_owned(),
            ids: serde_json::from_value(row["ids"].clone()).unwrap(),
            row,
        }
    });
    let rows: Vec<Expected> = rows.collect();
    assert!(rows.len() >= 8, "{} prompts", rows.len());
    rows
}

/// How far a log-probability is from what it should be, as a share of [`TOLERANCE`]'s measure.
fn error(found: f32, expected: f64) -> f64 {
    (f64::from(found) - expected).abs() / expected.abs().max(1.0)
}

#[test]
#[ignore = "needs the weights that scripts/fetch-smollm2.sh fetches; the gate runs it"]
fn logprobs_and_tokens_are_those_of_transformers() {
    let checkpoint = checkpoint();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let generator = Generator::new(&checkpoint.config, &checkpoint.weights).unwrap();
    let decoder = Decoder::new(&checkpoint.config, &checkpoint.weights).unwrap();
    let mut worst = 0.0_f64;
    for expected in expected() {
        let Expected { text, ids, row } = &expected;
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text:?}");
        let top_ids: Vec<Vec<u32>> = serde_json::from_value(row["top_ids"].clone()).unwrap();
        let top: Vec<Vec<f64>> = serde_json::from_value(row["top_logprobs"].clone()).unwrap();
        let k = top_ids[0].len();
        let scores = &generator.scores(&[ids.as_slice()], k, 2).unwrap()[0];
        let trained =
            &starling_lm::score::logprobs(&decoder, std::slice::from_ref(ids), 2).unwrap()[0];
        let chosen = expected.reals("logprobs");
        assert_eq!(chosen.len() + 1, ids.len());
        for (at, &chosen) in chosen.iter().enumerate() {
            for found in [scores.logprobs[at], trained.logprobs[at]] {
                worst = worst.max(error(found, chosen));
            }
            for rank in 0..k {
                let found = scores.top_logprobs[at * k + rank];
                worst = worst.max(error(found, top[at][rank]));
                let near = |other: Option<&f64>| {
                    other.is_some_and(|other| (other - top[at][rank]).abs() < MARGIN)
                };
                // the order of tokens that are nearly as likely says nothing, nor does the last of the list
                if !(near(rank.checked_sub(1).and_then(|r| top[at].get(r)))
                    || near(top[at].get(rank + 1))
                    || rank + 1 == k)
                {
                    assert_eq!(
                        scores.top_ids[at * k + rank],
                        top_ids[at][rank],
                        "{text:?} {at}"
                    );
                }
            }
        }
    }
    println!("SmolLM2: largest relative error of log-probabilities {worst:.1e}");
    assert!(worst < TOLERANCE, "{worst}");
}

#[test]
#[ignore = "needs the weights that scripts/fetch-smollm2.sh fetches; the gate runs it"]
fn greedy_texts_are_those_of_transformers_in_any_batch_and_on_any_threads() {
    let checkpoint = checkpoint();
    let expected = expected();
    let requests: Vec<Request> = (0..)
        .zip(&expected)
        .map(|(id, e)| Request::new(id, e.ids.clone()))
        .collect();
    let answers = |kept: Kept, batch: usize, threads: usize| -> Vec<Sample> {
        let generator = Generator::keeping(&checkpoint.config, &checkpoint.weights, kept).unwrap();
        let sampling = Sampling {
            temperature: 0.0,
            max_new_tokens: expected[0].reals("margins").len(),
            batch,
            ..Sampling::default()
        };
        let go_on = |_| ControlFlow::Continue(());
        let answers = generator
            .generate(&requests, &sampling, threads, &go_on)
            .unwrap();
        answers.into_iter().flatten().collect()
    };
    let alone = answers(Kept::F32, 1, 1);
    let mut compared = 0;
    for (expected, sample) in expected.iter().zip(&alone) {
        let tokens: Vec<u32> = serde_json::from_value(expected.row["greedy"].clone()).unwrap();
        let margins = expected.reals("margins");
        let sure = margins
            .iter()
            .take_while(|&&margin| margin > MARGIN)
            .count();
        assert_eq!(sample.tokens[..sure], tokens[..sure], "{:?}", expected.text);
        compared += sure;
    }
    println!(
        "SmolLM2: {compared} greedy tokens of {} prompts equal",
        alone.len()
    );
    assert!(compared > 200, "{compared}");
    assert_eq!(alone, answers(Kept::F32, 32, 2));
    assert_eq!(answers(Kept::Q8, 1, 2), answers(Kept::Q8, 32, 1));
}
