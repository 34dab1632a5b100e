//! Teacher top-k: reads given answers with the teacher and records its likeliest tokens at each position.
//!
//! | port       | way | artifact   | holds                                                        |
//! |------------|-----|------------|--------------------------------------------------------------|
//! | `teacher`  | in  | checkpoint | the teacher                                                  |
//! | `rollouts` | in  | rollouts   | answers as token ids, whoever sampled them, or:              |
//! | `rows`     | in  | train-rows | prompts and answers as text                                  |
//! | `rollouts` | out | rollouts   | the same answers with the teacher's top-k                    |
//!
//! One pass serves every loss: it is keyed by weights, tokenizer and texts. Where the texts are the
//! teacher's own, the `rollout` stage records the same at no extra cost; the two agree within the rounding
//! of a sum taken in another order (`tests/it/methods.rs`). Snapshots are saved between groups of prompts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::place::Scorer;
use starling_lm::score::Request;

use crate::chat::lm;
use crate::cost::Lineage;
use crate::device;
use crate::model::Model;
use crate::prompts;
use crate::rollouts::{Answer, INDEX, Rollout, Rollouts, TopK, Writer};
use crate::training::{SnapshotClock, answer_positions};

/// The kind `teacher-topk`.
pub(crate) struct TeacherTopK;

/// What to record.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// The teacher's likeliest tokens recorded at every position of an answer; 100 as published. About
    /// 4.25 bytes each, so 425 a token at 100.
    top_k: usize,
    /// Use the first so many answers; all when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    /// Seconds between snapshots; changes no byte.
    snapshot_seconds: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            top_k: 100,
            rows: None,
            snapshot_seconds: 20.0,
        }
    }
}

/// Prompts read between two looks at the clock.
const GROUP: usize = 32;

/// A prompt and the answers to it.
struct Asked {
    prompt: Vec<u32>,
    answers: Vec<Rollout>,
}

impl Stage for TeacherTopK {
    const KIND: &'static str = "teacher-topk";
    /// 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "records the teacher's likeliest tokens along given answers";
    const NEUTRAL: &'static [&'static str] = &["snapshot-seconds"];
    const DEVICES: &'static [&'static str] = device::PLACES;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Rollouts, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required("teacher", Checkpoint, "the teacher"),
                    Input::optional("rollouts", Rollouts, "answers as token ids"),
                    Input::optional("rows", TrainRows, "prompts and answers as text"),
                ],
                outputs: &[Output::new(
                    "rollouts",
                    Rollouts,
                    "the same answers with the teacher's top-k",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        [("top-k", p.top_k > 0), ("rows", p.rows != Some(0))]
            .into_iter()
            .filter(|(_, good)| !good)
            .map(|(param, _)| Complaint::new(param, "must be at least 1"))
            .collect()
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let place = device::place(context)?;
        let mut model = Model::load(context.input("teacher")?)?;
        let asked = match (context.optional("rollouts"), context.optional("rows")) {
            (Some(folder), None) => {
                model.lineage.join(&Lineage::read(folder)?);
                from_rollouts(Rollouts::read(folder)?, p.rows)
            }
            (None, Some(rows)) => from_rows(rows, &model, p.rows)?,
            _ => {
                return Err(StageError::failed_try(
                    "`teacher-topk` reads either `rollouts` or `rows`, not both and not neither",
                    "give one of `inputs.rollouts` and `inputs.rows`",
                ));
            }
        };
        let vocabulary = model.config().vocab_size;
        let k = p.top_k.min(vocabulary);
        let scorer = Scorer::new(&place, model.config(), &model.checkpoint.weights).map_err(lm)?;
        let folder = context.output("rollouts");
        let (mut writer, mut start) = match context.resume()? {
            Some(snapshot) => (
                Writer::resume(&folder, &snapshot.folder)?,
                snapshot.progress as usize,
            ),
            None => (Writer::create(&folder, k, vocabulary)?, 0),
        };
        let mut clock = SnapshotClock::new(context.elapsed_seconds(), p.snapshot_seconds);
        while start < asked.len() {
            let end = (start + GROUP).min(asked.len());
            record(
                &scorer,
                &asked[start..end],
                k,
                context.threads(),
                &mut writer,
            )?;
            start = end;
            context.progress(
                start as u64,
                asked.len() as u64,
                "prompts",
                format!("{} answers", writer.len()),
            );
            let stop = context.interrupted() && start < asked.len();
            if stop || (start < asked.len() && clock.due(context.elapsed_seconds())) {
                context.save_snapshot(start as u64, |folder| writer.save(folder))?;
                clock.saved(context.elapsed_seconds());
            }
            if stop {
                return Err(StageError::Interrupted);
            }
        }
        writer.finish()?;
        let read = asked.iter().flat_map(|a| {
            let prompt = a.prompt.len();
            a.answers.iter().map(move |r| (prompt + r.ids.len()) as u64)
        });
        let work = model.work(Self::KIND, 0, 0, read.sum());
        model.lineage.finish(&folder, INDEX, work)
    }
}

