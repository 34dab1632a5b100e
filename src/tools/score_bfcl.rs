//! `starling score bfcl`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use rayon::prelude::*;
use serde_json::json;
use starling::exit;
use starling_bench::Judged;
use starling_bench::bfcl::{Bfcl, Category, ErrorKind, Mode, Source, Summary, Verdict};

use super::bench_rows::{self, Outcome, Row, Rows};
use crate::cli::output::{Failure, chain, story};

/// Score outputs of the Berkeley Function Calling Leaderboard, version 3
///
/// Rows are told by their fields: stored results (`id`, `result`; also a folder of the official package with its
/// BFCL_v*_CATEGORY_result.json files), cases (`id` with `output` or `raw`), dialogues (`id` with `turns` or
/// `raw_turns`), and rows of expected results, whose own values are compared when they are there. A category with
/// stored results counts every entry: what has no result is wrong.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// JSON lines (gzip or not), a result folder, or - for standard input
    #[arg(long = "in", value_name = "PATH")]
    input: PathBuf,
    /// Where the verdicts go, a line each, in order; - for standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the scores go as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Another version of the benchmark's data
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Outputs are of prompting mode: texts like `[f(a=1)]` instead of tool-call blocks
    #[arg(long)]
    prompt_mode: bool,
    /// Count only entries that have a result
    #[arg(long)]
    subset: bool,
    /// Exit with 7 where a row is not as it expects itself to be
    #[arg(long)]
    check: bool,
}

/// Whether a file of a folder is one of results.
fn is_result(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.starts_with("BFCL_v") && name.ends_with("_result.json")
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let source = self.data.clone().map_or(Source::Embedded, Source::Folder);
        let data = |error: &dyn std::error::Error| Failure::new(exit::PIPELINE, chain(error));
        let (rows, bfcl) = rayon::join(
            || Rows::read(&self.input, is_result),
            || Bfcl::open(source).map_err(|e| data(&e)),
        );
        let mode = match self.prompt_mode {
            true => Mode::Prompting,
            false => Mode::FunctionCalling,
        };
        let (rows, bfcl) = (rows?, bfcl?.in_mode(mode));
        load(&bfcl, &rows).map_err(|e| data(&e))?;
        let judge = |row: &Row| row.value().and_then(|row| bfcl.judge_row(row));
        let judged: Vec<Result<Judged, String>> = rows.rows.par_iter().map(judge).collect();
        let mut outcome = Outcome::default();
        for (row, judged) in rows.rows.iter().zip(&judged) {
            outcome.add(|| rows.place(row), judged);
        }
        if let Some(out) = &self.out {
            bench_rows::write(out, &judged)?;
        }
        let code = outcome.finish(self.check);
        let summary = self.summarise(&bfcl, &judged).map_err(|e| data(&e))?;
        if let Some(summary) = summary {
            let digest = bfcl.digest().map_err(|e| data(&e))?;
            let report = format!("{}\ndata: {digest}\n", summary.report());
            bench_rows::show(self.out.as_deref(), &report);
            if let Some(path) = &self.summary {
                bench_rows::write_json(path, &scores(&summary, &digest))?;
            }
        }
        Ok(code)
    }

    /// Adds verdicts up; `None` when no row has one.
    fn summarise(
        &self,
        bfcl: &Bfcl,
        judged: &[Result<Judged, String>],
    ) -> Result<Option<Summary>, starling_bench::bfcl::DataError> {
        let with_verdict = || {
            judged
                .iter()
                .flatten()
                .filter(|judged| judged.valid.is_some())
        };
        let verdict = |judged: &Judged| match judged.valid {
            Some(true) => Verdict::VALID,
            _ => {
                let name = judged.error.as_deref().unwrap_or_default();
                let known = ErrorKind::ALL.iter().find(|kind| kind.name() == name);
                known.copied().unwrap_or(ErrorKind::CheckerRaised).into()
            }
        };
        let mut summary = Summary::default();
        // Of a repeated id the last result counts.
        let results: BTreeMap<&str, &Judged> = with_verdict()
            .filter(|judged| judged.shape == "result")
            .map(|judged| (judged.id.as_str(), judged))
            .collect();
        if results.is_empty() {
            for judged in with_verdict() {
                if let Some(category) = Category::from_name(&judged.category) {
                    summary.add(category, verdict(judged));
                }
            }
            return Ok((with_verdict().count() > 0).then_some(summary));
        }
        let categories: BTreeSet<Category> = results
            .keys()
            .filter_map(|id| Category::of_id(id))
            .collect();
        let mut missing = 0;
        for category in categories {
            for item in bfcl.items(category)? {
                match results.get(item.id.as_str()) {
                    Some(judged) => summary.add(category, verdict(judged)),
                    None if self.subset => {}
                    None => {
                        missing += 1;
                        summary.add(category, ErrorKind::Missing.into());
                    }
                }
            }
        }
        if missing > 0 {
            story(&format!(
                "{missing} entries of these categories have no result and count as wrong (`--subset` leaves them out)"
            ));
        }
        Ok(Some(summary))
    }
}

/// Reads the categories that the rows are of, on all threads, the large ones first.
fn load(bfcl: &Bfcl, rows: &Rows) -> Result<(), starling_bench::bfcl::DataError> {
    let of_row = |row: &Row| {
        let id = row.value().ok()?.get("id")?.as_str()?.to_owned();
        Category::of_id(&id)
    };
    let wanted: BTreeSet<Category> = rows.rows.iter().filter_map(of_row).collect();
    const LARGE: [Category; 7] = [
        Category::LiveMultiple,
        Category::MultiTurnLongContext,
        Category::LiveIrrelevance,
        Category::MultiTurnMissFunc,
        Category::MultiTurnMissParam,
        Category::MultiTurnBase,
        Category::ParallelMultiple,
    ];
    let large = LARGE
        .into_iter()
        .filter(|category| wanted.contains(category));
    let small = wanted
        .iter()
        .copied()
        .filter(|category| !LARGE.contains(category));
    let order: Vec<Category> = large.chain(small).collect();
    order
        .par_iter()
        .with_max_len(1)
        .try_for_each(|category| bfcl.items(*category).map(|_| ()))
}

/// The scores for programs, named as rows of expected results name them.
fn scores(summary: &Summary, digest: &str) -> serde_json::Value {
    let counts: serde_json::Map<String, serde_json::Value> = Category::ALL
        .into_iter()
        .filter(|category| summary.count(*category).total > 0)
        .map(|category| {
            let count = summary.count(category);
            (
                category.name().to_owned(),
                json!([count.correct, count.total]),
            )
        })
        .collect();
    let errors: Vec<_> = summary
        .errors()
        .map(|(category, kind, count)| {
            json!({"category": category.name(), "error_type": kind.name(), "count": count})
        })
        .collect();
    let (v3, v4) = (summary.v3(), summary.v4(0.0));
    json!({
        "data": digest,
        "correct_total": counts,
        "v3": {
            "non_live_ast": v3.non_live_ast,
            "non_live_overall": v3.non_live_overall,
            "live": v3.live,
            "multi_turn": v3.multi_turn,
            "overall": v3.overall,
            "irrelevance_column": v3.irrelevance,
            "relevance_column": v3.relevance,
        },
        "v4_sections": {
            "non_live": v4.non_live,
            "live": v4.live,
            "irrelevance": v4.irrelevance,
            "multi_turn": v4.multi_turn,
            "overall_with_agentic_0": v4.overall,
        },
        "errors": errors,
    })
}
