//! An optimizer update on a device: the chunks of [`crate::train`], their losses, the optimizer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::backward::gradient;
use super::batch::Batch;
use super::board::{Buffer, Precision};
use super::device::Device;
use super::losses::{Losses, chunks};
use super::model::{Model, Rows};
use super::ops::Matrix;
use crate::config::ModelConfig;
use crate::decoder::{Gradients, Keep, Packing};
use crate::error::LmError;
use crate::train::{
    Plan, Scaled, Sequence, Step, Sums, TrainConfig, Trainer as CpuTrainer, TrainerState,
    UpdateStats, clip_share, decays, gradient_gate,
};
use crate::weights::Weights;

/// A model in training on a device.
///
/// Weights, moments and gradients are `f32`; activations are of the precision it was made with. Chunks and their order
/// are those of [`crate::train::Trainer`], so what both compute agrees but for rounding. `threads` has no meaning here.
#[derive(Debug)]
pub struct Trainer {
    model: Model,
    config: TrainConfig,
    grads: Buffer,
    first: Buffer,
    second: Buffer,
    updates: u64,
    rate_scale: f64,
}

impl Trainer {
    /// Puts weights on a device.
    ///
    /// # Errors
    /// [`LmError::Tensor`] and [`LmError::Config`] for weights that do not fit the configuration; [`LmError::Device`]
    /// when the device fails or has too little memory.
    pub fn new(
        device: &Device,
        model: &ModelConfig,
        weights: &Weights,
        config: TrainConfig,
    ) -> Result<Self, LmError> {
        if config.lora.is_some() {
            return Err(LmError::Config(
                "adapters of low rank are trained on the processor only: leave `lora` out, or compute with \
                 `device = \"cpu\"`"
                    .to_owned(),
            ));
        }
        let model = Model::new(device, model, weights, true)?;
        let bytes = 4 * model.layout.len();
        Ok(Self {
            grads: model.ops.zeros(bytes)?,
            first: model.ops.zeros(bytes)?,
            second: model.ops.zeros(bytes)?,
            updates: 0,
            rate_scale: 1.0,
            model,
            config,
        })
    }

