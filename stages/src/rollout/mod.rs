//! Rollout: samples a model's answers to prompts and keeps the valid, distinct ones.
//!
//! | port       | way | artifact   | holds                                                          |
//! |------------|-----|------------|----------------------------------------------------------------|
//! | `model`    | in  | checkpoint | the teacher                                                    |
//! | `prompts`  | in  | train-rows | rows whose prompts are answered                                |
//! | `rollouts` | out | rollouts   | answers with ids, log-probabilities and the teacher's top-k    |
//! | `report`   | out | report     | how many were sampled, invalid, duplicate, and prompts left out |
//!
//! Valid means: one closed thought, parsable calls, known tools and arguments, no unclosed call. Two
//! answers of a prompt are the same when their calls are, in any order, and their words. The text of a
//! sample depends on seed, prompt and sample number only. Prompts are answered in chunks, each kept as soon as
//! it is done, so that a run that was cut off goes on there and one changed prompt is answered alone.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Chunks, Complaint, Determinism, Input, Output, Ports, Stage, StageContext,
    StageError,
};
use starling_lm::generate::{Generator, Request, Sample, Sampling, StopReason};

use crate::chat::{self, lm};
use crate::model::Model;
use crate::prompts::{self, Prompt};
use crate::rollouts::{Answer, INDEX, Rollout, Rollouts, TopK, Writer};
use crate::rows;

/// The kind `rollout`.
pub(crate) struct RolloutKind;

/// How to sample.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Answers sampled a prompt.
    #[serde(default = "defaults::samples")]
    samples: usize,
    /// Use the first so many prompts; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompts: Option<usize>,
    /// Sampling temperature, nats divided by it; 0 takes the likeliest token.
    #[serde(default = "defaults::temperature")]
    temperature: f32,
    /// Most tokens of an answer, end token included; longer answers are invalid.
    max_new_tokens: usize,
    /// The teacher's likeliest tokens that are recorded at every position, with log-probabilities.
    #[serde(default = "defaults::top_k")]
    top_k: usize,
    /// Keep only answers whose reward against the row's own answer is at least this; left out, answers
    /// are not compared, as in the published method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_reward: Option<f64>,
    /// Seed of the sampling.
    #[serde(default)]
    seed: u64,
}

mod defaults {
    pub(super) fn samples() -> usize {
        8
    }
    pub(super) fn temperature() -> f32 {
        1.0
    }
    pub(super) fn top_k() -> usize {
        100
    }
}

/// How prompts are mapped: each is answered by itself, so that chunks are only a matter of resuming.
const CHUNKS: Chunks = Chunks {
    port: "prompts",
    rows: 32,
    unit: "prompts",
    neutral: &["prompts"],
};

/// A chunk's answers and its counted reasons.
const ANSWERS: &str = "answers";
const REPORT: &str = "report.json";

/// Counted reasons.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Report {
    prompts: usize,
    prompts_without_a_valid_answer: usize,
    sampled: usize,
    kept: usize,
    unfinished: usize,
    invalid: usize,
    low_reward: usize,
    duplicate: usize,
    generated_tokens: u64,
    prompt_tokens: u64,
}

impl Stage for RolloutKind {
    const KIND: &'static str = "rollout";
    /// 2: log-probabilities of the likeliest tokens are half floats; the artifact is sharded; rotary
    /// frequencies are rounded as PyTorch does, and prompts that begin alike are read once. 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "samples a model's answers and keeps the valid, distinct ones";
    const WORK: &'static [&'static str] = &["prompts", "samples"];
    const DETERMINISM: Determinism = Determinism::WithinClass { tolerance: 1e-3 };
    const CHUNKS: Option<Chunks> = Some(CHUNKS);
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Report, Rollouts, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the teacher"),
                    Input::required("prompts", TrainRows, "rows whose prompts are answered"),
                ],
                outputs: &[
                    Output::new(
                        "rollouts",
                        Rollouts,
                        "answers with ids and the teacher's top-k",
                    ),
                    Output::new("report", Report, "what was sampled and what was left out"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want("samples", p.samples > 0, "must be at least 1");
        want("prompts", p.prompts != Some(0), "must be at least 1");
        want("temperature", p.temperature >= 0.0, "must not be negative");
        want("max-new-tokens", p.max_new_tokens > 0, "must be at least 1");
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let model = Model::load(context.input("model")?)?;
        let tokenizer = model.tokenizer()?;
        let all = prompts::read(context.input("prompts")?, "prompts", &tokenizer, p.prompts)?;
        let generator = Generator::new(model.config(), &model.checkpoint.weights).map_err(lm)?;
        let sampling = Sampling {
            temperature: p.temperature,
            max_new_tokens: p.max_new_tokens,
            stop_tokens: model.ends(),
            seed: p.seed,
            top_logprobs: p.top_k.min(model.config().vocab_size),
            ..Sampling::default()
        };
        let (k, vocabulary) = (sampling.top_logprobs, model.config().vocab_size);
        let chunks = context.map_chunks(&CHUNKS, &all, Prompt::bytes, |prompts, folder| {
            let requests: Vec<Request> = prompts.iter().map(|x| x.request(p.samples)).collect();
            let answers = generator
                .generate(&requests, &sampling, context.threads(), &|_| {
                    ControlFlow::Continue(())
                })
                .map_err(lm)?;
            let mut set = Writer::create(&folder.join(ANSWERS), k, vocabulary)?;
            let mut report = Report::default();
            for (prompt, samples) in prompts.iter().zip(answers) {
                let answers = keep(&p, prompt, samples, &tokenizer, &mut report);
                set.push(&prompt.ids, answers)?;
            }
            set.finish()?;
            rows::write_json(&folder.join(REPORT), &report)
        })?;
        let folder = context.output("rollouts");
        let mut set = Writer::create(&folder, k, vocabulary)?;
        let report = gather(&chunks, &mut set)?;
        if set.len() == 0 {
            return Err(StageError::failed_try(
                format!(
                    "none of {} answers was valid ({} unfinished, {} invalid)",
                    report.sampled, report.unfinished, report.invalid
                ),
                "train the teacher longer, or raise `max-new-tokens`",
            ));
        }
        set.finish()?;
        rows::write_json(&context.output("report"), &report)?;
        let work = model.work(Self::KIND, 0, report.generated_tokens, report.prompt_tokens);
        model.lineage.finish(&folder, INDEX, work)
    }
}

