//! Distillation: trains a student on a teacher's recorded top-k distributions.
//!
//! | port       | way | artifact   | holds                                                         |
//! |------------|-----|------------|---------------------------------------------------------------|
//! | `student`  | in  | checkpoint | weights and tokenizer to start from                           |
//! | `rollouts` | in  | rollouts   | the teacher's answers with its top-k ids and log-probabilities |
//! | `teacher`  | in  | checkpoint | optional: thinks again, where nothing is recorded              |
//! | `model`    | out | checkpoint | weights after the last update                                 |
//! | `curve`    | out | curve      | a row an update: loss (nats a token), rate, gradient norm     |
//!
//! Without `inputs.teacher` nothing is generated and no teacher is loaded: what the teacher thought is in
//! the rollouts. With `tail = 0` and `divergence = "fkl"` this is plain top-k forward KL; constrained
//! distillation (CKD) adds the mass that the student gives to its own favourites outside the teacher's
//! list; `on-policy` above 0 with `divergence = "js"` is generalised knowledge distillation (GKD). Same
//! bytes for any number of threads; a resumed run equals an unbroken one.

mod batch;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::loss::{Divergence, TopKSettings};

use self::batch::{Batches, Teacher};
use crate::cost::Lineage;
use crate::device;
use crate::masks::Mask;
use crate::model::Model;
use crate::rollouts::Rollouts;
use crate::training::{self, Guards, training_params};

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
    /// Generalised Jensen-Shannon, over the listed tokens and one outcome for all else; see `beta`.
    Js,
}

training_params! {
    /// What to match, how long and how fast.
    pub(crate) struct Params {
        /// Sequences an update.
        batch: usize,
        /// `fkl` covers the teacher's modes, `rkl` seeks one of them, `akl` weighs both, `js` mixes the two
        /// models before comparing.
        #[serde(default = "fkl")]
        divergence: Way,
        /// With `js`: the teacher's weight in the mixture, in [0, 1]; 0 is forward, 1 reverse KL. 0.5 as in
        /// GKD's own code.
        #[serde(default = "half")]
        beta: f64,
        /// Coefficient of the student's mass outside the teacher's list; 0 turns the constraint off. Higher
        /// pushes confident strays down harder.
        #[serde(default = "ten")]
        tail: f64,
        /// Which tokens of an answer are learned.
        #[serde(default)]
        mask: Mask,
        /// Share of updates, in [0, 1], that learn from answers the student has just sampled instead of
        /// recorded ones (GKD's λ); above 0 it needs `inputs.teacher` and `max-new-tokens`.
        #[serde(default)]
        on_policy: f64,
        /// With `on-policy`: sampling temperature; 0.9 as in GKD's own code.
        #[serde(default = "point_nine")]
        temperature: f32,
        /// With `on-policy`: most tokens of an answer, end token included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_new_tokens: Option<usize>,
        /// Teacher tokens used at a position; at most as many as were recorded, all of those when left out.
        /// Where the teacher thinks again, up to the whole vocabulary, 100 when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top_k: Option<usize>,
        /// The student's own likeliest tokens among which strays are looked for.
        #[serde(default = "hundred")]
        student_top: usize,
        /// Share of the distillation loss; the rest is cross-entropy on the sampled token.
        #[serde(default = "one")]
        ratio: f64,
        /// Use the first so many rollouts; all when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<usize>,
        /// When to stop, or to go back, before harm is done.
        #[serde(default, skip_serializing_if = "Guards::is_default")]
        guards: Guards,
    }
}

