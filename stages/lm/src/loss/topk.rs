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
//! | jensen-shannon | β·KL(t‖m) + (1-β)·KL(s‖m), m = β·t + (1-β)·s, over K and one outcome for all else; β = 0: KL(t‖s), β = 1: KL(s‖t) |
//! | tail    | Σ over M without K of e^s                                                          |
//!
//! With K the whole vocabulary, jensen-shannon is that of [`super::gkd`]; with less, merging outcomes can only lower it.
//! In the first three the teacher is not renormalised over K, so these are not divergences proper and may be negative. The head of K holds the
//! tokens, likeliest first, before which less than half of the teacher's mass lies.

use super::{exponentiate, scale_by};
use crate::kernels::vector::max;
use crate::kernels::{Real, simd_fn};

/// Which way the divergence is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Divergence {
    /// Weighted by the teacher.
    #[default]
    Forward,
    /// Weighted by the student.
    Reverse,
    /// Between both, by where the two differ.
    Adaptive,
    /// The generalised Jensen-Shannon divergence.
    JensenShannon {
        /// Weight of the teacher in the mixture, in [0, 1].
        beta: f64,
    },
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
    tops: Vec<T>,
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
    let divergence = match settings.divergence {
        Divergence::JensenShannon { beta } => {
            let rest = unlisted(teacher.ids, logits, &mut room.values) / normaliser.sum;
            let rest = (teacher.ids.len() < logits.len()).then_some(rest);
            room.jensen_shannon(beta, teacher.logprobs, rest)
        }
        other => room.divergence(other, teacher.logprobs),
    };

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
        let bound = self.bound(logits, count);
        self.values.clear();
        for (block, &top) in logits.chunks(BLOCK).zip(&self.tops) {
            if top < bound {
                continue;
            }
            let above = block.iter().filter(|z| z.total_cmp(&bound).is_ge());
            self.values.extend(above);
        }
        if self.values.len() < count {
            // not every number can be compared: the row is lost, yet it has as many strays
            self.tops.fill(bound);
            self.values.clear();
            self.values.extend_from_slice(logits);
        }
        let by_value = |a: &T, b: &T| b.total_cmp(a);
        let (above, &mut least, _) = self.values.select_nth_unstable_by(count - 1, by_value);
        let above = above.iter().filter(|z| z.total_cmp(&least).is_gt());
        let mut equals = count - above.count();
        for (number, (block, &top)) in logits.chunks(BLOCK).zip(&self.tops).enumerate() {
            if top < bound {
                continue;
            }
            for (id, z) in (number * BLOCK..).zip(block) {
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
    }

    /// A number that at least `count` logits reach: the count-th greatest of the greatest of each block, which stay in
    /// `tops`. So only blocks that reach it need to be looked through.
    fn bound(&mut self, logits: &[T], count: usize) -> T {
        self.tops.clear();
        self.tops
            .resize(logits.len().div_ceil(BLOCK), T::NEG_INFINITY);
        if self.tops.len() < count {
            return T::NEG_INFINITY;
        }
        block_tops(logits, &mut self.tops);
        self.values.clear();
        self.values.extend_from_slice(&self.tops);
        let by_value = |a: &T, b: &T| b.total_cmp(a);
        *self.values.select_nth_unstable_by(count - 1, by_value).1
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
            Divergence::JensenShannon { beta } => self.jensen_shannon(beta, teacher, None),
        }
    }

    /// `rest`: the student's mass outside K; none when K is everything.
    fn jensen_shannon(&mut self, beta: f64, teacher: &[T], rest: Option<T>) -> T {
        let least = T::from_f64(LEAST_MASS);
        let listed: T = teacher.iter().map(|t| t.exp()).sum();
        // what the teacher gives to all else, and how the loss changes with what the student gives to it
        let others = rest.map(|p| {
            let q = (T::ONE - listed).max(T::ZERO);
            mixture_part(beta, q, p.max(least))
        });
        let (mut loss, outside) = others.unwrap_or((T::ZERO, T::ZERO));
        self.slopes.clear();
        for (t, s) in teacher.iter().zip(&self.student) {
            let p = s.exp().max(T::from_f64(f64::from(f32::MIN_POSITIVE)));
            let (part, slope) = mixture_part(beta, t.exp(), p);
            loss += part;
            self.slopes.push(p * (slope - outside));
        }
        loss
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

/// Logits whose greatest is found first.
const BLOCK: usize = 32;

simd_fn! {
    /// The greatest of each block.
    fn block_tops(logits: &'a [T], tops: &'a mut [T]) {
        for (block, top) in logits.chunks(BLOCK).zip(tops) {
            *top = max(block);
        }
    }
}

/// The student's mass outside K is not taken to be less, so that a ratio to it stays a number.
const LEAST_MASS: f64 = 1e-6;

/// Sum of the values whose ids are not listed.
fn unlisted<T: Real>(listed: &[u32], values: &mut [T], room: &mut Vec<T>) -> T {
    room.clear();
    room.extend(listed.iter().map(|&id| values[id as usize]));
    for &id in listed {
        values[id as usize] = T::ZERO;
    }
    let sum = values.iter().copied().sum();
    for (&id, &value) in listed.iter().zip(room.iter()) {
        values[id as usize] = value;
    }
    sum
}

/// The part of one outcome with teacher mass q and student mass p > 0 in the generalised Jensen-Shannon divergence, and
/// its slope on p, up to a constant that is the same for all outcomes.
fn mixture_part<T: Real>(beta: f64, q: T, p: T) -> (T, T) {
    let log = |x: T| if x > T::ZERO { x.ln() } else { T::ZERO };
    if beta <= 0.0 {
        return (q * (log(q) - p.ln()), -q / p);
    }
    if beta >= 1.0 {
        let q = q.max(T::from_f64(f64::from(f32::MIN_POSITIVE)));
        return (p * (p.ln() - q.ln()), p.ln() - q.ln());
    }
    let (b, rest) = (T::from_f64(beta), T::from_f64(1.0 - beta));
    let m = (b * q + rest * p).ln();
    let slope = rest * (p.ln() - m);
    (b * q * (log(q) - m) + slope * p, slope)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::gkd;

    const STUDENT: [f64; 7] = [0.3, -1.2, 2.0, 0.1, -0.4, 1.1, -3.0];
    const TEACHER: [f64; 7] = [1.3, 0.2, 0.5, -2.1, 0.4, 1.0, -1.0];

    fn teacher_logprobs() -> Vec<f64> {
        let sum: f64 = TEACHER.iter().map(|z| z.exp()).sum();
        TEACHER.iter().map(|z| z - sum.ln()).collect()
    }

    fn jensen_shannon(beta: f64, ids: &[u32], student: &[f64]) -> (f64, Vec<f64>) {
        let all = teacher_logprobs();
        let logprobs: Vec<f64> = ids.iter().map(|&id| all[id as usize]).collect();
        let teacher = Teacher {
            ids,
            logprobs: &logprobs,
        };
        let settings = TopKSettings {
            divergence: Divergence::JensenShannon { beta },
            tail_coefficient: 0.0,
            ..TopKSettings::default()
        };
        let mut logits = student.to_vec();
        let room = &mut TopKRoom::new();
        let loss = row(&settings, teacher, 0, 1.0, &mut logits, room);
        (loss, logits)
    }

    /// Without its tail the constrained loss is forward KL: over everything the full one, over a list the sum over it
    /// with the gradient T·p - q, whatever tail was looked for.
    #[test]
    fn without_a_tail_it_is_forward_kl() {
        let all = teacher_logprobs();
        let p = {
            let mut p = STUDENT.to_vec();
            let sum = exponentiate(&mut p).sum;
            p.iter().map(|x| x / sum).collect::<Vec<f64>>()
        };
        let everything: Vec<u32> = (0..7).collect();
        for (ids, student_top) in [(everything.as_slice(), 7), (&[0, 5, 2], 1), (&[0, 5, 2], 7)] {
            let logprobs: Vec<f64> = ids.iter().map(|&id| all[id as usize]).collect();
            let settings = TopKSettings {
                tail_coefficient: 0.0,
                student_top,
                ..TopKSettings::default()
            };
            let teacher = Teacher {
                ids,
                logprobs: &logprobs,
            };
            let mut gradient = STUDENT.to_vec();
            let loss = row(
                &settings,
                teacher,
                0,
                1.0,
                &mut gradient,
                &mut TopKRoom::new(),
            );
            let listed = |v: usize| ids.contains(&(v as u32));
            let terms = (0..7).filter(|v| listed(*v));
            let expected: f64 = terms.map(|v| all[v].exp() * (all[v] - p[v].ln())).sum();
            assert!((loss - expected).abs() < 1e-12, "{loss} {expected}");
            let mass: f64 = logprobs.iter().map(|t| t.exp()).sum();
            for v in 0..7 {
                let q = if listed(v) { all[v].exp() } else { 0.0 };
                assert!((gradient[v] - (mass * p[v] - q)).abs() < 1e-12, "{v}");
            }
            if ids.len() == 7 {
                let mut full = STUDENT.to_vec();
                let whole = gkd::row(&mut full, &TEACHER, 0.0, 1.0, 1.0);
                assert!((loss - whole).abs() < 1e-12, "{loss} {whole}");
                let pairs = gradient.iter().zip(&full);
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-12));
            }
        }
    }

    /// Ties, signed zeros, fewer blocks than tokens wanted: always the first of the sorted list.
    #[test]
    fn strays_are_the_first_of_all_that_are_sorted() {
        let mut rng = crate::rng::SplitMix64::new(8);
        let mut room = TopKRoom::<f32>::new();
        for (vocabulary, count) in [
            (7, 3),
            (7, 9),
            (100, 100),
            (3333, 100),
            (6000, 100),
            (6016, 1),
        ] {
            for kinds in [3, 40, 100_000] {
                let mut logits: Vec<f32> = (0..vocabulary)
                    .map(|_| (rng.below(kinds) as f32 - 1.0) / 16.0)
                    .collect();
                logits[vocabulary / 2] = -0.0;
                let listed = [1, 5, 2];
                let mut order: Vec<u32> = (0..vocabulary as u32).collect();
                order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
                order.truncate(count);
                order.retain(|id| !listed.contains(id));
                order.sort_unstable();
                room.find_strays(&listed, &logits, count);
                assert_eq!(room.strays, order, "{vocabulary} {count} {kinds}");
            }
        }
        let mut lost = vec![f32::NAN; 5000];
        lost[77] = 1.0;
        lost[99] = -f32::NAN;
        room.find_strays(&[3], &lost, 100);
    }

    #[test]
    fn jensen_shannon_over_everything_is_the_full_one() {
        let ids: Vec<u32> = (0..7).collect();
        for beta in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let (loss, gradient) = jensen_shannon(beta, &ids, &STUDENT);
            let mut full = STUDENT.to_vec();
            let expected = gkd::row(&mut full, &TEACHER, beta, 1.0, 1.0);
            assert!((loss - expected).abs() < 1e-12, "{beta}: {loss} {expected}");
            for (a, b) in gradient.iter().zip(&full) {
                assert!((a - b).abs() < 1e-12, "{beta}: {gradient:?} {full:?}");
            }
        }
    }

    #[test]
    fn jensen_shannon_over_a_list_bounds_the_full_one_from_below_and_has_its_own_gradient() {
        let ids = [0, 5, 2];
        for beta in [0.0, 0.3, 0.5, 1.0] {
            let (loss, gradient) = jensen_shannon(beta, &ids, &STUDENT);
            let full = gkd::row(&mut STUDENT.to_vec(), &TEACHER, beta, 1.0, 1.0);
            assert!(loss >= 0.0 && loss < full, "{beta}: {loss} of {full}");
            for at in 0..7 {
                let moved = |by: f64| {
                    let mut student = STUDENT;
                    student[at] += by;
                    jensen_shannon(beta, &ids, &student).0
                };
                let measured = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((gradient[at] - measured).abs() < 1e-8, "{beta} at {at}");
            }
        }
    }
}
