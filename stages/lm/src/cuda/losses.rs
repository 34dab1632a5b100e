//! Losses at the head: which rows of logits have one, what it is, and the kernels that replace them by their gradients.

use std::ops::Range;

use super::board::{Arg, Buffer};
use super::model::Model;
use super::ops::{Ops, int};
use crate::decoder::Packing;
use crate::error::LmError;
use crate::loss::{Divergence, TopKSettings};
use crate::policy::Ratio;
use crate::policy::loss::Parts;
use crate::train::{LossTarget, PolicyTarget, Scaled, Sums, TopKTarget};

/// Bytes of logits at once.
pub(crate) const LOGIT_BYTES: usize = 512 << 20;

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
pub(super) struct Losses<'a> {
    /// Index of the token whose logits predict each.
    pub(super) tokens: Vec<usize>,
    /// Sequence, and index among its positions, of each.
    origin: Vec<(Scaled<'a>, usize)>,
}

/// For each row, what was found when a whole sequence had to be seen first; else empty.
pub(super) type Known = Vec<(Parts, f64)>;

impl<'a> Losses<'a> {
    pub(super) fn new(sequences: &[Scaled<'a>], packing: &Packing) -> Self {
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
    pub(super) fn sequence_slopes(
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
    pub(super) fn replace(
        &self,
        ops: &Ops,
        logits: &Buffer,
        part: Range<usize>,
        vocabulary: usize,
        known: &Known,
    ) -> Result<Sums, LmError> {
        let origin = &self.origin[part.clone()];
        let targets = ops.upload_ints(&self.targets(part.clone()))?;
        let stats = ops.row_stats(logits, origin.len(), vocabulary, &targets)?;
        let said = stats.floats(STATS * origin.len())?;
        let scales: Vec<f64> = origin
            .iter()
            .map(|(one, at)| one.scale * one.sequence.loss.weight(*at))
            .collect();
        let narrow: Vec<f32> = scales.iter().map(|&scale| scale as f32).collect();
        let rows = Rows {
            ops,
            origin,
            first: part.start,
            said,
            scales,
            on_device: ops.upload_floats(&narrow)?,
            logits,
            vocabulary,
            targets,
            stats,
        };
        let mut sums = rows.cross_entropy()?;
        sums += rows.policies(known)?;
        sums += rows.divergences()?;
        Ok(sums)
    }
}

/// Rows of logits that are there at once, and what is known of them.
struct Rows<'a> {
    ops: &'a Ops,
    /// Sequence, and index among its positions, of each.
    origin: &'a [(Scaled<'a>, usize)],
    /// The first of them, counted over the chunk.
    first: usize,
    /// [`STATS`] of each.
    said: Vec<f32>,
    /// The share of each in the loss, here and on the device.
    scales: Vec<f64>,
    on_device: Buffer,
    logits: &'a Buffer,
    vocabulary: usize,
    targets: Buffer,
    stats: Buffer,
}

