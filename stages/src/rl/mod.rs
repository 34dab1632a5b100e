//! Reinforcement learning with the similarity-guided reward (Sim-RL): groups of samples, advantages
//! relative to the group, a clipped policy gradient.
//!
//! | port      | way | artifact   | holds                                                             |
//! |-----------|-----|------------|-------------------------------------------------------------------|
//! | `model`   | in  | checkpoint | the policy to start from, and the reference that KL is taken to   |
//! | `prompts` | in  | train-rows | prompts with their right answers                                  |
//! | `model`   | out | checkpoint | the policy after the last update                                  |
//! | `curve`   | out | curve      | a row an update: reward, groups kept, loss, gradient norm, …      |
//!
//! Rollout, reward and update share one process. A group whose rewards are all equal teaches nothing and
//! is left out; an update without any group is skipped and counted. What is sampled depends on seed,
//! update and prompt only, so the result is the same bytes for any number of threads, and a resumed run
//! equals an unbroken one.

use std::ops::ControlFlow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::decoder::Decoder;
use starling_lm::generate::{Generator, Request, Sample, Sampling, StopReason};
use starling_lm::policy::advantage::shape_rewards;
use starling_lm::policy::{AdvantageSettings, Estimator, KlEstimator, PolicySettings};
use starling_lm::score;
use starling_lm::tokenizer::Tokenizer;
use starling_lm::train::{LossTarget, PolicyTarget, Sequence, Trainer};

use crate::chat::{self, lm};
use crate::model::Model;
use crate::prompts::{self, Prompt};
use crate::random::Epochs;
use crate::training::{self, Batch, Optimizer, Training};

/// The kind `rl`.
pub(crate) struct Rl;

/// How to sample, to judge and to learn.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Updates in all.
    updates: u64,
    /// Prompts an update.
    prompts: usize,
    /// Samples a prompt, the group; at least 2.
    #[serde(default = "defaults::samples")]
    samples: usize,
    /// Most tokens of an answer, end token included.
    max_new_tokens: usize,
    /// Sampling temperature.
    #[serde(default = "defaults::one")]
    temperature: f32,
    /// How far the ratio of new to old probability may count, either way.
    #[serde(default = "defaults::clip_ratio")]
    clip_ratio: f64,
    /// Coefficient of the KL loss to the starting policy (k2 estimator); 0 leaves the reference out.
    #[serde(default = "defaults::kl")]
    kl: f64,
    /// How weights move.
    #[serde(default)]
    optimizer: Optimizer,
    /// Seed of the order of prompts and of the sampling.
    #[serde(default)]
    seed: u64,
    /// Tokens of sequences computed at a time by a thread; more is faster until the cache is full.
    #[serde(default = "training::chunk_tokens")]
    chunk_tokens: usize,
    /// Seconds between snapshots; changes no byte.
    #[serde(default = "training::snapshot_seconds")]
    snapshot_seconds: f64,
}

mod defaults {
    pub(super) fn samples() -> usize {
        8
    }
    pub(super) fn one() -> f32 {
        1.0
    }
    pub(super) fn clip_ratio() -> f64 {
        0.2
    }
    pub(super) fn kl() -> f64 {
        1e-3
    }
}

impl Stage for Rl {
    const KIND: &'static str = "rl";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "refines a model with similarity-guided rewards (Sim-RL)";
    const WORK: &'static [&'static str] = &["updates", "prompts", "samples"];
    const NEUTRAL: &'static [&'static str] = &["snapshot-seconds"];
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the policy to start from"),
                    Input::required("prompts", TrainRows, "prompts with their right answers"),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "the policy after the last update"),
                    Output::new("curve", Curve, "a row an update"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = p.optimizer.check();
        complaints.extend(
            training::check(p.updates, p.prompts, p.chunk_tokens)
                .into_iter()
                .map(|c| {
                    if c.param == "batch" {
                        Complaint {
                            param: "prompts",
                            ..c
                        }
                    } else {
                        c
                    }
                }),
        );
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want(
            "samples",
            p.samples > 1,
            "must be at least 2: a group is compared with itself",
        );
        want("max-new-tokens", p.max_new_tokens > 0, "must be at least 1");
        want("temperature", p.temperature > 0.0, "must be above 0");
        want("clip-ratio", p.clip_ratio > 0.0, "must be above 0");
        want("kl", p.kl >= 0.0, "must not be negative");
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("model")?)?;
        let tokenizer = model.tokenizer()?;
        let all = prompts::read(context.input("prompts")?, "prompts", &tokenizer, None)?;
        let reference = if p.kl > 0.0 {
            Some(Decoder::new(model.config(), &model.checkpoint.weights).map_err(lm)?)
        } else {
            None
        };
        let mut order = Epochs::new(p.seed, all.len());
        let config = model.config().clone();
        let sampler = Sampler {
            p: &p,
            tokenizer: &tokenizer,
            ends: model.ends(),
        };
        let training = Training {
            updates: p.updates,
            optimizer: &p.optimizer,
            chunk_tokens: p.chunk_tokens,
            snapshot_seconds: p.snapshot_seconds,
        };
        let curve = context.output("curve");
        let counts = training.run(context, &mut model, &curve, |update, trainer: &Trainer| {
            let first = update as usize * p.prompts;
            let chosen: Vec<&Prompt> = (first..first + p.prompts)
                .map(|i| &all[order.row(i)])
                .collect();
            let generator = Generator::new(&config, &trainer.weights().map_err(lm)?).map_err(lm)?;
            let groups = sampler.sample(&generator, &chosen, update, context.threads())?;
            sampler.batch(&chosen, &groups, reference.as_ref(), context.threads())
        })?;
        if counts.skipped_updates > 0 {
            context.warn(format!(
                "{} of {} updates were skipped: every group had equal rewards",
                counts.skipped_updates, p.updates
            ));
        }
        if counts.skipped_updates == p.updates {
            return Err(StageError::failed_try(
                "no update could learn: in every group all rewards were equal",
                "start from a model that sometimes succeeds, or raise `samples` or `temperature`",
            ));
        }
        let work = model.work(
            Self::KIND,
            counts.trained_tokens,
            counts.generated_tokens,
            counts.read_tokens,
        );
        model.save(&context.output("model"), work)
    }
}

