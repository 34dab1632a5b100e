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

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::tokenizer::Tokenizer;
use starling_lm::train::Sequence;

use crate::chat::lm;
use crate::model::Model;
use crate::prompts;
use crate::random::Epochs;
use crate::rollouts::Rollouts;
use crate::training::{self, Batch, Optimizer, Training};

/// The kind `sft`.
pub(crate) struct Sft;

/// How long and how fast to learn.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Updates in all.
    updates: u64,
    /// Sequences an update.
    batch: usize,
    /// How weights move.
    #[serde(default)]
    optimizer: Optimizer,
    /// Use the first so many rows; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    /// Seed of the order of rows.
    #[serde(default)]
    seed: u64,
    /// Tokens of sequences computed at a time by a thread; more is faster until the cache is full.
    #[serde(default = "training::chunk_tokens")]
    chunk_tokens: usize,
    /// Seconds between snapshots; changes no byte.
    #[serde(default = "training::snapshot_seconds")]
    snapshot_seconds: f64,
}

impl Stage for Sft {
    const KIND: &'static str = "sft";
    /// 2: rotary frequencies are rounded as PyTorch does, and prompts that begin alike are read once.
    /// 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "trains on answers by cross-entropy";
    const WORK: &'static [&'static str] = &["updates", "batch"];
    const NEUTRAL: &'static [&'static str] = &["snapshot-seconds"];
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
        let mut complaints = p.optimizer.check();
        complaints.extend(training::check(p.updates, p.batch, p.chunk_tokens));
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
        let training = Training {
            updates: p.updates,
            optimizer: &p.optimizer,
            chunk_tokens: p.chunk_tokens,
            snapshot_seconds: p.snapshot_seconds,
        };
        let curve = context.output("curve");
        let counts = training.run(context, &mut model, &curve, |update, _| {
            let first = update as usize * p.batch;
            let batch = (first..first + p.batch)
                .map(|i| sequences[order.row(i)].clone())
                .collect();
            Ok(Batch::of(batch))
        })?;
        let work = model.work(Self::KIND, counts.trained_tokens, 0, 0);
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
