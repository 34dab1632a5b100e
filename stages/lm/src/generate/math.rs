//! Elementwise arithmetic and sums in fixed lanes: written plainly, compiled for the widest registers by its callers.

/// Partial sums kept side by side, whatever the registers.
const LANES: usize = 16;

/// e to the x, within 2 units in the last place; 0 below -87.3.
///
/// # Source
/// Range reduction by ln 2 in two parts and the polynomial of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.3, 88.7);
    let shifted = bounded.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = whole.mul_add(-0.693_359_4, bounded);
    let rest = whole.mul_add(2.121_944_4e-4, rest);
    let mut sum = 1.987_569_1e-4_f32;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.000_000_1e-1,
    ] {
        sum = sum.mul_add(rest, coefficient);
    }
    let fraction = sum.mul_add(rest * rest, rest) + 1.0;
    // Doubling through the exponent in two halves keeps 2^128 · 0.5.. in range.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let scaled = f32::from_bits(fraction.to_bits().wrapping_add(exponent << 23));
    if x < -87.3 { 0.0 } else { scaled }
}

#[inline(always)]
fn fold_lanes(
    values: &[f32],
    start: f32,
    f: impl Fn(f32, f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = f(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, value);
    }
    lanes.into_iter().fold(start, join)
}

/// The greatest value that is a number.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    fold_lanes(values, f32::NEG_INFINITY, greater, greater)
}

/// `out = x / rms(x) · weight`.
#[inline(always)]
pub(super) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = inverse_rms(x, epsilon);
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// [`rms_norm`] in place.
#[inline(always)]
pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = inverse_rms(x, epsilon);
    for (x, &weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let squares = fold_lanes(x, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b);
    1.0 / (squares / x.len() as f32 + epsilon).sqrt()
}

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax(values: &mut [f32]) {
    let greatest = max(values);
    for value in values.iter_mut() {
        *value = exp(*value - greatest);
    }
    let scale = 1.0 / fold_lanes(values, 0.0, |a, b| a + b, |a, b| a + b);
    for value in values.iter_mut() {
        *value *= scale;
    }
}

/// `out = silu(gate) · up`.
#[inline(always)]
pub(super) fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + exp(-gate)) * up;
    }
}

/// `a += b`.
#[inline(always)]
pub(super) fn add(a: &mut [f32], b: &[f32]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Σ e^(l - m) and Σ e^(l - m)·(l - m), in `f64`.
#[inline(always)]
pub(super) fn partition(logits: &[f32], greatest: f32) -> (f64, f64) {
    let mut sums = [(0.0_f64, 0.0_f64); LANES];
    let mut add = |block: &[f32]| {
        for (sum, &logit) in sums.iter_mut().zip(block) {
            let below = logit - greatest;
            let mass = exp(below);
            sum.0 += f64::from(mass);
            // Nothing times minus infinity would be no number.
            sum.1 += f64::from(if mass > 0.0 { mass * below } else { 0.0 });
        }
    };
    let (blocks, rest) = logits.as_chunks::<LANES>();
    for block in blocks {
        add(block);
    }
    add(rest);
    let join = |a: (f64, f64), b: (f64, f64)| (a.0 + b.0, a.1 + b.1);
    sums.into_iter().fold((0.0, 0.0), join)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for step in -8730..8870_i32 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "{x}: {error}");
        }
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(-100.0).to_bits(), 0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn partition_gives_normaliser_and_entropy() {
        let logits: Vec<f32> = (0..37).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let greatest = max(&logits);
        let (mass, moment) = partition(&logits, greatest);
        let exact: f64 = logits.iter().map(|&l| f64::from(l - greatest).exp()).sum();
        assert!((mass - exact).abs() < 1e-5);
        let entropy: f64 = logits
            .iter()
            .map(|&l| f64::from(l - greatest).exp() / exact)
            .map(|p| -p * p.ln())
            .sum();
        assert!((mass.ln() - moment / mass - entropy).abs() < 1e-5);
        let with_nothing = [f32::NEG_INFINITY, 0.0];
        assert_eq!(partition(&with_nothing, 0.0), (1.0, 0.0));
    }
}
