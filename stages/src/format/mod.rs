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

mod messages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::{Corpus, PythonRandom, format_row};
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
    /// `id`, `messages`, `tools`, as they are; the lists may be JSON text, contents may come in text parts.
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
    /// 5: text parts of a content are joined; 4: `messages` and `tools` as JSON text are read; 3: floats between two shortest texts end in the even digit, as Python writes them; 2: changed rows are counted,
    /// places name files; 1: first.
    const VERSION: u32 = 5;
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
                dropped.change(change, place, id);
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
    changes: Vec<(String, Place, String)>,
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
                let changes = formatted.changes.iter().map(ToString::to_string);
                (drops.collect(), changes.collect(), raw)
            }
            (Ok(raw), None) => {
                let (drops, joined) = match messages::conversation(&raw) {
                    Ok((conversation, joined)) => {
                        self.kept += 1;
                        self.emit(&conversation);
                        (Vec::new(), joined)
                    }
                    Err(reason) => (vec![reason.to_owned()], false),
                };
                let changes = joined.then(|| messages::JOINED.to_owned());
                (drops, changes.into_iter().collect(), raw)
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
