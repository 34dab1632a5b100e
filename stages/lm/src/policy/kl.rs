//! Estimates of a divergence from two log-probabilities of the token that was drawn.

/// With d = log p - log q at the drawn token.
///
/// # Source
/// Schulman, "Approximating KL divergence" (2020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KlEstimator {
    /// d.
    K1,
    /// d² / 2.
    #[default]
    K2,
    /// e^-d - 1 + d.
    K3,
}

/// Estimates are kept within this distance of 0, where their slope ends.
const LIMIT: f64 = 10.0;

impl KlEstimator {
    /// The estimate and its slope on log p.
    pub fn estimate(self, logprob: f64, reference: f64) -> (f64, f64) {
        let d = logprob - reference;
        let (value, slope) = match self {
            Self::K1 => (d, 1.0),
            Self::K2 => (d * d / 2.0, d),
            Self::K3 => ((-d).exp() - 1.0 + d, 1.0 - (-d).exp()),
        };
        if value.abs() > LIMIT {
            (value.clamp(-LIMIT, LIMIT), 0.0)
        } else {
            (value, slope)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_finite_differences_and_end_at_the_limit() {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            for d in [-1.5, -0.1, 0.4, 2.0] {
                let (_, slope) = estimator.estimate(-1.0 + d, -1.0);
                let at = |d: f64| estimator.estimate(-1.0 + d, -1.0).0;
                let measured = (at(d + 1e-6) - at(d - 1e-6)) / 2e-6;
                assert!((measured - slope).abs() < 1e-8, "{estimator:?} {d}");
            }
            assert_eq!(estimator.estimate(20.0, 0.0), (10.0, 0.0));
        }
    }
}
