//! BFCL v3: how often a model's calls are right on the Berkeley Function Calling Leaderboard.
//!
//! | port         | way | artifact   | holds                                                              |
//! |--------------|-----|------------|--------------------------------------------------------------------|
//! | `model`      | in  | checkpoint | the model; left out where `endpoint` names a server                |
//! | `evaluation` | out | evaluation | `metrics.json`, `items.jsonl`, and `results/` as the package writes |
//! | `report`     | out | report     | `report.txt`, printed at the end of a run, and `report.json`        |
//!
//! Single-turn entries are one query each; dialogues are played against the simulated back ends, those of a group
//! at once. A record of `items.jsonl` holds the prompt, the raw outputs, the decoded calls, the verdict and the
//! tokens; a later prompt of a dialogue is the one before with what was said since, and is given by its digest.
//! Prompts longer than `max-prompt-tokens` are not asked, count as wrong, and are counted. Nothing is a time, and
//! the data's digest is in the report; data of another folder are part of the key.

mod params;
mod play;
mod report;

use std::path::Path;

use starling_bench::bfcl::{Bfcl, Category, Source};
use starling_contract::{
    ArtifactType, Complaint, Determinism, External, Input, Output, Ports, Stage, StageContext,
    StageError,
};

use self::params::Params;
use crate::asker::{Asker, Making};
use crate::chat::lm;
use crate::device;
use crate::endpoint::probe::Needs;
use crate::examine::{self, Examination};

/// The kind `bfcl`.
pub(crate) struct BfclKind;

/// Entries between two looks at the wish to stop.
const GROUP: usize = 16;

impl Stage for BfclKind {
    const KIND: &'static str = "bfcl";
    /// 1 (2026-11-21): data of bfcl-eval 2026.3.23.
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "examines a model on the Berkeley Function Calling Leaderboard, version 3";
    const NEUTRAL: &'static [&'static str] = &["snapshot-seconds"];
    const DEVICES: &'static [&'static str] = device::PLACES;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Evaluation, Report};
        const {
            Ports {
                inputs: &[Input::optional(
                    "model",
                    Checkpoint,
                    "the model to examine; none where `endpoint` names a server",
                )],
                outputs: &[
                    Output::new(
                        "evaluation",
                        Evaluation,
                        "scores, and every answer with its verdict",
                    ),
                    Output::new("report", Report, "the table").displayed("report.txt"),
                ],
            }
        }
    }

    fn check(params: &Params) -> Vec<Complaint> {
        params.check()
    }

    fn secrets(params: &Params) -> Vec<String> {
        let servers = params.endpoint.iter();
        servers.filter_map(|s| s.key_variable.clone()).collect()
    }

    fn externals(params: &Params) -> Vec<External> {
        let folder = params.data.iter();
        folder
            .map(|path| External {
                param: "data",
                path: path.clone(),
                pinned: None,
                fetch: None,
            })
            .collect()
    }

    /// What a server says may be another thing tomorrow.
    fn determinism(params: &Params) -> Determinism {
        match params.endpoint {
            Some(_) => Determinism::None,
            None => Self::DETERMINISM,
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let source = match &p.data {
            Some(_) => Source::Folder(context.external("data")?.to_owned()),
            None => Source::Embedded,
        };
        let bfcl = Bfcl::open(source).map_err(lm)?;
        let asker = Asker::open(context, p.endpoint.as_ref())?;
        if let Asker::Server(endpoint) = &asker {
            let needs = Needs {
                tools: true,
                ..Needs::default()
            };
            endpoint.check(needs, &|| context.interrupted())?;
        }
        let making = Making {
            temperature: p.temperature,
            max_new_tokens: p.max_new_tokens,
            max_prompt_tokens: p.max_prompt_tokens,
            seed: p.seed,
            thinking: p.thinking,
        };
        let mut items = Vec::new();
        for category in p.categories() {
            let all = bfcl.items(category).map_err(lm)?;
            let chosen = examine::spread(all.len(), p.items_per_category);
            items.extend(chosen.into_iter().map(|at| &all[at]));
        }
        let examination = Examination {
            total: items.len(),
            group: GROUP,
            snapshot_seconds: p.snapshot_seconds,
        };
        let records = examination.run(
            context,
            |range| play::group(&bfcl, &asker, context, &p, &making, &items[range]),
            |records| {
                let right = examine::count(records, "valid");
                format!("{:.1} % right", 100.0 * right as f64 / records.len() as f64)
            },
        )?;
        let evaluation = context.output("evaluation");
        std::fs::create_dir_all(&evaluation).map_err(StageError::io("create", &evaluation))?;
        report::write(context, &p, &bfcl, &records)?;
        results(&evaluation.join("results"), &records)?;
        finish(&asker, &evaluation, &records)
    }
}

/// Notes the work behind the evaluation.
fn finish(
    asker: &Asker,
    folder: &Path,
    records: &[starling_text::json::Value],
) -> Result<(), StageError> {
    let Asker::Engine(engine) = asker else {
        return Ok(());
    };
    let generated = examine::sum(records, "generated_tokens");
    let read = examine::sum(records, "prompt_tokens");
    let work = engine.model.work(BfclKind::KIND, 0, generated, read);
    let items = crate::evaluation::ITEMS;
    engine.model.lineage.clone().finish(folder, items, work)
}

/// Writes the results as the official package lays them out.
fn results(folder: &Path, records: &[starling_text::json::Value]) -> Result<(), StageError> {
    use starling_bench::bfcl::{Answer, Answers, write_lines};
    std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
    for category in Category::ALL {
        let mut answers = Answers::new();
        for record in records {
            let text = |name: &str| crate::rows::text(record, name);
            if text("category") == Some(category.name())
                && let (Some(id), Some(result)) = (text("id"), record.get("result"))
            {
                answers.insert(id.to_owned(), Answer::from_value(result.clone()));
            }
        }
        if answers.is_empty() {
            continue;
        }
        let path = folder.join(format!("BFCL_v3_{category}_result.json"));
        std::fs::write(&path, write_lines(&answers)).map_err(StageError::io("write", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
