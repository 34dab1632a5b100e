//! Decontaminate: finds rows whose query or tools also occur in the benchmarks' test data, and leaves them out.
//!
//! | port     | way | artifact | holds                                                       |
//! |----------|-----|----------|-------------------------------------------------------------|
//! | `rows`   | in  | rows     | conversations with their tools                              |
//! | `rows`   | out | rows     | those that share nothing with the tests, in their order     |
//! | `report` | out | report   | what was found: row, place, benchmark, item, what is shared |
//!
//! A query is shared when a user's message has the same letters and digits in the same order as one of the
//! tests', case, spaces and punctuation aside; messages of fewer than three words (or eight characters, in
//! scripts without spaces) are too common to tell. A tool is shared when name and parameter names are the same,
//! and it has any. The tests are those that the program holds: BFCL and ACEBench in both languages.

mod tests_of;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_text::json::{self, Value};

use self::tests_of::{Benchmark, Known, query_identity, tool_identity};
use crate::flow::flow_rows;
use crate::rows::{self, Chunk, Place, RowReader, RowWriter};
use crate::sift;

/// The kind `decontaminate`.
pub(crate) struct Decontaminate;

/// What to compare with.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// The benchmarks whose test data must not be trained on.
    benchmarks: Vec<Benchmark>,
    /// Whether to compare what users say.
    queries: bool,
    /// Whether to compare tools: by name and names of parameters.
    tools: bool,
    /// Leave out what is found; otherwise it is only reported.
    remove: bool,
    /// Largest share of rows that may be left out before the stage fails, in [0, 1].
    max_drop: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            benchmarks: vec![Benchmark::Bfcl, Benchmark::Acebench],
            queries: true,
            tools: true,
            remove: true,
            max_drop: 1.0,
        }
    }
}

/// Something that a row shares with a test.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shared {
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    line: usize,
    id: String,
    what: &'static str,
    benchmark: &'static str,
    item: String,
    text: String,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    rows: usize,
    kept: usize,
    rows_that_share: usize,
    by: BTreeMap<String, usize>,
    data: BTreeMap<&'static str, String>,
    shared: Vec<Shared>,
}

/// What was found in a chunk of rows.
#[derive(Default)]
struct Looked {
    /// The rows that stay, a line each.
    text: String,
    rows: usize,
    kept: usize,
    sharing: usize,
    shared: Vec<Shared>,
}

