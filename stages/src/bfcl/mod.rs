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
    Chunks, Complaint, Determinism, External, Ports, Stage, StageContext, StageError,
};

use self::params::{Mode, Params};
use crate::asker::{Asker, Making};
use crate::chat::lm;
use crate::device;
use crate::endpoint::probe::Needs;
use crate::examine;

/// The kind `bfcl`.
pub(crate) struct BfclKind;

impl Stage for BfclKind {
    const KIND: &'static str = "bfcl";
    /// 1 (2026-11-21): data of bfcl-eval 2026.3.23.
    const VERSION: u32 = 2;
    const ABOUT: &'static str =
        "examines a model on the Berkeley Function Calling Leaderboard, version 3";
    const CHUNKS: Option<Chunks> = Some(examine::CHUNKS);
    const DEVICES: &'static [&'static str] = device::PLACES;
    type Params = Params;

    fn ports() -> Ports {
        examine::PORTS
    }

    fn check(params: &Params) -> Vec<Complaint> {
        params.check()
    }

    fn secrets(params: &Params) -> Vec<String> {
        let servers = params.endpoint.iter();
        servers.filter_map(|s| s.key_variable.clone()).collect()
    }

    fn externals(params: &Params) -> Vec<External> {
        examine::externals(params.data.as_deref())
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
        let bfcl = Bfcl::open(source).map_err(lm)?.in_mode(p.mode());
        let asker = Asker::open(context, p.endpoint.as_ref())?;
        if let Asker::Server(endpoint) = &asker {
            let needs = Needs {
                tools: p.mode == Mode::FunctionCalling,
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
        let records = examine::run(
            context,
            &items,
            |item| item.id.clone(),
            |part| play::group(&bfcl, &asker, context, &p, &making, part),
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
