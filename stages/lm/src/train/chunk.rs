//! Forward, loss and backward of one chunk of sequences, on one thread.

use std::ops::AddAssign;

use super::accumulate::Worker;
use super::target::{LossTarget, PolicyTarget, Sequence, TopKTarget};
use crate::decoder::sums::Sink;
use crate::decoder::{Decoder, Keep, Packing, Scratch};
use crate::error::LmError;
use crate::kernels::Real;
use crate::loss::head::Head;
use crate::loss::logprob::Slopes;
use crate::loss::topk::{Teacher, TopKRoom};
use crate::loss::{cross_entropy, logprob, topk};
use crate::policy::Ratio;
use crate::policy::loss::{Parts, Shares, Tokens, rollout};

/// A sequence and the factors of its loss: the normalisers of the update are in them already.
#[derive(Clone, Copy)]
pub(crate) struct Scaled<'a> {
    pub(crate) sequence: &'a Sequence,
    /// Of a position.
    pub(crate) scale: f64,
    /// Of a whole sequence.
    pub(crate) rollout: f64,
}

impl Scaled<'_> {
    pub(crate) fn shares(&self) -> Shares {
        Shares {
            token: self.scale,
            rollout: self.rollout,
        }
    }
}

/// Sums over the positions of a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Scaled loss.
    pub(crate) loss: f64,
    /// Scaled parts of the policy loss.
    pub(crate) policy: Parts,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.policy += other.policy;
    }
}

