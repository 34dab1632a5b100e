//! An optimizer update on a device: the chunks of [`crate::train`], their losses, the optimizer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::backward::gradient;
use super::batch::Batch;
use super::board::{Arg, Buffer, Precision};
use super::device::Device;
use super::model::{Model, Rows};
use super::ops::{Matrix, Ops, int};
use crate::config::ModelConfig;
use crate::decoder::{Gradients, Keep, Packing};
use crate::error::LmError;
use crate::loss::{Divergence, TopKSettings};
use crate::policy::Ratio;
use crate::policy::loss::Parts;
use crate::train::{
    LossTarget, Plan, PolicyTarget, Scaled, Sequence, Step, Sums, TopKTarget, TrainConfig,
    Trainer as CpuTrainer, TrainerState, UpdateStats, clip_share, decays, gradient_gate,
};
use crate::weights::Weights;

/// Bytes of logits at once.
pub(crate) const LOGIT_BYTES: usize = 512 << 20;

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

/// Rows `first`, count of the chunks whose logits exist at once.
pub(super) fn chunks(rows: usize, vocabulary: usize) -> impl Iterator<Item = (usize, usize)> {
    let most = (LOGIT_BYTES / (4 * vocabulary)).max(1);
    (0..rows)
        .step_by(most)
        .map(move |first| (first, most.min(rows - first)))
}

/// Numbers of a row's statistics, as `RowStats` in `cuda/head.cu` has them.
pub(super) const STATS: usize = 4;

/// The positions of a chunk that have a loss.
struct Losses<'a> {
    /// Index of the token whose logits predict each.
    tokens: Vec<usize>,
    /// Sequence, and index among its positions, of each.
    origin: Vec<(Scaled<'a>, usize)>,
}

/// For each row, what was found when a whole sequence had to be seen first; else empty.
type Known = Vec<(Parts, f64)>;