fn from_rollouts(set: Rollouts, limit: Option<usize>) -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let mut last = None;
    let wanted = limit.unwrap_or(set.rollouts.len());
    for rollout in set.rollouts.into_iter().take(wanted) {
        if last != Some(rollout.prompt) {
            last = Some(rollout.prompt);
            asked.push(Asked {
                prompt: set.prompts[rollout.prompt].clone(),
                answers: Vec::new(),
            });
        }
        if let Some(group) = asked.last_mut() {
            group.answers.push(rollout);
        }
    }
    asked
}

fn from_rows(
    path: &std::path::Path,
    model: &Model,
    limit: Option<usize>,
) -> Result<Vec<Asked>, StageError> {
    let tokenizer = model.tokenizer()?;
    prompts::read_text(path, "rows", limit)?
        .into_iter()
        .map(|row| {
            Ok(Asked {
                prompt: tokenizer.encode(&row.inputs).map_err(lm)?,
                answers: vec![Rollout {
                    id: row.id.clone(),
                    seed: row.id,
                    ids: tokenizer.encode(&row.targets).map_err(lm)?,
                    inputs: row.inputs,
                    targets: row.targets,
                    ..Rollout::default()
                }],
            })
        })
        .collect()
}

/// Reads the answers to some prompts and writes what the teacher thinks of them.
fn record(
    scorer: &Scorer,
    asked: &[Asked],
    k: usize,
    threads: usize,
    writer: &mut Writer,
) -> Result<(), StageError> {
    let pairs = || {
        asked
            .iter()
            .flat_map(|a| a.answers.iter().map(move |r| (a, r)))
    };
    let ids: Vec<Vec<u32>> = pairs()
        .map(|(a, r)| a.prompt.iter().chain(&r.ids).copied().collect())
        .collect();
    let positions: Vec<Vec<u32>> = pairs()
        .map(|(a, r)| answer_positions(a.prompt.len(), r.ids.len()))
        .collect();
    let requests: Vec<Request<'_>> = ids
        .iter()
        .zip(&positions)
        .map(|(ids, positions)| Request { ids, positions })
        .collect();
    let mut scores = scorer.score(&requests, k, threads).map_err(lm)?.into_iter();
    for group in asked {
        let answers = group.answers.iter().zip(scores.by_ref());
        let answers = answers.map(|(rollout, scores)| Answer {
            rollout: Rollout {
                // What nobody told (see the kind `rollout`) is what this teacher thinks, too.
                logprobs: if rollout.logprobs.is_empty()
                    || rollout.logprobs.iter().any(|x| x.is_nan())
                {
                    scores.logprobs
                } else {
                    rollout.logprobs.clone()
                },
                ..rollout.clone()
            },
            top: TopK {
                ids: scores.top_ids,
                logprobs: scores.top_logprobs,
            },
        });
        writer.push(&group.prompt, answers.collect())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::RolloutKind;
    use crate::testing::{SmallWorld, run};

    /// What the sampler records on its way and what a reading of the finished text gives are the same
    /// distributions: log-probabilities agree to rounding, and ids wherever they are not nearly tied.
    #[test]
    fn top_k_from_rollout_is_top_k_from_reading() {
        let small = SmallWorld::new();
        let sampled = small.folder("sampled");
        let params =
            small.params(serde_json::json!({"samples": 4, "top-k": 8, "max-new-tokens": 48}));
        // Untrained weights write nothing valid, so the teacher learns a little first.
        let teacher = small.teacher();
        let inputs = [("model", teacher.as_path()), ("prompts", small.rows())];
        run::<RolloutKind>(params, &sampled, &inputs);
        let own = sampled.join("out/rollouts");
        let read = small.folder("read");
        let params = small.params(serde_json::json!({"top-k": 8}));
        run::<TeacherTopK>(params, &read, &[("teacher", &teacher), ("rollouts", &own)]);

        let (own, read) = (
            Rollouts::read(&own).expect("rollouts"),
            Rollouts::read(&read.join("out/rollouts")).expect("rollouts"),
        );
        assert_eq!(own.rollouts, read.rollouts);
        assert!(!own.rollouts.is_empty());
        let mut positions = 0;
        for at in 0..own.rollouts.len() {
            let (a, b) = (own.top(at).expect("top"), read.top(at).expect("top"));
            for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
                // a half float's step on either side of the same number
                assert!((a - b).abs() <= 2e-3 * a.abs() + 1e-4, "{a} {b}");
            }
            for (a, b) in a.ids.chunks(8).zip(b.ids.chunks(8)) {
                assert_eq!(a[0], b[0], "the likeliest");
                positions += 1;
            }
        }
        assert!(positions > 100, "{positions}");
    }
}
