//! Evaluation: how often a model's calls on held-out rows are exactly right, and how it fails.
//!
//! | port         | way | artifact   | holds                                                    |
//! |--------------|-----|------------|----------------------------------------------------------|
//! | `model`      | in  | checkpoint | the model to examine                                     |
//! | `rows`       | in  | train-rows | held-out prompts with their right answers                |
//! | `evaluation` | out | evaluation | `metrics.json`, and `items.jsonl` with every answer      |
//!
//! One greedy answer an item gives exact calls, reward and format; `samples` answers at temperature 1
//! give pass@k (Chen et al., 2021) and the mean entropy of the next token (nats). An answer is exact
//! when its reward is 1: the same calls with the same arguments, or the same words.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Chunks, Complaint, Determinism, Input, Output, Ports, Stage, StageContext,
    StageError,
};
use starling_lm::generate::{Request, Sample, Sampling};
use starling_lm::place::Generator;
use starling_lm::tokenizer::Tokenizer;
use starling_text::json::Value;

use crate::chat::{self, lm};
use crate::device;
use crate::evaluation::{Evaluation, ITEMS, METRICS, Metric};
use crate::model::Model;
use crate::prompts::{self, Prompt};
use crate::rows::{self, RowWriter, object, string};
use crate::statistics::{Estimate, mean, pass_at_k, share};

/// The kind `evaluate`.
pub(crate) struct Evaluate;

/// How to examine.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Most tokens of an answer, end token included.
    max_new_tokens: usize,
    /// Answers sampled an item at temperature 1; 0 leaves pass@k and entropy out.
    #[serde(default = "eight")]
    samples: usize,
    /// Use the first so many items; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    items: Option<usize>,
    /// Seed of the sampling.
    #[serde(default)]
    seed: u64,
}

fn eight() -> usize {
    8
}

/// How items are mapped: each is examined by itself, so that chunks are only a matter of resuming.
const CHUNKS: Chunks = Chunks {
    port: "rows",
    rows: 64,
    unit: "items",
    neutral: &["items"],
};

/// What came out for the items of a chunk.
const EXAMINED: &str = "examined.json";

/// What came out for an item.
#[derive(Debug, Serialize, Deserialize)]
struct Examined {
    answer: String,
    reward: f64,
    good_format: bool,
    exact: bool,
    right: usize,
    entropy_sum: f64,
    entropy_tokens: usize,
}

