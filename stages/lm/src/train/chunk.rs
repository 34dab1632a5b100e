//! Forward, loss and backward of one chunk of sequences, on one thread.

use std::ops::AddAssign;

use super::accumulate::Worker;
use super::target::{LossTarget, Sequence};
use crate::decoder::{Decoder, Keep, PackedBatch};
use crate::error::LmError;
use crate::kernels::Real;
use crate::loss::head::Head;
use crate::loss::topk::{Teacher, TopKRoom};
use crate::loss::{cross_entropy, topk};

/// A sequence and the factor of its loss: the normalisers of the update are in it already.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<'a> {
    pub(crate) sequence: &'a Sequence,
    pub(crate) scale: f64,
}

/// Sums over the positions of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Scaled loss.
    pub(crate) loss: f64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
    }
}

/// Computes the gradients of a chunk into its worker.
///
/// # Errors
/// [`LmError::Shape`] for a sequence that the model cannot read.
pub(crate) fn differentiate<T: Real>(
    decoder: &Decoder<T>,
    sequences: &[Scaled<'_>],
    keep: Keep,
    worker: &mut Worker<T>,
) -> Result<Sums, LmError> {
    let batch = PackedBatch::new(sequences.iter().map(|one| one.sequence.ids.as_slice()));
    let rows = Rows::new(sequences);
    let Worker { gradients, scratch } = worker;
    let saved = decoder.forward(&batch, &rows.tokens, keep, scratch)?;
    let head = Head {
        hidden: &saved.hidden,
        head: decoder.head(),
        width: decoder.config().hidden_size,
        vocabulary: decoder.config().vocab_size,
    };
    let mut dhidden = scratch.take(saved.hidden.len());
    let dhead = &mut gradients.values[decoder.layout().head.clone()];
    let mut sums = Sums::default();
    let mut room = RowRoom {
        topk: TopKRoom::new(),
        logprobs: Vec::new(),
    };
    head.differentiate(&mut dhidden, dhead, scratch, |row, logits| {
        sums.loss += rows.row(row, logits, &mut room);
    });
    decoder.backward(saved, &mut dhidden, gradients, scratch);
    scratch.give(dhidden);
    Ok(sums)
}

/// The positions of a chunk that have a loss.
struct Rows<'a> {
    /// Index of the token whose logits predict each.
    tokens: Vec<usize>,
    /// Sequence, and index among its positions, of each.
    origin: Vec<(Scaled<'a>, usize)>,
}

struct RowRoom<T> {
    topk: TopKRoom<T>,
    logprobs: Vec<T>,
}

impl<'a> Rows<'a> {
    fn new(sequences: &[Scaled<'a>]) -> Self {
        let (mut tokens, mut origin, mut start) = (Vec::new(), Vec::new(), 0);
        for &one in sequences {
            for (at, &position) in one.sequence.loss.positions().iter().enumerate() {
                tokens.push(start + position as usize - 1);
                origin.push((one, at));
            }
            start += one.sequence.ids.len();
        }
        Self { tokens, origin }
    }

    /// Scaled loss of a row; replaces its logits by their gradient.
    fn row<T: Real>(&self, row: usize, logits: &mut [T], room: &mut RowRoom<T>) -> f64 {
        let (Scaled { sequence, scale }, at) = self.origin[row];
        let scale = scale * sequence.loss.weight(at);
        let target = sequence.ids[sequence.loss.positions()[at] as usize] as usize;
        let loss = match &sequence.loss {
            LossTarget::CrossEntropy { .. } => {
                cross_entropy::row(logits, target, T::from_f64(scale))
            }
            LossTarget::TopK(teacher) => {
                let part = at * teacher.k..(at + 1) * teacher.k;
                room.logprobs.clear();
                let logprobs = teacher.teacher_logprobs[part.clone()].iter();
                room.logprobs
                    .extend(logprobs.map(|&t| T::from_f64(f64::from(t))));
                let listed = Teacher {
                    ids: &teacher.teacher_ids[part],
                    logprobs: &room.logprobs,
                };
                let scale = T::from_f64(scale);
                topk::row(
                    &teacher.settings,
                    listed,
                    target,
                    scale,
                    logits,
                    &mut room.topk,
                )
            }
        };
        loss.to_f64() * scale
    }
}
