//! Divergence between a teacher known by its `k` likeliest tokens and the student, with a tail penalty.
//!
//! With teacher log-probabilities t and student log-probabilities s, both over the whole vocabulary, K the teacher's
//! listed tokens and M the student's `m` likeliest:
//!
//! | name    | value                                                                              |
//! |---------|------------------------------------------------------------------------------------|
//! | forward | Σ over K of e^t·(t - s)                                                            |
//! | reverse | Σ over K of e^s·(s - t)                                                            |
//! | adaptive| (g·forward + h·reverse) / (g + h), g = Σ over K's head of the gap e^t to e^s, h over its rest |
//! | tail    | Σ over M without K of e^s                                                          |
//!
//! The teacher is not renormalised over K, so these are not divergences proper and may be negative. The head of K holds the
//! tokens, likeliest first, before which less than half of the teacher's mass lies.

use super::{exponentiate, scale_by};
use crate::kernels::Real;

/// Which way the divergence is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divergence {
    /// Weighted by the teacher.
    #[default]
    Forward,
    /// Weighted by the student.
    Reverse,
    /// Between both, by where the two differ.
    Adaptive,
}

/// The loss at a position: `ratio`·(divergence + `tail_coefficient`·tail) + (1 - `ratio`)·cross-entropy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopKSettings {
    /// Which way the divergence is taken.
    pub divergence: Divergence,
    /// Weight of the tail; 0 leaves it out.
    pub tail_coefficient: f64,
    /// m: how many of the student's likeliest tokens the tail looks at.
    pub student_top: usize,
    /// Share of distillation; the rest is cross-entropy at the true token.
    pub ratio: f64,
}

impl Default for TopKSettings {
    /// The published recipe: forward, tail 10 on 100 tokens, no cross-entropy.
    fn default() -> Self {
        Self {
            divergence: Divergence::Forward,
            tail_coefficient: 10.0,
            student_top: 100,
            ratio: 1.0,
        }
    }
}

/// What the teacher says about one position.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a, T> {
    /// Its likeliest tokens, without repeats.
    pub ids: &'a [u32],
    /// Their log-probabilities, nats, over the whole vocabulary.
    pub logprobs: &'a [T],
}

/// Working memory of [`row`], kept between rows.
#[derive(Debug, Default)]
pub struct TopKRoom<T> {
    /// Per token: the number of the row that last listed it.
    marks: Vec<u32>,
    row: u32,
    values: Vec<T>,
    strays: Vec<u32>,
    student: Vec<T>,
    slopes: Vec<T>,
    order: Vec<usize>,
}

/// Loss in nats; replaces the logits by `scale` times their gradient.
///
/// Every part is a function of s over K and of the tail, so with a = ∂loss/∂s the gradient is
/// a (on K) + r·c·p (on the tail) - r·c·tail·p - p·Σa + (1 - r)·(p - \[v = target\]).
///
/// # Shapes
/// `logits` `[v]`; `teacher` `[k]`, ids `< v`; `target < v`.
///
/// # Panics
/// When an id is outside.
pub fn row<T: Real>(
    settings: &TopKSettings,
    teacher: Teacher<'_, T>,
    target: usize,
    scale: T,
    logits: &mut [T],
    room: &mut TopKRoom<T>,
) -> T {
    let target_logit = logits[target];
    room.student.clear();
    room.student
        .extend(teacher.ids.iter().map(|&id| logits[id as usize]));
    let penalised = settings.tail_coefficient > 0.0 && settings.ratio > 0.0;
    if penalised {
        room.find_strays(teacher.ids, logits, settings.student_top);
    } else {
        room.strays.clear();
    }
    let normaliser = exponentiate(logits);
    for s in &mut room.student {
        *s = normaliser.logprob(*s);
    }
    let divergence = room.divergence(settings.divergence, teacher.logprobs);

    let (ratio, rest) = (
        T::from_f64(settings.ratio),
        T::from_f64(1.0 - settings.ratio),
    );
    let c = ratio * T::from_f64(settings.tail_coefficient);
    let inverse = T::ONE / normaliser.sum;
    let tail: T = room
        .strays
        .iter()
        .map(|&id| logits[id as usize] * inverse)
        .sum();
    let slopes: T = room.slopes.iter().copied().sum();
    let dense = rest - ratio * slopes - if penalised { c * tail } else { T::ZERO };
    room.values.clear();
    room.values
        .extend(room.strays.iter().map(|&id| logits[id as usize] * inverse));
    scale_by(logits, scale * dense * inverse);
    for (&id, &p) in room.strays.iter().zip(&room.values) {
        logits[id as usize] += scale * c * p;
    }
    for (&id, &slope) in teacher.ids.iter().zip(&room.slopes) {
        logits[id as usize] += scale * ratio * slope;
    }
    let mut loss = ratio * divergence;
    if penalised {
        loss += c * tail;
    }
    if settings.ratio < 1.0 {
        logits[target] -= scale * rest;
        loss -= rest * normaliser.logprob(target_logit);
    }
    loss
}