    /// Updates done so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// From now on the learning rate is the schedule's times this.
    pub fn scale_rate(&mut self, scale: f64) {
        self.rate_scale = scale;
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// The device that it trains on.
    pub fn device(&self) -> Device {
        let ops = &self.model.ops;
        Device::with_board(Arc::clone(&ops.board), ops.precision)
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// The weights as they are now.
    ///
    /// # Errors
    /// [`LmError::Device`] when they cannot be read.
    pub fn weights(&self) -> Result<Weights, LmError> {
        let layout = &self.model.layout;
        let mut values = Gradients::<f32>::zeros(layout);
        values.values = self.params()?;
        values.tensors()
    }

    fn params(&self) -> Result<Vec<f32>, LmError> {
        let master = self.model.master.as_ref();
        let master = master.expect("a model in training has its f32 parameters");
        master.floats(self.model.layout.len())
    }

    /// The gradients of the last [`Self::update`] or [`Self::gradients`].
    ///
    /// # Errors
    /// [`LmError::Device`] when they cannot be read.
    pub fn last_gradients(&self) -> Result<Gradients<f32>, LmError> {
        let layout = &self.model.layout;
        let mut gradients = Gradients::zeros(layout);
        gradients.values = self.grads.floats(layout.len())?;
        Ok(gradients)
    }

    /// Parameters and moments.
    ///
    /// # Errors
    /// [`LmError::Device`] when they cannot be read.
    pub fn state(&self) -> Result<TrainerState, LmError> {
        let len = self.model.layout.len();
        Ok(TrainerState {
            params: self.params()?,
            first: self.first.floats(len)?,
            second: self.second.floats(len)?,
            updates: self.updates,
        })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// [`LmError::Shape`] for a state of another size; [`LmError::Device`] when it cannot be written.
    pub fn set_state(&mut self, state: &TrainerState) -> Result<(), LmError> {
        let len = self.model.layout.len();
        for (what, values) in [
            ("parameters", &state.params),
            ("first moments", &state.first),
            ("second moments", &state.second),
        ] {
            if values.len() != len {
                return Err(LmError::shape(what, &[values.len()], format!("[{len}]")));
            }
        }
        if let Some(master) = &self.model.master {
            master.write_floats(&state.params)?;
        }
        self.first.write_floats(&state.first)?;
        self.second.write_floats(&state.second)?;
        self.updates = state.updates;
        self.model.refresh_copy()
    }

    /// Writes the state as [`crate::train::Trainer::save_state`] does, to the same bytes for the same numbers.
    ///
    /// # Errors
    /// As there, and [`LmError::Device`] when the state cannot be read.
    pub fn save_state(&self, folder: &Path) -> Result<(), LmError> {
        let mut host = self.host()?;
        host.put_state(self.state()?);
        host.save_state(folder)
    }

    /// Goes on from a state that this or the processor's trainer wrote for the same configuration.
    ///
    /// # Errors
    /// As [`crate::train::Trainer::load_state`], and [`LmError::Device`] when it cannot be written to the device.
    pub fn load_state(&mut self, folder: &Path) -> Result<(), LmError> {
        let mut host = self.host()?;
        host.load_state(folder)?;
        self.set_state(&host.into_state())
    }

    /// A trainer on the processor of the same configuration.
    fn host(&self) -> Result<CpuTrainer<f32>, LmError> {
        CpuTrainer::new(&self.model.config, &self.weights()?, self.config)
    }

    /// Computes the gradients of a batch without moving the weights; returns the normalised loss.
    ///
    /// # Errors
    /// As [`crate::train::Trainer::gradients`], and [`LmError::Device`] when the device fails.
    pub fn gradients(&mut self, sequences: &[Sequence]) -> Result<f64, LmError> {
        Ok(self.sums(sequences)?.0.loss)
    }

    fn sums(&mut self, sequences: &[Sequence]) -> Result<(Sums, usize), LmError> {
        let plan = Plan::new(sequences, &self.model.config, &self.config)?;
        self.grads.clear()?;
        let keep = if self.config.recompute {
            Keep::Inputs
        } else {
            Keep::All
        };
        let mut total = Sums::default();
        for chunk in plan.chunks {
            total += self.differentiate(&plan.scaled[chunk], plan.share, keep)?;
        }
        Ok((total, plan.computed))
    }

    /// One update on a batch.
    ///
    /// # Errors
    /// As [`crate::train::Trainer::update`], and [`LmError::Device`] when the device fails; the weights are unchanged
    /// then unless it failed while they were moved.
    pub fn update(&mut self, sequences: &[Sequence]) -> Result<UpdateStats, LmError> {
        let (Sums { loss, policy }, computed) = self.sums(sequences)?;
        if !loss.is_finite() {
            return Err(LmError::NotFinite(format!("the loss is {loss}")));
        }
        let rate = self.rate_scale * self.config.schedule.rate(self.updates);
        let grad_norm = self.step(rate)?;
        let positions = |sequence: &Sequence| sequence.loss.positions().len();
        Ok(UpdateStats {
            loss,
            policy,
            grad_norm,
            rate,
            tokens: sequences.iter().map(|sequence| sequence.ids.len()).sum(),
            computed,
            positions: sequences.iter().map(positions).sum(),
        })
    }

    /// Clips the gradients and moves the parameters; returns the norm before the clip.
    fn step(&mut self, rate: f64) -> Result<f64, LmError> {
        let model = &self.model;
        let norm = model
            .ops
            .square_sum(&self.grads, model.layout.len())?
            .sqrt();
        if !norm.is_finite() {
            // names the tensor, which the norm alone does not
            gradient_gate(&self.last_gradients()?, &model.config)?;
            return Err(LmError::NotFinite(format!("the gradient norm is {norm}")));
        }
        self.updates += 1;
        let config = &self.config.adamw;
        let clip = clip_share(config, norm);
        let step: Step<f32> = Step::new(config, self.updates, rate, clip);
        let master = model.master.as_ref();
        let master = master.expect("a model in training has its f32 parameters");
        for (range, decays) in runs(model) {
            let place = |buffer: &Buffer| buffer.at(4 * range.start);
            let copy = model.copy.as_ref();
            let places = [
                place(master),
                place(&self.grads),
                place(&self.first),
                place(&self.second),
                copy.map_or(0, |copy| copy.at(model.ops.precision.size() * range.start)),
            ];
            let keep = if decays { step.keep } else { 1.0 };
            let constants = [
                step.clip,
                step.beta1,
                step.beta2,
                step.epsilon,
                keep,
                step.rate,
                step.root,
            ];
            model.ops.adamw(places, range.len(), constants)?;
        }
        Ok(norm)
    }

    /// Adds the gradients of a chunk.
    fn differentiate(
        &self,
        sequences: &[Scaled<'_>],
        share: usize,
        keep: Keep,
    ) -> Result<Sums, LmError> {
        let model = &self.model;
        let ops = &model.ops;
        let texts = sequences.iter().map(|one| one.sequence.ids.as_slice());
        let packing = Packing::sharing(&texts.collect::<Vec<_>>(), share);
        let batch = Batch::new(ops, &packing.batch)?;
        let losses = Losses::new(sequences, &packing);
        let rows = Rows::new(ops, losses.tokens.clone())?;
        let saved = model.forward(&batch, &rows, keep)?;
        let (h, v) = (model.config.hidden_size, model.config.vocab_size);
        let count = rows.list.len();
        let dhidden = ops.values(count * h)?;
        let known = losses.sequence_slopes(model, &saved.hidden, sequences)?;
        let mut sums = Sums::default();
        for (first, rows) in chunks(count, v) {
            let logits = model.logits(&saved.hidden, first, rows)?;
            let part = first..first + rows;
            sums += losses.replace(ops, &logits, part, v, &known)?;
            let dlogits = if ops.precision == Precision::F32 {
                logits
            } else {
                let narrow = ops.values(rows * v)?;
                ops.convert(logits.address(), narrow.address(), rows * v)?;
                narrow
            };
            let d = Matrix::new(dlogits.address(), rows, v);
            let place = first * h * ops.precision.size();
            ops.matmul(
                Matrix::new(dhidden.at(place), rows, h),
                ops.precision,
                false,
                d,
                Matrix::new(model.slot(&model.layout.head), v, h),
            )?;
            ops.matmul(
                Matrix::new(gradient(&self.grads, &model.layout.head), v, h),
                Precision::F32,
                true,
                d.t(),
                Matrix::new(saved.hidden.at(place), rows, h),
            )?;
        }
        model.backward(&batch, &rows, saved, &dhidden, &self.grads)?;
        Ok(sums)
    }
}

/// Neighbouring tensors that decay alike, as one.
fn runs(model: &Model) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for entry in model.layout.entries() {
        let decays = decays(&entry.name);
        match runs.last_mut() {
            Some((range, same)) if *same == decays => range.end = entry.range.end,
            _ => runs.push((entry.range.clone(), decays)),
        }
    }
    runs
}
