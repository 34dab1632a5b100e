//! Rollout: samples a model's answers to prompts and keeps the valid, distinct ones.
//!
//! | port            | way | artifact   | holds                                                            |
//! |-----------------|-----|------------|------------------------------------------------------------------|
//! | `model`         | in  | checkpoint | the teacher; left out where `endpoint` names a server            |
//! | `tokenizer`     | in  | tokenizer  | with `endpoint`: the student's, in whose tokens answers are kept |
//! | `conversations` | in  | rows       | with `endpoint`: what the prompts were made of, for its chats    |
//! | `prompts`       | in  | train-rows | rows whose prompts are answered                                  |
//! | `rollouts`      | out | rollouts   | answers with ids, log-probabilities and the teacher's top-k      |
//! | `report`        | out | report     | how many were sampled, invalid, duplicate, and prompts left out  |
//!
//! Valid means: one closed thought, parsable calls, known tools and arguments, no unclosed call. Two
//! answers of a prompt are the same when their calls are, in any order, and their words. The text of a
//! sample depends on seed, prompt and sample number only. Prompts are answered in chunks, each kept as soon as
//! it is done, so that a run that was cut off goes on there and one changed prompt is answered alone.
//!
//! With `endpoint` an OpenAI-compatible server answers. Nothing is promised then, and the artifact says so. The model's
//! name and everything about the sampling are in the key; the address is not, since the same model may be served
//! elsewhere tomorrow, just as the machine of a checkpoint is in no key. So two models must not share a name: put
//! the revision into `endpoint-model` where the server lets you. Each prompt is kept as soon as its answers are there;
//! what failed, and nothing else, is asked again by the same command.
//!
//! Servers name tokens by texts. Where these are tokens of `tokenizer` and add up to the answer, they are kept with
//! their log-probabilities and likeliest tokens; elsewhere the answer is tokenized here, without (`NaN`), and with
//! `top-k` above 0 it is left out and counted. What the server does not tell, above all of the token that ends an
//! answer, counts as one sample: that token is listed with all of the mass.

mod align;
mod served;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Chunks, Complaint, Determinism, Input, Output, Ports, Stage, StageContext,
    StageError,
};
use starling_lm::generate::{Request, Sample, Sampling, StopReason};
use starling_lm::place::{Generator, Place};
use starling_lm::tokenizer::Tokenizer;

use self::served::Served;
use crate::chat::{self, lm};
use crate::cost::{Lineage, Work};
use crate::device;
use crate::model::Model;
use crate::prompts::{self, Prompt};
use crate::rollouts::{Answer, Codec, INDEX, Rollout, Rollouts, SampledBy, TopK, Writer};
use crate::rows;

/// The kind `rollout`.
pub(crate) struct RolloutKind;

/// How a server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Api {
    /// `/chat/completions`, with the messages and tools of `inputs.conversations`; the server's template writes the
    /// prompt.
    #[default]
    Chat,
    /// `/completions`, with the prompt's text as it is; for servers of one's own.
    Completions,
}

impl Api {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
    fn is_chat(&self) -> bool {
        *self == Self::Chat
    }
}

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
    /// Address of an OpenAI-compatible server that answers instead of a checkpoint, up to `/v1`; changes no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// With `endpoint`: the model's name, as the server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_model: Option<String>,
    /// With `endpoint`: how it is asked.
    #[serde(default, skip_serializing_if = "Api::is_chat")]
    api: Api,
    /// With `endpoint` and `top-k = 0`: ask for the log-probabilities of the chosen tokens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    logprobs: bool,
    /// With `endpoint`: name of the environment variable that holds the key; the key itself is never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_variable: Option<String>,
    /// With `endpoint`: queries under way at once.
    #[serde(default = "defaults::concurrency")]
    concurrency: usize,
    /// With `endpoint`: how often a query is sent again after a refusal for load, a fault of the server or a broken
    /// connection; waits double, or are as long as the server says.
    #[serde(default = "defaults::retries")]
    retries: u32,
    /// With `endpoint`: seconds until a reply must be complete.
    #[serde(default = "defaults::timeout_seconds")]
    timeout_seconds: f64,
}