impl<T: Real> TopKRoom<T> {
    /// Room for any vocabulary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the student's `count` likeliest tokens that the teacher does not list; equal logits: lower id first.
    fn find_strays(&mut self, listed: &[u32], logits: &[T], count: usize) {
        let count = count.min(logits.len());
        self.strays.clear();
        if count == 0 {
            return;
        }
        self.begin_row(logits.len());
        for &id in listed {
            self.marks[id as usize] = self.row;
        }
        self.values.clear();
        self.values.extend_from_slice(logits);
        let (_, &mut least, _) = self
            .values
            .select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        let above = logits
            .iter()
            .filter(|z| z.total_cmp(&least).is_gt())
            .count();
        let mut equals = count - above;
        for (id, z) in logits.iter().enumerate() {
            let order = z.total_cmp(&least);
            let taken = order.is_gt() || (order.is_eq() && equals > 0);
            if order.is_eq() && equals > 0 {
                equals -= 1;
            }
            if taken && self.marks[id] != self.row {
                self.strays.push(id as u32);
            }
        }
    }

    fn begin_row(&mut self, vocabulary: usize) {
        if self.row == u32::MAX || self.marks.len() != vocabulary {
            self.marks.clear();
            self.marks.resize(vocabulary, 0);
            self.row = 0;
        }
        self.row += 1;
    }

    /// The divergence of `student` from the teacher; leaves its slopes ∂/∂s in `slopes`.
    fn divergence(&mut self, kind: Divergence, teacher: &[T]) -> T {
        self.slopes.clear();
        match kind {
            Divergence::Forward => {
                self.slopes.extend(teacher.iter().map(|t| -t.exp()));
                forward(teacher, &self.student)
            }
            Divergence::Reverse => {
                let pairs = teacher.iter().zip(&self.student);
                self.slopes
                    .extend(pairs.map(|(&t, &s)| s.exp() * (s - t + T::ONE)));
                reverse(teacher, &self.student)
            }
            Divergence::Adaptive => self.adaptive(teacher),
        }
    }

    fn adaptive(&mut self, teacher: &[T]) -> T {
        self.order.clear();
        self.order.extend(0..teacher.len());
        self.order
            .sort_by(|&a, &b| teacher[b].total_cmp(&teacher[a]));
        let (forward, reverse) = (
            forward(teacher, &self.student),
            reverse(teacher, &self.student),
        );
        let (mut mass, mut gaps) = (T::ZERO, [T::ZERO; 2]);
        // which part each token belongs to, kept in `values` as 0 or 1
        self.values.clear();
        self.values.resize(teacher.len(), T::ZERO);
        for &at in &self.order {
            let part = usize::from(mass >= T::from_f64(0.5));
            let q = teacher[at].exp();
            gaps[part] += (q - self.student[at].exp()).abs();
            self.values[at] = if part == 0 { T::ZERO } else { T::ONE };
            mass += q;
        }
        let total = gaps[0] + gaps[1];
        if total == T::ZERO {
            self.slopes.resize(teacher.len(), T::ZERO);
            return T::ZERO;
        }
        let loss = (gaps[0] * forward + gaps[1] * reverse) / total;
        for (at, (&t, &s)) in teacher.iter().zip(&self.student).enumerate() {
            let (q, p) = (t.exp(), s.exp());
            let side = if p > q {
                T::ONE
            } else if p < q {
                -T::ONE
            } else {
                T::ZERO
            };
            let part = if self.values[at] == T::ZERO {
                forward
            } else {
                reverse
            };
            let slope = gaps[0] * -q + gaps[1] * p * (s - t + T::ONE) + side * p * (part - loss);
            self.slopes.push(slope / total);
        }
        loss
    }
}

fn forward<T: Real>(teacher: &[T], student: &[T]) -> T {
    teacher
        .iter()
        .zip(student)
        .map(|(&t, &s)| t.exp() * (t - s))
        .sum()
}

fn reverse<T: Real>(teacher: &[T], student: &[T]) -> T {
    teacher
        .iter()
        .zip(student)
        .map(|(&t, &s)| s.exp() * (s - t))
        .sum()
}
