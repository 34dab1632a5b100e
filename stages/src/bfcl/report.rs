//! Scores of the records: figures for tables, a report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;
use starling_bench::bfcl::{Bfcl, Category, ErrorKind, Summary, Verdict};
use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use super::params::Params;
use crate::chat::lm;
use crate::evaluation::{Evaluation, ITEMS, METRICS, Metric};
use crate::examine;
use crate::rows::{self, text};
use crate::statistics::Estimate;

/// Adds the verdicts of records up.
fn summary(records: &[Value]) -> Summary {
    let mut summary = Summary::default();
    for record in records {
        let Some(category) = text(record, "category").and_then(Category::from_name) else {
            continue;
        };
        let error = text(record, "error_type")
            .and_then(|name| ErrorKind::ALL.iter().find(|kind| kind.name() == name));
        summary.add(
            category,
            error.map_or(Verdict::VALID, |kind| (*kind).into()),
        );
    }
    summary
}

/// Writes everything but the official results.
pub(super) fn write(
    context: &StageContext<'_>,
    params: &Params,
    bfcl: &Bfcl,
    records: &[Value],
) -> Result<(), StageError> {
    let summary = summary(records);
    let evaluation = context.output("evaluation");
    examine::write(&evaluation.join(ITEMS), records)?;
    let lines = summary.lines();
    let metrics = lines.iter().map(|line| Metric {
        name: line.name.to_owned(),
        percent: true,
        estimate: Estimate {
            value: line.accuracy.value,
            low: line.accuracy.low,
            high: line.accuracy.high,
        },
    });
    let totals = Evaluation {
        items: records.len(),
        metrics: metrics.collect(),
    };
    rows::write_json(&evaluation.join(METRICS), &totals)?;

    let folder = context.output("report");
    std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
    let digest = bfcl.digest().map_err(lm)?;
    let mut errors: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (category, kind, count) in summary.errors() {
        errors.insert((category.name(), kind.name()), count);
    }
    let too_long = examine::count(records, "too_long");
    let (read, generated) = (
        examine::sum(records, "prompt_tokens"),
        examine::sum(records, "generated_tokens"),
    );
    let report = json!({
        "entries": records.len(),
        "items-per-category": params.items_per_category,
        "too-long-prompts": too_long,
        "max-prompt-tokens": params.max_prompt_tokens,
        "max-new-tokens": params.max_new_tokens,
        "prompt-tokens": read,
        "generated-tokens": generated,
        "data": digest,
        "errors": errors.iter().map(|((category, kind), count)| {
            json!({"category": category, "error-type": kind, "count": count})
        }).collect::<Vec<_>>(),
    });
    rows::write_json(&folder.join("report.json"), &report)?;
    let mut out = format!("BFCL v3, {} entries", records.len());
    match params.items_per_category {
        Some(most) => {
            let _ = write!(
                out,
                ": at most {most} of each category, evenly spread over its file"
            );
        }
        None => out.push_str(": every entry of its categories"),
    }
    let _ = write!(out, "\n\n{}\n", summary.report());
    let _ = writeln!(
        out,
        "{too_long} entries with a prompt of more than {} tokens were not asked and count as wrong",
        params.max_prompt_tokens
    );
    let _ = writeln!(
        out,
        "{read} tokens of prompts, {generated} of answers\ndata: {digest}"
    );
    let path = folder.join("report.txt");
    std::fs::write(&path, out).map_err(StageError::io("write", &path))
}