/// Puts the answers of all chunks into one artifact; what was counted in all.
fn gather(chunks: &[PathBuf], set: &mut Writer) -> Result<Report, StageError> {
    let mut report = Report::default();
    for chunk in chunks {
        report.add(&rows::read_json(&chunk.join(REPORT))?);
        let part = Rollouts::read(&chunk.join(ANSWERS))?;
        let mut answers: Vec<Vec<Answer>> = part.prompts.iter().map(|_| Vec::new()).collect();
        for (number, rollout) in part.rollouts.iter().enumerate() {
            answers[rollout.prompt].push(Answer {
                rollout: rollout.clone(),
                top: part.top(number)?,
            });
        }
        for (prompt, answers) in part.prompts.iter().zip(answers) {
            set.push(prompt, answers)?;
        }
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.prompts += other.prompts;
        self.prompts_without_a_valid_answer += other.prompts_without_a_valid_answer;
        self.sampled += other.sampled;
        self.kept += other.kept;
        self.unfinished += other.unfinished;
        self.invalid += other.invalid;
        self.low_reward += other.low_reward;
        self.duplicate += other.duplicate;
        self.generated_tokens += other.generated_tokens;
        self.prompt_tokens += other.prompt_tokens;
    }
}

/// Takes a prompt's samples in: counts each, keeps the valid, distinct ones.
fn keep(
    p: &Params,
    prompt: &Prompt,
    samples: Vec<Sample>,
    tokenizer: &starling_lm::tokenizer::Tokenizer,
    report: &mut Report,
) -> Vec<Answer> {
    report.prompts += 1;
    report.prompt_tokens += prompt.ids.len() as u64;
    let mut seen = BTreeSet::new();
    let mut answers = Vec::new();
    for (number, sample) in samples.into_iter().enumerate() {
        report.sampled += 1;
        report.generated_tokens += sample.tokens.len() as u64;
        if sample.stop != StopReason::Stop {
            report.unfinished += 1;
            continue;
        }
        let text = tokenizer.decode(&sample.tokens, false);
        let answer = text.strip_suffix(chat::END).unwrap_or(&text);
        let outcome = prompt.score(answer);
        let identity = prompt.identity(answer);
        let (Some(identity), true) = (identity, outcome.format_reward > 0.0) else {
            report.invalid += 1;
            continue;
        };
        if p.min_reward.is_some_and(|least| outcome.reward < least) {
            report.low_reward += 1;
            continue;
        }
        if !seen.insert(identity) {
            report.duplicate += 1;
            continue;
        }
        report.kept += 1;
        answers.push(Answer {
            top: TopK {
                ids: sample.top.iter().flatten().map(|t| t.id).collect(),
                logprobs: sample.top.iter().flatten().map(|t| t.logprob).collect(),
            },
            rollout: Rollout {
                id: format!("{}#{number}", prompt.id),
                seed: prompt.id.clone(),
                sample: number,
                inputs: prompt.inputs.clone(),
                targets: text,
                prompt: 0,
                ids: sample.tokens,
                logprobs: sample.logprobs,
            },
        });
    }
    if answers.is_empty() {
        report.prompts_without_a_valid_answer += 1;
    }
    answers
}
