//! `starling score acebench`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde_json::json;
use starling::exit;
use starling_bench::Judged;
use starling_bench::acebench::{
    self, Acebench, Lang, Profile, strip_thinking, text_from_tool_calls,
};
use starling_text::json::Value;

use super::bench_rows::{self, Outcome, Row, Rows};
use crate::cli::output::{Failure, chain};

/// Score outputs of ACEBench
///
/// Rows are told by their fields: outputs (`id` with `output` or `result`, `lang` where it is not English), end
/// states of agents (`result` and `process`), scripted agents (`steps`), whole runs (`bits`), prompts; rows of
/// expected results are compared with what they expect. A folder is searched for files *_result.json and *.jsonl.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// JSON lines (gzip or not), a folder of them, or - for standard input
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
    /// The version of the official evaluator
    #[arg(long, value_enum, default_value_t = Version::R2508)]
    profile: Version,
    /// Cut everything up to the last </think> before scoring
    #[arg(long)]
    strip_thinking: bool,
    /// Rewrite <tool_call> objects as the call list that the evaluator reads
    #[arg(long)]
    tool_calls: bool,
    /// Exit with 7 where a row is not as it expects itself to be
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Version {
    /// August 2025, with which published numbers were computed
    R2508,
    /// October 2025
    R2510,
}

impl From<Version> for Profile {
    fn from(version: Version) -> Self {
        match version {
            Version::R2508 => Self::R2508,
            Version::R2510 => Self::R2510,
        }
    }
}

fn is_result(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.ends_with("_result.json") || name.ends_with(".jsonl")
}

impl Arguments {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let profile = Profile::from(self.profile);
        let rows = Rows::read(&self.input, is_result)?;
        let bench = Acebench::new(self.data.clone());
        let judge = |row: &Row| {
            let row = row.value()?;
            match self.prepared(row) {
                Some(row) => bench.judge_row(profile, &row),
                None => bench.judge_row(profile, row),
            }
        };
        // A language is read by whoever needs it first: one row of each comes before the others.
        let first = rows.rows.first().map(judge);
        drop(first);
        let all: Vec<_> = rows.rows.par_iter().map(judge).collect();
        let mut outcomes: BTreeMap<Lang, IndexMap<String, acebench::Outcome>> = BTreeMap::new();
        let mut judged: Vec<Result<Judged, String>> = Vec::with_capacity(all.len());
        for row in all {
            judged.push(row.map(|(judged, outcome)| {
                if let Some((lang, outcome)) = outcome {
                    outcomes
                        .entry(lang)
                        .or_default()
                        .insert(judged.id.clone(), outcome);
                }
                judged
            }));
        }
        let mut told = Outcome::default();
        for (row, judged) in rows.rows.iter().zip(&judged) {
            told.add(|| rows.place(row), judged);
        }
        if let Some(out) = &self.out {
            bench_rows::write(out, &judged)?;
        }
        let code = told.finish(self.check);
        let mut report = String::new();
        let mut scores = serde_json::Map::new();
        for (lang, outcomes) in &outcomes {
            let data = bench
                .dataset(*lang, profile)
                .map_err(|e| Failure::new(exit::PIPELINE, chain(&e)))?;
            let summary = data.summary(outcomes);
            if !report.is_empty() {
                report.push('\n');
            }
            report.push_str(&format!(
                "{lang}, {profile}\n{}data: {}\n",
                summary.report(),
                data.digest()
            ));
            let numbers: serde_json::Map<_, _> = summary
                .rows()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect();
            scores.insert(
                lang.name().to_owned(),
                json!({"data": data.digest(), "profile": profile.name(), "summary": numbers}),
            );
        }
        if !report.is_empty() {
            bench_rows::show(self.out.as_deref(), &report);
        }
        if let Some(path) = &self.summary {
            bench_rows::write_json(path, &serde_json::Value::Object(scores))?;
        }
        Ok(code)
    }

    /// The row with its output as it is to be scored; `None` when it is scored as it stands.
    fn prepared(&self, row: &Value) -> Option<Value> {
        if !self.strip_thinking && !self.tool_calls {
            return None;
        }
        let name = ["output", "result"]
            .into_iter()
            .find(|name| row.get(name).and_then(Value::as_str).is_some())?;
        let mut row = row.as_dict()?.clone();
        let mut output = row.get(name)?.as_str()?.to_owned();
        if self.strip_thinking {
            output = strip_thinking(&output).to_owned();
        }
        if self.tool_calls {
            output = text_from_tool_calls(&output).unwrap_or(output);
        }
        row.insert(name.to_owned(), Value::Str(output));
        Some(Value::Dict(row))
    }
}
