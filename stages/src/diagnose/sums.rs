//! What is counted over answers, and how it is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use starling_lm::policy::KlEstimator;

use super::spans::Span;
use crate::statistics::{Estimate, mean, pass_at_k};

/// A mean under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    n: u64,
    sum: f64,
}

impl Tally {
    pub(super) fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
    }

    fn join(&mut self, other: Self) {
        self.n += other.n;
        self.sum += other.sum;
    }

    fn mean(self) -> f64 {
        self.sum / self.n.max(1) as f64
    }
}

/// The estimators, in the order of [`Sums::kl`].
const ESTIMATORS: [(&str, KlEstimator); 3] = [
    ("k1", KlEstimator::K1),
    ("k2", KlEstimator::K2),
    ("k3", KlEstimator::K3),
];

/// Sums over answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// Entropy, by span as in [`Span::ALL`].
    entropy: [Tally; 4],
    /// Entropy, by the token's place in its answer.
    by_position: Vec<Tally>,
    /// Tokens of each answer.
    lengths: Vec<u32>,
    /// Answers that ended by themselves.
    finished: usize,
    /// Mass of the likeliest tokens, by whose they are.
    mass: BTreeMap<String, Tally>,
    /// Divergence, by from whom.
    kl: BTreeMap<String, [Tally; 3]>,
    /// For each prompt, answers and right ones.
    right: Vec<(usize, usize)>,
    format: Tally,
    answer: Tally,
    reward: Tally,
}

/// What is known of one answer.
pub(super) struct Seen<'a> {
    pub(super) spans: &'a [Span],
    pub(super) entropies: &'a [f32],
    pub(super) finished: bool,
}

impl Sums {
    pub(super) fn answer(&mut self, seen: &Seen<'_>) {
        for (at, (span, entropy)) in seen.spans.iter().zip(seen.entropies).enumerate() {
            let entropy = f64::from(*entropy);
            if let Some(tally) = Span::ALL.iter().position(|s| s == span) {
                self.entropy[tally].add(entropy);
            }
            if self.by_position.len() <= at {
                self.by_position.push(Tally::default());
            }
            self.by_position[at].add(entropy);
        }
        self.lengths.push(seen.entropies.len() as u32);
        self.finished += usize::from(seen.finished);
    }

    /// Takes in the log-probabilities of the `k` likeliest tokens at some positions.
    pub(super) fn mass(&mut self, whose: &str, logprobs: &[f32], k: usize) {
        let tally = self.mass.entry(whose.to_owned()).or_default();
        for row in logprobs.chunks_exact(k.max(1)) {
            tally.add(row.iter().map(|lp| f64::from(*lp).exp()).sum());
        }
    }

    /// Takes in what the model and another one think of the same tokens.
    pub(super) fn divergence(&mut self, to: &str, own: &[f32], other: &[f32]) {
        let tallies = self.kl.entry(to.to_owned()).or_default();
        for (own, other) in own.iter().zip(other) {
            for (tally, (_, estimator)) in tallies.iter_mut().zip(ESTIMATORS) {
                tally.add(estimator.estimate(f64::from(*own), f64::from(*other)).0);
            }
        }
    }

    pub(super) fn judged(&mut self, format: f64, answer: f64, reward: f64) {
        self.format.add(format);
        self.answer.add(answer);
        self.reward.add(reward);
    }

    pub(super) fn prompt(&mut self, answers: usize, right: usize) {
        self.right.push((answers, right));
    }

    pub(super) fn join(&mut self, other: &Self) {
        for (own, other) in self.entropy.iter_mut().zip(other.entropy) {
            own.join(other);
        }
        let longest = self.by_position.len().max(other.by_position.len());
        self.by_position.resize(longest, Tally::default());
        for (own, other) in self.by_position.iter_mut().zip(&other.by_position) {
            own.join(*other);
        }
        self.lengths.extend(&other.lengths);
        self.finished += other.finished;
        for (whose, tally) in &other.mass {
            self.mass.entry(whose.clone()).or_default().join(*tally);
        }
        for (to, tallies) in &other.kl {
            for (own, other) in self
                .kl
                .entry(to.clone())
                .or_default()
                .iter_mut()
                .zip(tallies)
            {
                own.join(*other);
            }
        }
        self.right.extend(&other.right);
        self.format.join(other.format);
        self.answer.join(other.answer);
        self.reward.join(other.reward);
    }

