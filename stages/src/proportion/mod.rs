//! Proportion: samples conversations by what their last answers are.
//!
//! | port        | way | artifact  | holds                                                       |
//! |-------------|-----|-----------|-------------------------------------------------------------|
//! | `rows`      | in  | rows      | conversations                                               |
//! | `tokenizer` | in  | tokenizer | optional; measures prompts, else a third of the characters  |
//! | `rows`      | out | rows      | the sample, in the order in which it was drawn              |
//! | `report`    | out | report    | numbers after every step, and of every category             |
//!
//! Shuffle and draw are CPython's for the same seed, so the released script's choice comes out. Rows are read
//! twice and only those that the walk takes are held in memory.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::tokenizer::Tokenizer;
use starling_reward::prepare::{
    Categories, Proportions, Traits, Walk, estimate_tokens, label_last,
};
use starling_text::json::{self, Value};
use starling_text::template::{ChatTemplate, Options};

use crate::chat;
use crate::dropped::Reasons;
use crate::flow::flow_rows;
use crate::rows::{self, Chunk, Place, RowReader, RowWriter};
use crate::sift;

/// The kind `proportion`.
pub(crate) struct Proportion;

/// How many rows, and of what; the defaults are those of the published preparation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Rows wanted.
    size: usize,
    /// Seed of the shuffle and of the draw.
    #[serde(default = "defaults::seed")]
    seed: u64,
    /// Rows whose last answer comes later are skipped, in turns.
    #[serde(default = "defaults::max_turns")]
    max_turns: usize,
    /// Least share of rows answered in the first turn, in [0, 1]; the rest is answered later.
    #[serde(default = "defaults::single_turn")]
    single_turn: f64,
    /// Least share of rows that end in several calls at once, in [0, 1]; the rest ends in one.
    #[serde(default = "defaults::parallel")]
    parallel: f64,
    /// Share of rows that end in a reply, least and most, in [0, 1].
    #[serde(default = "defaults::response")]
    response: f64,
    /// Least share of rows whose calls follow a tool's result, in [0, 1].
    #[serde(default = "defaults::multi_step")]
    multi_step: f64,
    /// Rows with longer prompts are left out, in tokens.
    #[serde(default = "defaults::max_prompt_tokens")]
    max_prompt_tokens: usize,
}

mod defaults {
    pub(super) fn seed() -> u64 {
        42
    }
    pub(super) fn max_turns() -> usize {
        10
    }
    pub(super) fn single_turn() -> f64 {
        0.3
    }
    pub(super) fn parallel() -> f64 {
        0.5
    }
    pub(super) fn response() -> f64 {
        0.2
    }
    pub(super) fn multi_step() -> f64 {
        0.3
    }
    pub(super) fn max_prompt_tokens() -> usize {
        8192
    }
}

/// Why a row that the walk took is left out, and why another one.
const TOO_LONG: &str = "the prompt is too long";
const NOT_DRAWN: &str = "not drawn in the end";

/// What was taken.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    rows: usize,
    target: usize,
    walked: usize,
    too_long: usize,
    taken: usize,
    measured_by: &'static str,
    least: BTreeMap<&'static str, usize>,
    taken_by_category: BTreeMap<&'static str, usize>,
    /// Why the others were not taken.
    reasons: Reasons,
}

