//! Generalised Jensen-Shannon divergence over the full vocabulary, at one position.
//!
//! With teacher t, student s and m = β·t + (1-β)·s: β·KL(t‖m) + (1-β)·KL(s‖m); β = 0 is KL(t‖s), β = 1 is
//! KL(s‖t).
//!
//! # Source
//! Agarwal et al., "On-policy distillation of language models" (2023), with its limits taken as plain
//! divergences.

use crate::kernels::Real;

/// Loss in nats; replaces the student's logits by `scale` times their gradient.
///
/// # Shapes
/// Both `[v]`.
pub fn row<T: Real>(student: &mut [T], teacher: &[T], beta: f64, temperature: f64, scale: T) -> T {
    let warmth = T::from_f64(1.0 / temperature);
    let log_t = log_softmax(teacher, warmth);
    let log_s = log_softmax(student, warmth);
    let (b, rest) = (T::from_f64(beta), T::from_f64(1.0 - beta));
    let (mut loss, mut mean) = (T::ZERO, T::ZERO);
    // ∂loss/∂s, up to a constant that the softmax removes
    let slopes: Vec<T> = log_t
        .iter()
        .zip(&log_s)
        .map(|(&lt, &ls)| {
            let (t, s) = (lt.exp(), ls.exp());
            let slope = if beta <= 0.0 {
                loss += t * (lt - ls);
                -t / s
            } else if beta >= 1.0 {
                loss += s * (ls - lt);
                ls - lt
            } else {
                let log_m = log_mix(lt, ls, b, rest);
                loss += b * t * (lt - log_m) + rest * s * (ls - log_m);
                rest * (ls - log_m)
            };
            mean += s * slope;
            slope
        })
        .collect();
    for ((z, &ls), slope) in student.iter_mut().zip(&log_s).zip(slopes) {
        *z = scale * warmth * ls.exp() * (slope - mean);
    }
    loss
}

/// log(b·e^x + rest·e^y) without overflow.
fn log_mix<T: Real>(x: T, y: T, b: T, rest: T) -> T {
    let (x, y) = (x + b.ln(), y + rest.ln());
    let top = x.max(y);
    top + ((x - top).exp() + (y - top).exp()).ln()
}

fn log_softmax<T: Real>(logits: &[T], warmth: T) -> Vec<T> {
    let top = logits.iter().copied().fold(T::NEG_INFINITY, Real::max);
    let sum: T = logits.iter().map(|&z| ((z - top) * warmth).exp()).sum();
    let log_sum = sum.ln();
    logits
        .iter()
        .map(|&z| (z - top) * warmth - log_sum)
        .collect()
}
