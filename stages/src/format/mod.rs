//! Format: brings raw corpus rows into the unified form `{id, messages, tools}`.
//!
//! | port     | way | artifact | holds                                              |
//! |----------|-----|----------|----------------------------------------------------|
//! | `raw`    | in  | raw      | rows of one corpus: a file or a folder of files    |
//! | `rows`   | out | rows     | conversations, in their order                      |
//! | `report` | out | report   | rows left out or changed, counted by reason        |
//!
//! Files are JSON lines, one JSON list, or Parquet, plain or compressed; what they are is told by their
//! bytes. A row that is no JSON, or not of the corpus, is left out and counted; a file that is cut off or
//! cannot be decompressed fails the stage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::{Change, Corpus, PythonRandom, format_row};
use starling_text::json::{self, Value};

use crate::dropped::Dropped;
use crate::rows::{self, Place, ReadRow, RowReader, RowWriter};
use crate::sift;

/// The kind `format`.
pub(crate) struct Format;

/// What the rows look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Source {
    /// `id`, `query`, `tools`, `answers`.
    Xlam,
    /// `conversations`, `tools`; thoughts inside the content.
    Toolmind,
    /// `conversations`, `tools`; one row for each turn that can be a target.
    Toolace,
    /// `functions`, `messages`, `expected_output`: queries that no tool fits.
    Hammer,
    /// `id`, `messages`, `tools`, as they are.
    Messages,
}

/// How to read the corpus.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// The corpus that the rows are of.
    source: Source,
    /// Take a random sample of so many raw rows before anything else; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sample: Option<usize>,
    /// Seed of that sample.
    #[serde(default = "seed")]
    seed: u64,
    /// Keeps the released scripts' faults, for comparing with them byte by byte.
    #[serde(default)]
    faithful: bool,
    /// Largest share of rows that may be left out before the stage fails, in [0, 1].
    #[serde(default = "one")]
    max_drop: f64,
}

fn one() -> f64 {
    1.0
}

fn seed() -> u64 {
    42
}

