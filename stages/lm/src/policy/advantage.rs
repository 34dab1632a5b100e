//! Rewards of groups of rollouts to an advantage at each token.

use crate::error::LmError;

/// Added to a group's deviation before dividing by it.
const DEVIATION_EPSILON: f64 = 1e-9;
/// Least variance that a batch is normalised by.
const LEAST_VARIANCE: f64 = 1e-8;

/// How a group's rewards r become shaped rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Estimator {
    /// (r - mean) / deviation, the deviation with n - 1.
    #[default]
    GroupNorm,
    /// r - mean.
    DrGrpo,
    /// r - mean of the others.
    Rloo,
    /// r - mean; then advantages are normalised over the batch.
    ReinforceBaseline,
    /// r; then advantages are normalised over the batch.
    Reinforce,
}

/// How rewards become advantages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdvantageSettings {
    /// How rewards are shaped.
    pub estimator: Estimator,
    /// Rollouts of a prompt.
    pub group: usize,
    /// Shaped rewards are kept within.
    pub clip: (f64, f64),
    /// Weight of later rewards; only [`Estimator::Reinforce`] may have less than 1.
    pub discount: f64,
    /// Whether batch normalisation divides by the deviation.
    pub divide_by_deviation: bool,
}

impl Default for AdvantageSettings {
    /// The published recipe: group norm of 8, kept within ±10.
    fn default() -> Self {
        Self {
            estimator: Estimator::GroupNorm,
            group: 8,
            clip: (-10.0, 10.0),
            discount: 1.0,
            divide_by_deviation: true,
        }
    }
}

/// Advantages of all tokens, and each rollout's return.
#[derive(Clone, Debug, PartialEq)]
pub struct Advantages {
    /// Per rollout and token, masked tokens included.
    pub advantages: Vec<Vec<f64>>,
    /// Sum of each rollout's rewards at its tokens.
    pub returns: Vec<f64>,
}

/// Takes a penalty off the reward of a rollout that runs into the last `buffer` tokens of its limit.
pub fn overlong_penalty(reward: f64, len: usize, limit: usize, buffer: usize, factor: f64) -> f64 {
    let over = (len as f64 - (limit as f64 - buffer as f64)).min(buffer as f64);
    if over > 0.0 {
        reward - over / buffer as f64 * factor
    } else {
        reward
    }
}

/// Shapes the rewards of consecutive groups.
///
/// # Errors
/// [`LmError::Shape`] when rewards do not divide into groups; [`LmError::Config`] for a group of one where the
/// estimator needs others.
pub fn shape_rewards(rewards: &[f64], settings: &AdvantageSettings) -> Result<Vec<f64>, LmError> {
    let group = settings.group;
    if group == 0 || !rewards.len().is_multiple_of(group) {
        let expected = format!("a multiple of the group size {group}");
        return Err(LmError::shape("rewards", &[rewards.len()], expected));
    }
    let needs_others = matches!(settings.estimator, Estimator::GroupNorm | Estimator::Rloo);
    if needs_others && group < 2 {
        return Err(LmError::Config(format!(
            "{:?} needs groups of two",
            settings.estimator
        )));
    }
    let mut shaped = Vec::with_capacity(rewards.len());
    for group in rewards.chunks_exact(group) {
        let n = group.len() as f64;
        let sum: f64 = group.iter().sum();
        let mean = sum / n;
        let spread: f64 = group.iter().map(|r| (r - mean).powi(2)).sum();
        shaped.extend(group.iter().map(|&r| match settings.estimator {
            Estimator::GroupNorm => (r - mean) / ((spread / (n - 1.0)).sqrt() + DEVIATION_EPSILON),
            Estimator::DrGrpo | Estimator::ReinforceBaseline => r - mean,
            Estimator::Rloo => r - (sum - r) / (n - 1.0),
            Estimator::Reinforce => r,
        }));
    }
    Ok(shaped)
}

