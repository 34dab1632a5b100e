//! Direct preference optimisation on pairs of answers, right against wrong, ranked by the reward.
//!
//! | port       | way | artifact   | holds                                                           |
//! |------------|-----|------------|-----------------------------------------------------------------|
//! | `model`    | in  | checkpoint | weights to start from, and the reference                        |
//! | `prompts`  | in  | train-rows | prompts with their right answers, which answers are judged by   |
//! | `rollouts` | in  | rollouts   | one or more sets of answers, a teacher's or the student's own   |
//! | `model`    | out | checkpoint | weights after the last update                                   |
//! | `curve`    | out | curve      | a row an update: loss, share of pairs ranked right, margin      |
//! | `pairs`    | out | rows       | the pairs: `id`, `inputs`, `chosen`, `rejected`, both rewards   |
//!
//! A prompt gives its best answer against its worst, where they are far enough apart. The loss couples two
//! sequences, so each update first reads both with the weights of that moment and then learns each token
//! with the slope that its pair has; the gradient is the exact one. Same bytes for any number of threads;
//! a resumed run equals an unbroken one.

mod pairs;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::LmError;
use starling_lm::place::{Scorer, Trainer};
use starling_lm::policy::PolicySettings;
use starling_lm::policy::preference::{Pair, Preference, loss};
use starling_lm::score::Scores;
use starling_lm::train::{LossTarget, PolicyTarget, Sequence};

use self::pairs::{Ranked, rank, write};
use crate::chat::lm;
use crate::cost::Lineage;
use crate::device;
use crate::model::Model;
use crate::prompts;
use crate::random::Epochs;
use crate::rollouts::Rollouts;
use crate::training::{self, Batch, Guards, training_params};

/// The kind `dpo`.
pub(crate) struct Dpo;

/// What is minimised of the margin h between a pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    /// -log σ(β·h).
    #[default]
    Sigmoid,
    /// (h - 1 / 2β)².
    Ipo,
}

training_params! {
    /// What to prefer, how long and how fast to learn.
    pub(crate) struct Params {
        /// Pairs an update.
        batch: usize,
        /// How closely the policy is held to where it started; lower lets it go further. 0.1 as published.
        #[serde(default = "tenth")]
        beta: f64,
        /// What is minimised.
        #[serde(default)]
        loss: Loss,
        /// With `sigmoid`: share of the pairs taken to be the wrong way round, in [0, 0.5).
        #[serde(default)]
        label_smoothing: f64,
        /// Least reward of the chosen answer; 1 takes right answers only.
        #[serde(default = "one")]
        chosen_min: f64,
        /// Least difference of the two rewards.
        #[serde(default = "tenth")]
        min_margin: f64,
        /// When to stop, or to go back, before harm is done.
        #[serde(default, skip_serializing_if = "Guards::is_default")]
        guards: Guards,
    }
}

fn tenth() -> f64 {
    0.1
}
fn one() -> f64 {
    1.0
}

impl Stage for Dpo {
    const KIND: &'static str = "dpo";
    /// 2: gradients are added in another order. 1: first.
    const VERSION: u32 = 3;
    const DEVICES: &'static [&'static str] = device::PLACES;
    const ABOUT: &'static str = "learns to prefer right answers to wrong ones (DPO, IPO)";
    const NEUTRAL: &'static [&'static str] = training::NEUTRAL;
    const WORK: &'static [&'static str] = &["updates", "batch"];
    const STOPS: &'static [&'static str] = training::STOPS;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, Rollouts, Rows, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "weights to start from"),
                    Input::required("prompts", TrainRows, "prompts with their right answers"),
                    Input::many("rollouts", Rollouts, "answers to choose pairs from"),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "weights after the last update"),
                    Output::new("curve", Curve, "a row an update"),
                    Output::new("pairs", Rows, "the pairs with their rewards"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = p.shared_complaints(("batch", p.batch));
        complaints.extend(p.guards.rules().check());
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want(
            "beta",
            p.beta > 0.0 && p.beta.is_finite(),
            "must be above 0",
        );
        want(
            "label-smoothing",
            (0.0..0.5).contains(&p.label_smoothing),
            "must be in [0, 0.5)",
        );
        want("min-margin", p.min_margin > 0.0, "must be above 0");
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("model")?)?;
        let tokenizer = model.tokenizer()?;
        let all = prompts::read(context.input("prompts")?, "prompts", &tokenizer, None)?;
        let mut sets = Vec::new();
        for (_, folder) in context.many("rollouts") {
            model.lineage.join(&Lineage::read(folder)?);
            sets.push(Rollouts::read(folder)?);
        }
        let pairs = rank(&all, &sets, p.chosen_min, p.min_margin);
        if pairs.is_empty() {
            return Err(StageError::failed_try(
                format!(
                    "no prompt has an answer of reward {} or more and another {} below it",
                    p.chosen_min, p.min_margin
                ),
                "sample more answers, from the student too, or lower `chosen-min`",
            ));
        }
        write(&context.output("pairs"), &pairs)?;
        let place = device::training_place(context, p.how().products())?;
        let scorer = Scorer::new(&place, model.config(), &model.checkpoint.weights)
            .map_err(lm)?
            .computing_in(p.how().products());
        let threads = context.threads();
        let every: Vec<&Ranked> = pairs.iter().collect();
        let reference: Vec<[f64; 2]> = read(&every, |texts| scorer.logprobs(texts, threads))?
            .into_iter()
            .map(|pair| pair.map(|seen| seen.sum))
            .collect();
        drop(scorer);
        let mut order = Epochs::new(p.seed, pairs.len());
        let training = p.training(p.guards.rules());
        let curve = context.output("curve");
        let trained = training.run(context, &mut model, &curve, |step, trainer| {
            let first = step.update as usize * p.batch;
            let chosen: Vec<usize> = (first..first + p.batch)
                .map(|i| order.row(step.attempt, i))
                .collect();
            let picked: Vec<&Ranked> = chosen.iter().map(|i| &pairs[*i]).collect();
            let before: Vec<[f64; 2]> = chosen.iter().map(|i| reference[*i]).collect();
            Ok(batch(&p, &picked, &before, trainer, threads)?)
        })?;
        let counts = trained.counts;
        // The reference reads every pair once.
        let once: usize = pairs.iter().map(Ranked::tokens).sum();
        let read = counts.read_tokens + once as u64;
        let work = model.work(Self::KIND, counts.trained_tokens, 0, read);
        model.save(&context.output("model"), work)
    }
}

