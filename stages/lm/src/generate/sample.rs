//! From logits to a token: what is drawn, and what is recorded about the draw.

use super::math::{Partition, partition, tempered};
use super::{Sampling, TopToken};
use crate::kernels::Real;

/// What one position gave.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) token: u32,
    pub(super) logprob: f32,
    pub(super) entropy: f32,
    pub(super) top: Vec<TopToken>,
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct SampleScratch {
    masses: Vec<f32>,
    list: Vec<(f32, u32)>,
    penalised: Vec<f32>,
}

/// Draws a token by a number in `[0, 1)`; none when the logits are no distribution (not a number, or infinite).
///
/// `seen` are the tokens that a repetition penalty falls on, each once.
pub(super) fn draw(
    logits: &[f32],
    seen: &[u32],
    sampling: &Sampling,
    uniform: f64,
    scratch: &mut SampleScratch,
) -> Option<Drawn> {
    let whole = Partition::finite(logits)?;
    let penalised = penalise(
        logits,
        seen,
        sampling.repetition_penalty,
        &mut scratch.penalised,
    );
    let (judged, greatest) = if penalised {
        let judged = std::mem::take(&mut scratch.penalised);
        let greatest = partition(&judged).greatest;
        (Some(judged), greatest)
    } else {
        (None, whole.greatest)
    };
    let from = judged.as_deref().unwrap_or(logits);
    let token = if sampling.temperature > 0.0 {
        chosen(from, greatest, sampling, uniform, scratch)
    } else {
        let place = from.iter().position(|&logit| logit >= greatest);
        place.unwrap_or(0) as u32
    };
    if let Some(judged) = judged {
        scratch.penalised = judged;
    }
    Some(recorded(
        logits,
        whole,
        token,
        sampling.top_logprobs,
        scratch,
    ))
}

/// What a position says about a given token; none when the logits are no distribution.
pub(super) fn record(
    logits: &[f32],
    token: u32,
    top: usize,
    scratch: &mut SampleScratch,
) -> Option<Drawn> {
    let whole = Partition::finite(logits)?;
    Some(recorded(logits, whole, token, top, scratch))
}

fn recorded(
    logits: &[f32],
    whole: Partition,
    token: u32,
    top: usize,
    scratch: &mut SampleScratch,
) -> Drawn {
    let Partition {
        greatest,
        mass,
        moment,
    } = whole;
    let logprob = |logit: f32| (f64::from(logit - greatest) - mass.ln()) as f32;
    best(logits, top, &mut scratch.list);
    let top = scratch.list.iter().map(|&(logit, id)| TopToken {
        id,
        logprob: logprob(logit),
    });
    Drawn {
        token,
        logprob: logprob(logits[token as usize]),
        entropy: (mass.ln() - moment / mass).max(0.0) as f32,
        top: top.collect(),
    }
}

impl Partition {
    /// The measure of a row of logits that is a distribution.
    fn finite(logits: &[f32]) -> Option<Self> {
        let whole = partition(logits);
        (whole.greatest.is_finite() && whole.mass.is_finite()).then_some(whole)
    }
}

/// Copies the logits with those of the seen tokens made smaller; false when nothing is to be done.
fn penalise(logits: &[f32], seen: &[u32], penalty: f32, out: &mut Vec<f32>) -> bool {
    if seen.is_empty() || penalty == 1.0 {
        return false;
    }
    out.clear();
    out.extend_from_slice(logits);
    for &id in seen {
        let logit = &mut out[id as usize];
        *logit = if *logit > 0.0 {
            *logit / penalty
        } else {
            *logit * penalty
        };
    }
    true
}

/// The `count` greatest logits, greatest first, ties by id.
fn best(logits: &[f32], count: usize, list: &mut Vec<(f32, u32)>) {
    list.clear();
    let count = count.min(logits.len());
    if count == 0 {
        return;
    }
    let room = 2 * count + 64;
    let mut least = f32::NEG_INFINITY;
    for (id, &logit) in logits.iter().enumerate() {
        // Ids rise, so a logit equal to the least kept one comes after it.
        if logit > least || list.len() < count {
            list.push((logit, id as u32));
            if list.len() == room {
                list.select_nth_unstable_by(count - 1, greater_first);
                list.truncate(count);
                least = list[count - 1].0;
            }
        }
    }
    list.sort_unstable_by(greater_first);
    list.truncate(count);
}