impl Stage for Proportion {
    const KIND: &'static str = "proportion";
    /// 2: the report says of every row that was not taken why; 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "samples conversations by what their last answers are";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows, Tokenizer};
        const {
            Ports {
                inputs: &[
                    Input::required("rows", Rows, "conversations"),
                    Input::optional(
                        "tokenizer",
                        Tokenizer,
                        "measures prompts; without it a third of their characters does",
                    ),
                ],
                outputs: &[
                    Output::new("rows", Rows, "the sample, in the order of its drawing"),
                    Output::new("report", Report, "numbers after every step"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        if p.size == 0 {
            complaints.push(Complaint::new("size", "must be at least 1"));
        }
        for (name, share) in [
            ("single-turn", p.single_turn),
            ("parallel", p.parallel),
            ("response", p.response),
            ("multi-step", p.multi_step),
        ] {
            complaints.extend(sift::share(name, share));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let wanted = Proportions {
            size: p.size,
            seed: p.seed,
            max_turns: p.max_turns,
            single_turn: p.single_turn,
            parallel: p.parallel,
            response: p.response,
            multi_step: p.multi_step,
            max_prompt_tokens: p.max_prompt_tokens,
        };
        let measure = Measure::new(context)?;
        let traits = traits(context)?;
        let walk = Walk::new(&traits, &wanted);
        let mut reasons = Reasons::default();
        let held = held(context, &walk, &measure, &mut reasons)?;
        let selection = walk.finish(&traits, &wanted, |row| held[&row].tokens);
        let taken: BTreeSet<&usize> = selection.taken.iter().collect();
        for (_, held) in held.iter().filter(|(row, _)| !taken.contains(row)) {
            let long = held.tokens > p.max_prompt_tokens;
            let why = if long { TOO_LONG } else { NOT_DRAWN };
            reasons.note(why, &held.place, &held.id);
        }
        let report = Report {
            rows: traits.len(),
            target: wanted.target_size(),
            walked: selection.greedy.len(),
            too_long: selection.greedy.len() - selection.filtered.len(),
            taken: selection.taken.len(),
            measured_by: measure.name(),
            least: wanted.min_counts().parts().into_iter().collect(),
            taken_by_category: parts(&selection.counts),
            reasons,
        };
        rows::write_json(&context.output("report"), &report)?;
        if selection.taken.is_empty() {
            return Err(StageError::failed_try(
                format!("none of {} rows was taken", traits.len()),
                "the rows may lack answers, or be deeper than `max-turns`",
            ));
        }
        let mut writer = RowWriter::create(&context.output("rows"))?;
        for row in &selection.taken {
            writer.line(&held[row].text)?;
        }
        let count = writer.finish()?;
        let story = format!(
            "{count} of {} rows taken; {} prompts were too long",
            report.rows, report.too_long
        );
        if count < p.size {
            context.warn(format!("{story}; {} were wanted", p.size));
        } else {
            context.info(story);
        }
        Ok(())
    }
}

fn parts(counts: &Categories<usize>) -> BTreeMap<&'static str, usize> {
    counts.parts().into_iter().collect()
}

/// A row that the walk took.
struct Held {
    place: Place,
    id: String,
    text: String,
    tokens: usize,
}

/// What a prompt's length is measured with.
enum Measure {
    Characters,
    Tokens(Box<(ChatTemplate, Tokenizer)>),
}

impl Measure {
    fn new(context: &StageContext<'_>) -> Result<Self, StageError> {
        match context.optional("tokenizer") {
            None => Ok(Self::Characters),
            Some(folder) => {
                let parts = (chat::template(folder)?, chat::tokenizer(folder)?);
                Ok(Self::Tokens(Box::new(parts)))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Characters => "characters / 3",
            Self::Tokens(_) => "tokens",
        }
    }

    /// The length of a row's prompt: what comes before its last answer, with tools. A prompt that cannot be
    /// rendered is longer than any limit.
    fn prompt(&self, row: &Value) -> usize {
        let (messages, tools) = (rows::list(row, "messages"), rows::field(row, "tools"));
        match self {
            Self::Characters => estimate_tokens(messages, tools),
            Self::Tokens(parts) => {
                let (template, tokenizer) = parts.as_ref();
                let end = label_last(messages).map_or(messages.len(), |label| label.position);
                template
                    .render(&messages[..end], tools, &Options::prompt())
                    .ok()
                    .and_then(|text| tokenizer.encode(&text).ok())
                    .map_or(usize::MAX, |ids| ids.len())
            }
        }
    }
}

/// The traits of every row.
fn traits(context: &StageContext<'_>) -> Result<Vec<Traits>, StageError> {
    let reader = RowReader::open(context.input("rows")?)?;
    let mut all = Vec::new();
    let work = |_, chunk: Chunk| {
        let each = chunk.values();
        let each = each.map(|row| Ok(Traits::of(rows::list(&row?.1, "messages"))));
        each.collect::<Result<Vec<_>, StageError>>()
    };
    flow_rows(context, reader, work, |each| {
        all.extend(each);
        Ok(())
    })?;
    Ok(all)
}

/// The rows that the walk took, with the lengths of their prompts; the others are noted with why they were not.
fn held(
    context: &StageContext<'_>,
    walk: &Walk,
    measure: &Measure,
    reasons: &mut Reasons,
) -> Result<BTreeMap<usize, Held>, StageError> {
    let passed = walk.passed_over();
    let reader = RowReader::open(context.input("rows")?)?;
    let mut held = BTreeMap::new();
    let work = |first: usize, chunk: Chunk| {
        let each = (first..).zip(chunk.values()).map(|(i, row)| {
            let (place, row) = row?;
            let id = rows::id_of(&row);
            if let Ok(at) = passed.binary_search_by_key(&i, |(row, _)| *row) {
                return Ok(Err((passed[at].1, place, id)));
            }
            let (text, tokens) = (json::dumps(&row), measure.prompt(&row));
            let one = Held {
                place,
                id,
                text,
                tokens,
            };
            Ok(Ok((i, one)))
        });
        each.collect::<Result<Vec<_>, StageError>>()
    };
    flow_rows(context, reader, work, |each| {
        for row in each {
            match row {
                Ok((i, one)) => drop(held.insert(i, one)),
                Err((why, place, id)) => reasons.note(&why.to_string(), &place, &id),
            }
        }
        Ok(())
    })?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing;

    /// The stage's choice against the released script's, without and with a tokenizer's help.
    #[test]
    fn the_released_choice_comes_out() {
        let golden =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/star/data");
        let rows = golden.join("conversations.jsonl.gz");
        let expected = rows::read_all(&golden.join("proportion.jsonl.gz")).expect("golden rows");
        let mut compared = 0;
        for case in &expected {
            if rows::field(case, "tokenizer") != Some(&Value::Bool(false)) {
                continue;
            }
            let config = rows::field(case, "config").expect("a configuration");
            let count = |key: &str| {
                let value = config.get(key).and_then(Value::as_i64).expect(key);
                usize::try_from(value).expect("a count")
            };
            let share = |key: &str| config.get(key).and_then(Value::as_f64).expect(key);
            let params = Params {
                size: count("dataset_size"),
                seed: count("seed") as u64,
                max_turns: count("max_turns"),
                single_turn: share("single_turns_rate"),
                parallel: share("parallel_rate"),
                response: share("response_rate"),
                multi_step: share("multi_step_rate"),
                max_prompt_tokens: count("max_prompt_tokens"),
            };
            let wanted = rows::list(case, "final");
            let folder = tempfile::tempdir().expect("a folder");
            if wanted.is_empty() {
                let run =
                    testing::try_run::<Proportion>(params, folder.path(), &[("rows", &rows)], None);
                assert!(run.is_err(), "nothing is taken, and that is said");
                continue;
            }
            testing::run::<Proportion>(params, folder.path(), &[("rows", &rows)]);
            let taken = rows::read_all(&folder.path().join("out/rows")).expect("rows");
            let taken: Vec<String> = taken.iter().map(rows::id_of).collect();
            let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
            assert_eq!(taken, wanted);
            let report = fs::read_to_string(folder.path().join("out/report")).expect("a report");
            let report = json::parse(&report).expect("JSON");
            let reasons = report.get("reasons").and_then(Value::as_dict);
            let counts = reasons.expect("reasons").values().map(|reason| {
                let first = rows::list(reason, "first");
                assert!(first.iter().all(|row| rows::field(row, "line").is_some()));
                reason
                    .get("count")
                    .and_then(Value::as_i64)
                    .expect("a count")
            });
            let left = counts.sum::<i64>() + taken.len() as i64;
            assert_eq!(report.get("rows").and_then(Value::as_i64), Some(left));
            compared += 1;
        }
        assert!(compared > 0);
    }
}
