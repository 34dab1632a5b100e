//! Reinforcement learning with the similarity-guided reward (Sim-RL): groups of samples, advantages
//! relative to the group, a clipped policy gradient.
//!
//! | port      | way | artifact   | holds                                                             |
//! |-----------|-----|------------|-------------------------------------------------------------------|
//! | `model`   | in  | checkpoint | the policy to start from, and the reference that KL is taken to   |
//! | `prompts` | in  | train-rows | prompts with their right answers                                  |
//! | `traces`  | in  | rollouts   | optional: a teacher's answers, one a group (LUFFY)                |
//! | `model`   | out | checkpoint | the policy after the last update                                  |
//! | `curve`   | out | curve      | a row an update: reward, groups kept, loss, gradient norm, …      |
//! | `samples` | out | samples    | every answer with reward, parts, advantage; see `inspect rollouts` |
//!
//! Rollout, reward and update share one process. A group whose rewards are all equal teaches nothing and
//! is left out; an update without any group is skipped and counted. What is sampled depends on seed,
//! update and prompt only, so the result is the same bytes for any number of threads, and a resumed run
//! equals an unbroken one.
//!
//! The defaults are Sim-RL's; other settings give GRPO (`reward = "format-exact"`), Dr. GRPO, RLOO,
//! REINFORCE, GSPO (`ratio = "sequence"`), ToolRL's reward, and LUFFY (`inputs.traces`).

mod groups;
mod guards;
mod policy;
mod time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::place::{Scorer, Trainer};
use starling_lm::policy::{Estimator, KlEstimator};

use self::groups::Sampler;
use self::guards::Guards;
use self::policy::Learner;
use self::time::Times;
use crate::chat::lm;
use crate::cost::Lineage;
use crate::device;
use crate::model::Model;
use crate::prompts;
use crate::rollouts::Rollouts;
use crate::samples::Log;
use crate::training::{self, training_params};

/// The kind `rl`.
pub(crate) struct Rl;

/// What an answer is rewarded for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Reward {
    /// Similarity to the right answer, in [0, 1]; -1 for bad format.
    #[default]
    SimRl,
    /// ToolRL's: format in {0, 1} plus correctness in [-3, 3].
    Toolrl,
    /// 1 for the right answer, 0 for another one, -1 for bad format.
    FormatExact,
}

/// How rewards of a group become advantages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Baseline {
    /// Minus the group's mean, over its deviation (GRPO).
    #[default]
    GroupNorm,
    /// Minus the group's mean (Dr. GRPO).
    DrGrpo,
    /// Minus the mean of the others (RLOO).
    Rloo,
    /// As they are, normalised over the batch (REINFORCE).
    Reinforce,
    /// Minus the group's mean, normalised over the batch (REINFORCE++ with baseline).
    #[serde(rename = "reinforce-baseline")]
    CentredReinforce,
}

impl Baseline {
    fn estimator(self) -> Estimator {
        match self {
            Self::GroupNorm => Estimator::GroupNorm,
            Self::DrGrpo => Estimator::DrGrpo,
            Self::Rloo => Estimator::Rloo,
            Self::Reinforce => Estimator::Reinforce,
            Self::CentredReinforce => Estimator::ReinforceBaseline,
        }
    }
}

/// How the divergence from the reference is estimated from one token; d = log p - log q.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kl {
    /// d.
    K1,
    /// d² / 2.
    #[default]
    K2,
    /// e^-d - 1 + d.
    K3,
}

impl Kl {
    fn estimator(self) -> KlEstimator {
        match self {
            Self::K1 => KlEstimator::K1,
            Self::K2 => KlEstimator::K2,
            Self::K3 => KlEstimator::K3,
        }
    }
}

/// Where the divergence counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum KlPlace {
    /// Added to the loss.
    #[default]
    Loss,
    /// Taken off the reward, token by token.
    Reward,
}

/// What old and new probabilities are compared over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum RatioOf {
    /// Each token.
    #[default]
    Token,
    /// The whole answer (GSPO).
    Sequence,
}

