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
mod tile;

use std::ops::ControlFlow;

use self::model::{Model, Scratch};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::Weights;

pub use self::random::key_of;

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
    /// Tokens that end an answer; the one that did is its last.
    pub stop_tokens: Vec<u32>,
    /// The longest answer.
    pub max_new_tokens: usize,
    /// Seeds every random number.
    pub seed: u64,
    /// How many likeliest tokens are recorded at each position.
    pub top_logprobs: usize,
    /// Sequences that one thread computes at once; changes speed and memory alone.
    pub batch: usize,
}

impl Default for Sampling {
    /// Plain sampling at temperature 1, up to 256 tokens, 32 sequences at once.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            stop_tokens: Vec::new(),
            max_new_tokens: 256,
            seed: 0,
            top_logprobs: 0,
            batch: 32,
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<(), GenerateError> {
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
        Ok(Self {
            model: Model::new(config, weights)?,
        })
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
        sampling.check()?;
        for request in requests {
            let fault = self.fault(&request.prompt);
            if let Some(reason) = fault {
                return Err(GenerateError::Request {
                    id: request.id,
                    reason,
                });
            }
        }
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
        let (mut scratch, mut logits) = (Scratch::default(), Vec::new());
        let rows = self
            .model
            .read(tokens, &mut self.model.cache(), tokens.len(), &mut scratch);
        self.model.logits(&rows, &mut scratch, &mut logits);
        Ok(logits)
    }

    /// What is wrong with a prompt.
    fn fault(&self, prompt: &[u32]) -> Option<String> {
        let vocabulary = self.model.config.vocab_size;
        if prompt.is_empty() {
            return Some("the prompt is empty".to_owned());
        }
        let unknown = prompt.iter().find(|&&token| token as usize >= vocabulary);
        unknown.map(|token| format!("token {token} is not in the vocabulary of {vocabulary}"))
    }
}

#[cfg(test)]
mod tests;
