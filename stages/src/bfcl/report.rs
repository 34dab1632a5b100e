//! Scores of the records: figures for tables, a report for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use starling_bench::bfcl::{Bfcl, Category, ErrorKind, Summary, Verdict};
use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use super::params::Params;
use crate::chat::lm;
use crate::evaluation::{Evaluation, ITEMS, METRICS, Metric};
use crate::examine::{self, Tally};
use crate::rows::{self, text};

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
        estimate: line.accuracy.into(),
    });
    let totals = Evaluation {
        items: records.len(),
        metrics: metrics.collect(),
    };
    rows::write_json(&evaluation.join(METRICS), &totals)?;

    let digest = bfcl.digest().map_err(lm)?;
    let mut errors: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (category, kind, count) in summary.errors() {
        errors.insert((category.name(), kind.name()), count);
    }
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
    let tally = Tally::of(records, params.limits());
    let _ = writeln!(out, "{tally}data: {digest}");
    tally.write(context, &digest, &errors, &out)
}
