//! The loop of a benchmark kind: entries in chunks, a record an entry, each chunk an action of its own.
//!
//! A record is what an entry came to, and everything later is computed from records; so a resumed run ends with
//! the bytes of an unbroken one. Nothing in a record is a time: how long a chunk took is in the record of its action.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use starling_contract::{
    ArtifactType, Chunks, Complaint, External, Input, Output, Ports, StageContext, StageError,
};
use starling_text::json::Value;

use crate::rows::{self, RowWriter};

/// How entries are mapped: each is examined by itself, so that chunks are only a matter of resuming and sharing.
/// Entries of a chunk are asked at once.
pub(crate) const CHUNKS: Chunks = Chunks {
    port: "",
    rows: 16,
    unit: "entries",
    neutral: &["categories", "items-per-category", "languages"],
};

/// Inputs and outputs of a benchmark kind.
pub(crate) const PORTS: Ports = Ports {
    inputs: &[Input::optional(
        "model",
        ArtifactType::Checkpoint,
        "the model to examine; none where `endpoint` names a server",
    )],
    outputs: &[
        Output::new(
            "evaluation",
            ArtifactType::Evaluation,
            "scores, and every answer with its verdict",
        ),
        Output::new("report", ArtifactType::Report, "the table").displayed("report.txt"),
    ],
};

/// The folder with another version of a benchmark's files, if one is given.
pub(crate) fn externals(data: Option<&Path>) -> Vec<External> {
    let folder = data.map(|path| External {
        param: "data",
        path: path.to_owned(),
        pinned: None,
        fetch: None,
    });
    folder.into_iter().collect()
}

/// Parameters that both benchmark kinds have.
pub(crate) struct Limits {
    pub(crate) max_new_tokens: usize,
    pub(crate) max_prompt_tokens: usize,
    pub(crate) items_per_category: Option<usize>,
    pub(crate) temperature: f32,
}

impl Limits {
    /// Complaints about values that mean nothing.
    pub(crate) fn check(&self) -> Vec<Complaint> {
        let warm = self.temperature.abs() <= 0.0 || self.temperature >= 1e-4;
        let wanted = [
            (
                "max-new-tokens",
                self.max_new_tokens > 0,
                "must be at least 1",
            ),
            (
                "max-prompt-tokens",
                self.max_prompt_tokens > 0,
                "must be at least 1",
            ),
            (
                "items-per-category",
                self.items_per_category != Some(0),
                "must be at least 1",
            ),
            (
                "temperature",
                warm && self.temperature.is_finite(),
                "must be 0 or at least 0.0001",
            ),
        ];
        let wrong = wanted.into_iter().filter(|(_, good, _)| !good);
        wrong
            .map(|(param, _, what)| Complaint::new(param, what))
            .collect()
    }
}

/// The categories that names mean, each once, in the order of `all`.
pub(crate) fn chosen<C: Copy + PartialEq>(
    names: &[String],
    all: &[C],
    named: impl Fn(&str) -> Vec<C>,
) -> Vec<C> {
    let wanted: Vec<C> = names.iter().flat_map(|name| named(name)).collect();
    let all = all.iter().copied();
    all.filter(|category| wanted.contains(category)).collect()
}

/// Complaints about the parameter `categories`: no name, or names that mean nothing. `groups` lists what names several
/// categories, `all` has their own names.
pub(crate) fn unknown<C>(
    names: &[String],
    named: impl Fn(&str) -> Vec<C>,
    groups: &str,
    all: &[&str],
) -> Vec<Complaint> {
    const PARAM: &str = "categories";
    if names.is_empty() {
        return vec![Complaint::new(PARAM, "names no category")];
    }
    let unknown = names.iter().filter(|name| named(name).is_empty());
    unknown
        .map(|name| Complaint {
            param: PARAM,
            message: format!("there is no category `{name}`"),
            help: Some(format!("{groups}, or of {}", all.join(", "))),
        })
        .collect()
}

/// Records of a chunk.
const RECORDS: &str = "records.jsonl";

