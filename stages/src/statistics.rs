//! Means and shares with their 95 % intervals.

use serde::{Deserialize, Serialize};
use starling_bench::interval::{Interval, wilson};

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A figure with the interval that it is known to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Estimate {
    /// The figure.
    pub(crate) value: f64,
    /// Lower end of the 95 % interval.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

impl From<Interval> for Estimate {
    fn from(interval: Interval) -> Self {
        Self {
            value: interval.value,
            low: interval.low,
            high: interval.high,
        }
    }
}

/// A share of `n` with Wilson's interval, which stays inside [0, 1] and is honest at both ends.
///
/// # Source
/// Wilson, 1927, JASA 22(158).
pub(crate) fn share(hits: usize, n: usize) -> Estimate {
    wilson(hits, n).into()
}

/// A mean with its normal interval; of fewer than two values the interval is the value.
pub(crate) fn mean(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let value = if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / n
    };
    let half = if values.len() < 2 {
        0.0
    } else {
        let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0);
        Z * (variance / n).sqrt()
    };
    Estimate {
        value,
        low: value - half,
        high: value + half,
    }
}

/// Chance that at least one of `k` samples is right when `right` of `n` were (`k ≤ n`), unbiased.
///
/// # Source
/// Chen et al., 2021, "Evaluating large language models trained on code", section 2.1.
pub(crate) fn pass_at_k(n: usize, right: usize, k: usize) -> f64 {
    if n - right < k {
        return 1.0;
    }
    1.0 - (n - right + 1..=n)
        .map(|i| 1.0 - k as f64 / i as f64)
        .product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_by_hand() {
        // 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 1.41598 * sqrt(0.016 + 0.0096036).
        let s = share(8, 10);
        assert!(
            (s.low - 0.490_162).abs() < 1e-5 && (s.high - 0.943_318).abs() < 1e-5,
            "{s:?}"
        );
        assert!(share(0, 50).low.abs() < 1e-12 && share(0, 50).high > 0.05);
        assert!((share(50, 50).high - 1.0).abs() < 1e-12);
    }

    #[test]
    fn pass_at_k_by_counting() {
        // Of 4 samples 1 is right: two of them include it in 3 of 6 pairs.
        assert!((pass_at_k(4, 1, 2) - 0.5).abs() < 1e-12);
        assert!((pass_at_k(4, 0, 2)).abs() < 1e-12);
        assert!((pass_at_k(4, 3, 2) - 1.0).abs() < 1e-12);
        assert!((pass_at_k(8, 2, 1) - 0.25).abs() < 1e-12);
    }
}
