//! Where a model computes: one face over the program for the processor and the one for CUDA devices.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::Path;

use crate::config::ModelConfig;
use crate::cuda::{self, Device, Precision};
use crate::decoder::{Decoder, LoraConfig};
use crate::error::LmError;
use crate::generate::{self, GenerateError, Kept, Progress, Sample, Sampling, Usage};
use crate::kernels;
use crate::score::{self, Scores};
use crate::train::{self, Sequence, TrainConfig, UpdateStats, gate, probe};
use crate::weights::Weights;

/// The names of places that this binary can compute on, as pipelines have them.
pub const PLACES: &[&str] = if cfg!(feature = "cuda") {
    &["cpu", "cuda"]
} else {
    &["cpu"]
};

/// Where models compute.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device.
    Cuda(Device),
}

impl Place {
    /// The place of a name: `cpu`, or `cuda` for the first device, which computes in bf16 over `f32` weights.
    ///
    /// # Errors
    /// [`LmError::NoDevice`] when it is not there, with what is missing.
    pub fn named(name: &str) -> Result<Self, LmError> {
        Self::computing_in(name, kernels::Precision::Bf16)
    }

    /// The same, where a device computes in this precision; on the processor every model says its own.
    ///
    /// # Errors
    /// As [`named`](Self::named).
    pub fn computing_in(name: &str, precision: kernels::Precision) -> Result<Self, LmError> {
        let precision = match precision {
            kernels::Precision::F32 => Precision::F32,
            kernels::Precision::Bf16 => Precision::Bf16,
        };
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Device::open(precision).map(Self::Cuda),
            other => Err(LmError::NoDevice(format!(
                "`{other}` is no device: there are {}",
                PLACES.join(" and ")
            ))),
        }
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(device) => device.name(),
        }
    }
}

/// The same expression for a model on either place.
macro_rules! on_either {
    ($model:expr, $name:ident => $does:expr) => {
        match $model {
            Self::Cpu($name) => $does,
            Self::Cuda($name) => $does,
        }
    };
}

/// A model ready to generate.
#[derive(Debug)]
pub enum Generator {
    /// On the processor.
    Cpu(Box<generate::Generator>),
    /// On a CUDA device.
    Cuda(Box<cuda::Generator>),
}

impl Generator {
    /// Lays weights out for generation.
    ///
    /// # Errors
    /// [`LmError`] when the weights do not fit the configuration, or the device fails.
    pub fn new(place: &Place, config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        Self::keeping(place, config, weights, Kept::F32)
    }

    /// As [`new`](Self::new), with a choice of how the processor keeps matrices.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`LmError::Config`] for 8-bit matrices on a device.
    pub fn keeping(
        place: &Place,
        config: &ModelConfig,
        weights: &Weights,
        kept: Kept,
    ) -> Result<Self, LmError> {
        match place {
            Place::Cpu => generate::Generator::keeping(config, weights, kept)
                .map(|generator| Self::Cpu(Box::new(generator))),
            Place::Cuda(_) if kept != Kept::F32 => Err(LmError::Config(
                "8-bit matrices are for the processor only: leave the choice out on a CUDA device"
                    .to_owned(),
            )),
            Place::Cuda(device) => cuda::Generator::new(device, config, weights)
                .map(|generator| Self::Cuda(Box::new(generator))),
        }
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        on_either!(self, generator => generator.config())
    }

    /// What is wrong with a prompt, if anything.
    pub fn fault(&self, prompt: &[u32]) -> Option<String> {
        generate::fault(self.config(), prompt)
    }

    /// See [`generate::Generator::generate`].
    ///
    /// # Errors
    /// As there, and [`GenerateError::Model`] when the device fails.
    pub fn generate(
        &self,
        requests: &[generate::Request],
        sampling: &Sampling,
        threads: usize,
        on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
    ) -> Result<Vec<Vec<Sample>>, GenerateError> {
        let answers = self.generate_with_usage(requests, sampling, threads, on_progress);
        answers.map(|(answers, _)| answers)
    }