fn fkl() -> Way {
    Way::Fkl
}
fn half() -> f64 {
    0.5
}
fn point_nine() -> f32 {
    0.9
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
    /// 3: gradients are added in another order. 2: rollouts carry half floats; rotary frequencies are rounded as PyTorch does, and prompts that begin
    /// alike are read once. 1: first.
    const VERSION: u32 = 4;
    const DEVICES: &'static [&'static str] = device::PLACES;
    const ABOUT: &'static str = "trains a student on a teacher's recorded top-k distributions";
    const WORK: &'static [&'static str] = &["updates", "batch"];
    const NEUTRAL: &'static [&'static str] = training::NEUTRAL;
    const STOPS: &'static [&'static str] = training::STOPS;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, Rollouts};
        const {
            Ports {
                inputs: &[
                    Input::required("student", Checkpoint, "weights and tokenizer to start from"),
                    Input::required("rollouts", Rollouts, "the teacher's answers with its top-k"),
                    Input::optional(
                        "teacher",
                        Checkpoint,
                        "thinks again: for `on-policy`, and for rollouts without top-k",
                    ),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "weights after the last update"),
                    Output::new("curve", Curve, "a row an update"),
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
            "tail",
            p.tail >= 0.0 && p.tail.is_finite(),
            "must not be negative",
        );
        want(
            "ratio",
            (0.0..=1.0).contains(&p.ratio),
            "must be between 0 and 1",
        );
        want(
            "beta",
            (0.0..=1.0).contains(&p.beta),
            "must be between 0 and 1",
        );
        want(
            "on-policy",
            (0.0..=1.0).contains(&p.on_policy),
            "must be between 0 and 1",
        );
        want("temperature", p.temperature > 0.0, "must be above 0");
        want(
            "max-new-tokens",
            p.max_new_tokens.map_or(p.on_policy <= 0.0, |n| n > 0),
            "must be given, at least 1, when `on-policy` is above 0",
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
        if set.rollouts.is_empty() {
            return Err(StageError::input("rollouts", "holds no rollouts"));
        }
        let teacher = match context.optional("teacher") {
            Some(folder) => {
                let loaded = Model::load(folder)?;
                model.lineage.join(&loaded.lineage);
                let place = device::training_place(context, p.how().products())?;
                Some(Teacher::new(&place, &loaded, model.config())?)
            }
            None => None,
        };
        let k = listed(&p, &set, teacher.is_some(), model.config().vocab_size)?;
        let settings = TopKSettings {
            divergence: match p.divergence {
                Way::Fkl => Divergence::Forward,
                Way::Rkl => Divergence::Reverse,
                Way::Akl => Divergence::Adaptive,
                Way::Js => Divergence::JensenShannon { beta: p.beta },
            },
            tail_coefficient: p.tail,
            student_top: p.student_top.min(model.config().vocab_size),
            ratio: p.ratio,
        };
        let training = p.training(p.guards.rules());
        let mut batches = Batches::new(&p, &set, &model, k, settings, teacher.as_ref())?;
        let threads = context.threads();
        let curve = context.output("curve");
        let trained = training.run(context, &mut model, &curve, |step, trainer| {
            batches.batch(step, trainer, threads)
        })?;
        let counts = trained.counts;
        let work = model.work(
            Self::KIND,
            counts.trained_tokens,
            counts.generated_tokens,
            0,
        );
        let teacher = teacher.map(|t| t.work(Self::KIND, counts.read_tokens));
        model.save_with(&context.output("model"), work, teacher)
    }
}

/// How many of the teacher's tokens are used at a position.
fn listed(
    p: &Params,
    set: &Rollouts,
    teacher: bool,
    vocabulary: usize,
) -> Result<usize, StageError> {
    if p.on_policy > 0.0 && !teacher {
        return Err(StageError::failed_try(
            "`on-policy` is above 0, and no teacher is there to judge what the student samples",
            "give `inputs.teacher`",
        ));
    }
    let most = if set.k > 0 { set.k } else { vocabulary };
    if set.k == 0 && !teacher {
        return Err(StageError::failed_try(
            "the rollouts record no teacher tokens",
            "give `inputs.teacher`, or put a `teacher-topk` stage between, or set `top-k` in the rollout stage",
        ));
    }
    let k = p.top_k.unwrap_or(if set.k > 0 { set.k } else { 100 });
    if k > most && set.k > 0 {
        return Err(StageError::failed_try(
            format!("`top-k` is {k}, the rollouts record {most} tokens a position"),
            format!("set `top-k` to at most {most} or record more in the rollout stage"),
        ));
    }
    Ok(k.min(vocabulary))
}