/// Which groups teach.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Filter {
    /// The mean answer reward of a group must be above this; unset, only equal rewards are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    low: Option<f64>,
    /// … and below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
    /// Rounds of sampling until enough groups teach: 1 takes what the first round gives. Every group that
    /// was kept is used, also when there are more than wanted.
    rounds: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            low: None,
            high: None,
            rounds: 1,
        }
    }
}

training_params! {
    /// How to sample, to judge and to learn.
    pub(crate) struct Params {
        /// Prompts an update.
        prompts: usize,
        /// Samples a prompt, the group; at least 2.
        #[serde(default = "defaults::samples")]
        samples: usize,
        /// Prompts a step of the optimizer; all at once when left out. With fewer than `prompts` an update takes
        /// several steps on the same answers, whose probabilities move under them: what `clip-ratio` bounds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mini_batch: Option<usize>,
        /// Most tokens of an answer, end token included.
        max_new_tokens: usize,
        /// Sampling temperature.
        #[serde(default = "defaults::one")]
        temperature: f32,
        /// What an answer is rewarded for.
        #[serde(default)]
        reward: Reward,
        /// How rewards become advantages.
        #[serde(default)]
        estimator: Baseline,
        /// How far the ratio of new to old probability may count, either way.
        #[serde(default = "defaults::clip_ratio")]
        clip_ratio: f64,
        /// How far above 1 it may count, where that differs (clip-higher).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clip_high: Option<f64>,
        /// With a negative advantage, the gain is not below this (above 1) times the advantage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dual_clip: Option<f64>,
        /// What the ratio is taken over.
        #[serde(default)]
        ratio: RatioOf,
        /// Coefficient of the divergence from the starting policy; 0 leaves the reference out.
        #[serde(default = "defaults::kl")]
        kl: f64,
        /// How it is estimated.
        #[serde(default)]
        kl_estimator: Kl,
        /// Where it counts.
        #[serde(default)]
        kl_in: KlPlace,
        /// Coefficient of an entropy bonus, nats.
        #[serde(default)]
        entropy_bonus: f64,
        /// Length at which the reward begins to sink: the last so many tokens before `max-new-tokens` cost up
        /// to `overlong-penalty`; 0 is off.
        #[serde(default)]
        overlong_buffer: usize,
        /// The most that an overlong answer loses.
        #[serde(default = "defaults::penalty")]
        overlong_penalty: f64,
        /// Which groups teach.
        #[serde(default)]
        filter: Filter,
        /// Whether every answer is kept, with what it earned, as the output `samples`.
        #[serde(default = "defaults::yes")]
        keep_rollouts: bool,
        /// With `inputs.traces`: γ of p / (p + γ), which weighs a teacher's token; 0.1 as in LUFFY.
        #[serde(default = "defaults::gamma")]
        trace_gamma: f64,
        /// When to stop, or to go back, before harm is done.
        #[serde(default)]
        guards: Guards,
    }
}

impl Params {
    /// Steps of the optimizer that so many groups take.
    fn steps(&self, groups: usize) -> usize {
        self.mini_batch.map_or(1, |size| groups.div_ceil(size))
    }
}