/// Samples groups and makes batches of them.
struct Sampler<'a> {
    p: &'a Params,
    tokenizer: &'a Tokenizer,
    ends: Vec<u32>,
}

impl Sampler<'_> {
    fn sample(
        &self,
        generator: &Generator,
        chosen: &[&Prompt],
        update: u64,
        threads: usize,
    ) -> Result<Vec<Vec<Sample>>, StageError> {
        let sampling = Sampling {
            temperature: self.p.temperature,
            stop_tokens: self.ends.clone(),
            max_new_tokens: self.p.max_new_tokens,
            seed: self
                .p
                .seed
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(update),
            ..Sampling::default()
        };
        let requests: Vec<Request> = chosen.iter().map(|q| q.request(self.p.samples)).collect();
        generator
            .generate(
                &requests,
                &sampling,
                threads,
                &|_| ControlFlow::Continue(()),
            )
            .map_err(lm)
    }

    /// Judges the groups and turns those that differ into sequences.
    fn batch(
        &self,
        chosen: &[&Prompt],
        groups: &[Vec<Sample>],
        reference: Option<&Decoder>,
        threads: usize,
    ) -> Result<Batch, StageError> {
        let mut batch = Batch::of(Vec::new());
        let (mut rewards, mut good_format, mut exact) = (Vec::new(), 0usize, 0usize);
        let (mut unfinished, mut kept, mut entropy, mut tokens) = (0usize, 0usize, 0.0, 0usize);
        let mut picked: Vec<(&Prompt, &Sample, f64)> = Vec::new();
        for (prompt, samples) in chosen.iter().zip(groups) {
            batch.read_tokens += prompt.ids.len() as u64;
            let mut group = Vec::with_capacity(samples.len());
            for sample in samples {
                batch.generated_tokens += sample.tokens.len() as u64;
                let text = self.tokenizer.decode(&sample.tokens, false);
                let outcome = prompt.score(text.strip_suffix(chat::END).unwrap_or(&text));
                group.push(outcome.reward);
                good_format += usize::from(outcome.format_reward > 0.0);
                exact += usize::from(outcome.reward >= 1.0);
                unfinished += usize::from(sample.stop != StopReason::Stop);
                entropy += sample.entropies.iter().map(|e| f64::from(*e)).sum::<f64>();
                tokens += sample.tokens.len();
            }
            if group.iter().any(|r| (r - group[0]).abs() > 0.0) {
                kept += 1;
                let settings = AdvantageSettings {
                    estimator: Estimator::GroupNorm,
                    group: group.len(),
                    ..AdvantageSettings::default()
                };
                let advantages = shape_rewards(&group, &settings).map_err(lm)?;
                picked.extend(samples.iter().zip(advantages).map(|(s, a)| (*prompt, s, a)));
            }
            rewards.extend(group);
        }
        batch.sequences = self.sequences(&picked, reference, threads, &mut batch.read_tokens)?;
        let n = rewards.len() as f64;
        batch.columns = vec![
            ("reward", rewards.iter().sum::<f64>() / n),
            ("exact", exact as f64 / n),
            ("format", good_format as f64 / n),
            ("unfinished", unfinished as f64 / n),
            ("groups", groups.len() as f64),
            ("groups_kept", kept as f64),
            ("entropy", entropy / tokens.max(1) as f64),
            ("response_tokens", tokens as f64 / n),
        ];
        Ok(batch)
    }

    fn sequences(
        &self,
        picked: &[(&Prompt, &Sample, f64)],
        reference: Option<&Decoder>,
        threads: usize,
        read_tokens: &mut u64,
    ) -> Result<Vec<Sequence>, StageError> {
        let ids: Vec<Vec<u32>> = picked
            .iter()
            .map(|(prompt, sample, _)| prompt.ids.iter().chain(&sample.tokens).copied().collect())
            .collect();
        let reference = match reference {
            Some(decoder) => {
                *read_tokens += ids.iter().map(|i| i.len() as u64).sum::<u64>();
                Some(score::logprobs(decoder, &ids, threads).map_err(lm)?)
            }
            None => None,
        };
        let settings = PolicySettings {
            clip_low: self.p.clip_ratio,
            clip_high: self.p.clip_ratio,
            kl_coefficient: self.p.kl,
            kl_estimator: KlEstimator::K2,
            ..PolicySettings::default()
        };
        Ok(picked
            .iter()
            .zip(ids)
            .enumerate()
            .map(|(i, ((prompt, sample, advantage), ids))| Sequence {
                ids,
                loss: LossTarget::Policy(PolicyTarget {
                    positions: training::answer_positions(prompt.ids.len(), sample.tokens.len()),
                    advantages: vec![*advantage as f32; sample.tokens.len()],
                    old_logprobs: sample.logprobs.clone(),
                    reference_logprobs: reference
                        .as_ref()
                        .map(|r| r[i].logprobs[prompt.ids.len() - 1..].to_vec()),
                    settings,
                }),
            })
            .collect())
    }
}