    /// A line a figure; `k` is how many likeliest tokens a mass is of.
    pub(super) fn lines(&self, k: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        let mut all = Tally::default();
        for tally in self.entropy {
            all.join(tally);
        }
        let spans = Span::ALL.iter().map(|s| s.name()).zip(self.entropy);
        for (span, tally) in std::iter::once(("all", all)).chain(spans) {
            if tally.n > 0 {
                lines.push(json!({"figure": "entropy", "span": span, "tokens": tally.n, "mean": tally.mean()}));
            }
        }
        for (at, tally) in self.by_position.iter().enumerate() {
            lines.push(json!({"figure": "entropy", "position": at, "tokens": tally.n, "mean": tally.mean()}));
        }
        let mut lengths = self.lengths.clone();
        lengths.sort_unstable();
        let at = |share: f64| {
            let last = lengths.len().saturating_sub(1) as f64;
            lengths
                .get((share * last).round() as usize)
                .copied()
                .unwrap_or(0)
        };
        let sum: f64 = lengths.iter().map(|l| f64::from(*l)).sum();
        lines.push(json!({
            "figure": "length", "answers": lengths.len(), "mean": sum / lengths.len().max(1) as f64,
            "median": at(0.5), "ninth-decile": at(0.9), "greatest": at(1.0),
            "unfinished": lengths.len() - self.finished,
        }));
        for (whose, tally) in &self.mass {
            lines.push(json!({"figure": "top-k-mass", "of": whose, "k": k, "tokens": tally.n, "mean": tally.mean()}));
        }
        for (to, tallies) in &self.kl {
            for (tally, (name, _)) in tallies.iter().zip(ESTIMATORS) {
                lines.push(json!({"figure": "kl", "to": to, "estimator": name, "tokens": tally.n, "mean": tally.mean()}));
            }
        }
        for (part, tally) in [
            ("format", self.format),
            ("answer", self.answer),
            ("reward", self.reward),
        ] {
            if tally.n > 0 {
                lines.push(json!({"figure": "reward", "part": part, "answers": tally.n, "mean": tally.mean()}));
            }
        }
        let fewest = self.right.iter().map(|(n, _)| *n).min().unwrap_or(0);
        for k in (0..)
            .map(|power| 1_usize << power)
            .take_while(|k| *k <= fewest)
        {
            let each: Vec<f64> = self
                .right
                .iter()
                .map(|(n, right)| pass_at_k(*n, *right, k))
                .collect();
            let Estimate { value, low, high } = mean(&each);
            lines.push(json!({"figure": "pass", "k": k, "prompts": each.len(), "mean": value, "low": low, "high": high}));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of two answers to one prompt, worked out by hand.
    #[test]
    fn figures_are_those_of_a_calculation_by_hand() {
        let mut first = Sums::default();
        first.answer(&Seen {
            spans: &[Span::Think, Span::Name, Span::Argument, Span::Argument],
            entropies: &[1.0, 0.5, 0.25, 0.75],
            finished: true,
        });
        first.mass(
            "model",
            &[0.5_f32.ln(), 0.25_f32.ln(), 0.5_f32.ln(), 0.5_f32.ln()],
            2,
        );
        // d = log p - log q is 0.5 and -1: k1 their mean, k2 their half squares, k3 = e^-d - 1 + d
        first.divergence("reference", &[-0.5, -2.0], &[-1.0, -1.0]);
        first.judged(1.0, 1.0, 1.0);
        let mut second = Sums::default();
        second.answer(&Seen {
            spans: &[Span::Think, Span::Other],
            entropies: &[2.0, 0.5],
            finished: false,
        });
        second.judged(-1.0, 0.0, -1.0);
        second.prompt(4, 1);
        first.join(&second);
        let lines = first.lines(2);
        let mean = |what: &[(&str, Value)]| {
            let fits = |line: &&Value| what.iter().all(|(key, value)| line[*key] == *value);
            let found: Vec<&Value> = lines.iter().filter(fits).collect();
            assert_eq!(found.len(), 1, "{what:?}");
            found[0]["mean"].as_f64().expect("a number")
        };
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got} {want}");
        let entropy =
            |key: &'static str, value: Value| mean(&[("figure", json!("entropy")), (key, value)]);
        near(entropy("span", json!("think")), 1.5);
        near(entropy("span", json!("name")), 0.5);
        near(entropy("span", json!("argument")), 0.5);
        near(entropy("span", json!("other")), 0.5);
        near(entropy("span", json!("all")), 5.0 / 6.0);
        near(entropy("position", json!(0)), 1.5);
        near(entropy("position", json!(1)), 0.5);
        near(entropy("position", json!(3)), 0.75);
        near(mean(&[("figure", json!("length"))]), 3.0);
        near(mean(&[("figure", json!("top-k-mass"))]), (0.75 + 1.0) / 2.0);
        let kl = |name: &str| mean(&[("figure", json!("kl")), ("estimator", json!(name))]);
        near(kl("k1"), -0.25);
        near(kl("k2"), (0.125 + 0.5) / 2.0);
        let k3 = |d: f64| (-d).exp() - 1.0 + d;
        near(kl("k3"), (k3(0.5) + k3(-1.0)) / 2.0);
        near(
            mean(&[("figure", json!("reward")), ("part", json!("format"))]),
            0.0,
        );
        near(
            mean(&[("figure", json!("reward")), ("part", json!("reward"))]),
            0.0,
        );
        // one of four is right: 1/4, 1 - (3/4)(2/3) = 1/2, 1
        let pass = |k: usize| mean(&[("figure", json!("pass")), ("k", json!(k))]);
        near(pass(1), 0.25);
        near(pass(2), 0.5);
        near(pass(4), 1.0);
        let length = lines
            .iter()
            .find(|l| l["figure"] == "length")
            .expect("there");
        assert_eq!(
            (&length["greatest"], &length["unfinished"]),
            (&json!(4), &json!(1))
        );
    }
}