impl Stage for Evaluate {
    const KIND: &'static str = "evaluate";
    /// 2: rotary frequencies are rounded as PyTorch does, and prompts that begin alike are read once. 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "examines a model on held-out rows";
    const DEVICES: &'static [&'static str] = device::PLACES;
    const DETERMINISM: Determinism = Determinism::WithinClass { tolerance: 1e-3 };
    const CHUNKS: Option<Chunks> = Some(CHUNKS);
    const WORK: &'static [&'static str] = &["items", "samples"];
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Evaluation, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the model to examine"),
                    Input::required("rows", TrainRows, "held-out prompts with right answers"),
                ],
                outputs: &[Output::new(
                    "evaluation",
                    Evaluation,
                    "`metrics.json`, and `items.jsonl` with every answer",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if p.max_new_tokens == 0 {
            complaints.push(Complaint::new("max-new-tokens", "must be at least 1"));
        }
        if p.items == Some(0) {
            complaints.push(Complaint::new("items", "must be at least 1"));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let place = device::place(context)?;
        let model = Model::load(context.input("model")?)?;
        let tokenizer = model.tokenizer()?;
        let items = prompts::read(context.input("rows")?, "rows", &tokenizer, p.items)?;
        let generator =
            Generator::new(&place, model.config(), &model.checkpoint.weights).map_err(lm)?;
        let greedy = Sampling {
            temperature: 0.0,
            max_new_tokens: p.max_new_tokens,
            stop_tokens: model.ends(),
            ..Sampling::default()
        };
        let sampled = Sampling {
            temperature: 1.0,
            seed: p.seed,
            ..greedy.clone()
        };
        let chunks = context.map_chunks(&CHUNKS, &items, Prompt::bytes, |chunk, folder| {
            let ask = |samples: usize, sampling: &Sampling| {
                let requests: Vec<Request> =
                    chunk.iter().map(|item| item.request(samples)).collect();
                generator
                    .generate(&requests, sampling, context.threads(), &|_| {
                        ControlFlow::Continue(())
                    })
                    .map_err(lm)
            };
            let best = ask(1, &greedy)?;
            let many = if p.samples > 0 {
                ask(p.samples, &sampled)?
            } else {
                vec![Vec::new(); chunk.len()]
            };
            let results = chunk.iter().zip(&best).zip(&many);
            let examined: Vec<Examined> = results
                .map(|((item, best), many)| examine(item, &best[0], many, &tokenizer))
                .collect();
            rows::write_json(&folder.join(EXAMINED), &examined)
        })?;
        let mut examined: Vec<Examined> = Vec::with_capacity(items.len());
        for chunk in &chunks {
            examined.extend(rows::read_json::<Vec<Examined>>(&chunk.join(EXAMINED))?);
        }
        let folder = context.output("evaluation");
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        write_items(&folder.join(ITEMS), &items, &examined, p.samples)?;
        let totals = Evaluation {
            items: items.len(),
            metrics: totals(&examined, p.samples),
        };
        rows::write_json(&folder.join(METRICS), &totals)?;
        model.lineage.write(&folder)
    }
}

fn text_of(sample: &Sample, tokenizer: &Tokenizer) -> String {
    let text = tokenizer.decode(&sample.tokens, false);
    text.strip_suffix(chat::END).unwrap_or(&text).to_owned()
}

/// Whether a reward says that the answer is the label's.
fn is_exact(reward: f64) -> bool {
    reward >= 1.0
}

fn examine(item: &Prompt, best: &Sample, many: &[Sample], tokenizer: &Tokenizer) -> Examined {
    let answer = text_of(best, tokenizer);
    let outcome = item.score(&answer);
    let right = many
        .iter()
        .filter(|s| is_exact(item.score(&text_of(s, tokenizer)).reward))
        .count();
    let entropies = many.iter().flat_map(|s| &s.entropies);
    Examined {
        reward: outcome.reward,
        good_format: outcome.format_reward > 0.0,
        exact: is_exact(outcome.reward),
        right,
        entropy_sum: entropies.clone().map(|e| f64::from(*e)).sum(),
        entropy_tokens: entropies.count(),
        answer,
    }
}

fn totals(examined: &[Examined], samples: usize) -> Vec<Metric> {
    let n = examined.len();
    let metric = |name: &str, percent: bool, estimate: Estimate| Metric {
        name: name.to_owned(),
        percent,
        estimate,
    };
    let count = |f: fn(&Examined) -> bool| share(examined.iter().filter(|e| f(e)).count(), n);
    let of = |f: &dyn Fn(&Examined) -> f64| mean(&examined.iter().map(f).collect::<Vec<_>>());
    let mut metrics = vec![
        metric("exact", true, count(|e| e.exact)),
        metric("reward", false, of(&|e| e.reward)),
        metric("format", true, count(|e| e.good_format)),
    ];
    if samples > 0 {
        for k in [1, samples] {
            let estimate = of(&|e| pass_at_k(samples, e.right, k));
            metrics.push(metric(&format!("pass@{k}"), true, estimate));
        }
        metrics.dedup_by(|a, b| a.name == b.name);
        let entropy = of(&|e| e.entropy_sum / e.entropy_tokens.max(1) as f64);
        metrics.push(metric("entropy, nats", false, entropy));
    }
    metrics
}

fn write_items(
    path: &std::path::Path,
    items: &[Prompt],
    examined: &[Examined],
    samples: usize,
) -> Result<(), StageError> {
    let mut writer = RowWriter::create(path)?;
    for (item, e) in items.iter().zip(examined) {
        writer.write(&object([
            ("id", string(item.id.as_str())),
            ("targets", string(item.targets.as_str())),
            ("answer", string(e.answer.as_str())),
            ("exact", Value::Bool(e.exact)),
            ("reward", Value::Float(e.reward)),
            ("good_format", Value::Bool(e.good_format)),
            ("samples", Value::Int(samples as i64)),
            ("samples_right", Value::Int(e.right as i64)),
            (
                "entropy",
                Value::Float(e.entropy_sum / e.entropy_tokens.max(1) as f64),
            ),
        ]))?;
    }
    writer.finish().map(|_| ())
}
