//! LUFFY: rollouts of another policy (a teacher's) among one's own.
//!
//! Own tokens weigh by the ratio, clipped or not. A foreign token with probability p weighs p / (p + γ), which learns
//! from unlikely tokens too; it is never clipped.
//!
//! # Source
//! Yan et al., "Learning to reason under off-policy guidance" (2025).

use super::loss::PolicySettings;

/// How LUFFY weighs and averages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LuffySettings {
    /// γ.
    pub gamma: f64,
    /// The clip of own tokens' ratios to both sides; `None`: they are not clipped.
    pub clip: Option<f64>,
    /// What the sum over all counted tokens is divided by, a length that is the same for every batch; `None`: their
    /// count.
    pub length: Option<usize>,
}

/// Own and foreign tokens of a batch, padded; only counted ones matter.
#[derive(Clone, Copy, Debug)]
pub struct LuffyTokens<'a> {
    /// Log-probabilities now.
    pub logprobs: &'a [f64],
    /// Log-probabilities under the policy that sampled; not read for foreign tokens.
    pub old: &'a [f64],
    /// Advantages.
    pub advantages: &'a [f64],
    /// Counted tokens.
    pub mask: &'a [bool],
    /// Tokens of the other policy.
    pub foreign: &'a [bool],
}

/// The loss and its slope on each log-probability.
///
/// # Shapes
/// All slices `[rollouts · t]`.
///
/// # Panics
/// When the slices' lengths differ.
pub fn loss(settings: &LuffySettings, tokens: LuffyTokens<'_>) -> (f64, Vec<f64>) {
    let counted = || tokens.mask.iter().filter(|&&counts| counts).count();
    let share = 1.0 / settings.length.unwrap_or_else(counted).max(1) as f64;
    let wide = settings.clip.unwrap_or(f64::INFINITY);
    let clip = PolicySettings {
        clip_low: wide,
        clip_high: wide,
        ..Default::default()
    };
    let (mut loss, mut slopes) = (0.0, vec![0.0; tokens.mask.len()]);
    for (at, slope) in slopes
        .iter_mut()
        .enumerate()
        .filter(|(at, _)| tokens.mask[*at])
    {
        let (lp, advantage) = (tokens.logprobs[at], tokens.advantages[at]);
        let (gain, on_logprob) = if tokens.foreign[at] {
            let p = lp.exp();
            let weight = p / (p + settings.gamma);
            (
                weight * advantage,
                advantage * weight * settings.gamma / (p + settings.gamma),
            )
        } else {
            let ratio = (lp - tokens.old[at]).exp();
            let gain = clip.gain(ratio, advantage);
            (gain.value, gain.slope * ratio)
        };
        loss -= share * gain;
        *slope = -share * on_logprob;
    }
    (loss, slopes)
}
