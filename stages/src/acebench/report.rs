//! Scores of the records: figures for tables, a report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;
use serde_json::json;
use starling_bench::acebench::{
    Acebench, AgentScore, Category, ErrorKind, Family, Lang, Outcome, Verdict,
};
use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use super::params::Params;
use crate::chat::lm;
use crate::evaluation::{Evaluation, ITEMS, METRICS, Metric};
use crate::examine;
use crate::rows::{self, text};
use crate::statistics::Estimate;

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
    let too_long = examine::count(records, "too_long");
    let (read, generated) = (
        examine::sum(records, "prompt_tokens"),
        examine::sum(records, "generated_tokens"),
    );
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
                estimate: Estimate {
                    value: line.accuracy.value,
                    low: line.accuracy.low,
                    high: line.accuracy.high,
                },
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
    let _ = writeln!(
        out,
        "\n{too_long} entries with a prompt of more than {} tokens were not asked and count as wrong",
        params.max_prompt_tokens
    );
    let _ = writeln!(out, "{read} tokens of prompts, {generated} of answers");
    for (lang, digest) in &digests {
        let _ = writeln!(out, "data ({lang}): {digest}");
    }
    let folder = context.output("report");
    std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
    let report = json!({
        "entries": records.len(),
        "items-per-category": params.items_per_category,
        "too-long-prompts": too_long,
        "max-prompt-tokens": params.max_prompt_tokens,
        "max-new-tokens": params.max_new_tokens,
        "prompt-tokens": read,
        "generated-tokens": generated,
        "data": digests,
        "errors": errors.iter().map(|((category, kind), count)| {
            json!({"category": category, "error-type": kind, "count": count})
        }).collect::<Vec<_>>(),
    });
    rows::write_json(&folder.join("report.json"), &report)?;
    let path = folder.join("report.txt");
    std::fs::write(&path, out).map_err(StageError::io("write", &path))
}
