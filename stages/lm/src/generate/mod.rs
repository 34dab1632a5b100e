//! Generation: many samples of many prompts, with a cache, without gradients.
//!
//! A sample depends on the weights, its prompt, the settings and its own random numbers, and on nothing else: every row
//! is computed by the same chains of operations whatever is computed beside it, and the random number of a token is a
//! function of (seed, request, sample, position). So one prompt alone or a thousand at once, on one thread or on
//! many, give the same bits.

mod attention;
mod batch;
mod cache;
mod math;
mod model;
mod random;
mod sample;
mod scoring;
mod stop;
mod tile;

use std::borrow::Cow;
use std::ops::ControlFlow;

use self::model::{Model, Scratch, Values};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::Weights;

pub use self::random::key_of;
pub use self::stop::StopTexts;

/// What can go wrong while generating.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] LmError),
    /// A request cannot be answered.
    #[error("request {id}: {reason}")]
    Request {
        /// Its key.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings contradict themselves.
    #[error("sampling: {0}")]
    Sampling(String),
    /// The logits of a position are no distribution: the weights are damaged.
    #[error("request {id}, sample {sample}: logits after token {position} are not finite")]
    NotFinite {
        /// The key of the request.
        id: u64,
        /// The sample.
        sample: usize,
        /// Generated tokens before it.
        position: usize,
    },
    /// The caller asked to stop.
    #[error("generation was interrupted")]
    Interrupted,
}

/// A prompt and how many answers are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A key of its own, which random numbers depend on ([`key_of`] makes one of a name).
    pub id: u64,
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Answers wanted.
    pub samples: usize,
    /// Overrides [`Sampling::max_new_tokens`].
    pub max_new_tokens: Option<usize>,
}

impl Request {
    /// One answer to a prompt.
    pub fn new(id: u64, prompt: Vec<u32>) -> Self {
        Self {
            id,
            prompt,
            samples: 1,
            max_new_tokens: None,
        }
    }
}

/// How tokens are chosen and what is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, ties to the smaller id.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the fewest likeliest tokens that hold this much of what `top_k` left; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this share as likely as the likeliest, after the other two; 0 for all.
    pub min_p: f32,
    /// Logits of tokens that the prompt or the answer holds already are divided by this when positive, else multiplied
    /// by it; 1 for none. What is recorded is not changed by it.
    pub repetition_penalty: f32,
    /// Tokens that end an answer; the one that did is its last.
    pub stop_tokens: Vec<u32>,
    /// Texts that end an answer; the token that completed one is its last.
    pub stop_texts: Option<StopTexts>,
    /// The longest answer.
    pub max_new_tokens: usize,
    /// Seeds every random number.
    pub seed: u64,
    /// How many likeliest tokens are recorded at each position.
    pub top_logprobs: usize,
    /// Sequences computed at once, by one thread when the model is small, by all when it is large; changes speed and
    /// memory alone.
    pub batch: usize,
}

impl Default for Sampling {
    /// Plain sampling at temperature 1, up to 256 tokens, 32 sequences at once.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop_tokens: Vec::new(),
            stop_texts: None,
            max_new_tokens: 256,
            seed: 0,
            top_logprobs: 0,
            batch: 32,
        }
    }
}

impl Sampling {
    /// Whether tokens that were there already are judged differently.
    pub(crate) fn penalises(&self) -> bool {
        self.repetition_penalty.to_bits() != 1.0_f32.to_bits()
    }

    /// Checks that the settings make sense.
    ///
    /// # Errors
    /// [`GenerateError::Sampling`] for the first that does not.
    pub fn check(&self) -> Result<(), GenerateError> {
        let fail = |reason: String| Err(GenerateError::Sampling(reason));
        // Below this the tempered logits overflow.
        let cold = self.temperature != 0.0 && self.temperature < 1e-4;
        if !self.temperature.is_finite() || cold {
            return fail(format!(
                "temperature {} is neither 0 nor at least 0.0001",
                self.temperature
            ));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fail(format!("top-p {} is not in (0, 1]", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return fail(format!("min-p {} is not in [0, 1]", self.min_p));
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return fail(format!(
                "repetition penalty {} is not above 0",
                self.repetition_penalty
            ));
        }
        if self.batch == 0 {
            return fail("a batch of 0 sequences makes no progress".to_owned());
        }
        Ok(())
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It came to a stop token, which is its last.
    Stop,
    /// It came to a stop text, which its last token completed.
    Text,
    /// It reached the longest answer.
    Length,
    /// It reached the model's longest context.
    Context,
}

/// A recorded token of a position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopToken {
    /// The token.
    pub id: u32,
    /// Its logprob, as in [`Sample::logprobs`].
    pub logprob: f32,
}

/// An answer. All lists have one entry a generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The tokens, a stop token included.
    pub tokens: Vec<u32>,
    /// The logprob of each token, in nats: of the model's own distribution, at temperature 1 and not truncated, whatever
    /// it was drawn from.
    pub logprobs: Vec<f32>,
    /// The entropy of that distribution, in nats.
    pub entropies: Vec<f32>,
    /// The likeliest tokens, greatest first, ties by id; empty lists when none were asked for.
    pub top: Vec<Vec<TopToken>>,
    /// Why it ended.
    pub stop: StopReason,
}

impl Sample {
    /// An answer without tokens, which has ended as soon as no token may follow.
    pub(crate) fn empty() -> Self {
        Self {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            entropies: Vec::new(),
            top: Vec::new(),
            stop: StopReason::Length,
        }
    }
}

/// How far a call of [`Generator::generate`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Samples that ended.
    pub samples: usize,
    /// Samples in all.
    pub all_samples: usize,
    /// Tokens of the samples that ended.
    pub tokens: usize,
}