impl Stage for Format {
    const KIND: &'static str = "format";
    /// 2: changed rows are counted, places name files; 1: first.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "brings raw corpus rows into the unified form";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Raw, Report, Rows};
        const {
            Ports {
                inputs: &[Input::required("raw", Raw, "rows of one corpus")],
                outputs: &[
                    Output::new("rows", Rows, "conversations, in their order"),
                    Output::new("report", Report, "rows left out or changed, by reason"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = sift::share("max-drop", p.max_drop);
        if p.sample == Some(0) {
            complaints.push(Complaint::new("sample", "must be at least 1"));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let corpus = match p.source {
            Source::Xlam => Some(Corpus::Xlam),
            Source::Toolmind => Some(Corpus::ToolMind),
            Source::Toolace => Some(Corpus::ToolAce),
            Source::Hammer => Some(Corpus::Hammer),
            Source::Messages => None,
        };
        let mode = if p.faithful {
            Mode::Faithful
        } else {
            Mode::Fixed
        };
        let pool = sift::pool(context)?;
        let raw = context.input("raw")?;
        let mut rows = match p.sample {
            None => Rows::All(RowReader::open(raw)?),
            Some(size) => Rows::Sample(sampled(raw, size, p.seed)?.into_iter()),
        };
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut dropped = Dropped::default();
        // Rows that came in, rows that gave a row, rows given.
        let (mut index, mut kept, mut emitted) = (0, 0, 0);
        loop {
            let chunk = pool.install(|| rows.chunk())?;
            if chunk.is_empty() {
                break;
            }
            let counts = corpus.is_some_and(Corpus::numbers_what_it_emits);
            let convert = |number: usize, emitted: usize, row: &ReadRow| {
                let mut done = Done::new(row);
                match (&row.value, corpus) {
                    (Err(why), _) => done.drops.push(reason_of(why)),
                    (Ok(raw), Some(corpus)) => {
                        let formatted = format_row(corpus, raw, number, emitted, mode);
                        done.texts.extend(formatted.rows.iter().map(json::dumps));
                        done.drops
                            .extend(formatted.drops.iter().map(ToString::to_string));
                        done.changes = formatted.changes;
                    }
                    (Ok(raw), None) => match plain(raw) {
                        Ok(()) => done.texts.push(json::dumps(raw)),
                        Err(reason) => done.drops.push(reason.to_owned()),
                    },
                }
                done
            };
            let done: Vec<Done> = if counts {
                let mut emitted = emitted;
                let each = chunk.iter().enumerate().map(|(i, row)| {
                    let done = convert(index + i, emitted, row);
                    emitted += done.texts.len();
                    done
                });
                each.collect()
            } else {
                pool.install(|| {
                    let rows = chunk.par_iter().enumerate();
                    rows.map(|(i, row)| convert(index + i, 0, row)).collect()
                })
            };
            index += chunk.len();
            for done in done {
                dropped.seen();
                kept += usize::from(!done.texts.is_empty());
                emitted += done.texts.len();
                for text in &done.texts {
                    writer.line(text)?;
                }
                for reason in &done.drops {
                    dropped.add(reason, &done.place, &done.id);
                }
                for change in &done.changes {
                    dropped.change(&change.to_string(), &done.place, &done.id);
                }
            }
            sift::told(context, index)?;
        }
        let _ = writer.finish()?;
        dropped.finish(context, kept, p.max_drop)
    }
}

/// What became of a raw row.
struct Done {
    place: Place,
    id: String,
    texts: Vec<String>,
    drops: Vec<String>,
    changes: Vec<Change>,
}

impl Done {
    fn new(row: &ReadRow) -> Self {
        Self {
            place: row.place.clone(),
            id: row.value.as_ref().map(rows::id_of).unwrap_or_default(),
            texts: Vec::new(),
            drops: Vec::new(),
            changes: Vec::new(),
        }
    }
}

/// The reason that a row which cannot be read is counted under: places in the text are left out, so that
/// equal faults are counted together.
fn reason_of(why: &str) -> String {
    let end = [" at byte ", " after byte "]
        .iter()
        .filter_map(|mark| why.find(mark))
        .min();
    why[..end.unwrap_or(why.len())].to_owned()
}

/// Where rows come from.
enum Rows {
    All(RowReader),
    Sample(std::vec::IntoIter<ReadRow>),
}

impl Rows {
    fn chunk(&mut self) -> Result<Vec<ReadRow>, StageError> {
        match self {
            Self::All(reader) => reader.chunk(),
            Self::Sample(rows) => Ok(rows.take(2048).collect()),
        }
    }
}

/// A random sample of the rows, in the order of CPython's `sample`; held in memory.
fn sampled(path: &Path, size: usize, seed: u64) -> Result<Vec<ReadRow>, StageError> {
    let rows = RowReader::open(path)?.count()?;
    let order = PythonRandom::new(seed).sample(rows, size);
    let wanted: BTreeSet<usize> = order.iter().copied().collect();
    let (mut reader, mut number) = (RowReader::open(path)?, 0);
    let mut found = BTreeMap::new();
    loop {
        let chunk = reader.chunk()?;
        if chunk.is_empty() {
            break;
        }
        for row in chunk {
            if wanted.contains(&number) {
                found.insert(number, row);
            }
            number += 1;
        }
    }
    Ok(order.iter().filter_map(|n| found.remove(n)).collect())
}

/// What keeps a row from being a conversation as it is.
fn plain(row: &Value) -> Result<(), &'static str> {
    if rows::list(row, "messages").is_empty() {
        return Err("there are no messages");
    }
    if rows::list(row, "messages")
        .iter()
        .any(|m| rows::text(m, "role").is_none())
    {
        return Err("a message has no role");
    }
    let odd = |m: &Value| {
        let content = rows::field(m, "content");
        !matches!(content, None | Some(Value::Null | Value::Str(_)))
    };
    if rows::list(row, "messages").iter().any(odd) {
        return Err("a content is neither text nor null");
    }
    match rows::field(row, "tools") {
        None | Some(Value::Null | Value::List(_)) => Ok(()),
        Some(_) => Err("`tools` is not a list"),
    }
}