impl<'a> Losses<'a> {
    fn new(sequences: &[Scaled<'a>], packing: &Packing) -> Self {
        let (mut tokens, mut origin) = (Vec::new(), Vec::new());
        for (number, &one) in sequences.iter().enumerate() {
            for (at, &position) in one.sequence.loss.positions().iter().enumerate() {
                tokens.push(packing.token(number, position as usize - 1));
                origin.push((one, at));
            }
        }
        Self { tokens, origin }
    }

    fn targets(&self, rows: Range<usize>) -> Vec<i32> {
        let target = |(one, at): &(Scaled<'_>, usize)| {
            let position = one.sequence.loss.positions()[*at];
            one.sequence.ids[position as usize] as i32
        };
        self.origin[rows].iter().map(target).collect()
    }

    /// A ratio over a whole rollout needs all its log-probabilities before any slope: computes the logits once more
    /// for that.
    fn sequence_slopes(
        &self,
        model: &Model,
        hidden: &Buffer,
        sequences: &[Scaled<'_>],
    ) -> Result<Known, LmError> {
        let mut known = Vec::new();
        if !sequences.iter().any(|one| by_sequence(one).is_some()) {
            return Ok(known);
        }
        let v = model.config.vocab_size;
        let mut logprobs: Vec<f64> = Vec::new();
        for (first, rows) in chunks(self.tokens.len(), v) {
            let logits = model.logits(hidden, first, rows)?;
            let targets = model.ops.upload_ints(&self.targets(first..first + rows))?;
            let stats = model.ops.row_stats(&logits, rows, v, &targets)?;
            let stats = stats.floats(STATS * rows)?;
            logprobs.extend(stats.chunks_exact(STATS).map(|row| f64::from(row[0])));
        }
        let mut rest = logprobs.as_slice();
        for one in sequences {
            let (mine, others) = rest.split_at(one.sequence.loss.positions().len());
            rest = others;
            match by_sequence(one) {
                Some(policy) if !mine.is_empty() => {
                    let (parts, slopes) = policy.rollout(0, mine, one.shares());
                    // the parts of the whole rollout are counted with its first row
                    let first = std::iter::once(parts).chain(std::iter::repeat(Parts::default()));
                    known.extend(first.zip(slopes));
                }
                _ => known.extend(mine.iter().map(|_| (Parts::default(), 0.0))),
            }
        }
        Ok(known)
    }

    /// Replaces rows of logits by their gradients; returns their scaled losses.
    fn replace(
        &self,
        ops: &Ops,
        logits: &Buffer,
        part: Range<usize>,
        vocabulary: usize,
        known: &Known,
    ) -> Result<Sums, LmError> {
        let origin = &self.origin[part.clone()];
        let count = origin.len();
        let targets = ops.upload_ints(&self.targets(part.clone()))?;
        let stats = ops.row_stats(logits, count, vocabulary, &targets)?;
        let said = stats.floats(STATS * count)?;
        let scale = |(one, at): &(Scaled<'_>, usize)| one.scale * one.sequence.loss.weight(*at);
        let scales: Vec<f32> = origin.iter().map(|row| scale(row) as f32).collect();
        let scales = ops.upload_floats(&scales)?;
        let common = [logits.arg(), int(vocabulary)];
        let mut sums = Sums::default();

        let (mut plain, mut policies) = (Vec::new(), Vec::new());
        let mut lists: Vec<(&TopKTarget, Vec<i32>)> = Vec::new();
        for (row, (one, _)) in origin.iter().enumerate() {
            let number = row as i32;
            match &one.sequence.loss {
                LossTarget::CrossEntropy { .. } => {
                    sums.loss -= f64::from(said[row * STATS]) * scale(&origin[row]);
                    plain.push(number);
                }
                LossTarget::Policy(_) => policies.push(number),
                LossTarget::TopK(target) => {
                    let alike = |(other, _): &&mut (&TopKTarget, Vec<i32>)| {
                        other.k == target.k && other.settings == target.settings
                    };
                    match lists.iter_mut().find(alike) {
                        Some((_, rows)) => rows.push(number),
                        None => lists.push((target, vec![number])),
                    }
                }
            }
        }

        let rows = ops.upload_ints(&plain)?;
        let mut args = common.to_vec();
        args.extend([rows.arg(), targets.arg(), stats.arg(), scales.arg()]);
        ops.logits("cross_entropy_rows", plain.len(), vocabulary, 0, &args)?;

        if !policies.is_empty() {
            let mut slopes = (vec![0.0_f32; count], vec![0.0_f32; count]);
            for &row in &policies {
                let row = row as usize;
                let (one, at) = origin[row];
                let LossTarget::Policy(policy) = &one.sequence.loss else {
                    continue;
                };
                let known = known.get(part.start + row);
                let known = known.filter(|_| policy.settings.ratio == Ratio::Sequence);
                let (mut parts, slope) = known.copied().unwrap_or_else(|| {
                    let logprob = f64::from(said[row * STATS]);
                    let (parts, slopes) = policy.rollout(at, &[logprob], one.shares());
                    (parts, slopes[0])
                });
                let share = one.shares().token;
                slopes.0[row] = slope as f32;
                slopes.1[row] = (-policy.settings.entropy_coefficient * share) as f32;
                parts.entropy = f64::from(said[row * STATS + 1]) * share;
                sums += Sums {
                    loss: parts.total(&policy.settings),
                    policy: parts,
                };
            }
            let rows = ops.upload_ints(&policies)?;
            let (on_logprob, on_entropy) =
                (ops.upload_floats(&slopes.0)?, ops.upload_floats(&slopes.1)?);
            let mut args = common.to_vec();
            args.extend([rows.arg(), targets.arg(), stats.arg()]);
            args.extend([on_logprob.arg(), on_entropy.arg()]);
            ops.logits("policy_rows", policies.len(), vocabulary, 0, &args)?;
        }

        for (target, rows) in lists {
            let Divergent { kind, beta } = divergence(&target.settings);
            let (mut places, mut ids, mut logprobs) =
                (vec![0_i32; count], Vec::new(), Vec::<f32>::new());
            for &row in &rows {
                let (one, at) = origin[row as usize];
                let LossTarget::TopK(teacher) = &one.sequence.loss else {
                    continue;
                };
                places[row as usize] = ids.len() as i32;
                let part = at * teacher.k..(at + 1) * teacher.k;
                ids.extend(
                    teacher.teacher_ids[part.clone()]
                        .iter()
                        .map(|&id| id as i32),
                );
                logprobs.extend_from_slice(&teacher.teacher_logprobs[part]);
            }
            let settings = &target.settings;
            let student_top = settings.student_top.min(vocabulary);
            let list = ops.upload_ints(&rows)?;
            let (places, ids) = (ops.upload_ints(&places)?, ops.upload_ints(&ids)?);
            let (logprobs, losses) = (ops.upload_floats(&logprobs)?, ops.floats(count)?);
            let mut args = common.to_vec();
            args.extend([list.arg(), targets.arg(), stats.arg(), scales.arg()]);
            args.extend([places.arg(), ids.arg(), logprobs.arg(), int(target.k)]);
            args.extend([
                Arg::Int(kind),
                Arg::Float(beta),
                Arg::Float(settings.tail_coefficient as f32),
                int(student_top),
                Arg::Float(settings.ratio as f32),
                losses.arg(),
            ]);
            let shared = Ops::topk_room(target.k, student_top);
            ops.logits("topk_rows", rows.len(), vocabulary, shared, &args)?;
            let losses = losses.floats(count)?;
            for &row in &rows {
                sums.loss += f64::from(losses[row as usize]) * scale(&origin[row as usize]);
            }
        }
        Ok(sums)
    }
}

/// The policy target of a sequence whose ratio is over the whole rollout.
fn by_sequence<'a>(one: &Scaled<'a>) -> Option<&'a PolicyTarget> {
    match &one.sequence.loss {
        LossTarget::Policy(policy) if policy.settings.ratio == Ratio::Sequence => Some(policy),
        _ => None,
    }
}

/// A divergence as `cuda/head.cu` numbers them.
struct Divergent {
    kind: i32,
    beta: f32,
}

fn divergence(settings: &TopKSettings) -> Divergent {
    let (kind, beta) = match settings.divergence {
        Divergence::Forward => (0, 0.0),
        Divergence::Reverse => (1, 0.0),
        Divergence::Adaptive => (2, 0.0),
        Divergence::JensenShannon { beta } => (3, beta as f32),
    };
    Divergent { kind, beta }
}