    /// See [`generate::Generator::generate_with_usage`].
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_with_usage(
        &self,
        requests: &[generate::Request],
        sampling: &Sampling,
        threads: usize,
        on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
    ) -> Result<(Vec<Vec<Sample>>, Usage), GenerateError> {
        match self {
            Self::Cpu(generator) => {
                generator.generate_with_usage(requests, sampling, threads, on_progress)
            }
            Self::Cuda(generator) => generator.generate_with_usage(requests, sampling, on_progress),
        }
    }

    /// See [`generate::Generator::score`].
    ///
    /// # Errors
    /// As there.
    pub fn score<T: AsRef<[u32]> + Sync>(
        &self,
        texts: &[T],
        top: usize,
        threads: usize,
        done: &(dyn Fn(usize, Result<Scores, GenerateError>) + Sync),
    ) -> Result<(), GenerateError> {
        match self {
            Self::Cpu(generator) => generator.score(texts, top, threads, done),
            Self::Cuda(generator) => {
                for (at, text) in texts.iter().enumerate() {
                    done(at, generator.score(at, text.as_ref(), top));
                }
                Ok(())
            }
        }
    }
}

/// A model that scores texts.
#[derive(Debug)]
pub enum Scorer {
    /// On the processor.
    Cpu(Box<Decoder>),
    /// On a CUDA device.
    Cuda(Box<cuda::Scorer>),
}

impl Scorer {
    /// Lays weights out for scoring.
    ///
    /// # Errors
    /// [`LmError`] when the weights do not fit the configuration, or the device fails.
    pub fn new(place: &Place, config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        match place {
            Place::Cpu => Decoder::new(config, weights).map(|decoder| Self::Cpu(Box::new(decoder))),
            Place::Cuda(device) => cuda::Scorer::new(device, config, weights)
                .map(|scorer| Self::Cuda(Box::new(scorer))),
        }
    }

    /// The same model, its products on the processor in this precision; a device computes in its own.
    #[must_use]
    pub fn computing_in(self, precision: kernels::Precision) -> Self {
        match self {
            Self::Cpu(decoder) => Self::Cpu(Box::new(decoder.computing_in(precision))),
            cuda @ Self::Cuda(_) => cuda,
        }
    }

    /// Scores every token of every text from its second on.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn logprobs(&self, texts: &[Vec<u32>], threads: usize) -> Result<Vec<Scores>, LmError> {
        score::whole(texts, |requests| self.score(requests, 0, threads))
    }

    /// See [`score::score`].
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the device fails.
    pub fn score(
        &self,
        requests: &[score::Request<'_>],
        k: usize,
        threads: usize,
    ) -> Result<Vec<Scores>, LmError> {
        match self {
            Self::Cpu(decoder) => score::score(decoder, requests, k, threads),
            Self::Cuda(scorer) => scorer.score(requests, k),
        }
    }
}

/// A model in training.
pub enum Trainer {
    /// On the processor.
    Cpu(Box<train::Trainer<f32>>),
    /// On a CUDA device.
    Cuda(Box<cuda::Trainer>),
}

impl Trainer {
    /// Starts from weights.
    ///
    /// # Errors
    /// [`LmError`] for weights that do not fit the configuration, or when the device fails.
    pub fn new(
        place: &Place,
        model: &ModelConfig,
        weights: &Weights,
        config: TrainConfig,
    ) -> Result<Self, LmError> {
        match place {
            Place::Cpu => train::Trainer::new(model, weights, config)
                .map(|trainer| Self::Cpu(Box::new(trainer))),
            Place::Cuda(device) => cuda::Trainer::new(device, model, weights, config)
                .map(|trainer| Self::Cuda(Box::new(trainer))),
        }
    }