mod defaults {
    pub(super) fn samples() -> usize {
        8
    }
    pub(super) fn yes() -> bool {
        true
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
    pub(super) fn penalty() -> f64 {
        1.0
    }
    pub(super) fn gamma() -> f64 {
        0.1
    }
}

impl Stage for Rl {
    const KIND: &'static str = "rl";
    /// 4: gradients are added in another order. 3: every answer is kept (`samples`); the curve has more columns. 2: the curve has more columns; rotary frequencies are rounded as PyTorch does, and prompts that begin
    /// alike are read once. 1: first.
    const VERSION: u32 = 5;
    const DEVICES: &'static [&'static str] = device::PLACES;
    const ABOUT: &'static str = "refines a model with similarity-guided rewards (Sim-RL)";
    const WORK: &'static [&'static str] = &["updates", "prompts", "samples"];
    const NEUTRAL: &'static [&'static str] = training::NEUTRAL;
    const STOPS: &'static [&'static str] = training::STOPS;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, Rollouts, Samples, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "the policy to start from"),
                    Input::required("prompts", TrainRows, "prompts with their right answers"),
                    Input::optional(
                        "traces",
                        Rollouts,
                        "a teacher's answers, one a group (LUFFY)",
                    ),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "the policy after the last update"),
                    Output::new("curve", Curve, "a row an update"),
                    Output::new("samples", Samples, "every answer, with what it earned"),
                ],
            }
        }
    }

    fn writes(p: &Params) -> Vec<&'static str> {
        let all = Self::ports().outputs.iter().map(|output| output.name);
        all.filter(|name| p.keep_rollouts || *name != "samples")
            .collect()
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = p.shared_complaints(("prompts", p.prompts));
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
        want(
            "mini-batch",
            p.mini_batch.is_none_or(|n| (1..=p.prompts).contains(&n)),
            "must be at least 1 and not above `prompts`",
        );
        want("max-new-tokens", p.max_new_tokens > 0, "must be at least 1");
        want("temperature", p.temperature > 0.0, "must be above 0");
        want("clip-ratio", p.clip_ratio > 0.0, "must be above 0");
        want(
            "clip-high",
            p.clip_high.is_none_or(|c| c > 0.0),
            "must be above 0",
        );
        want(
            "dual-clip",
            p.dual_clip.is_none_or(|c| c > 1.0),
            "must be above 1",
        );
        want("kl", p.kl >= 0.0, "must not be negative");
        want(
            "entropy-bonus",
            p.entropy_bonus >= 0.0,
            "must not be negative",
        );
        want(
            "overlong-buffer",
            p.overlong_buffer <= p.max_new_tokens,
            "must not be above `max-new-tokens`",
        );
        want("trace-gamma", p.trace_gamma > 0.0, "must be above 0");
        want(
            "filter",
            p.filter.rounds > 0
                && p.filter.low.unwrap_or(f64::NEG_INFINITY)
                    < p.filter.high.unwrap_or(f64::INFINITY),
            "`rounds` must be at least 1, and `low` below `high`",
        );
        want(
            "guards",
            p.kl > 0.0 || !p.guards.watches_kl(),
            "`kl` of the guards needs the parameter `kl` above 0",
        );
        complaints.extend(p.guards.rules().check());
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("model")?)?;
        let tokenizer = model.tokenizer()?;
        let all = prompts::read(context.input("prompts")?, "prompts", &tokenizer, None)?;
        let reference = if p.kl > 0.0 {
            let place = device::training_place(context, p.how().products())?;
            let scorer = Scorer::new(&place, model.config(), &model.checkpoint.weights);
            Some(scorer.map_err(lm)?.computing_in(p.how().products()))
        } else {
            None
        };
        let traces = match context.optional("traces") {
            Some(folder) => {
                model.lineage.join(&Lineage::read(folder)?);
                Some(Rollouts::read(folder)?)
            }
            None => None,
        };
        let mut sampler = Sampler::new(&p, &all, &tokenizer, model.ends(), traces.as_ref());
        let learner = Learner::new(&p, reference);
        let mut training = p.training(p.guards.rules());
        training.steps = p.steps(p.prompts) as u64;
        let curve = context.output("curve");
        let threads = context.threads();
        let log = match p.keep_rollouts {
            true => Some(Log::create(&context.output("samples"))?),
            false => None,
        };
        let clock = || context.elapsed_seconds();
        let mut times = Times::new(&clock);
        let mut began = false;
        let trained = training.run_with(
            context,
            &mut model,
            &curve,
            log,
            |step, trainer: &Trainer| {
                // What passed since the last batch was learning from it.
                match std::mem::replace(&mut began, true) {
                    true => times.training(),
                    false => times.skip(),
                }
                let generator = trainer.generator().map_err(lm)?;
                let drawn = sampler.draw(&generator, step, threads, &mut times)?;
                let batch = learner.batch(drawn, trainer, threads)?;
                times.scoring();
                Ok(batch)
            },
        )?;
        times.training();
        times.tell(context);
        let counts = trained.counts;
        if counts.skipped_updates > 0 {
            context.warn(format!(
                "{} of {} updates were skipped: every group had equal rewards",
                counts.skipped_updates, trained.updates
            ));
        }
        if counts.skipped_updates == trained.updates {
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
