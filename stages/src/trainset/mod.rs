//! Training set: turns conversations into prompts and the answers to learn, as text.
//!
//! | port        | way | artifact   | holds                                                     |
//! |-------------|-----|------------|-----------------------------------------------------------|
//! | `rows`      | in  | rows       | conversations that end in the answer to learn             |
//! | `tokenizer` | in  | tokenizer  | its chat template, and the measure of lengths             |
//! | `rows`      | out | train-rows | `{id, inputs, targets}`, in their order                   |
//! | `report`    | out | report     | rows left out, counted by reason, with id and line        |
//!
//! Rows that are too long are left out and counted, never cut: a cut prompt loses what it asks, a cut
//! answer teaches stopping in the middle.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_reward::Mode;
use starling_reward::prepare::{self, train_row};

use crate::chat::{self, lm};
use crate::dropped::Dropped;
use crate::rows::{self, RowReader, RowWriter, object, string};

/// The kind `trainset`.
pub(crate) struct Trainset;

/// How the thought before an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ThinkFormat {
    /// As the chat template itself writes it.
    Native,
    /// As the published code does: an open `<think>` ends the prompt, without a newline.
    Star,
}

/// What to write and how long it may be.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// `native` writes thoughts as the template does, `star` as the published code does.
    think_format: ThinkFormat,
    /// Whether answers include the rows' reasoning, where they have any.
    reasoning: bool,
    /// Longest prompt in tokens; longer rows are left out. 0 means any.
    max_prompt_tokens: usize,
    /// Longest prompt and answer together, in tokens; longer rows are left out. 0 means any.
    max_tokens: usize,
    /// Keeps the released code's faults, for comparing with it byte by byte.
    faithful: bool,
    /// Largest share of rows that may be left out before the stage fails, in [0, 1].
    max_drop: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            think_format: ThinkFormat::Native,
            reasoning: false,
            max_prompt_tokens: 0,
            max_tokens: 0,
            faithful: false,
            max_drop: 1.0,
        }
    }
}

impl Stage for Trainset {
    const KIND: &'static str = "trainset";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "turns conversations into prompts and the answers to learn";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows, Tokenizer, TrainRows};
        const {
            Ports {
                inputs: &[
                    Input::required(
                        "rows",
                        Rows,
                        "conversations that end in the answer to learn",
                    ),
                    Input::required(
                        "tokenizer",
                        Tokenizer,
                        "chat template and measure of lengths",
                    ),
                ],
                outputs: &[
                    Output::new("rows", TrainRows, "`{id, inputs, targets}`"),
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
        let folder = context.input("tokenizer")?;
        let (template, tokenizer) = (chat::template(folder)?, chat::tokenizer(folder)?);
        let format = match p.think_format {
            ThinkFormat::Native => prepare::ThinkFormat::Native,
            ThinkFormat::Star => prepare::ThinkFormat::Star,
        };
        let mode = if p.faithful {
            Mode::Faithful
        } else {
            Mode::Fixed
        };
        let mut reader = RowReader::open(context.input("rows")?)?;
        let mut writer = RowWriter::create(&context.output("rows"))?;
        let mut dropped = Dropped::default();
        while let Some((line, row)) = reader.next_row()? {
            let id = rows::id_of(&row);
            dropped.seen();
            let text = match train_row(&row, &template, format, p.reasoning, mode) {
                Ok(text) => text,
                Err(reason) => {
                    dropped.add(&reason.to_string(), line, &id);
                    continue;
                }
            };
            let prompt = tokenizer.encode(&text.inputs).map_err(lm)?.len();
            let answer = tokenizer.encode(&text.targets).map_err(lm)?.len();
            if p.max_prompt_tokens > 0 && prompt > p.max_prompt_tokens {
                dropped.add("prompt too long", line, &id);
            } else if p.max_tokens > 0 && prompt + answer > p.max_tokens {
                dropped.add("prompt and answer too long", line, &id);
            } else {
                writer.write(&object([
                    ("id", string(id)),
                    ("inputs", string(text.inputs)),
                    ("targets", string(text.targets)),
                ]))?;
            }
        }
        let kept = writer.finish()?;
        dropped.finish(context, kept, p.max_drop)
    }
}