impl Stage for Decontaminate {
    const KIND: &'static str = "decontaminate";
    /// 1: first. Rises, too, when the test data inside the program change.
    const VERSION: u32 = 1;
    const ABOUT: &'static str =
        "leaves out rows whose query or tools occur in the benchmarks' tests";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows};
        const {
            Ports {
                inputs: &[Input::required(
                    "rows",
                    Rows,
                    "conversations with their tools",
                )],
                outputs: &[
                    Output::new("rows", Rows, "those that share nothing with the tests"),
                    Output::new("report", Report, "what is shared, row by row"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = sift::share("max-drop", p.max_drop);
        if p.benchmarks.is_empty() {
            complaints.push(Complaint::new("benchmarks", "names none"));
        }
        if !p.queries && !p.tools {
            complaints.push(Complaint::new("queries", "nothing is left to compare"));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let known = Known::load(&p.benchmarks)?;
        let reader = RowReader::open(context.input("rows")?)?;
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut report = Report {
            data: known.digests.clone(),
            ..Report::default()
        };
        let work = |_, chunk: Chunk| {
            let mut looked = Looked::default();
            for row in chunk.values() {
                let (place, row) = row?;
                let found = shared(&p, &known, &place, &row);
                looked.rows += 1;
                if found.is_empty() || !p.remove {
                    looked.kept += 1;
                    json::dump(&mut looked.text, &row);
                    looked.text.push('\n');
                }
                looked.sharing += usize::from(!found.is_empty());
                looked.shared.extend(found);
            }
            Ok(looked)
        };
        flow_rows(context, reader, work, |looked| {
            report.rows += looked.rows;
            report.kept += looked.kept;
            report.rows_that_share += looked.sharing;
            for one in &looked.shared {
                let by = format!("{} of {}", one.what, one.benchmark);
                *report.by.entry(by).or_default() += 1;
            }
            report.shared.extend(looked.shared);
            writer.lines(&looked.text, looked.kept)
        })?;
        let _ = writer.finish()?;
        rows::write_json(&context.output("report"), &report)?;
        let (rows, sharing) = (report.rows, report.rows_that_share);
        let gone = (rows - report.kept) as f64 / rows.max(1) as f64;
        if gone > p.max_drop || (rows > 0 && report.kept == 0) {
            return Err(StageError::failed_try(
                format!("{sharing} of {rows} rows share queries or tools with the tests"),
                "see the report; use other rows, raise `max-drop`, or compare less",
            ));
        }
        context.info(format!(
            "{sharing} of {rows} rows share queries or tools with the tests; {} kept",
            report.kept
        ));
        Ok(())
    }
}

/// What a row shares with the tests, each thing once.
fn shared(p: &Params, known: &Known, place: &Place, row: &Value) -> Vec<Shared> {
    let mut found: Vec<Shared> = Vec::new();
    let mut add = |what: &'static str, origin: &(&'static str, String), text: &str| {
        found.push(Shared {
            file: place.file.clone(),
            line: place.line,
            id: rows::id_of(row),
            what,
            benchmark: origin.0,
            item: origin.1.clone(),
            text: text.chars().take(120).collect(),
        });
    };
    if p.queries {
        for message in rows::list(row, "messages") {
            let (role, content) = (rows::text(message, "role"), rows::text(message, "content"));
            if let (Some("user"), Some(content)) = (role, content)
                && let Some(identity) = query_identity(content)
                && let Some(origin) = known.queries.get(&identity)
            {
                add("query", origin, content);
            }
        }
    }
    if p.tools {
        for tool in rows::list(row, "tools") {
            if let Some(identity) = tool_identity(tool)
                && let Some(origin) = known.tools.get(&identity)
            {
                add("tool", origin, &identity);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const ROWS: &str = r#"{"id": 1, "messages": [{"role": "user", "content": "find the AREA of a triangle, with a base of 10 units and height of 5 units"}, {"role": "assistant", "content": "25"}], "tools": []}
{"id": 2, "messages": [{"role": "user", "content": "Something that no benchmark asks in this way"}, {"role": "assistant", "content": "x"}], "tools": [{"name": "calculate_triangle_area", "parameters": {"type": "dict", "properties": {"unit": {}, "height": {}, "base": {}}}}]}
{"id": 3, "messages": [{"role": "user", "content": "Something that no benchmark asks in this way"}, {"role": "assistant", "content": "x"}], "tools": [{"name": "calculate_triangle_area", "parameters": {"a": {}}}]}
"#;

    fn run(change: impl FnOnce(&mut Params)) -> (String, serde_json::Value) {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = folder.path().join("rows.jsonl");
        std::fs::write(&rows, ROWS).expect("written");
        let mut params = Params::default();
        change(&mut params);
        testing::run::<Decontaminate>(params, folder.path(), &[("rows", &rows)]);
        let out = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name));
        let report = out("report").expect("a report");
        (
            out("rows").expect("rows"),
            serde_json::from_str(&report).expect("JSON"),
        )
    }

    #[test]
    fn what_the_tests_hold_is_left_out_and_named() {
        let (rows, report) = run(|_| {});
        assert_eq!(rows.lines().count(), 1, "{report:#}");
        assert!(rows.contains("\"id\": 3"), "{rows}");
        assert_eq!(report["rows-that-share"], 2);
        assert_eq!(report["shared"][0]["item"], "simple_python_0");
        assert_eq!(report["shared"][0]["line"], 1);
        assert_eq!(report["shared"][1]["what"], "tool");
        assert_eq!(report["data"].as_object().map(|d| d.len()), Some(2));
    }

    #[test]
    fn it_can_only_report() {
        let (rows, report) = run(|p| p.remove = false);
        assert_eq!(rows.lines().count(), 3);
        assert_eq!(report["rows-that-share"], 2);
        let (rows, _) = run(|p| p.tools = false);
        assert_eq!(rows.lines().count(), 2);
    }
}