fn greater_first(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// A token of the tempered and truncated distribution, by inverting its distribution function.
fn chosen(
    logits: &[f32],
    greatest: f32,
    sampling: &Sampling,
    uniform: f64,
    scratch: &mut SampleScratch,
) -> u32 {
    let SampleScratch { masses, list, .. } = scratch;
    let scale = 1.0 / sampling.temperature;
    let all = logits.len();
    let kept = match sampling.top_k {
        0 => all,
        k => k.min(all),
    };
    if kept == all && sampling.top_p >= 1.0 {
        masses.resize(all, 0.0);
        tempered(logits, greatest, scale, masses);
        if sampling.min_p > 0.0 {
            // the likeliest has a mass of 1
            let least = sampling.min_p;
            masses
                .iter_mut()
                .filter(|mass| **mass < least)
                .for_each(|mass| *mass = 0.0);
        }
        return inverse(masses, uniform) as u32;
    }
    let total = if kept == all {
        masses.resize(all, 0.0);
        tempered(logits, greatest, scale, masses);
        Some(masses.iter().copied().map(f64::from).sum())
    } else {
        None
    };
    // Without top-k the list grows until it holds the nucleus; most often the first try does.
    let mut size = if kept < all { kept } else { all.min(256) };
    loop {
        best(logits, size, list);
        masses.clear();
        let listed = list.iter().map(|&(logit, _)| (logit - greatest) * scale);
        masses.extend(listed.map(Real::exp));
        let listed: f64 = masses.iter().copied().map(f64::from).sum();
        let wanted = f64::from(sampling.top_p) * total.unwrap_or(listed);
        if listed >= wanted || size >= kept {
            let likely = masses.partition_point(|&mass| mass >= sampling.min_p);
            let nucleus = nucleus(masses, wanted).min(likely.max(1));
            return list[inverse(&masses[..nucleus], uniform)].1;
        }
        size = (size * 8).min(kept);
    }
}

/// How many of the greatest masses it takes to reach a sum; at least one.
fn nucleus(masses: &[f32], wanted: f64) -> usize {
    let mut sum = 0.0;
    for (index, &mass) in masses.iter().enumerate() {
        sum += f64::from(mass);
        if sum >= wanted {
            return index + 1;
        }
    }
    masses.len()
}

/// The first index at which the running sum passes `uniform` of the whole. Masses may be 0 but not all of them.
fn inverse(masses: &[f32], uniform: f64) -> usize {
    const BLOCK: usize = 64;
    let sum = |block: &[f32]| block.iter().copied().map(f64::from).sum::<f64>();
    let sums: Vec<f64> = masses.chunks(BLOCK).map(sum).collect();
    let mut left = uniform * sums.iter().sum::<f64>();
    for (index, (block, sum)) in masses.chunks(BLOCK).zip(sums).enumerate() {
        if left >= sum {
            left -= sum;
            continue;
        }
        for (place, &mass) in block.iter().enumerate() {
            if left < f64::from(mass) {
                return index * BLOCK + place;
            }
            left -= f64::from(mass);
        }
    }
    // Rounding can leave the last crumbs unclaimed.
    masses.iter().rposition(|&mass| mass > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn logits(count: usize) -> Vec<f32> {
        let mut rng = SplitMix64::new(11);
        (0..count)
            .map(|_| 2.0 * rng.normal_pair().0 as f32)
            .collect()
    }

    /// Probabilities by the definition of temperature, then top-k, then top-p, then min-p, in `f64`.
    fn truncated(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
        let scaled: Vec<f64> = logits
            .iter()
            .map(|&l| (f64::from(l) / f64::from(sampling.temperature)).exp())
            .collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| scaled[b].total_cmp(&scaled[a]));
        if sampling.top_k > 0 {
            order.truncate(sampling.top_k);
        }
        let kept: f64 = order.iter().map(|&id| scaled[id]).sum();
        let mut probs = vec![0.0; logits.len()];
        let mut sum = 0.0;
        for &id in &order {
            if scaled[id] < f64::from(sampling.min_p) * scaled[order[0]] {
                break;
            }
            probs[id] = scaled[id];
            sum += scaled[id];
            if sum >= f64::from(sampling.top_p) * kept {
                break;
            }
        }
        probs.iter().map(|p| p / sum).collect()
    }

    #[test]
    fn draws_follow_the_truncated_distribution() {
        for (count, top_k, top_p, min_p, temperature) in [
            (50, 0, 1.0, 0.0, 1.0),
            (50, 7, 1.0, 0.0, 0.7),
            (50, 0, 0.8, 0.0, 1.3),
            (50, 12, 0.6, 0.0, 1.0),
            (1000, 0, 0.95, 0.0, 1.5),
            (1000, 400, 1.0, 0.0, 2.0),
            (50, 0, 1.0, 0.1, 1.0),
            (50, 9, 1.0, 0.2, 1.3),
            (1000, 0, 0.95, 0.15, 1.5),
        ] {
            let sampling = Sampling {
                temperature,
                top_k,
                top_p,
                min_p,
                ..Sampling::default()
            };
            let logits = logits(count);
            let probs = truncated(&logits, &sampling);
            let mut counts = vec![0_u32; count];
            let draws = 40_000;
            let mut scratch = SampleScratch::default();
            for i in 0..draws {
                // Evenly spaced numbers make the counts exact up to one each.
                let uniform = (f64::from(i) + 0.5) / f64::from(draws);
                let drawn = draw(&logits, &[], &sampling, uniform, &mut scratch).unwrap();
                counts[drawn.token as usize] += 1;
            }
            for (id, (&n, &p)) in counts.iter().zip(&probs).enumerate() {
                let expected = p * f64::from(draws);
                assert!(
                    (f64::from(n) - expected).abs() < 2.0,
                    "{id}: {n}, {expected}"
                );
            }
        }
    }

    #[test]
    fn records_are_of_the_whole_distribution() {
        let logits = logits(300);
        let sampling = Sampling {
            temperature: 0.3,
            top_k: 2,
            top_logprobs: 5,
            ..Sampling::default()
        };
        let drawn = draw(&logits, &[], &sampling, 0.9, &mut SampleScratch::default());
        let drawn = drawn.unwrap();
        let mass: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let exact = |id: u32| f64::from(logits[id as usize]) - mass.ln();
        assert!((f64::from(drawn.logprob) - exact(drawn.token)).abs() < 1e-5);
        let mut order: Vec<u32> = (0..300).collect();
        order.sort_by(|&a, &b| exact(b).total_cmp(&exact(a)));
        let ids: Vec<u32> = drawn.top.iter().map(|top| top.id).collect();
        assert_eq!(ids, order[..5]);
        assert!(
            drawn
                .top
                .iter()
                .all(|top| (f64::from(top.logprob) - exact(top.id)).abs() < 1e-5)
        );
        let entropy: f64 = (0..300).map(|id| -exact(id).exp() * exact(id)).sum();
        assert!((f64::from(drawn.entropy) - entropy).abs() < 1e-5);
    }

    #[test]
    fn ties_go_to_the_smaller_id_and_broken_logits_to_none() {
        let greedy = Sampling {
            temperature: 0.0,
            top_logprobs: 3,
            ..Sampling::default()
        };
        let scratch = &mut SampleScratch::default();
        let tied = vec![1.0; 500];
        let drawn = draw(&tied, &[], &greedy, 0.5, scratch).unwrap();
        assert_eq!(drawn.token, 0);
        assert!(drawn.top.iter().map(|top| top.id).eq([0, 1, 2]));
        for broken in [f32::NAN, f32::INFINITY] {
            let logits = [0.0, broken, 1.0];
            assert!(draw(&logits, &[], &greedy, 0.5, scratch).is_none());
        }
        let none = [f32::NEG_INFINITY; 4];
        assert!(draw(&none, &[], &greedy, 0.5, scratch).is_none());
        let one = [f32::NEG_INFINITY, 3.0, f32::NEG_INFINITY];
        let warm = Sampling::default();
        assert_eq!(draw(&one, &[], &warm, 0.999, scratch).unwrap().token, 1);
    }
    #[test]
    fn a_penalty_moves_the_choice_but_not_the_record() {
        let logits = [2.0, 1.5, -1.0, 0.5];
        let sampling = Sampling {
            temperature: 0.0,
            repetition_penalty: 2.0,
            top_logprobs: 1,
            ..Sampling::default()
        };
        let scratch = &mut SampleScratch::default();
        let plain = draw(&logits, &[], &sampling, 0.5, scratch).unwrap();
        assert_eq!(plain.token, 0);
        let moved = draw(&logits, &[0, 2], &sampling, 0.5, scratch).unwrap();
        assert_eq!(moved.token, 1);
        assert_eq!(moved.top, plain.top);
        let mass: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        assert!((f64::from(moved.logprob) - (1.5 - mass.ln())).abs() < 1e-6);
        let all = draw(&logits, &[0, 1], &sampling, 0.5, scratch).unwrap();
        assert_eq!(all.token, 0);
    }
}
