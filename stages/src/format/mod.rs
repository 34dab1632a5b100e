//! Format: brings raw corpus rows into the unified form `{id, messages, tools}`.
//!
//! | port     | way | artifact | holds                                              |
//! |----------|-----|----------|----------------------------------------------------|
//! | `raw`    | in  | raw      | JSON lines of one corpus, gzip-compressed or not   |
//! | `rows`   | out | rows     | conversations, in their order                      |
//! | `report` | out | report   | rows left out, counted by reason                   |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::{Corpus, Formatter};
use starling_text::json::Value;

use crate::dropped::Dropped;
use crate::rows::{self, RowReader, RowWriter};

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

impl Stage for Format {
    const KIND: &'static str = "format";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "brings raw corpus rows into the unified form";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Raw, Report, Rows};
        const {
            Ports {
                inputs: &[Input::required("raw", Raw, "JSON lines of one corpus")],
                outputs: &[
                    Output::new("rows", Rows, "conversations, in their order"),
                    Output::new("report", Report, "rows left out, by reason"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        if (0.0..=1.0).contains(&p.max_drop) {
            return Vec::new();
        }
        vec![Complaint::new("max-drop", "must be between 0 and 1")]
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mode = if p.faithful {
            Mode::Faithful
        } else {
            Mode::Fixed
        };
        let mut formatter = match p.source {
            Source::Xlam => Some(Formatter::new(Corpus::Xlam, mode)),
            Source::Toolmind => Some(Formatter::new(Corpus::ToolMind, mode)),
            Source::Toolace => Some(Formatter::new(Corpus::ToolAce, mode)),
            Source::Hammer => Some(Formatter::new(Corpus::Hammer, mode)),
            Source::Messages => None,
        };
        let mut reader = RowReader::open(context.input("raw")?)?;
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let (mut dropped, mut kept) = (Dropped::default(), 0usize);
        while let Some((line, raw)) = reader.next_row()? {
            dropped.seen();
            match &mut formatter {
                Some(formatter) => {
                    let before = formatter.drops().clone();
                    let rows = formatter.push(&raw);
                    for (reason, count) in formatter.drops() {
                        let new = count - before.get(reason).copied().unwrap_or(0);
                        for _ in 0..new {
                            dropped.add(&reason.to_string(), line, &rows::id_of(&raw));
                        }
                    }
                    kept += usize::from(!rows.is_empty());
                    rows.iter().try_for_each(|row| writer.write(row))?;
                }
                None => match plain(&raw) {
                    Ok(()) => {
                        kept += 1;
                        writer.write(&raw)?;
                    }
                    Err(reason) => dropped.add(reason, line, &rows::id_of(&raw)),
                },
            }
        }
        let _ = writer.finish()?;
        dropped.finish(context, kept, p.max_drop)
    }
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
    match rows::field(row, "tools") {
        None | Some(Value::Null | Value::List(_)) => Ok(()),
        Some(_) => Err("`tools` is not a list"),
    }
}