/// An answer as the policy of a moment sees it.
struct Seen {
    logprobs: Vec<f32>,
    sum: f64,
}

/// Reads the chosen and the rejected answer of each pair.
fn read(
    pairs: &[&Ranked],
    logprobs: impl FnOnce(&[Vec<u32>]) -> Result<Vec<Scores>, LmError>,
) -> Result<Vec<[Seen; 2]>, StageError> {
    let ids: Vec<Vec<u32>> = pairs
        .iter()
        .flat_map(|p| [p.whole(0), p.whole(1)])
        .collect();
    let scores = logprobs(&ids).map_err(lm)?;
    let mut scores = scores.into_iter();
    let mut seen = |pair: &Ranked| {
        let logprobs = scores.next().map(|s| s.logprobs).unwrap_or_default();
        let logprobs = logprobs[pair.prompt.len() - 1..].to_vec();
        Seen {
            sum: logprobs.iter().map(|x| f64::from(*x)).sum(),
            logprobs,
        }
    };
    Ok(pairs.iter().map(|pair| [seen(pair), seen(pair)]).collect())
}

/// The two sequences of each pair, each token with the slope of its pair's loss.
fn batch(
    p: &Params,
    pairs: &[&Ranked],
    reference: &[[f64; 2]],
    trainer: &Trainer,
    threads: usize,
) -> Result<Batch, StageError> {
    let now = read(pairs, |texts| trainer.logprobs(texts, threads))?;
    let kind = match p.loss {
        Loss::Sigmoid => Preference::Sigmoid {
            smoothing: p.label_smoothing,
        },
        Loss::Ipo => Preference::Squared,
    };
    // The trainer divides by the tokens of the batch; the loss is a mean over pairs.
    let tokens: usize = pairs
        .iter()
        .flat_map(|pair| &pair.answers)
        .map(|a| a.ids.len())
        .sum();
    let scale = tokens as f64 / pairs.len() as f64;
    let (mut total, mut right, mut margins) = (0.0, 0_usize, 0.0);
    let mut sequences = Vec::with_capacity(2 * pairs.len());
    for ((pair, now), before) in pairs.iter().zip(now).zip(reference) {
        let sums = Pair {
            chosen: now[0].sum,
            rejected: now[1].sum,
            reference_chosen: before[0],
            reference_rejected: before[1],
        };
        let (value, slope) = loss(kind, p.beta, sums);
        let margin = (now[0].sum - now[1].sum) - (before[0] - before[1]);
        total += value;
        margins += margin;
        right += usize::from(margin > 0.0);
        for (side, seen) in now.into_iter().enumerate() {
            let slope = if side == 0 { slope } else { -slope };
            sequences.push(Sequence {
                ids: pair.whole(side),
                loss: LossTarget::Policy(PolicyTarget {
                    positions: training::answer_positions(pair.prompt.len(), seen.logprobs.len()),
                    advantages: vec![(-slope * scale) as f32; seen.logprobs.len()],
                    old_logprobs: seen.logprobs,
                    reference_logprobs: None,
                    settings: PolicySettings {
                        clip_low: f64::INFINITY,
                        clip_high: f64::INFINITY,
                        kl_coefficient: 0.0,
                        ..PolicySettings::default()
                    },
                }),
            });
        }
    }
    let n = pairs.len() as f64;
    let mut batch = Batch::of(sequences);
    batch.read_tokens = pairs.iter().map(|p| p.tokens() as u64).sum();
    batch.columns = vec![
        ("loss", total / n),
        ("ranked_right", right as f64 / n),
        ("margin", margins / n),
    ];
    Ok(batch)
}
