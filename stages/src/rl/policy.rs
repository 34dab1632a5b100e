//! From judged groups to the sequences of a policy gradient.

use starling_contract::StageError;
use starling_lm::place::{Scorer, Trainer};
use starling_lm::policy::advantage::advantages;
use starling_lm::policy::{AdvantageSettings, PolicySettings, Ratio};
use starling_lm::score::Scores;
use starling_lm::train::{LossTarget, PolicyTarget, Sequence};

use super::groups::{Drawn, Group, Member};
use super::{KlPlace, Params, RatioOf};
use crate::chat::lm;
use crate::training::{self, Batch};

/// Turns groups into batches.
pub(super) struct Learner<'a> {
    p: &'a Params,
    reference: Option<Scorer>,
}

impl<'a> Learner<'a> {
    pub(super) fn new(p: &'a Params, reference: Option<Scorer>) -> Self {
        Self { p, reference }
    }

    /// The batch of an update.
    pub(super) fn batch(
        &self,
        drawn: Drawn,
        trainer: &Trainer,
        threads: usize,
    ) -> Result<Batch, StageError> {
        let mut batch = Batch::of(Vec::new());
        batch.generated_tokens = drawn.generated_tokens;
        batch.read_tokens = drawn.read_tokens;
        batch.columns = drawn.columns;
        batch.samples = drawn.samples;
        let mut groups = drawn.groups;
        self.read_traces(&mut groups, trainer, threads, &mut batch.read_tokens)?;
        let members: Vec<(&Group, &Member)> = groups
            .iter()
            .flat_map(|group| group.members.iter().map(move |member| (group, member)))
            .collect();
        if members.is_empty() {
            return Ok(batch);
        }
        let reference = self.reference(&members, threads, &mut batch.read_tokens)?;
        let advantages = self.advantages(&groups, reference.as_deref())?;
        batch.columns.push(("advantage", mean_size(&advantages)));
        if let Some(reference) = &reference {
            batch
                .columns
                .push(("kl_reference", mean_gap(&members, reference)));
        }
        for ((_, member), advantages) in members.iter().zip(&advantages) {
            let sample = &mut batch.samples[member.number];
            sample.accepted = true;
            sample.advantage =
                Some(advantages.iter().sum::<f64>() / advantages.len().max(1) as f64);
        }
        batch.ends = self.ends(&groups);
        let in_loss = reference.filter(|_| self.p.kl_in == KlPlace::Loss);
        batch.sequences = members
            .iter()
            .zip(advantages)
            .enumerate()
            .map(|(at, ((group, member), advantages))| Sequence {
                ids: whole(group, member),
                loss: LossTarget::Policy(PolicyTarget {
                    positions: training::answer_positions(group.prompt.len(), member.ids.len()),
                    advantages: self.weighed(member, &advantages),
                    old_logprobs: member.logprobs.clone(),
                    reference_logprobs: in_loss.as_ref().map(|r| r[at].clone()),
                    settings: self.settings(),
                }),
            })
            .collect();
        Ok(batch)
    }

    /// Where each step of the optimizer ends among the members: whole groups, in steps as even as they can be.
    fn ends(&self, groups: &[Group]) -> Vec<usize> {
        let steps = self.p.steps(groups.len());
        let members = |n: usize| groups[..n].iter().map(|g| g.members.len()).sum();
        (1..=steps)
            .map(|step| members(step * groups.len() / steps))
            .collect()
    }

    fn settings(&self) -> PolicySettings {
        PolicySettings {
            ratio: match self.p.ratio {
                RatioOf::Token => Ratio::Token,
                RatioOf::Sequence => Ratio::Sequence,
            },
            clip_low: self.p.clip_ratio,
            clip_high: self.p.clip_high.unwrap_or(self.p.clip_ratio),
            dual_clip: self.p.dual_clip,
            kl_coefficient: match self.p.kl_in {
                KlPlace::Loss => self.p.kl,
                KlPlace::Reward => 0.0,
            },
            kl_estimator: self.p.kl_estimator.estimator(),
            entropy_coefficient: self.p.entropy_bonus,
            ..PolicySettings::default()
        }
    }

    /// A teacher's answers were sampled by another policy: they are taken as if this one had just sampled
    /// them, and weighed by [`Self::weighed`].
    fn read_traces(
        &self,
        groups: &mut [Group],
        trainer: &Trainer,
        threads: usize,
        read_tokens: &mut u64,
    ) -> Result<(), StageError> {
        let traces: Vec<(usize, Vec<u32>)> = groups
            .iter()
            .flat_map(|g| g.members.iter().map(move |m| (g, m)))
            .filter(|(_, m)| m.foreign)
            .map(|(g, m)| (g.prompt.len(), whole(g, m)))
            .collect();
        if traces.is_empty() {
            return Ok(());
        }
        *read_tokens += traces.iter().map(|(_, ids)| ids.len() as u64).sum::<u64>();
        let ids: Vec<Vec<u32>> = traces.iter().map(|(_, ids)| ids.clone()).collect();
        let scores = trainer.logprobs(&ids, threads).map_err(lm)?;
        let mut found = traces.iter().zip(scores);
        for member in groups.iter_mut().flat_map(|g| g.members.iter_mut()) {
            if member.foreign
                && let Some(((prompt, _), scores)) = found.next()
            {
                member.logprobs = scores.logprobs[prompt - 1..].to_vec();
            }
        }
        Ok(())
    }

