//! Paired comparison of two arms on the same items: bootstrap, exact McNemar, Holm.

use crate::random::Random;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 10_000;
/// The 97.5 % and the 80 % point of the normal distribution: a test at 5 % that finds a difference four
/// times in five.
const DETECTABLE: f64 = 1.959_963_984_540_054 + 0.841_621_233_572_914;

/// A difference between two arms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    /// Mean over seeds and items.
    pub(super) value: f64,
    /// 2.5 % point of the bootstrap.
    pub(super) low: f64,
    /// 97.5 % point.
    pub(super) high: f64,
    /// What a design of this size finds with 80 % power at the 5 % level.
    pub(super) detectable: f64,
}

/// The difference `ours - theirs`, `[seeds][items]` each, with the percentile interval of a bootstrap that
/// resamples seeds and items together; with one seed, items alone.
///
/// # Source
/// Efron and Tibshirani, 1993, chapters 8 and 13. The smallest detectable difference is (z₀.₉₇₅ + z₀.₈) times
/// the bootstrap's standard error.
pub(super) fn difference(ours: &[Vec<f64>], theirs: &[Vec<f64>], seed: u64) -> Difference {
    let gaps: Vec<Vec<f64>> = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
        .collect();
    let (seeds, items) = (gaps.len(), gaps.first().map_or(0, Vec::len));
    if items == 0 {
        return Difference {
            value: 0.0,
            low: 0.0,
            high: 0.0,
            detectable: f64::INFINITY,
        };
    }
    let value = gaps.iter().flatten().sum::<f64>() / (seeds * items) as f64;
    let mut random = Random::new(seed, "bootstrap");
    let mut column = vec![0.0; items];
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            column.fill(0.0);
            for _ in 0..seeds {
                let row = &gaps[if seeds > 1 { random.below(seeds) } else { 0 }];
                column
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, gap)| *sum += gap);
            }
            let sum: f64 = (0..items).map(|_| column[random.below(items)]).sum();
            sum / (seeds * items) as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let centre = means.iter().sum::<f64>() / RESAMPLES as f64;
    let variance = means.iter().map(|m| (m - centre).powi(2)).sum::<f64>() / (RESAMPLES - 1) as f64;
    Difference {
        value,
        low: means[RESAMPLES / 40],
        high: means[RESAMPLES - 1 - RESAMPLES / 40],
        detectable: DETECTABLE * variance.sqrt(),
    }
}

/// Two-sided p of the exact McNemar test from the two numbers of discordant pairs.
///
/// # Source
/// McNemar, 1947, with the binomial distribution instead of its normal limit.
pub(super) fn mcnemar(only_ours: usize, only_theirs: usize) -> f64 {
    let n = only_ours + only_theirs;
    let least = only_ours.min(only_theirs);
    // log of C(n, k) / 2ⁿ, step by step, so that large n neither over- nor underflows
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = log_term.exp();
    for k in 0..least {
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
        sum += log_term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// Holm's adjusted p values, in the order given.
///
/// # Source
/// Holm, 1979, Scandinavian Journal of Statistics 6.
pub(super) fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|a, b| ps[*a].total_cmp(&ps[*b]));
    let (mut adjusted, mut largest) = (vec![0.0; ps.len()], 0.0_f64);
    for (rank, at) in order.into_iter().enumerate() {
        largest = largest.max((ps.len() - rank) as f64 * ps[at]).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_by_hand() {
        // 1 against 5 of 6: 2 * (1 + 6) / 64
        assert!((mcnemar(1, 5) - 14.0 / 64.0).abs() < 1e-12);
        assert!((mcnemar(0, 0) - 1.0).abs() < 1e-12);
        assert!((mcnemar(4, 4) - 1.0).abs() < 1e-12);
        let far = mcnemar(2000, 2400);
        assert!(far > 1e-10 && far < 1e-8, "{far}: about z = 6.0");
    }

    #[test]
    fn holm_by_hand() {
        // 0.01·4, then max(0.04, 0.03·3), then max(0.09, 0.04·2)... in rank order
        let adjusted = holm(&[0.04, 0.01, 0.9, 0.03]);
        for (a, b) in adjusted.iter().zip([0.09, 0.04, 0.9, 0.09]) {
            assert!((a - b).abs() < 1e-12, "{adjusted:?}");
        }
    }

    #[test]
    fn the_interval_of_one_seed_is_that_of_a_paired_mean() {
        // gaps 0 or 1 with share 0.3 over 1,000 items: standard error sqrt(0.21 / 1000)
        let ours: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 3))).collect();
        let found = difference(&[ours], &[vec![0.0; 1000]], 1);
        let half = 1.96 * (0.21_f64 / 1000.0).sqrt();
        assert!((found.value - 0.3).abs() < 1e-12);
        assert!((found.low - (0.3 - half)).abs() < 0.003, "{found:?}");
        assert!((found.high - (0.3 + half)).abs() < 0.003, "{found:?}");
        assert!(
            (found.detectable - 2.8016 * half / 1.96).abs() < 0.002,
            "{found:?}"
        );
    }

    #[test]
    fn seeds_that_differ_widen_it() {
        let row = |share: usize| {
            (0..500)
                .map(|i| f64::from(u8::from(i % 10 < share)))
                .collect()
        };
        let none = vec![vec![0.0; 500]; 3];
        let alike = difference(&[row(3), row(3), row(3)], &none, 1);
        let apart = difference(&[row(1), row(3), row(5)], &none, 1);
        assert!(apart.high - apart.low > 2.0 * (alike.high - alike.low));
    }
}
