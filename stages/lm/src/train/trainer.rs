//! One optimizer update from a list of sequences.

use super::accumulate::{Worker, accumulate, cut};
use super::adamw::{AdamW, AdamWConfig};
use super::chunk::{self, Scaled, Sums};
use super::gate::gradient_gate;
use super::schedule::Schedule;
use super::target::Sequence;
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Gradients, Keep, groups};
use crate::error::LmError;
use crate::kernels::Real;
use crate::policy::loss::Parts;
use crate::weights::Weights;

/// What a sum over positions is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Normalisation {
    /// The weight of all positions of the update.
    #[default]
    Global,
    /// The weight of each micro-batch of this many sequences; micro-batches count equally.
    Micro(usize),
}

/// Everything about training except the data.
#[derive(Clone, Copy, Debug)]
pub struct TrainConfig {
    /// The optimizer's constants.
    pub adamw: AdamWConfig,
    /// The learning rate.
    pub schedule: Schedule,
    /// What losses are divided by.
    pub normalisation: Normalisation,
    /// About how many tokens a thread handles at once. Moves results in the last bits.
    pub chunk_tokens: usize,
    /// Compute what neighbouring sequences begin with once for all of them. Moves results in the last bits.
    pub share_prompts: bool,
    /// Compute layers twice instead of keeping their intermediates. Does not move results.
    pub recompute: bool,
    /// Threads. Does not move results.
    pub threads: usize,
}

impl TrainConfig {
    /// The published optimizer at a schedule, on one thread.
    pub fn new(schedule: Schedule) -> Self {
        Self {
            adamw: AdamWConfig::default(),
            schedule,
            normalisation: Normalisation::Global,
            chunk_tokens: 640,
            share_prompts: true,
            recompute: false,
            threads: 1,
        }
    }
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateStats {
    /// Normalised loss before the update, nats.
    pub loss: f64,
    /// Global gradient norm before the clip.
    pub grad_norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// Tokens of the sequences, each counted as if it stood alone: what a recipe costs, however it is computed.
    pub tokens: usize,
    /// Tokens that were computed: fewer than `tokens` when beginnings are shared.
    pub computed: usize,
    /// Positions with a loss.
    pub positions: usize,
    /// Means of the policy loss's parts; 0 without one.
    pub policy: Parts,
}

/// A model in training.
pub struct Trainer<T = f32> {
    pub(super) decoder: Decoder<T>,
    pub(super) optimizer: AdamW<T>,
    config: TrainConfig,
    rate_scale: f64,
    total: Gradients<T>,
    workers: Vec<Worker<T>>,
}

impl<T: Real> Trainer<T> {
    /// Starts from weights.
    ///
    /// # Errors
    /// [`LmError::Tensor`] and [`LmError::Config`] for weights that do not fit the configuration.
    pub fn new(
        model: &ModelConfig,
        weights: &Weights,
        config: TrainConfig,
    ) -> Result<Self, LmError> {
        let decoder = Decoder::new(model, weights)?;
        let layout = decoder.layout();
        Ok(Self {
            optimizer: AdamW::new(config.adamw, layout),
            total: Gradients::zeros(layout),
            workers: (0..config.threads.max(1))
                .map(|_| Worker::new(layout))
                .collect(),
            decoder,
            config,
            rate_scale: 1.0,
        })
    }

    /// The model as it is now.
    pub fn decoder(&self) -> &Decoder<T> {
        &self.decoder
    }

    /// The weights as they are now.
    ///
    /// # Errors
    /// [`LmError::Candle`] if a tensor cannot be made.
    pub fn weights(&self) -> Result<Weights, LmError> {
        self.decoder.weights()
    }

    /// From now on the learning rate is the schedule's times this.
    pub fn scale_rate(&mut self, scale: f64) {
        self.rate_scale = scale;
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.optimizer.updates()
    }

    /// The gradients of the last [`Self::update`] or [`Self::gradients`].
    pub fn last_gradients(&self) -> &Gradients<T> {
        &self.total
    }

