//! The clipped policy loss with its divergence and entropy terms.

use super::kl::KlEstimator;

/// What the policy is compared by with the one that sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ratio {
    /// Each token's own probability; the mean is over all tokens.
    #[default]
    Token,
    /// The geometric mean over a rollout's tokens, the same at each; the mean is over rollouts' means (GSPO).
    Sequence,
}

/// Coefficients of the policy loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicySettings {
    /// What the ratio is taken over.
    pub ratio: Ratio,
    /// The ratio is not rewarded below 1 - this.
    pub clip_low: f64,
    /// The ratio is not rewarded above 1 + this.
    pub clip_high: f64,
    /// With a negative advantage, the gain is not below this (> 1) times the advantage.
    pub dual_clip: Option<f64>,
    /// Weight of the policy term.
    pub policy_coefficient: f64,
    /// How the divergence from the reference is estimated.
    pub kl_estimator: KlEstimator,
    /// Weight of that divergence.
    pub kl_coefficient: f64,
    /// Weight of the entropy, which is subtracted.
    pub entropy_coefficient: f64,
}

impl Default for PolicySettings {
    /// The published recipe: token ratio clipped by 0.2, k2 with 0.001.
    fn default() -> Self {
        Self {
            ratio: Ratio::Token,
            clip_low: 0.2,
            clip_high: 0.2,
            dual_clip: None,
            policy_coefficient: 1.0,
            kl_estimator: KlEstimator::K2,
            kl_coefficient: 1e-3,
            entropy_coefficient: 0.0,
        }
    }
}

/// Gain of a token and how it depends on the ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// min(ratio·A, clip(ratio)·A), with the dual clip.
    pub value: f64,
    /// Its slope on the ratio.
    pub slope: f64,
    /// Whether the clip lowered it.
    pub clipped: bool,
}

impl PolicySettings {
    /// The gain of a token with this ratio and advantage.
    pub fn gain(&self, ratio: f64, advantage: f64) -> Gain {
        let plain = ratio * advantage;
        let kept = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high) * advantage;
        let clipped = kept < plain;
        let (mut value, mut slope) = if clipped {
            (kept, 0.0)
        } else {
            (plain, advantage)
        };
        if let Some(limit) = self.dual_clip
            && advantage < 0.0
            && value < limit * advantage
        {
            (value, slope) = (limit * advantage, 0.0);
        }
        Gain {
            value,
            slope,
            clipped,
        }
    }
}

/// Counted tokens of one rollout.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// Log-probabilities now.
    pub logprobs: &'a [f64],
    /// Log-probabilities under the policy that sampled.
    pub old: &'a [f64],
    /// Log-probabilities under the reference, when there is one.
    pub reference: Option<&'a [f64]>,
    /// Advantages.
    pub advantages: &'a [f64],
}

/// What sums are multiplied by to become means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// 1 / tokens of the batch.
    pub token: f64,
    /// 1 / rollouts of the batch.
    pub rollout: f64,
}

/// A rollout's or token's part of the batch's means.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Policy loss.
    pub policy: f64,
    /// Divergence from the reference.
    pub kl: f64,
    /// Entropy.
    pub entropy: f64,
    /// Share of tokens whose gain was clipped.
    pub clipped: f64,
    /// Mean of old minus new log-probability.
    pub moved: f64,
}

impl std::ops::AddAssign for Parts {
    fn add_assign(&mut self, other: Self) {
        self.policy += other.policy;
        self.kl += other.kl;
        self.entropy += other.entropy;
        self.clipped += other.clipped;
        self.moved += other.moved;
    }
}

impl Parts {
    /// The loss that is minimised.
    pub fn total(&self, settings: &PolicySettings) -> f64 {
        settings.policy_coefficient * self.policy + settings.kl_coefficient * self.kl
            - settings.entropy_coefficient * self.entropy
    }
}

/// A rollout's parts of the means (entropy left at 0) and the slope of the total loss on each log-probability.
///
/// # Panics
/// When the slices' lengths differ.
pub fn rollout(settings: &PolicySettings, tokens: Tokens<'_>, shares: Shares) -> (Parts, Vec<f64>) {
    let n = tokens.logprobs.len();
    let moved: f64 = tokens
        .logprobs
        .iter()
        .zip(tokens.old)
        .map(|(lp, old)| lp - old)
        .sum();
    let sequence_ratio = (moved / n as f64).exp();
    let weight = match settings.ratio {
        Ratio::Token => shares.token,
        Ratio::Sequence => shares.rollout / n as f64,
    };
    let (mut parts, mut slopes, mut sequence_slope) = (Parts::default(), vec![0.0; n], 0.0);
    for (at, slope) in slopes.iter_mut().enumerate() {
        let (lp, old) = (tokens.logprobs[at], tokens.old[at]);
        let ratio = match settings.ratio {
            Ratio::Token => (lp - old).exp(),
            Ratio::Sequence => sequence_ratio,
        };
        let gain = settings.gain(ratio, tokens.advantages[at]);
        parts.policy -= weight * gain.value;
        parts.clipped += shares.token * f64::from(u8::from(gain.clipped));
        // ∂ratio/∂lp is the ratio itself, or its n-th part for the whole rollout
        let on_ratio = -settings.policy_coefficient * weight * gain.slope * ratio;
        match settings.ratio {
            Ratio::Token => *slope = on_ratio,
            Ratio::Sequence => sequence_slope += on_ratio / n as f64,
        }
        if let Some(reference) = tokens.reference {
            let (kl, kl_slope) = settings.kl_estimator.estimate(lp, reference[at]);
            parts.kl += shares.token * kl;
            *slope += settings.kl_coefficient * shares.token * kl_slope;
        }
    }
    parts.moved = -moved * shares.token;
    for slope in &mut slopes {
        *slope += sequence_slope;
    }
    (parts, slopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_finite_differences() {
        let old = [-1.0, -0.5, -2.0, -0.1];
        let logprobs = [-0.9, -1.2, -1.1, -0.1];
        let reference = [-1.3, -0.7, -2.2, -0.4];
        let advantages = [1.0, -0.5, 0.7, -2.0];
        let shares = Shares {
            token: 0.1,
            rollout: 0.25,
        };
        for ratio in [Ratio::Token, Ratio::Sequence] {
            let settings = PolicySettings {
                ratio,
                kl_coefficient: 0.3,
                dual_clip: Some(3.0),
                ..Default::default()
            };
            let loss = |logprobs: &[f64]| {
                let reference = Some(reference.as_slice());
                let tokens = Tokens {
                    logprobs,
                    old: &old,
                    reference,
                    advantages: &advantages,
                };
                let (parts, slopes) = rollout(&settings, tokens, shares);
                (parts.total(&settings), slopes)
            };
            let slopes = loss(&logprobs).1;
            for at in 0..logprobs.len() {
                let moved = |by: f64| {
                    let mut moved = logprobs;
                    moved[at] += by;
                    loss(&moved).0
                };
                let measured = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                assert!((measured - slopes[at]).abs() < 1e-8, "{ratio:?} {at}");
            }
        }
    }
}
