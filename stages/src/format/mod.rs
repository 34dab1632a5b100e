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

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::{Change, Corpus, PythonRandom, format_row};
use starling_text::json::{self, Value};

use crate::dropped::Dropped;
use crate::flow::flow;
use crate::rows::{self, Chunk, Place, ReadRow, RowReader, RowWriter};
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
    /// `id`, `messages`, `tools`, as they are; the lists may be JSON text.
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
    /// 4: `messages` and `tools` as JSON text are read; 3: floats between two shortest texts end in the even digit, as Python writes them; 2: changed rows are counted,
    /// places name files; 1: first.
    const VERSION: u32 = 4;
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
        let raw = context.input("raw")?;
        let mut rows = match p.sample {
            None => Rows::All(RowReader::open(raw)?),
            Some(size) => Rows::Sample(sampled(raw, size, p.seed)?.into_iter()),
        };
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut dropped = Dropped::default();
        // Rows that gave a row, rows given.
        let (mut kept, mut emitted) = (0, 0);
        let counts = corpus.is_some_and(Corpus::numbers_what_it_emits);
        let work = |first: usize, chunk: Chunk| {
            let numbered = (first..).zip(chunk.rows());
            Ok(if counts {
                Worked::Waiting(numbered.collect())
            } else {
                let mut done = Done::default();
                numbered.for_each(|(number, row)| done.add(corpus, number, 0, row, mode));
                Worked::Done(done)
            })
        };
        let take = |worked: Worked| {
            let done = match worked {
                Worked::Done(done) => done,
                Worked::Waiting(rows) => {
                    let mut done = Done::default();
                    for (number, row) in rows {
                        let before = emitted + done.emitted;
                        done.add(corpus, number, before, row, mode);
                    }
                    done
                }
            };
            dropped.seen(done.rows);
            kept += done.kept;
            emitted += done.emitted;
            for (reason, place, id) in &done.drops {
                dropped.add(reason, place, id);
            }
            for (change, place, id) in &done.changes {
                dropped.change(&change.to_string(), place, id);
            }
            writer.lines(&done.text, done.emitted)
        };
        flow(context, move || rows.chunk(), work, take)?;
        let _ = writer.finish()?;
        dropped.finish(context, kept, p.max_drop)
    }
}

/// A chunk of raw rows: formatted, or waiting for what comes before it, because ids depend on that.
enum Worked {
    Done(Done),
    Waiting(Vec<(usize, ReadRow)>),
}

/// What became of raw rows.
#[derive(Default)]
struct Done {
    /// The rows that came out, a line each.
    text: String,
    rows: usize,
    kept: usize,
    emitted: usize,
    drops: Vec<(String, Place, String)>,
    changes: Vec<(Change, Place, String)>,
}

impl Done {
    /// Formats the raw row at `number`, after `emitted` rows came out before it.
    fn add(
        &mut self,
        corpus: Option<Corpus>,
        number: usize,
        emitted: usize,
        row: ReadRow,
        mode: Mode,
    ) {
        self.rows += 1;
        let (drops, changes, raw) = match (row.value, corpus) {
            (Err(why), _) => (vec![reason_of(&why)], Vec::new(), Value::Null),
            (Ok(raw), Some(corpus)) => {
                let formatted = format_row(corpus, &raw, number, emitted, mode);
                self.kept += usize::from(!formatted.rows.is_empty());
                formatted.rows.iter().for_each(|row| self.emit(row));
                let drops = formatted.drops.iter().map(ToString::to_string);
                (drops.collect(), formatted.changes, raw)
            }
            (Ok(raw), None) => {
                let row = opened(&raw);
                match plain(&row) {
                    Ok(()) => {
                        self.kept += 1;
                        self.emit(&row);
                        return;
                    }
                    Err(reason) => (vec![reason.to_owned()], Vec::new(), raw),
                }
            }
        };
        for drop in drops {
            self.drops
                .push((drop, row.place.clone(), rows::id_of(&raw)));
        }
        for change in changes {
            self.changes
                .push((change, row.place.clone(), rows::id_of(&raw)));
        }
    }

    fn emit(&mut self, row: &Value) {
        self.emitted += 1;
        json::dump(&mut self.text, row);
        self.text.push('\n');
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
    fn chunk(&mut self) -> Result<Option<Chunk>, StageError> {
        match self {
            Self::All(reader) => reader.raw_chunk(),
            Self::Sample(rows) => {
                let chunk = Chunk::ready(rows.take(512).collect());
                Ok((chunk.len() > 0).then_some(chunk))
            }
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

/// The row with its lists as lists: tables such as Parquet hold them as columns of JSON text.
fn opened(row: &Value) -> Cow<'_, Value> {
    let mut opened = Cow::Borrowed(row);
    for name in ["messages", "tools"] {
        let list = rows::text(row, name).map(json::parse);
        if let Some(Ok(list @ Value::List(_))) = list
            && let Value::Dict(map) = opened.to_mut()
        {
            map.insert(name.to_owned(), list);
        }
    }
    opened
}

/// What keeps a row from being a conversation as it is.
fn plain(row: &Value) -> Result<(), &'static str> {
    if row.as_dict().is_none() {
        return Err("the row is not a JSON object");
    }
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
