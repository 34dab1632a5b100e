//! Merge: puts rows of several stages one after the other.
//!
//! | port     | way | artifact | holds                                                     |
//! |----------|-----|----------|-----------------------------------------------------------|
//! | `parts`  | in  | rows     | one or more, under names                                  |
//! | `rows`   | out | rows     | all of them, part after part                              |
//! | `report` | out | report   | rows of each part, repetitions, ids that occur again      |

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_text::json::{self, Value};

use crate::dropped::Reasons;
use crate::flow::flow_rows;
use crate::rows::{self, Chunk, RowReader, RowWriter};

/// Why a row is left out.
const REPEATED: &str = "says what an earlier row says";

/// The kind `merge`.
pub(crate) struct Merge;

/// In which order, and what of repetitions.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// Order of the parts; those that are not named follow in the order of their names.
    order: Vec<String>,
    /// Leave out rows whose messages and tools equal those of an earlier row.
    drop_repetitions: bool,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Part {
    rows: usize,
    repetitions: usize,
    ids_again: usize,
    /// The rows that were left out.
    reasons: Reasons,
}

impl Stage for Merge {
    const KIND: &'static str = "merge";
    /// 2: repetitions that are left out are named; 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "puts rows of several stages one after the other";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows};
        const {
            Ports {
                inputs: &[Input::many("parts", Rows, "rows, under names")],
                outputs: &[
                    Output::new("rows", Rows, "all of them, part after part"),
                    Output::new("report", Report, "rows of each part, repetitions by line"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let names: BTreeSet<&String> = p.order.iter().collect();
        if names.len() == p.order.len() {
            return Vec::new();
        }
        vec![Complaint::new("order", "names a part twice")]
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut parts = context.many("parts");
        if let Some(name) = p
            .order
            .iter()
            .find(|n| !parts.iter().any(|(part, _)| part == n))
        {
            return Err(StageError::failed_try(
                format!("`order` names `{name}`, which is not a part"),
                "name parts as in `inputs.parts.NAME`",
            ));
        }
        parts.sort_by_key(|(name, _)| {
            p.order
                .iter()
                .position(|o| o == name)
                .unwrap_or(p.order.len())
        });
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut report: BTreeMap<&str, Part> = BTreeMap::new();
        // Of rows already written a number each is held, and of their ids.
        let (mut seen, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for (name, path) in parts {
            let part = report.entry(name).or_default();
            let work = |_, chunk: Chunk| {
                let each = chunk.values().map(|row| {
                    let (place, row) = row?;
                    Ok((content(&row), rows::id_of(&row), json::dumps(&row), place))
                });
                each.collect::<Result<Vec<_>, StageError>>()
            };
            flow_rows(context, RowReader::open(path)?, work, |each| {
                for (content, id, text, place) in each {
                    if !seen.insert(content) {
                        part.repetitions += 1;
                        if p.drop_repetitions {
                            part.reasons.note(REPEATED, &place, &id);
                            continue;
                        }
                    }
                    part.rows += 1;
                    part.ids_again += usize::from(!ids.insert(short(&id)));
                    writer.line(&text)?;
                }
                Ok(())
            })?;
        }
        let count = writer.finish()?;
        rows::write_json(&context.output("report"), &report)?;
        if count == 0 {
            return Err(StageError::failed("the parts hold no rows"));
        }
        let again: usize = report.values().map(|part| part.ids_again).sum();
        let mut story = format!("{count} rows of {} parts", report.len());
        for (name, part) in report.iter().filter(|(_, part)| !part.reasons.is_empty()) {
            story = format!("{story}; left out of `{name}`: {}", part.reasons);
        }
        if again > 0 {
            context.warn(format!("{story}; {again} ids occur more than once"));
        } else {
            context.info(story);
        }
        Ok(())
    }
}

/// What makes two rows the same: their messages and tools.
fn content(row: &Value) -> u128 {
    let part = |key| rows::field(row, key).map(json::dumps).unwrap_or_default();
    short(&format!("{}\n{}", part("messages"), part("tools")))
}

/// Half a SHA-256: a number that no two texts share by chance.
fn short(text: &str) -> u128 {
    let digest = Digest::of(text.as_bytes()).to_string();
    u128::from_str_radix(&digest[..32], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing;

    #[test]
    fn rows_are_the_same_by_what_they_say() {
        let row = |text: &str| json::parse(text).expect("JSON");
        let a = row(r#"{"id": 1, "messages": [{"role": "user", "content": "a"}], "tools": []}"#);
        let b = row(r#"{"id": 2, "messages": [{"role": "user", "content": "a"}], "tools": []}"#);
        let c = row(r#"{"id": 1, "messages": [{"role": "user", "content": "b"}], "tools": []}"#);
        assert_eq!(content(&a), content(&b));
        assert_ne!(content(&a), content(&c));
    }

    #[test]
    fn repetitions_that_go_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let row =
            |id, text| format!("{{\"id\": {id}, \"messages\": [{{\"content\": \"{text}\"}}]}}\n");
        let rows = folder.path().join("rows");
        fs::write(&rows, [row(1, "a"), row(2, "b"), row(3, "a")].concat()).expect("rows");
        let params = Params {
            drop_repetitions: true,
            ..Params::default()
        };
        let parts = [("parts", "one", &*rows)];
        let run = testing::try_run_many::<Merge>(params, folder.path(), &[], &parts, None);
        assert!(run.is_ok(), "{run:?}");
        let report = fs::read_to_string(folder.path().join("out/report")).expect("a report");
        for said in [
            "\"rows\": 2",
            "\"count\": 1",
            "\"line\": 3",
            "\"id\": \"3\"",
        ] {
            assert!(report.contains(said), "{said}: {report}");
        }
    }
}