    /// Computes the gradients of a batch without moving the weights; returns the normalised loss.
    ///
    /// # Errors
    /// [`LmError::Shape`] for a sequence or target that does not fit; [`LmError::Config`] when no
    /// position has weight.
    pub fn gradients(&mut self, sequences: &[Sequence]) -> Result<f64, LmError> {
        Ok(self.sums(sequences)?.0.loss)
    }

    /// The sums over all positions, and the tokens that were computed.
    fn sums(&mut self, sequences: &[Sequence]) -> Result<(Sums, usize), LmError> {
        if sequences.is_empty() {
            return Err(LmError::Config(
                "an update needs at least one sequence".into(),
            ));
        }
        for sequence in sequences {
            sequence.check(self.decoder.config())?;
        }
        let scaled = scale(sequences, self.config.normalisation)?;
        let ids: Vec<&[u32]> = sequences.iter().map(|one| one.ids.as_slice()).collect();
        let share = if self.config.share_prompts {
            self.config.chunk_tokens
        } else {
            0
        };
        let groups = groups(&ids, share);
        let lens: Vec<usize> = groups.iter().map(|group| group.tokens).collect();
        let chunks: Vec<_> = cut(&lens, self.config.chunk_tokens)
            .into_iter()
            .map(|part| groups[part.start].sequences.start..groups[part.end - 1].sequences.end)
            .collect();
        let keep = if self.config.recompute {
            Keep::Inputs
        } else {
            Keep::All
        };
        let decoder = &self.decoder;
        let work = |at: usize, worker: &mut Worker<T>| {
            chunk::differentiate(decoder, &scaled[chunks[at].clone()], share, keep, worker)
        };
        let sums = accumulate(chunks.len(), &mut self.workers, &mut self.total, work)?;
        let mut total = Sums::default();
        for sum in sums {
            total += sum;
        }
        Ok((total, lens.iter().sum()))
    }

    /// One update on a batch.
    ///
    /// # Errors
    /// As [`Self::gradients`]; [`LmError::NotFinite`] when the loss or a gradient is not finite and
    /// [`LmError::Tensor`] when a tensor has no gradient, with the weights unchanged.
    pub fn update(&mut self, sequences: &[Sequence]) -> Result<UpdateStats, LmError> {
        let (Sums { loss, policy }, computed) = self.sums(sequences)?;
        let update = self.optimizer.updates();
        if !loss.is_finite() {
            return Err(LmError::NotFinite(format!("the loss is {loss}")));
        }
        gradient_gate(&self.total, self.decoder.config())?;
        let rate = self.rate_scale * self.config.schedule.rate(update);
        let params = self.decoder.params_mut();
        let threads = self.config.threads;
        let grad_norm = self
            .optimizer
            .update(params, &self.total.values, rate, threads)?;
        Ok(UpdateStats {
            loss,
            policy,
            grad_norm,
            rate,
            tokens: sequences.iter().map(|sequence| sequence.ids.len()).sum(),
            computed,
            positions: sequences
                .iter()
                .map(|sequence| sequence.loss.positions().len())
                .sum(),
        })
    }
}

/// Puts each sequence's share of the normaliser beside it.
fn scale(sequences: &[Sequence], normalisation: Normalisation) -> Result<Vec<Scaled<'_>>, LmError> {
    let size = match normalisation {
        Normalisation::Global => sequences.len(),
        Normalisation::Micro(size) => size,
    };
    let batches = sequences.len().div_ceil(size.max(1));
    let mut scaled = Vec::with_capacity(sequences.len());
    for batch in sequences.chunks(size.max(1)) {
        let weight: f64 = batch
            .iter()
            .map(|sequence| sequence.loss.total_weight())
            .sum();
        if weight <= 0.0 {
            return Err(LmError::Config("no position of a batch has weight".into()));
        }
        let scale = 1.0 / (weight * batches as f64);
        let rollout = 1.0 / (batch.len() * batches) as f64;
        scaled.extend(batch.iter().map(|sequence| Scaled {
            sequence,
            scale,
            rollout,
        }));
    }
    Ok(scaled)
}
