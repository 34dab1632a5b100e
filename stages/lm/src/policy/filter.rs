//! Which groups of rollouts teach anything.

/// Added to both bounds, inwards.
const EPSILON: f64 = 1e-6;

/// Whether a prompt's group is kept: its mean score lies strictly between the bounds, and its scores differ by more
/// than `least_difference`.
pub fn keep_group(scores: &[f64], bounds: (f64, f64), least_difference: f64) -> bool {
    if scores.is_empty() {
        return false;
    }
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
    mean > bounds.0 + EPSILON && mean < bounds.1 - EPSILON && most - least > least_difference
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_without_contrast_go() {
        assert!(keep_group(&[0.0, 1.0], (0.01, 0.99), 0.0));
        assert!(!keep_group(&[0.5, 0.5], (0.01, 0.99), 0.0));
        assert!(!keep_group(&[1.0, 1.0], (0.01, 0.99), -1.0));
        assert!(!keep_group(&[], (0.01, 0.99), -1.0));
        assert!(!keep_group(&[f64::NAN, 0.5], (0.01, 0.99), 0.0));
    }
}
