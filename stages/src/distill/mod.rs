//! Distillation: trains a student on a teacher's recorded top-k distributions.
//!
//! | port       | way | artifact   | holds                                                         |
//! |------------|-----|------------|---------------------------------------------------------------|
//! | `student`  | in  | checkpoint | weights and tokenizer to start from                           |
//! | `rollouts` | in  | rollouts   | the teacher's answers with its top-k ids and log-probabilities |
//! | `model`    | out | checkpoint | weights after the last update                                 |
//! | `curve`    | out | curve      | a row an update: loss (nats a token), rate, gradient norm     |
//!
//! Nothing is generated and no teacher is loaded: what the teacher thought is in the rollouts. With
//! `tail = 0` and `divergence = "fkl"` this is plain top-k forward KL; constrained distillation (CKD)
//! adds the mass that the student gives to its own favourites outside the teacher's list. Same bytes
//! for any number of threads; a resumed run equals an unbroken one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::loss::{Divergence, TopKSettings};
use starling_lm::train::{LossTarget, Sequence, TopKTarget};

use crate::cost::Lineage;
use crate::model::Model;
use crate::random::Epochs;
use crate::rollouts::{Rollout, Rollouts};
use crate::training::{self, Batch, Optimizer, Training};

/// The kind `distill`.
pub(crate) struct Distill;

/// Which way the divergence is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// Forward: weighted by the teacher.
    Fkl,
    /// Reverse: weighted by the student.
    Rkl,
    /// Adaptive: between both, by where the two differ.
    Akl,
}

/// What to match, how long and how fast.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Updates in all.
    updates: u64,
    /// Sequences an update.
    batch: usize,
    /// `fkl` covers the teacher's modes, `rkl` seeks one of them, `akl` weighs both.
    #[serde(default = "fkl")]
    divergence: Way,
    /// Coefficient of the student's mass outside the teacher's list; 0 turns the constraint off. Higher
    /// pushes confident strays down harder.
    #[serde(default = "ten")]
    tail: f64,
    /// Teacher tokens used at a position; at most as many as were recorded, all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    /// The student's own likeliest tokens among which strays are looked for.
    #[serde(default = "hundred")]
    student_top: usize,
    /// Share of the distillation loss; the rest is cross-entropy on the sampled token.
    #[serde(default = "one")]
    ratio: f64,
    /// How weights move.
    #[serde(default)]
    optimizer: Optimizer,
    /// Use the first so many rollouts; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    /// Seed of the order of rollouts.
    #[serde(default)]
    seed: u64,
    /// Tokens of sequences computed at a time by a thread; more is faster until the cache is full.
    #[serde(default = "training::chunk_tokens")]
    chunk_tokens: usize,
    /// Seconds between snapshots; changes no byte.
    #[serde(default = "training::snapshot_seconds")]
    snapshot_seconds: f64,
}

fn fkl() -> Way {
    Way::Fkl
}
fn ten() -> f64 {
    10.0
}
fn hundred() -> usize {
    100
}
fn one() -> f64 {
    1.0
}

impl Stage for Distill {
    const KIND: &'static str = "distill";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "trains a student on a teacher's recorded top-k distributions";
    const WORK: &'static [&'static str] = &["updates", "batch"];
    const NEUTRAL: &'static [&'static str] = &["snapshot-seconds"];
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, Rollouts};
        const {
            Ports {
                inputs: &[
                    Input::required("student", Checkpoint, "weights and tokenizer to start from"),
                    Input::required("rollouts", Rollouts, "the teacher's answers with its top-k"),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "weights after the last update"),
                    Output::new("curve", Curve, "a row an update"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = p.optimizer.check();
        complaints.extend(training::check(p.updates, p.batch, p.chunk_tokens));
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want(
            "tail",
            p.tail >= 0.0 && p.tail.is_finite(),
            "must not be negative",
        );
        want(
            "ratio",
            (0.0..=1.0).contains(&p.ratio),
            "must be between 0 and 1",
        );
        want("top-k", p.top_k != Some(0), "must be at least 1");
        want("student-top", p.student_top > 0, "must be at least 1");
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("student")?)?;
        let from = context.input("rollouts")?;
        model.lineage.join(&Lineage::read(from)?);
        let set = Rollouts::read(from)?;
        let wanted = p.rows.unwrap_or(set.rollouts.len());
        let rollouts: Vec<&Rollout> = set.rollouts.iter().take(wanted).collect();
        if rollouts.is_empty() {
            return Err(StageError::input("rollouts", "holds no rollouts"));
        }
        let k = p.top_k.unwrap_or(set.k);
        if k == 0 || k > set.k {
            return Err(StageError::failed_try(
                format!(
                    "`top-k` is {k}, the rollouts record {} tokens a position",
                    set.k
                ),
                format!(
                    "set `top-k` to at most {} or record more in the rollout stage",
                    set.k
                ),
            ));
        }
        let settings = TopKSettings {
            divergence: match p.divergence {
                Way::Fkl => Divergence::Forward,
                Way::Rkl => Divergence::Reverse,
                Way::Akl => Divergence::Adaptive,
            },
            tail_coefficient: p.tail,
            student_top: p.student_top.min(model.config().vocab_size),
            ratio: p.ratio,
        };
        let sequence = |r: &Rollout| distilled(r, &set, k, settings);
        let training = Training {
            updates: p.updates,
            optimizer: &p.optimizer,
            chunk_tokens: p.chunk_tokens,
            snapshot_seconds: p.snapshot_seconds,
        };
        let mut order = Epochs::new(p.seed, rollouts.len());
        let curve = context.output("curve");
        let counts = training.run(context, &mut model, &curve, |update, _| {
            let first = update as usize * p.batch;
            Ok(Batch::of(
                (first..first + p.batch)
                    .map(|i| sequence(rollouts[order.row(i)]))
                    .collect(),
            ))
        })?;
        let work = model.work(Self::KIND, counts.trained_tokens, 0, 0);
        model.save(&context.output("model"), work)
    }
}

/// A rollout as a sequence whose answer is matched to the teacher's first `k` tokens.
fn distilled(r: &Rollout, set: &Rollouts, k: usize, settings: TopKSettings) -> Sequence {
    let prompt = &set.prompts[r.prompt];
    let head = |values: &[u32]| {
        values
            .chunks(set.k)
            .flat_map(|row| row[..k].to_vec())
            .collect()
    };
    let heads = |values: &[f32]| {
        values
            .chunks(set.k)
            .flat_map(|row| row[..k].to_vec())
            .collect()
    };
    Sequence {
        ids: prompt.iter().chain(&r.ids).copied().collect(),
        loss: LossTarget::TopK(TopKTarget {
            positions: training::answer_positions(prompt.len(), r.ids.len()),
            weights: Vec::new(),
            k,
            teacher_ids: head(&r.topk_ids),
            teacher_logprobs: heads(&r.topk_logprobs),
            settings,
        }),
    }
}