/// The records of all entries, in their order; `answer` makes those of some entries, `name` tells entries apart.
pub(crate) fn run<R>(
    context: &StageContext<'_>,
    entries: &[R],
    name: impl Fn(&R) -> String,
    answer: impl Fn(&[R]) -> Result<Vec<Value>, StageError>,
) -> Result<Vec<Value>, StageError> {
    let work = |part: &[R], folder: &Path| {
        let made = answer(part)?;
        if made.len() != part.len() {
            return Err(StageError::failed(
                "a chunk made another number of records than it has entries",
            ));
        }
        write(&folder.join(RECORDS), &made)
    };
    let identity = |entry: &R| name(entry).into_bytes();
    let mut records = Vec::with_capacity(entries.len());
    for folder in context.map_chunks(&CHUNKS, entries, identity, work)? {
        records.extend(rows::read_all(&folder.join(RECORDS))?);
    }
    Ok(records)
}

/// Writes records, a line each.
pub(crate) fn write(path: &Path, records: &[Value]) -> Result<(), StageError> {
    let mut writer = RowWriter::create(path)?;
    for record in records {
        writer.write(record)?;
    }
    writer.finish().map(|_| ())
}

/// A subset of `wanted` of `all`, evenly spread and in order: the same for every seed and every model.
pub(crate) fn spread(all: usize, wanted: Option<usize>) -> Vec<usize> {
    let wanted = wanted.unwrap_or(all).min(all);
    (0..wanted).map(|i| i * all / wanted).collect()
}

/// How many records hold `true` in a field.
pub(crate) fn count(records: &[Value], field: &str) -> usize {
    let holds = |record: &&Value| record.get(field).and_then(Value::as_bool) == Some(true);
    records.iter().filter(holds).count()
}

/// The sum of a whole number over records.
pub(crate) fn sum(records: &[Value], field: &str) -> u64 {
    let number = |record: &Value| record.get(field).and_then(Value::as_i64).unwrap_or(0);
    records.iter().map(number).map(i64::unsigned_abs).sum()
}

/// What the records came to, whatever the benchmark. Shown, it is two lines for people.
pub(crate) struct Tally {
    limits: Limits,
    entries: usize,
    too_long: usize,
    prompt_tokens: u64,
    generated_tokens: u64,
}

impl Tally {
    pub(crate) fn of(records: &[Value], limits: Limits) -> Self {
        Self {
            limits,
            entries: records.len(),
            too_long: count(records, "too_long"),
            prompt_tokens: sum(records, "prompt_tokens"),
            generated_tokens: sum(records, "generated_tokens"),
        }
    }

    /// Writes the output `report`: this, the digest or digests of the benchmark's data, how often each category had
    /// each error, and a text.
    pub(crate) fn write(
        &self,
        context: &StageContext<'_>,
        data: &impl Serialize,
        errors: &BTreeMap<(&str, &str), usize>,
        text: &str,
    ) -> Result<(), StageError> {
        let folder = context.output("report");
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        let report = json!({
            "entries": self.entries,
            "items-per-category": self.limits.items_per_category,
            "too-long-prompts": self.too_long,
            "max-prompt-tokens": self.limits.max_prompt_tokens,
            "max-new-tokens": self.limits.max_new_tokens,
            "prompt-tokens": self.prompt_tokens,
            "generated-tokens": self.generated_tokens,
            "data": data,
            "errors": errors.iter().map(|((category, kind), count)| {
                json!({"category": category, "error-type": kind, "count": count})
            }).collect::<Vec<_>>(),
        });
        rows::write_json(&folder.join("report.json"), &report)?;
        let path = folder.join("report.txt");
        std::fs::write(&path, text).map_err(StageError::io("write", &path))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} entries with a prompt of more than {} tokens were not asked and count as wrong",
            self.too_long, self.limits.max_prompt_tokens
        )?;
        writeln!(
            f,
            "{} tokens of prompts, {} of answers",
            self.prompt_tokens, self.generated_tokens
        )
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn a_subset_is_spread_evenly() {
        assert_eq!(spread(10, Some(4)), [0, 2, 5, 7]);
        assert_eq!(spread(3, Some(9)), [0, 1, 2]);
        assert_eq!(spread(2, None), [0, 1]);
        assert!(spread(0, Some(3)).is_empty() && spread(5, Some(0)).is_empty());
    }
}
