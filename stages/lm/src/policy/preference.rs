//! Direct preference optimisation on summed log-probabilities of chosen and rejected answers.
//!
//! # Source
//! Rafailov et al., "Direct preference optimization" (2023); Azar et al. (2023) for the squared variant.

/// Which function of the margin is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preference {
    /// -log σ(β·h), mixed with the opposite preference by `smoothing`.
    Sigmoid {
        /// Share of labels taken to be wrong, in `[0, 0.5)`.
        smoothing: f64,
    },
    /// (h - 1 / 2β)².
    Squared,
}

/// Summed log-probabilities of one pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Of the policy on the chosen answer.
    pub chosen: f64,
    /// Of the policy on the rejected answer.
    pub rejected: f64,
    /// Of the reference on the chosen answer.
    pub reference_chosen: f64,
    /// Of the reference on the rejected answer.
    pub reference_rejected: f64,
}

/// The loss of a pair and its slope on `chosen`; that on `rejected` is the opposite.
pub fn loss(kind: Preference, beta: f64, pair: Pair) -> (f64, f64) {
    let margin = (pair.chosen - pair.rejected) - (pair.reference_chosen - pair.reference_rejected);
    match kind {
        Preference::Sigmoid { smoothing } => {
            let x = beta * margin;
            let value = (1.0 - smoothing) * softplus(-x) + smoothing * softplus(x);
            let slope = smoothing * sigmoid(x) - (1.0 - smoothing) * sigmoid(-x);
            (value, beta * slope)
        }
        Preference::Squared => {
            let distance = margin - 1.0 / (2.0 * beta);
            (distance * distance, 2.0 * distance)
        }
    }
}

/// log(1 + e^x).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
