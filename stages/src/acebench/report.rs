//! Scores of the records: figures for tables, a report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;
use starling_bench::acebench::{
    Acebench, AgentScore, Category, ErrorKind, Family, Lang, Outcome, Verdict,
};
use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use super::params::Params;
use crate::chat::lm;
use crate::evaluation::{Evaluation, ITEMS, METRICS, Metric};
use crate::examine::{self, Tally};
use crate::rows::{self, text};

/// What became of the entries of a language, by id.
fn outcomes(records: &[Value], lang: Lang) -> IndexMap<String, Outcome> {
    let of_lang = records
        .iter()
        .filter(|record| text(record, "lang") == Some(lang.name()));
    let outcome = |record: &Value| {
        let valid = record.get("valid").and_then(Value::as_bool) == Some(true);
        let category = text(record, "category").and_then(Category::from_name)?;
        let outcome = match category.family() {
            Family::Agent => Outcome::Agent(AgentScore {
                end: valid,
                process: record.get("process").and_then(Value::as_f64).unwrap_or(0.0),
            }),
            // Which error it was does not matter to the sum.
            _ => Outcome::Verdict(Verdict {
                error: (!valid).then_some(ErrorKind::WrongOutputFormat),
            }),
        };
        Some((text(record, "id")?.to_owned(), outcome))
    };
    of_lang.filter_map(outcome).collect()
}

/// Writes everything.
pub(super) fn write(
    context: &StageContext<'_>,
    params: &Params,
    bench: &Acebench,
    records: &[Value],
) -> Result<(), StageError> {
    let evaluation = context.output("evaluation");
    examine::write(&evaluation.join(ITEMS), records)?;
    let mut metrics = Vec::new();
    let mut digests = BTreeMap::new();
    let mut out = format!("ACEBench, {} entries", records.len());
    match params.items_per_category {
        Some(most) => {
            let _ = write!(
                out,
                ": about {most} of each category, evenly spread over its file, dialogues whole"
            );
        }
        None => out.push_str(": every entry of its categories"),
    }
    out.push('\n');
    let langs = params.langs();
    for lang in &langs {
        let data = bench.dataset(*lang, params.profile()).map_err(lm)?;
        let summary = data.summary(&outcomes(records, *lang));
        let _ = write!(
            out,
            "\n{lang}, evaluator {}\n{}",
            params.profile(),
            summary.report()
        );
        digests.insert(lang.name(), data.digest().to_owned());
        for line in summary.lines() {
            let name = match langs.len() {
                1 => line.name.to_owned(),
                _ => format!("{} ({lang})", line.name),
            };
            metrics.push(Metric {
                name,
                percent: true,
                estimate: line.accuracy.into(),
            });
        }
    }
    let totals = Evaluation {
        items: records.len(),
        metrics,
    };
    rows::write_json(&evaluation.join(METRICS), &totals)?;
    let mut errors: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for record in records {
        if let (Some(category), Some(error)) =
            (text(record, "category"), text(record, "error_type"))
            && !error.is_empty()
        {
            *errors.entry((category, error)).or_default() += 1;
        }
    }
    let tally = Tally::of(records, params.limits());
    let _ = write!(out, "\n{tally}");
    for (lang, digest) in &digests {
        let _ = writeln!(out, "data ({lang}): {digest}");
    }
    tally.write(context, &digests, &errors, &out)
}