impl Rows<'_> {
    /// The numbers of the rows whose loss is of a sort.
    fn of(&self, sort: impl Fn(&LossTarget) -> bool) -> Vec<i32> {
        let rows = (0..).zip(self.origin);
        rows.filter(|(_, (one, _))| sort(&one.sequence.loss))
            .map(|(row, _)| row)
            .collect()
    }

    /// Runs a kernel on some rows; all begin with these arguments.
    fn run(&self, kernel: &str, rows: &[i32], shared: usize, rest: &[Arg]) -> Result<(), LmError> {
        let list = self.ops.upload_ints(rows)?;
        let mut args = vec![self.logits.arg(), int(self.vocabulary), list.arg()];
        args.extend([self.targets.arg(), self.stats.arg()]);
        args.extend(rest);
        self.ops
            .logits(kernel, rows.len(), self.vocabulary, shared, &args)
    }

    fn cross_entropy(&self) -> Result<Sums, LmError> {
        let rows = self.of(|loss| matches!(loss, LossTarget::CrossEntropy { .. }));
        let mut sums = Sums::default();
        for &row in &rows {
            let row = row as usize;
            sums.loss -= f64::from(self.said[row * STATS]) * self.scales[row];
        }
        self.run("cross_entropy_rows", &rows, 0, &[self.on_device.arg()])?;
        Ok(sums)
    }

    fn policies(&self, known: &Known) -> Result<Sums, LmError> {
        let rows = self.of(|loss| matches!(loss, LossTarget::Policy(_)));
        let mut sums = Sums::default();
        if rows.is_empty() {
            return Ok(sums);
        }
        let count = self.origin.len();
        let mut slopes = (vec![0.0_f32; count], vec![0.0_f32; count]);
        for &row in &rows {
            let row = row as usize;
            let (one, at) = self.origin[row];
            let LossTarget::Policy(policy) = &one.sequence.loss else {
                continue;
            };
            let known = known.get(self.first + row);
            let known = known.filter(|_| policy.settings.ratio == Ratio::Sequence);
            let (mut parts, slope) = known.copied().unwrap_or_else(|| {
                let logprob = f64::from(self.said[row * STATS]);
                let (parts, slopes) = policy.rollout(at, &[logprob], one.shares());
                (parts, slopes[0])
            });
            let share = one.shares().token;
            slopes.0[row] = slope as f32;
            slopes.1[row] = (-policy.settings.entropy_coefficient * share) as f32;
            parts.entropy = f64::from(self.said[row * STATS + 1]) * share;
            sums += Sums {
                loss: parts.total(&policy.settings),
                policy: parts,
            };
        }
        let on_logprob = self.ops.upload_floats(&slopes.0)?;
        let on_entropy = self.ops.upload_floats(&slopes.1)?;
        let rest = [on_logprob.arg(), on_entropy.arg()];
        self.run("policy_rows", &rows, 0, &rest)?;
        Ok(sums)
    }

    /// Rows with equal lists and settings go together.
    fn divergences(&self) -> Result<Sums, LmError> {
        let mut lists: Vec<(&TopKTarget, Vec<i32>)> = Vec::new();
        for (row, (one, _)) in (0..).zip(self.origin) {
            let LossTarget::TopK(target) = &one.sequence.loss else {
                continue;
            };
            let alike = |(other, _): &&mut (&TopKTarget, Vec<i32>)| {
                other.k == target.k && other.settings == target.settings
            };
            match lists.iter_mut().find(alike) {
                Some((_, rows)) => rows.push(row),
                None => lists.push((target, vec![row])),
            }
        }
        let mut sums = Sums::default();
        for (target, rows) in lists {
            sums.loss += self.divergence(target.k, &target.settings, &rows)?;
        }
        Ok(sums)
    }

    fn divergence(&self, k: usize, settings: &TopKSettings, rows: &[i32]) -> Result<f64, LmError> {
        let ops = self.ops;
        let count = self.origin.len();
        let (mut places, mut ids, mut logprobs) =
            (vec![0_i32; count], Vec::new(), Vec::<f32>::new());
        for &row in rows {
            let (one, at) = self.origin[row as usize];
            let LossTarget::TopK(teacher) = &one.sequence.loss else {
                continue;
            };
            places[row as usize] = ids.len() as i32;
            let part = at * k..(at + 1) * k;
            let listed = teacher.teacher_ids[part.clone()].iter();
            ids.extend(listed.map(|&id| id as i32));
            logprobs.extend_from_slice(&teacher.teacher_logprobs[part]);
        }
        let student_top = settings.student_top.min(self.vocabulary);
        let (places, ids) = (ops.upload_ints(&places)?, ops.upload_ints(&ids)?);
        let (logprobs, losses) = (ops.upload_floats(&logprobs)?, ops.floats(count)?);
        let Divergent { kind, beta } = divergence(settings);
        let rest = [
            self.on_device.arg(),
            places.arg(),
            ids.arg(),
            logprobs.arg(),
            int(k),
            Arg::Int(kind),
            Arg::Float(beta),
            Arg::Float(settings.tail_coefficient as f32),
            int(student_top),
            Arg::Float(settings.ratio as f32),
            losses.arg(),
        ];
        let shared = Ops::topk_room(k, student_top);
        self.run("topk_rows", rows, shared, &rest)?;
        let losses = losses.floats(count)?;
        let scaled = rows.iter().map(|&row| row as usize);
        Ok(scaled
            .map(|row| f64::from(losses[row]) * self.scales[row])
            .sum())
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
