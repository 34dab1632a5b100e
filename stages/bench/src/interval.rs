//! How sure a share is.

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The share, in [0, 1].
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// `hits` of `n` with Wilson's interval, which stays inside [0, 1] and is honest at both ends; without entries
/// nothing is known.
///
/// # Source
/// Wilson, 1927, JASA 22(158).
#[must_use]
pub fn wilson(hits: usize, n: usize) -> Interval {
    if n == 0 {
        return Interval {
            value: 0.0,
            low: 0.0,
            high: 1.0,
        };
    }
    let (n, p) = (n as f64, hits as f64 / n as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval {
        value: p,
        low: (centre - half).clamp(0.0, p),
        high: (centre + half).clamp(p, 1.0),
    }
}

/// A weighted sum of independent shares `(weight, hits, n)` around `value`: the ends of the shares' Wilson intervals,
/// each side added up as squares.
///
/// # Source
/// Newcombe, 1998, Statistics in Medicine 17(8), method 10, for more than two shares.
#[must_use]
pub fn combined(value: f64, parts: &[(f64, usize, usize)]) -> Interval {
    let (mut below, mut above) = (0.0, 0.0);
    for (weight, hits, n) in parts.iter().filter(|part| part.2 > 0) {
        let share = wilson(*hits, *n);
        below += (weight * (share.value - share.low)).powi(2);
        above += (weight * (share.high - share.value)).powi(2);
    }
    Interval {
        value,
        low: (value - f64::sqrt(below)).max(0.0),
        high: (value + f64::sqrt(above)).min(1.0),
    }
}

impl Interval {
    /// `12.34 [10.00, 15.00]`, in per cent.
    #[must_use]
    pub fn percent(self) -> String {
        let [value, low, high] = [self.value, self.low, self.high].map(|share| 100.0 * share);
        format!("{value:6.2} [{low:5.2}, {high:6.2}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_by_hand() {
        // 8 of 10: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half 1.41598 * sqrt(0.016 + 0.0096036).
        let share = wilson(8, 10);
        assert!((share.low - 0.490_162).abs() < 1e-5 && (share.high - 0.943_318).abs() < 1e-5);
        assert!(wilson(0, 0).high >= 1.0 && wilson(0, 50).low <= 0.0 && wilson(50, 50).high >= 1.0);
    }

    #[test]
    fn one_share_alone_keeps_its_interval() {
        let (alone, sum) = (wilson(3, 20), combined(0.15, &[(1.0, 3, 20)]));
        assert!((alone.low - sum.low).abs() < 1e-12 && (alone.high - sum.high).abs() < 1e-12);
        // Two halves of the same size: the interval shrinks by the square root of two.
        let half = combined(0.15, &[(0.5, 3, 20), (0.5, 3, 20)]);
        let ratio = (sum.high - 0.15) / (half.high - 0.15);
        assert!((ratio - 2_f64.sqrt()).abs() < 1e-9);
    }
}
