//! ACEBench: how often a model's calls are right, in English and Chinese, alone and as an agent.
//!
//! | port         | way | artifact   | holds                                                        |
//! |--------------|-----|------------|--------------------------------------------------------------|
//! | `model`      | in  | checkpoint | the model; left out where `endpoint` names a server          |
//! | `evaluation` | out | evaluation | `metrics.json`, and `items.jsonl` with every answer          |
//! | `report`     | out | report     | `report.txt`, printed at the end of a run, and `report.json` |
//!
//! Normal and Special entries are one query each, in text mode (the official prompt) or tool mode (functions in
//! the template's tool section, `<tool_call>` objects rewritten before scoring). Agents play against the simulated
//! environment; `agent_multi_turn` needs a model that plays the user, behind `user`. Prompts longer than
//! `max-prompt-tokens` are not asked, count as wrong, and are counted. Nothing is a time; the data's digest is in
//! the report, and data of another folder are part of the key.

mod params;
mod play;
mod report;

use starling_bench::acebench::{Acebench, Category, Item, Lang};
use starling_contract::{
    Chunks, Complaint, Determinism, External, Ports, Stage, StageContext, StageError,
};

use self::params::{Mode, Params};
use crate::asker::{Asker, Making};
use crate::chat::lm;
use crate::device;
use crate::endpoint::Endpoint;
use crate::endpoint::probe::Needs;
use crate::examine;

/// The kind `acebench`.
pub(crate) struct AcebenchKind;

impl Stage for AcebenchKind {
    const KIND: &'static str = "acebench";
    /// 1 (2026-11-21): data of August 2025, errata of October 2025.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "examines a model on ACEBench";
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
        let servers = params.endpoint.iter().chain(&params.user);
        servers.filter_map(|s| s.key_variable.clone()).collect()
    }

    fn externals(params: &Params) -> Vec<External> {
        examine::externals(params.data.as_deref())
    }

    /// What a server says may be another thing tomorrow.
    fn determinism(params: &Params) -> Determinism {
        match (&params.endpoint, &params.user) {
            (None, None) => Self::DETERMINISM,
            _ => Determinism::None,
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let folder = match &p.data {
            Some(_) => Some(context.external("data")?.to_owned()),
            None => None,
        };
        let bench = Acebench::new(folder);
        let asker = Asker::open(context, p.endpoint.as_ref())?;
        let user = p.user.clone().map(Endpoint::new).transpose()?;
        let stop = || context.interrupted();
        if let Asker::Server(endpoint) = &asker {
            let needs = Needs {
                tools: p.mode == Mode::Tool,
                ..Needs::default()
            };
            endpoint.check(needs, &stop)?;
        }
        let making = Making {
            temperature: p.temperature,
            max_new_tokens: p.max_new_tokens,
            max_prompt_tokens: p.max_prompt_tokens,
            seed: p.seed,
            thinking: Some(p.thinking),
        };
        let mut items: Vec<(Lang, &Item)> = Vec::new();
        for lang in p.langs() {
            let data = bench.dataset(lang, p.profile()).map_err(lm)?;
            for category in p.categories() {
                let all: Vec<&Item> = data.category(category).collect();
                items.extend(subset(category, &all, p.items_per_category).map(|item| (lang, item)));
            }
        }
        let world = play::World {
            bench: &bench,
            asker: &asker,
            user: user.as_ref(),
            params: &p,
            making: &making,
        };
        let records = examine::run(
            context,
            &items,
            |(lang, item)| format!("{lang}/{}", item.id),
            |part| play::group(&world, context, part),
        )?;
        let evaluation = context.output("evaluation");
        std::fs::create_dir_all(&evaluation).map_err(StageError::io("create", &evaluation))?;
        report::write(context, &p, &bench, &records)?;
        let Asker::Engine(engine) = &asker else {
            return Ok(());
        };
        let generated = examine::sum(&records, "generated_tokens");
        let read = examine::sum(&records, "prompt_tokens");
        let work = engine.model.work(Self::KIND, 0, generated, read);
        let lineage = engine.model.lineage.clone();
        lineage.finish(&evaluation, crate::evaluation::ITEMS, work)
    }
}

/// Entries evenly spread over a category; of a multi-turn one whole dialogues, for a dialogue counts as a whole.
fn subset<'a>(
    category: Category,
    all: &[&'a Item],
    wanted: Option<usize>,
) -> impl Iterator<Item = &'a Item> + use<'a> {
    let units: Vec<Vec<&Item>> = match category.is_multi_turn() {
        true => all
            .chunk_by(|a, b| a.dialogue() == b.dialogue())
            .map(<[&Item]>::to_vec)
            .collect(),
        false => all.iter().map(|item| vec![*item]).collect(),
    };
    // As many dialogues as give about so many turns.
    let units_wanted = wanted.map(|wanted| match all.len() {
        0 => 0,
        items => (wanted * units.len()).div_ceil(items),
    });
    let chosen = examine::spread(units.len(), units_wanted);
    let chosen: Vec<&Item> = chosen
        .into_iter()
        .flat_map(|at| units[at].clone())
        .collect();
    chosen.into_iter()
}

#[cfg(test)]
mod tests;