mod defaults {
    pub(super) fn concurrency() -> usize {
        8
    }
    pub(super) fn retries() -> u32 {
        6
    }
    pub(super) fn timeout_seconds() -> f64 {
        300.0
    }
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
    /// Answers of a server whose tokens are not ours, where `top-k` needs them to be.
    #[serde(default, skip_serializing_if = "is_zero")]
    unaligned: usize,
    /// Prompts that a server refused for their length.
    #[serde(default, skip_serializing_if = "is_zero")]
    too_long: usize,
    generated_tokens: u64,
    prompt_tokens: u64,
    /// Who sampled, where it was no checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampled_by: Option<SampledBy>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An answer as it was sampled, wherever that was.
struct Sampled {
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    top: TopK,
    /// Without its end token, for the score.
    text: String,
    /// With it.
    targets: String,
    finished: bool,
    /// Its likeliest tokens are wanted and not known.
    unaligned: bool,
}

impl Sampled {
    fn of(sample: Sample, tokenizer: &Tokenizer) -> Self {
        let targets = tokenizer.decode(&sample.tokens, false);
        let text = targets.strip_suffix(chat::END).unwrap_or(&targets);
        Self {
            text: text.to_owned(),
            finished: sample.stop == StopReason::Stop,
            top: TopK {
                ids: sample.top.iter().flatten().map(|t| t.id).collect(),
                logprobs: sample.top.iter().flatten().map(|t| t.logprob).collect(),
            },
            tokens: sample.tokens,
            logprobs: sample.logprobs,
            targets,
            unaligned: false,
        }
    }
}

impl Stage for RolloutKind {
    const KIND: &'static str = "rollout";
    /// 2: log-probabilities of the likeliest tokens are half floats; the artifact is sharded; rotary
    /// frequencies are rounded as PyTorch does, and prompts that begin alike are read once. 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "samples a model's answers and keeps the valid, distinct ones";
    const WORK: &'static [&'static str] = &["prompts", "samples"];
    const DEVICES: &'static [&'static str] = device::PLACES;
    const DETERMINISM: Determinism = Determinism::WithinClass { tolerance: 1e-3 };
    const CHUNKS: Option<Chunks> = Some(CHUNKS);
    const NEUTRAL: &'static [&'static str] = &[
        "endpoint",
        "key-variable",
        "concurrency",
        "retries",
        "timeout-seconds",
    ];
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Report, Rollouts, Rows, Tokenizer, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::optional(
                        "model",
                        Checkpoint,
                        "the teacher; none where `endpoint` names a server",
                    ),
                    Input::optional("tokenizer", Tokenizer, "with `endpoint`: the student's"),
                    Input::optional(
                        "conversations",
                        Rows,
                        "with `endpoint`: the rows that the prompts were made of",
                    ),
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
        want(
            "endpoint-model",
            p.endpoint.is_some() == p.endpoint_model.is_some(),
            "`endpoint` and `endpoint-model` are given together",
        );
        want(
            "api",
            p.endpoint.is_some() || p.api.is_chat(),
            "needs an `endpoint`",
        );
        if let Some(what) = served::settings(p).and_then(|settings| settings.complaint()) {
            complaints.push(Complaint::new("endpoint", what));
        }
        complaints
    }

    /// Every answer as long as it may be, with the ids of a vocabulary of 2¹⁸, in the result and in the chunks that it is
    /// gathered from; texts are left out, they are short beside the numbers.
    fn most_bytes(p: &Params) -> Option<u64> {
        let top = match p.top_k {
            0 => 0,
            k => Codec::new(k, 1 << 18).row_bytes(),
        };
        let token = 2 * (size_of::<u32>() + size_of::<f32>() + top);
        let answers = p.prompts?.checked_mul(p.samples)?;
        u64::try_from(answers.checked_mul(p.max_new_tokens)?.checked_mul(token)?).ok()
    }

    fn secrets(p: &Params) -> Vec<String> {
        p.key_variable.iter().cloned().collect()
    }

    fn determinism(p: &Params) -> Determinism {
        match p.endpoint_model {
            Some(_) => Determinism::None,
            None => Self::DETERMINISM,
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        match (context.optional("model"), served::settings(&p)) {
            (Some(folder), None) => {
                let place = device::place(context)?;
                let model = Model::load(folder)?;
                let k = p.top_k.min(model.config().vocab_size);
                let vocabulary = model.config().vocab_size;
                let chunks = by_engine(&p, context, &place, &model)?;
                let report = finish(&p, context, &chunks, k, vocabulary)?;
                let (generated, read) = (report.generated_tokens, report.prompt_tokens);
                let work = model.work(Self::KIND, 0, generated, read);
                model
                    .lineage
                    .finish(&context.output("rollouts"), INDEX, work)
            }
            (None, Some(settings)) => {
                let folder = context.optional("tokenizer").ok_or_else(|| {
                    StageError::failed_try(
                        "answers of a server are kept in a student's tokens, and there is no tokenizer",
                        "give `inputs.tokenizer`",
                    )
                })?;
                let tokenizer = chat::tokenizer(folder)?;
                let all =
                    prompts::read(context.input("prompts")?, "prompts", &tokenizer, p.prompts)?;
                let served = Served::open(&p, settings, &tokenizer, context)?;
                let chunks = served.answer(context, &all)?;
                let report = finish(&p, context, &chunks, p.top_k, tokenizer.vocab_size())?;
                let work = Work {
                    kind: Self::KIND.to_owned(),
                    trained_tokens: 0,
                    generated_tokens: report.generated_tokens,
                    read_tokens: report.prompt_tokens,
                    // Nobody says how large the model behind a server is: its operations count as none.
                    parameters: 0,
                };
                Lineage::default().finish(&context.output("rollouts"), INDEX, work)
            }
            _ => Err(StageError::failed_try(
                "exactly one of the input `model` and the parameter `endpoint` is needed",
                "give `inputs.model` for a checkpoint, `endpoint` and `endpoint-model` for a server",
            )),
        }
    }
}