/// What a call of [`Generator::generate`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that were read.
    pub read_tokens: usize,
    /// Prompt tokens that were taken from the cache of another prompt that begins alike.
    pub shared_tokens: usize,
    /// Steps, each of one token for every sequence under way.
    pub steps: usize,
    /// Tokens that these steps read: divided by the steps, how full the batch was.
    pub step_tokens: usize,
    /// The most that keys and values took at once, in bytes, over the threads with sequences of their own.
    pub cache_bytes: usize,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.read_tokens += other.read_tokens;
        self.shared_tokens += other.shared_tokens;
        self.steps += other.steps;
        self.step_tokens += other.step_tokens;
        self.cache_bytes += other.cache_bytes;
    }
}

/// How the matrices are kept in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// As `f32`.
    #[default]
    F32,
    /// As 8-bit integers with a factor for 32 of them (Q8_0), where the width allows: a quarter of the memory and
    /// of what a step must read. Weights that were stored so lose nothing.
    Q8,
}

/// A model ready to generate.
#[derive(Debug)]
pub struct Generator {
    model: Model,
}

impl Generator {
    /// Copies the weights into the layout that generation reads.
    ///
    /// # Errors
    /// [`LmError`] when the weights do not fit the configuration.
    pub fn new(config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        Self::keeping(config, weights, Kept::F32)
    }

    /// As [`new`](Self::new), with a choice of how matrices are kept.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn keeping(config: &ModelConfig, weights: &Weights, kept: Kept) -> Result<Self, LmError> {
        weights.check(config)?;
        Self::of_values(config, &|name| weights.values(name).map(Cow::Owned), kept)
    }

    /// The same from wherever the values lie, so that they are copied once.
    pub(crate) fn of_values(
        config: &ModelConfig,
        values: &Values<'_>,
        kept: Kept,
    ) -> Result<Self, LmError> {
        Ok(Self {
            model: Model::new(config, values, kept)?,
        })
    }

    /// Bytes of weights that a step reads.
    pub fn weight_bytes(&self) -> usize {
        self.model.bytes()
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// Answers every request: a list of samples for each, in order. The result does not depend on `threads`.
    ///
    /// `on_progress` is called after each sample that ends, from any thread, and may stop the work.
    ///
    /// # Errors
    /// [`GenerateError::Request`] for an empty prompt or unknown tokens, [`GenerateError::Sampling`] for settings that
    /// make no sense, [`GenerateError::NotFinite`] for a broken model, [`GenerateError::Interrupted`] when `on_progress`
    /// breaks.
    pub fn generate(
        &self,
        requests: &[Request],
        sampling: &Sampling,
        threads: usize,
        on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<Vec<Sample>>, GenerateError> {
        let answers = self.generate_with_usage(requests, sampling, threads, on_progress);
        answers.map(|(answers, _)| answers)
    }

    /// As [`generate`](Self::generate), and tells what it took.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_with_usage(
        &self,
        requests: &[Request],
        sampling: &Sampling,
        threads: usize,
        on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
    ) -> Result<(Vec<Vec<Sample>>, Usage), GenerateError> {
        check(&self.model.config, requests, sampling)?;
        batch::run(&self.model, requests, sampling, threads, on_progress)
    }

    /// The logits after each token of a text.
    ///
    /// # Shapes
    /// Returns `[tokens, vocab_size]`.
    ///
    /// # Errors
    /// [`GenerateError::Request`] for an empty text, unknown tokens, or one longer than the context.
    pub fn logits(&self, tokens: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let longest = self.model.config.max_position_embeddings;
        let too_long = (tokens.len() > longest).then(|| {
            format!(
                "{} tokens are more than the context of {longest}",
                tokens.len()
            )
        });
        if let Some(reason) = self.fault(tokens).or(too_long) {
            return Err(GenerateError::Request { id: 0, reason });
        }
        let (mut scratch, mut logits) = (Scratch::new(1), Vec::new());
        let rows = self
            .model
            .read(tokens, &mut self.model.cache(), tokens.len(), &mut scratch);
        self.model.logits(&rows, &mut scratch, &mut logits);
        Ok(logits)
    }

    /// What is wrong with a prompt: none of its tokens may be unknown, and there must be one.
    pub fn fault(&self, prompt: &[u32]) -> Option<String> {
        fault(&self.model.config, prompt)
    }
}

/// Checks what is asked for, before anything is computed.
pub(crate) fn check(
    config: &ModelConfig,
    requests: &[Request],
    sampling: &Sampling,
) -> Result<(), GenerateError> {
    sampling.check()?;
    for request in requests {
        if let Some(reason) = fault(config, &request.prompt) {
            return Err(GenerateError::Request {
                id: request.id,
                reason,
            });
        }
    }
    Ok(())
}

/// What is wrong with a prompt for a model.
pub(crate) fn fault(config: &ModelConfig, prompt: &[u32]) -> Option<String> {
    let vocabulary = config.vocab_size;
    if prompt.is_empty() {
        return Some("the prompt is empty".to_owned());
    }
    let unknown = prompt.iter().find(|&&token| token as usize >= vocabulary);
    unknown.map(|token| format!("token {token} is not in the vocabulary of {vocabulary}"))
}

#[cfg(test)]
mod tests;
