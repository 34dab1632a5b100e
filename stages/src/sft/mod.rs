//! Supervised fine-tuning: cross-entropy on answers, a teacher's or the rows' own.
//!
//! | port       | way | artifact   | holds                                                       |
//! |------------|-----|------------|-------------------------------------------------------------|
//! | `model`    | in  | checkpoint | weights and tokenizer to start from                         |
//! | `rows`     | in  | train-rows | prompts and answers as text, or:                            |
//! | `rollouts` | in  | rollouts   | a teacher's answers, as the token ids it sampled            |
//! | `model`    | out | checkpoint | weights after the last update                               |
//! | `curve`    | out | curve      | a row an update: loss (nats a token), rate, gradient norm   |
//!
//! The loss is the mean over all answer tokens of an update's batch, whatever their sequences; prompts
//! never count. Same bytes for any number of threads; a resumed run equals an unbroken one.

use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::tokenizer::Tokenizer;
use starling_lm::train::Sequence;

use crate::chat::lm;
use crate::device;
use crate::model::Model;
use crate::prompts;
use crate::random::Epochs;
use crate::rollouts::Rollouts;
use crate::training::{self, Batch, Guards, training_params};

/// The kind `sft`.
pub(crate) struct Sft;

training_params! {
    /// How long and how fast to learn.
    pub(crate) struct Params {
        /// Sequences an update.
        batch: usize,
        /// Use the first so many rows; all when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows: Option<usize>,
        /// When to stop, or to go back, before harm is done.
        #[serde(default, skip_serializing_if = "Guards::is_default")]
        guards: Guards,
    }
}

impl Stage for Sft {
    const KIND: &'static str = "sft";
    /// 3: gradients are added in another order. 2: rotary frequencies are rounded as PyTorch does, and prompts that begin alike are read once.
    /// 1: first.
    const VERSION: u32 = 4;
    const DEVICES: &'static [&'static str] = device::PLACES;
    const ABOUT: &'static str = "trains on answers by cross-entropy";
    const WORK: &'static [&'static str] = &["updates", "batch"];
    const NEUTRAL: &'static [&'static str] = training::NEUTRAL;
    const STOPS: &'static [&'static str] = training::STOPS;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Curve, Rollouts, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("model", Checkpoint, "weights and tokenizer to start from"),
                    Input::optional("rows", TrainRows, "prompts and answers as text"),
                    Input::optional("rollouts", Rollouts, "a teacher's answers as token ids"),
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
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("model")?)?;
        let sequences = match (context.optional("rows"), context.optional("rollouts")) {
            (Some(rows), None) => from_rows(rows, &model.tokenizer()?, p.rows)?,
            (None, Some(rollouts)) => {
                let lineage = crate::cost::Lineage::read(rollouts)?;
                model.lineage.join(&lineage);
                from_rollouts(&Rollouts::read(rollouts)?, p.rows)
            }
            _ => {
                return Err(StageError::failed_try(
                    "`sft` learns from either `rows` or `rollouts`, not both and not neither",
                    "give one of `inputs.rows` and `inputs.rollouts`",
                ));
            }
        };
        let mut order = Epochs::new(p.seed, sequences.len());
        let training = p.training(p.guards.rules());
        let curve = context.output("curve");
        let trained = training.run(context, &mut model, &curve, |step, _| {
            let first = step.update as usize * p.batch;
            let batch = (first..first + p.batch)
                .map(|i| sequences[order.row(step.attempt, i)].clone())
                .collect();
            Ok(Batch::of(batch))
        })?;
        let work = model.work(Self::KIND, trained.counts.trained_tokens, 0, 0);
        model.save(&context.output("model"), work)
    }
}

fn from_rows(
    path: &std::path::Path,
    tokenizer: &Tokenizer,
    limit: Option<usize>,
) -> Result<Vec<Sequence>, StageError> {
    prompts::read_text(path, "rows", limit)?
        .iter()
        .map(|row| {
            let prompt = tokenizer.encode(&row.inputs).map_err(lm)?;
            let answer = tokenizer.encode(&row.targets).map_err(lm)?;
            Ok(training::imitate(&prompt, &answer))
        })
        .collect()
}

fn from_rollouts(set: &Rollouts, limit: Option<usize>) -> Vec<Sequence> {
    let wanted = limit.unwrap_or(set.rollouts.len());
    set.rollouts
        .iter()
        .take(wanted)
        .map(|r| training::imitate(&set.prompts[r.prompt], &r.ids))
        .collect()
}