/// Adds the gradients of a chunk to the sink. Neighbours that begin alike are computed behind one copy of that,
/// see [`Packing::sharing`] for `share`.
///
/// # Errors
/// [`LmError::Shape`] for a sequence that the model cannot read.
pub(crate) fn differentiate<T: Real>(
    decoder: &Decoder<T>,
    sequences: &[Scaled<'_>],
    share: usize,
    keep: Keep,
    worker: &mut Worker<T>,
    sink: &Sink<'_, '_, T>,
) -> Result<Sums, LmError> {
    let ids: Vec<&[u32]> = sequences
        .iter()
        .map(|one| one.sequence.ids.as_slice())
        .collect();
    let packing = Packing::sharing(&ids, share);
    let batch = &packing.batch;
    let mut rows = Rows::new(sequences, &packing);
    let Worker { dhead, scratch } = worker;
    let saved = decoder.forward(batch, &rows.tokens, keep, scratch)?;
    let head = Head {
        hidden: &saved.hidden,
        head: decoder.head(),
        width: decoder.config().hidden_size,
        vocabulary: decoder.config().vocab_size,
        precision: decoder.precision(),
    };
    let mut dhidden = scratch.take(saved.hidden.len());
    let mut sums = Sums::default();
    let mut room = RowRoom {
        topk: TopKRoom::new(),
        values: Vec::new(),
    };
    rows.find_sequence_slopes(sequences, &head, scratch, &mut room);
    head.differentiate(&mut dhidden, dhead, scratch, |row, logits| {
        sums += rows.row(row, logits, &mut room);
    });
    decoder.backward(saved, &mut dhidden, dhead, sink, scratch);
    scratch.give(dhidden);
    Ok(sums)
}

/// The positions of a chunk that have a loss.
struct Rows<'a> {
    /// Index of the token whose logits predict each.
    tokens: Vec<usize>,
    /// Sequence, and index among its positions, of each.
    origin: Vec<(Scaled<'a>, usize)>,
    /// For each row, what was found when a whole sequence had to be seen first; else empty.
    known: Vec<(Parts, f64)>,
}

struct RowRoom<T> {
    topk: TopKRoom<T>,
    values: Vec<T>,
}

impl<'a> Rows<'a> {
    fn new(sequences: &[Scaled<'a>], packing: &Packing) -> Self {
        let (mut tokens, mut origin) = (Vec::new(), Vec::new());
        for (number, &one) in sequences.iter().enumerate() {
            for (at, &position) in one.sequence.loss.positions().iter().enumerate() {
                tokens.push(packing.token(number, position as usize - 1));
                origin.push((one, at));
            }
        }
        Self {
            tokens,
            origin,
            known: Vec::new(),
        }
    }

    fn target(&self, row: usize) -> usize {
        let (Scaled { sequence, .. }, at) = self.origin[row];
        sequence.ids[sequence.loss.positions()[at] as usize] as usize
    }

    /// A ratio over a whole rollout needs all its log-probabilities before any slope: reads the head once
    /// more for that.
    fn find_sequence_slopes<T: Real>(
        &mut self,
        sequences: &[Scaled<'_>],
        head: &Head<'_, T>,
        scratch: &mut Scratch<T>,
        room: &mut RowRoom<T>,
    ) {
        let by_sequence = |one: &Scaled<'_>| matches!(&one.sequence.loss, LossTarget::Policy(p) if p.settings.ratio == Ratio::Sequence);
        if !sequences.iter().any(by_sequence) {
            return;
        }
        let mut logprobs = Vec::with_capacity(self.tokens.len());
        head.read(scratch, |row, logits| {
            let stats = logprob::row(logits, self.target(row), &mut room.values, |_| {
                Slopes::default()
            });
            logprobs.push(stats.logprob.to_f64());
        });
        let mut logprobs = logprobs.as_slice();
        for one in sequences {
            let (mine, rest) = logprobs.split_at(one.sequence.loss.positions().len());
            logprobs = rest;
            match &one.sequence.loss {
                LossTarget::Policy(policy) if by_sequence(one) && !mine.is_empty() => {
                    let (parts, slopes) = policy.rollout(0, mine, one.shares());
                    // the parts of the whole rollout are counted with its first row
                    let first = std::iter::once(parts).chain(std::iter::repeat(Parts::default()));
                    self.known.extend(first.zip(slopes));
                }
                _ => self
                    .known
                    .extend(mine.iter().map(|_| (Parts::default(), 0.0))),
            }
        }
    }

    /// Scaled loss of a row; replaces its logits by their gradient.
    fn row<T: Real>(&self, row: usize, logits: &mut [T], room: &mut RowRoom<T>) -> Sums {
        let (one, at) = self.origin[row];
        let scale = one.scale * one.sequence.loss.weight(at);
        let target = self.target(row);
        match &one.sequence.loss {
            LossTarget::CrossEntropy { .. } => {
                let loss = cross_entropy::row(logits, target, T::from_f64(scale));
                Sums {
                    loss: loss.to_f64() * scale,
                    policy: Parts::default(),
                }
            }
            LossTarget::TopK(teacher) => {
                let loss = teacher.row(at, target, scale, logits, room);
                Sums {
                    loss: loss * scale,
                    policy: Parts::default(),
                }
            }
            LossTarget::Policy(policy) => {
                let known = self
                    .known
                    .get(row)
                    .filter(|_| policy.settings.ratio == Ratio::Sequence);
                let parts = policy.row(at, target, one.shares(), known, logits, room);
                Sums {
                    loss: parts.total(&policy.settings),
                    policy: parts,
                }
            }
        }
    }
}

impl TopKTarget {
    /// Unscaled loss at one of the positions.
    fn row<T: Real>(
        &self,
        at: usize,
        target: usize,
        scale: f64,
        logits: &mut [T],
        room: &mut RowRoom<T>,
    ) -> f64 {
        let part = at * self.k..(at + 1) * self.k;
        room.values.clear();
        let logprobs = self.teacher_logprobs[part.clone()].iter();
        room.values
            .extend(logprobs.map(|&t| T::from_f64(f64::from(t))));
        let listed = Teacher {
            ids: &self.teacher_ids[part],
            logprobs: &room.values,
        };
        let scale = T::from_f64(scale);
        topk::row(
            &self.settings,
            listed,
            target,
            scale,
            logits,
            &mut room.topk,
        )
        .to_f64()
    }
}

impl PolicyTarget {
    /// Parts and slopes of consecutive positions, the first of which is `at`.
    pub(crate) fn rollout(&self, at: usize, logprobs: &[f64], shares: Shares) -> (Parts, Vec<f64>) {
        let part = at..at + logprobs.len();
        let wide = |values: &[f32]| {
            values[part.clone()]
                .iter()
                .map(|&x| f64::from(x))
                .collect::<Vec<_>>()
        };
        let reference = self.reference_logprobs.as_deref().map(wide);
        let tokens = Tokens {
            logprobs,
            old: &wide(&self.old_logprobs),
            reference: reference.as_deref(),
            advantages: &wide(&self.advantages),
        };
        rollout(&self.settings, tokens, shares)
    }

    /// Scaled parts at one of the positions.
    fn row<T: Real>(
        &self,
        at: usize,
        target: usize,
        shares: Shares,
        known: Option<&(Parts, f64)>,
        logits: &mut [T],
        room: &mut RowRoom<T>,
    ) -> Parts {
        let mut parts = Parts::default();
        let entropy_slope = T::from_f64(-self.settings.entropy_coefficient * shares.token);
        let stats = logprob::row(logits, target, &mut room.values, |stats| {
            let (found, slope) = known.copied().unwrap_or_else(|| {
                let (found, slopes) = self.rollout(at, &[stats.logprob.to_f64()], shares);
                (found, slopes[0])
            });
            parts = found;
            Slopes {
                logprob: T::from_f64(slope),
                entropy: entropy_slope,
            }
        });
        parts.entropy = stats.entropy.to_f64() * shares.token;
        parts
    }
}