/// Rewards of rollouts to advantages of tokens.
///
/// The shaped reward falls on a rollout's last counted token; `penalties` (of a divergence, its coefficient included) are
/// taken off at each token. The advantage at a token is the discounted sum from there on.
///
/// # Shapes
/// `rewards` `[n]`; `masks` and `penalties` `[n]` of lists of equal length each.
///
/// # Errors
/// As [`shape_rewards`]; [`LmError::Shape`] when lengths differ or a rollout has no counted token.
pub fn advantages(
    rewards: &[f64],
    masks: &[Vec<bool>],
    penalties: Option<&[Vec<f64>]>,
    settings: &AdvantageSettings,
) -> Result<Advantages, LmError> {
    let shaped = shape_rewards(rewards, settings)?;
    if masks.len() != shaped.len() {
        return Err(LmError::shape(
            "masks",
            &[masks.len()],
            format!("[{}]", shaped.len()),
        ));
    }
    let discount = if settings.estimator == Estimator::Reinforce {
        settings.discount
    } else {
        1.0
    };
    let (low, high) = settings.clip;
    let (mut all, mut returns) = (Vec::new(), Vec::new());
    for (at, (reward, mask)) in shaped.iter().zip(masks).enumerate() {
        let Some(last) = mask.iter().rposition(|&counts| counts) else {
            return Err(LmError::shape(
                "mask",
                &[mask.len()],
                "at least one counted token",
            ));
        };
        let mut tokens = vec![0.0; mask.len()];
        if let Some(penalties) = penalties {
            let row = penalties.get(at).filter(|row| row.len() == mask.len());
            let row = row.ok_or_else(|| LmError::shape("penalties", &[at], "[n, t] as masks"))?;
            tokens
                .iter_mut()
                .zip(row)
                .for_each(|(token, penalty)| *token = -penalty);
        }
        tokens[last] += reward.max(low).min(high);
        returns.push(tokens.iter().sum());
        let mut sum = 0.0;
        for (token, &counts) in tokens.iter_mut().zip(mask).rev() {
            sum = sum * discount + if counts { *token } else { 0.0 };
            *token = sum;
        }
        all.push(tokens);
    }
    if matches!(
        settings.estimator,
        Estimator::ReinforceBaseline | Estimator::Reinforce
    ) {
        normalise(&mut all, masks, settings.divide_by_deviation);
    }
    Ok(Advantages {
        advantages: all,
        returns,
    })
}

/// Subtracts the mean over all counted tokens and divides by their (population) deviation.
fn normalise(rows: &mut [Vec<f64>], masks: &[Vec<bool>], divide: bool) {
    let counted = || {
        let pairs = rows.iter().flatten().zip(masks.iter().flatten());
        pairs
            .filter(|(_, counts)| **counts)
            .map(|(value, _)| *value)
    };
    let n = counted().count() as f64;
    let mean = counted().sum::<f64>() / n;
    let variance = counted().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    let factor = if divide {
        1.0 / variance.max(LEAST_VARIANCE).sqrt()
    } else {
        1.0
    };
    for value in rows.iter_mut().flatten() {
        *value = (*value - mean) * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_by_hand() {
        let rewards = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let shape = |estimator| {
            let settings = AdvantageSettings {
                estimator,
                group: 4,
                ..Default::default()
            };
            shape_rewards(&rewards, &settings).unwrap()
        };
        // deviation with n - 1 of 1, 0, 0, 1 is sqrt(1/3)
        assert!((shape(Estimator::GroupNorm)[0] - 0.5 * 3.0_f64.sqrt()).abs() < 1e-6);
        assert!((shape(Estimator::Rloo)[0] - 2.0 / 3.0).abs() < 1e-12);
        assert!((shape(Estimator::DrGrpo)[1] + 0.5).abs() < 1e-12);
        for estimator in [Estimator::GroupNorm, Estimator::DrGrpo, Estimator::Rloo] {
            assert!(
                shape(estimator)[4..]
                    .iter()
                    .all(|shaped| shaped.abs() < 1e-12)
            );
            assert!(shape(estimator).iter().sum::<f64>().abs() < 1e-9);
        }
    }

    #[test]
    fn a_long_rollout_loses_reward_inside_the_buffer_only() {
        assert!((overlong_penalty(1.0, 412, 512, 100, 1.0) - 1.0).abs() < 1e-12);
        assert!((overlong_penalty(1.0, 462, 512, 100, 1.0) - 0.5).abs() < 1e-12);
        assert!((overlong_penalty(1.0, 900, 512, 100, 1.0) - 0.0).abs() < 1e-12);
    }

    #[test]
    fn misfits_are_errors() {
        let settings = AdvantageSettings {
            group: 2,
            ..Default::default()
        };
        assert!(shape_rewards(&[1.0; 3], &settings).is_err());
        assert!(advantages(&[1.0, 0.0], &[vec![true]], None, &settings).is_err());
        assert!(advantages(&[1.0, 0.0], &[vec![true], vec![false]], None, &settings).is_err());
        let alone = AdvantageSettings {
            group: 1,
            ..Default::default()
        };
        assert!(shape_rewards(&[1.0], &alone).is_err());
    }
}