    /// Runs one gradient over random tokens and demands that it reaches every tensor; see [`probe::probe`].
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the device fails.
    pub fn probe(
        place: &Place,
        model: &ModelConfig,
        weights: &Weights,
        config: TrainConfig,
    ) -> Result<(), LmError> {
        match place {
            Place::Cpu => probe::probe(model, weights, config),
            Place::Cuda(device) => {
                let mut trainer = cuda::Trainer::new(device, model, weights, config)?;
                trainer.gradients(&[probe::random_sequence(model)])?;
                gate::nonzero_gate(&trainer.last_gradients()?, model)
            }
        }
    }

    /// A model that generates with the weights as they are now.
    ///
    /// # Errors
    /// [`LmError`] when the device fails or has too little memory for both.
    pub fn generator(&self) -> Result<Generator, LmError> {
        match self {
            Self::Cpu(trainer) => {
                let decoder = trainer.decoder();
                let values = |name: &str| decoder.values(name).map(Cow::Borrowed);
                let generator =
                    generate::Generator::of_values(decoder.config(), &values, Kept::F32)?;
                Ok(Generator::Cpu(Box::new(generator)))
            }
            Self::Cuda(trainer) => {
                let (config, weights) = (trainer.config(), trainer.weights()?);
                let generator = cuda::Generator::new(&trainer.device(), config, &weights)?;
                Ok(Generator::Cuda(Box::new(generator)))
            }
        }
    }

    /// The adapter's tensors under their names, when one is trained.
    ///
    /// # Errors
    /// [`LmError`] when they cannot be read.
    pub fn adapter(&self) -> Result<Option<(LoraConfig, Weights)>, LmError> {
        match self {
            Self::Cpu(trainer) => trainer.adapter(),
            // A device trains no adapter, and says so at the beginning.
            Self::Cuda(_) => Ok(None),
        }
    }

    /// Scores every token of every text from its second on, with the weights as they are now.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn logprobs(&self, texts: &[Vec<u32>], threads: usize) -> Result<Vec<Scores>, LmError> {
        score::whole(texts, |requests| self.score(requests, 0, threads))
    }

    /// One update on a batch; see [`train::Trainer::update`].
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the device fails.
    pub fn update(&mut self, sequences: &[Sequence]) -> Result<UpdateStats, LmError> {
        on_either!(self, trainer => trainer.update(sequences))
    }

    /// The weights as they are now.
    ///
    /// # Errors
    /// [`LmError`] when they cannot be read.
    pub fn weights(&self) -> Result<Weights, LmError> {
        on_either!(self, trainer => trainer.weights())
    }

    /// From now on the learning rate is the schedule's times this.
    pub fn scale_rate(&mut self, scale: f64) {
        on_either!(self, trainer => trainer.scale_rate(scale));
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        on_either!(self, trainer => trainer.updates())
    }

    /// Scores requests with the weights as they are now; see [`score::score`].
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the device fails.
    pub fn score(
        &self,
        requests: &[score::Request<'_>],
        k: usize,
        threads: usize,
    ) -> Result<Vec<Scores>, LmError> {
        match self {
            Self::Cpu(trainer) => score::score(trainer.decoder(), requests, k, threads),
            Self::Cuda(trainer) => trainer.score(requests, k),
        }
    }

    /// Writes weights and optimizer; both places write and read one format. See [`train::Trainer::save_state`].
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the device fails.
    pub fn save_state(&self, folder: &Path) -> Result<(), LmError> {
        on_either!(self, trainer => trainer.save_state(folder))
    }

    /// Goes on from what [`save_state`](Self::save_state) wrote.
    ///
    /// # Errors
    /// As [`train::Trainer::load_state`], and [`LmError::Device`] when the device fails.
    pub fn load_state(&mut self, folder: &Path) -> Result<(), LmError> {
        on_either!(self, trainer => trainer.load_state(folder))
    }
}
