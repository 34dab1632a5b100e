//! One optimizer update from a list of sequences.

use super::accumulate::{Worker, accumulate, cut};
use super::adamw::{AdamW, AdamWConfig};
use super::chunk::{self, Scaled, Sums};
use super::gate::{finite_gate, gradient_gate};
use super::schedule::Schedule;
use super::target::Sequence;
use crate::config::ModelConfig;
use crate::decoder::adapter::Adapter;
use crate::decoder::sums::{Sink, Sums as GradientSums};
use crate::decoder::{Decoder, Gradients, Keep, LoraConfig, groups, tensors};
use crate::error::LmError;
use crate::kernels::{Precision, Real};
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
    /// What products of matrices are computed in; weights, sums and the optimizer stay `f32`.
    pub precision: Precision,
    /// Train an adapter in place of the weights.
    pub lora: Option<LoraConfig>,
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
            precision: Precision::F32,
            lora: None,
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
    pub(super) adapter: Option<Adapter<T>>,
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
        let decoder = Decoder::new(model, weights)?.computing_in(config.precision);
        let layout = decoder.layout();
        let adapter = config
            .lora
            .map(|lora| Adapter::new(lora, layout, decoder.params()))
            .transpose()?;
        let trained = adapter.as_ref().map_or(layout, Adapter::layout);
        let head = if adapter.is_some() {
            0
        } else {
            layout.head.len()
        };
        Ok(Self {
            optimizer: AdamW::new(config.adamw, trained),
            total: Gradients::zeros(trained),
            workers: (0..config.threads.max(1))
                .map(|_| Worker::new(head))
                .collect(),
            adapter,
            decoder,
            config,
            rate_scale: 1.0,
        })
    }

    /// The model as it is now.
    pub fn decoder(&self) -> &Decoder<T> {
        &self.decoder
    }

    /// The weights as they are now, an adapter's part in them.
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

    /// The adapter's tensors under their names, when one is trained.
    ///
    /// # Errors
    /// [`LmError::Candle`] if a tensor cannot be made.
    pub fn adapter(&self) -> Result<Option<(LoraConfig, Weights)>, LmError> {
        let made = self.adapter.as_ref().map(|adapter| {
            let weights = tensors(adapter.layout(), &adapter.params)?;
            Ok((*adapter.config(), weights))
        });
        made.transpose()
    }

    /// Moves what is trained to these values: for tests and for the gate.
    ///
    /// # Errors
    /// [`LmError::Shape`] for another number of them.
    pub fn set_trained(&mut self, values: &[T]) -> Result<(), LmError> {
        if values.len() != self.trained().len() {
            let expected = format!("[{}]", self.trained().len());
            return Err(LmError::shape("parameters", &[values.len()], expected));
        }
        match &mut self.adapter {
            None => self.decoder.params_mut().copy_from_slice(values),
            Some(adapter) => {
                adapter.params.copy_from_slice(values);
                adapter.merge(self.decoder.params_mut(), self.config.threads);
            }
        }
        Ok(())
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.optimizer.updates()
    }

    /// What the optimizer moves: all parameters, or the adapter's.
    pub fn trained(&self) -> &[T] {
        self.adapter
            .as_ref()
            .map_or(self.decoder.params(), |adapter| &adapter.params)
    }

    /// The gradients of the last [`Self::update`] or [`Self::gradients`], of what the optimizer moves.
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
        let Plan {
            scaled,
            share,
            chunks,
            computed,
        } = Plan::new(sequences, self.decoder.config(), &self.config)?;
        let keep = if self.config.recompute {
            Keep::Inputs
        } else {
            Keep::All
        };
        let (decoder, adapter) = (&self.decoder, self.adapter.as_ref());
        let groups = self.total.layout().groups();
        let gradients = GradientSums::new(&mut self.total.values, groups);
        let work = |at: usize, worker: &mut Worker<T>| {
            let sink = Sink {
                sums: &gradients,
                chunk: at,
                adapter,
                precision: decoder.precision(),
            };
            let sequences = &scaled[chunks[at].clone()];
            chunk::differentiate(decoder, sequences, share, keep, worker, &sink)
        };
        let sums = accumulate(chunks.len(), &mut self.workers, &gradients, work)?;
        let mut total = Sums::default();
        for sum in sums {
            total += sum;
        }
        Ok((total, computed))
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
        match self.adapter {
            Some(_) => finite_gate(&self.total)?,
            None => gradient_gate(&self.total, self.decoder.config())?,
        }
        let rate = self.rate_scale * self.config.schedule.rate(update);
        let threads = self.config.threads;
        let gradients = &self.total.values;
        let grad_norm = match &mut self.adapter {
            None => {
                let params = self.decoder.params_mut();
                self.optimizer.update(params, gradients, rate, threads)?
            }
            Some(adapter) => {
                let params = &mut adapter.params;
                let norm = self.optimizer.update(params, gradients, rate, threads)?;
                adapter.merge(self.decoder.params_mut(), threads);
                norm
            }
        };
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

/// How an update is cut into chunks: the same on every device.
pub(crate) struct Plan<'a> {
    pub(crate) scaled: Vec<Scaled<'a>>,
    /// See [`crate::decoder::Packing::sharing`].
    pub(crate) share: usize,
    /// Sequences of each chunk.
    pub(crate) chunks: Vec<std::ops::Range<usize>>,
    /// Tokens that are computed.
    pub(crate) computed: usize,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// [`LmError::Shape`] for a sequence or target that does not fit; [`LmError::Config`] when no position has weight.
    pub(crate) fn new(
        sequences: &'a [Sequence],
        model: &ModelConfig,
        config: &TrainConfig,
    ) -> Result<Self, LmError> {
        if sequences.is_empty() {
            return Err(LmError::Config(
                "an update needs at least one sequence".into(),
            ));
        }
        for sequence in sequences {
            sequence.check(model)?;
        }
        let ids: Vec<&[u32]> = sequences.iter().map(|one| one.ids.as_slice()).collect();
        let share = if config.share_prompts {
            config.chunk_tokens
        } else {
            0
        };
        let groups = groups(&ids, share);
        let lens: Vec<usize> = groups.iter().map(|group| group.tokens).collect();
        let chunks = cut(&lens, config.chunk_tokens).into_iter();
        Ok(Self {
            scaled: scale(sequences, config.normalisation)?,
            share,
            chunks: chunks
                .map(|part| groups[part.start].sequences.start..groups[part.end - 1].sequences.end)
                .collect(),
            computed: lens.iter().sum(),
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
