//! Sums over a row of logits or scores, in fixed lanes.

use crate::kernels::vector::{LANES, exp_in_place, max};
use crate::kernels::{Real, simd_fn};

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax(values: &mut [f32]) {
    let greatest = max(values);
    let scale = 1.0 / exp_in_place(values, 1.0, greatest);
    for value in values.iter_mut() {
        *value *= scale;
    }
}

/// What the distribution of a row of logits is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    /// The greatest logit, m.
    pub(super) greatest: f32,
    /// Σ e^(l - m)
    pub(super) mass: f64,
    /// Σ e^(l - m)·(l - m)
    pub(super) moment: f64,
}

/// Measures a row of logits; a logit that is no number makes the mass none.
pub(super) fn partition(logits: &[f32]) -> Partition {
    let (greatest, mass, moment) = sums(logits);
    Partition {
        greatest,
        mass,
        moment,
    }
}

simd_fn! {
    fn sums(logits: &'a [T]) -> (T, f64, f64) {
        let greatest = max(logits);
        let mut masses = [0.0_f64; LANES];
        let mut moments = [0.0_f64; LANES];
        let (blocks, rest) = logits.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                let (mass, moment) = terms(block[lane] - greatest);
                masses[lane] += mass;
                moments[lane] += moment;
            }
        }
        for (lane, &logit) in rest.iter().enumerate() {
            let (mass, moment) = terms(logit - greatest);
            masses[lane] += mass;
            moments[lane] += moment;
        }
        let sum = |lanes: [f64; LANES]| lanes.into_iter().sum();
        (greatest, sum(masses), sum(moments))
    }
}

/// e^x and e^x·x; nothing times minus infinity is nothing.
#[inline(always)]
fn terms<T: Real>(below: T) -> (f64, f64) {
    let mass = below.exp();
    let moment = if mass > T::ZERO {
        mass * below
    } else {
        T::ZERO
    };
    (mass.to_f64(), moment.to_f64())
}

simd_fn! {
    /// `masses = e^((logits - greatest) · scale)`.
    pub(super) fn tempered(logits: &'a [T], greatest: T, scale: T, masses: &'a mut [T]) {
        for (mass, &logit) in masses.iter_mut().zip(logits) {
            *mass = ((logit - greatest) * scale).exp();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_gives_normaliser_and_entropy() {
        let logits: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let found = partition(&logits);
        let mass = |logit: f32| f64::from(logit - found.greatest).exp();
        let exact: f64 = logits.iter().map(|&logit| mass(logit)).sum();
        assert!((found.mass - exact).abs() < 1e-5);
        let probs = logits.iter().map(|&logit| mass(logit) / exact);
        let entropy: f64 = probs.map(|p| -p * p.ln()).sum();
        assert!((found.mass.ln() - found.moment / found.mass - entropy).abs() < 1e-5);

        let one = partition(&[f32::NEG_INFINITY, 0.0]);
        assert!((one.mass - 1.0).abs() < 1e-12 && one.moment.abs() < 1e-12);
        assert!(partition(&[0.0, f32::NAN]).mass.is_nan());
    }
}