/// Answers all prompts in this process; a folder a chunk.
fn by_engine(
    p: &Params,
    context: &StageContext<'_>,
    place: &Place,
    model: &Model,
) -> Result<Vec<PathBuf>, StageError> {
    let tokenizer = model.tokenizer()?;
    let all = prompts::read(context.input("prompts")?, "prompts", &tokenizer, p.prompts)?;
    let generator = Generator::new(place, model.config(), &model.checkpoint.weights).map_err(lm)?;
    let vocabulary = model.config().vocab_size;
    let sampling = Sampling {
        temperature: p.temperature,
        max_new_tokens: p.max_new_tokens,
        stop_tokens: model.ends(),
        seed: p.seed,
        top_logprobs: p.top_k.min(vocabulary),
        ..Sampling::default()
    };
    context.map_chunks(&CHUNKS, &all, Prompt::bytes, |prompts, folder| {
        let requests: Vec<Request> = prompts.iter().map(|x| x.request(p.samples)).collect();
        let samples = generator
            .generate(&requests, &sampling, context.threads(), &|_| {
                ControlFlow::Continue(())
            })
            .map_err(lm)?;
        let mut report = Report::default();
        let answered = prompts.iter().zip(samples).map(|(prompt, samples)| {
            let samples = samples.into_iter().map(|s| Sampled::of(s, &tokenizer));
            let answers = keep(p, prompt, samples.collect(), &mut report);
            (prompt.ids.as_slice(), answers)
        });
        let answered = answered.collect();
        write_chunk(folder, sampling.top_logprobs, vocabulary, answered, &report)
    })
}

/// Writes the answers to some prompts and what was counted.
fn write_chunk(
    folder: &Path,
    k: usize,
    vocabulary: usize,
    answered: Vec<(&[u32], Vec<Answer>)>,
    report: &Report,
) -> Result<(), StageError> {
    let mut set = Writer::create(&folder.join(ANSWERS), k, vocabulary)?;
    for (prompt, answers) in answered {
        set.push(prompt, answers)?;
    }
    set.finish()?;
    rows::write_json(&folder.join(REPORT), report)
}

/// Who sampled, where it was no checkpoint.
fn sampled_by(p: &Params) -> Option<SampledBy> {
    p.endpoint_model.as_ref().map(|model| SampledBy {
        endpoint_model: model.clone(),
        deterministic: false,
    })
}

/// Writes both outputs from the chunks.
fn finish(
    p: &Params,
    context: &StageContext<'_>,
    chunks: &[PathBuf],
    k: usize,
    vocabulary: usize,
) -> Result<Report, StageError> {
    let mut set = Writer::create(&context.output("rollouts"), k, vocabulary)?;
    set.sampled_by(sampled_by(p));
    let mut report = gather(chunks, &mut set)?;
    report.sampled_by = sampled_by(p);
    if set.len() == 0 {
        let Report {
            unfinished,
            invalid,
            unaligned,
            ..
        } = report;
        return Err(StageError::failed_try(
            format!(
                "none of {} answers was valid ({unfinished} unfinished, {invalid} invalid{})",
                report.sampled,
                match unaligned {
                    0 => String::new(),
                    n => format!(", {n} in tokens that are not the tokenizer's"),
                }
            ),
            "train the teacher longer, or raise `max-new-tokens`",
        ));
    }
    set.finish()?;
    rows::write_json(&context.output("report"), &report)?;
    Ok(report)
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
        self.unaligned += other.unaligned;
        self.too_long += other.too_long;
        self.generated_tokens += other.generated_tokens;
        self.prompt_tokens += other.prompt_tokens;
    }
}

/// Takes a prompt's samples in: counts each, keeps the valid, distinct ones.
fn keep(p: &Params, prompt: &Prompt, samples: Vec<Sampled>, report: &mut Report) -> Vec<Answer> {
    report.prompts += 1;
    report.prompt_tokens += prompt.ids.len() as u64;
    let mut seen = BTreeSet::new();
    let mut answers = Vec::new();
    for (number, sample) in samples.into_iter().enumerate() {
        report.sampled += 1;
        report.generated_tokens += sample.tokens.len() as u64;
        if !sample.finished {
            report.unfinished += 1;
            continue;
        }
        let outcome = prompt.score(&sample.text);
        let identity = prompt.identity(&sample.text);
        let (Some(identity), true) = (identity, outcome.format_reward > 0.0) else {
            report.invalid += 1;
            continue;
        };
        if p.min_reward.is_some_and(|least| outcome.reward < least) {
            report.low_reward += 1;
            continue;
        }
        if sample.unaligned {
            report.unaligned += 1;
            continue;
        }
        if !seen.insert(identity) {
            report.duplicate += 1;
            continue;
        }
        report.kept += 1;
        answers.push(Answer {
            top: sample.top,
            rollout: Rollout {
                id: format!("{}#{number}", prompt.id),
                seed: prompt.id.clone(),
                sample: number,
                inputs: prompt.inputs.clone(),
                targets: sample.targets,
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

#[cfg(test)]
mod tests;