    /// Advantages of a member's tokens; of a teacher's times γ·p / (p + γ)², the slope of p / (p + γ) on
    /// log p, so that the gradient at this moment is LUFFY's.
    fn weighed(&self, member: &Member, advantages: &[f64]) -> Vec<f32> {
        let gamma = self.p.trace_gamma;
        advantages
            .iter()
            .zip(&member.logprobs)
            .map(|(a, logprob)| {
                if !member.foreign {
                    return *a as f32;
                }
                let p = f64::from(*logprob).exp();
                (a * p * gamma / ((p + gamma) * (p + gamma))) as f32
            })
            .collect()
    }

    /// Log-probabilities of each member's tokens under the reference.
    fn reference(
        &self,
        members: &[(&Group, &Member)],
        threads: usize,
        read_tokens: &mut u64,
    ) -> Result<Option<Vec<Vec<f32>>>, StageError> {
        let Some(reference) = &self.reference else {
            return Ok(None);
        };
        let ids: Vec<Vec<u32>> = members.iter().map(|(g, m)| whole(g, m)).collect();
        *read_tokens += ids.iter().map(|i| i.len() as u64).sum::<u64>();
        let scores: Vec<Scores> = reference.logprobs(&ids, threads).map_err(lm)?;
        let own = members.iter().zip(scores);
        Ok(Some(
            own.map(|((group, _), s)| s.logprobs[group.prompt.len() - 1..].to_vec())
                .collect(),
        ))
    }

    /// The advantage of each token of each member.
    fn advantages(
        &self,
        groups: &[Group],
        reference: Option<&[Vec<f32>]>,
    ) -> Result<Vec<Vec<f64>>, StageError> {
        let members = || groups.iter().flat_map(|g| &g.members);
        let rewards: Vec<f64> = members().map(|m| m.reward).collect();
        let masks: Vec<Vec<bool>> = members().map(|m| vec![true; m.ids.len()]).collect();
        let penalties = reference
            .filter(|_| self.p.kl_in == KlPlace::Reward)
            .map(|r| {
                let rows = members().zip(r).map(|(member, reference)| {
                    let pairs = member.logprobs.iter().zip(reference);
                    pairs
                        .map(|(own, other)| {
                            let (own, other) = (f64::from(*own), f64::from(*other));
                            self.p.kl * self.p.kl_estimator.estimator().estimate(own, other).0
                        })
                        .collect()
                });
                rows.collect::<Vec<Vec<f64>>>()
            });
        let settings = AdvantageSettings {
            estimator: self.p.estimator.estimator(),
            group: self.p.samples,
            ..AdvantageSettings::default()
        };
        advantages(&rewards, &masks, penalties.as_deref(), &settings)
            .map(|a| a.advantages)
            .map_err(lm)
    }
}

fn whole(group: &Group, member: &Member) -> Vec<u32> {
    group.prompt.iter().chain(&member.ids).copied().collect()
}

/// Mean size of the advantages over all tokens.
fn mean_size(advantages: &[Vec<f64>]) -> f64 {
    let all = advantages.iter().flatten();
    let (sum, n) = all.fold((0.0, 0_usize), |(sum, n), a| (sum + a.abs(), n + 1));
    sum / n.max(1) as f64
}

/// Mean of policy minus reference log-probability over all tokens: the k1 estimate of the divergence, nats.
fn mean_gap(members: &[(&Group, &Member)], reference: &[Vec<f32>]) -> f64 {
    let pairs = members.iter().zip(reference);
    let gaps = pairs.flat_map(|((_, m), r)| m.logprobs.iter().zip(r));
    let (sum, n) = gaps.fold((0.0, 0_usize), |(sum, n), (own, other)| {
        (sum + f64::from(own - other), n + 1)
    });
    sum / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use starling_lm::policy::luffy::{self, LuffySettings, LuffyTokens};

    /// The slope that [`super::Learner::weighed`] uses is that of LUFFY's own loss.
    #[test]
    fn a_traces_weight_is_luffys() {
        let settings = LuffySettings {
            gamma: 0.1,
            clip: None,
            length: Some(1),
        };
        for logprob in [-0.01_f64, -0.7, -3.0] {
            let (_, slopes) = luffy::loss(
                &settings,
                LuffyTokens {
                    logprobs: &[logprob],
                    old: &[0.0],
                    advantages: &[0.8],
                    mask: &[true],
                    foreign: &[true],
                },
            );
            let p = logprob.exp();
            let ours = -0.8 * p * 0.1 / ((p + 0.1) * (p + 0.1));
            assert!((slopes[0] - ours).abs() < 1e-12);
        }
    }
}
