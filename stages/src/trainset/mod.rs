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
//! answer teaches stopping in the middle. An answer that does not read back from its own text as the calls
//! or the reply that it was is left out, too.

use std::path::Path;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::tokenizer::Tokenizer;
use starling_reward::Mode;
use starling_reward::prepare::{self, DropReason, TrainRow, train_row};
use starling_text::json::{self, Value};
use starling_text::template::ChatTemplate;

use crate::chat::{self, Calls};
use crate::rows::{self, string};
use crate::sift::{self, Fate, sift};

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
    /// How calls are written, in the prompt's history and in the answer; rollout, reward and evaluation
    /// follow. `hermes` is what the template prints; the others put the tools and one line on how to call
    /// them into the system message.
    call_format: Calls,
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
            call_format: Calls::Hermes,
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
    /// 2: other call formats, answers are read back, lengths counted only where limits ask; 1: first.
    const VERSION: u32 = 2;
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
        let mut complaints = sift::share("max-drop", p.max_drop);
        if p.faithful && p.call_format != Calls::Hermes {
            complaints.push(Complaint::new(
                "call-format",
                "the released code knows `hermes` only; leave `faithful` out",
            ));
        }
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let folder = context.input("tokenizer")?;
        let template = chat::template(folder)?;
        let convert = Convert {
            think: match p.think_format {
                ThinkFormat::Native => prepare::ThinkFormat::Native,
                ThinkFormat::Star => prepare::ThinkFormat::Star,
            },
            mode: if p.faithful {
                Mode::Faithful
            } else {
                Mode::Fixed
            },
            p: &p,
            template,
            folder,
            tokenizer: OnceLock::new(),
        };
        let sifted = sift(context, p.max_drop, |row, _| {
            convert.row(row).unwrap_or_else(Fate::Dropped)
        });
        // No row is at fault for a tokenizer that cannot be read.
        match convert.tokenizer.into_inner() {
            Some(Err(error)) => Err(StageError::failed(error)),
            _ => sifted,
        }
    }
}

/// What a row is converted with.
struct Convert<'a> {
    p: &'a Params,
    think: prepare::ThinkFormat,
    mode: Mode,
    template: ChatTemplate,
    folder: &'a Path,
    /// Read when the first text is long enough to be counted: a large vocabulary takes longer than thousands of rows.
    tokenizer: OnceLock<Result<Tokenizer, String>>,
}

impl Convert<'_> {
    fn row(&self, row: &Value) -> Result<Fate, String> {
        let (p, format) = (self.p, self.p.call_format.format());
        let reason = |reason: DropReason| reason.to_string();
        let written = prepare::written(row, format).map_err(reason)?;
        let text = train_row(&written, &self.template, self.think, p.reasoning, self.mode)
            .map_err(reason)?;
        if !p.faithful {
            prepare::reads_back(row, &text, format)
                .map_err(|_| "the answer does not read back from its own text".to_owned())?;
        }
        if let Some(long) = self.too_long(&text)? {
            return Ok(Fate::Dropped(long.to_owned()));
        }
        let mut out = vec![
            ("id".to_owned(), string(rows::id_of(row))),
            ("inputs".to_owned(), string(text.inputs)),
            ("targets".to_owned(), string(text.targets)),
        ];
        if let Some(word) = p.call_format.word() {
            out.push(("call_format".to_owned(), string(word)));
        }
        let out = Value::Dict(out.into_iter().collect());
        Ok(Fate::Kept(json::dumps(&out)))
    }

    /// Which limit the row breaks. A token is at least a byte, so short texts need no counting.
    fn too_long(&self, text: &TrainRow) -> Result<Option<&'static str>, String> {
        let p = self.p;
        let bytes = text.inputs.len() + text.targets.len();
        let breaks = |limit: usize, length: usize| limit > 0 && length > limit;
        if !breaks(p.max_prompt_tokens, text.inputs.len()) && !breaks(p.max_tokens, bytes) {
            return Ok(None);
        }
        let read = || chat::tokenizer(self.folder).map_err(|e| e.to_string());
        let tokenizer = self.tokenizer.get_or_init(read).as_ref();
        let tokenizer = tokenizer.map_err(String::clone)?;
        let count = |text: &str| {
            let ids = tokenizer.encode(text).map_err(|e| e.to_string())?;
            Ok::<usize, String>(ids.len())
        };
        let prompt = count(&text.inputs)?;
        if breaks(p.max_prompt_tokens, prompt) {
            return Ok(Some("prompt too long"));
        }
        if p.max_tokens > 0 && breaks(p.max_tokens, prompt + count(&text.targets)?) {
            return Ok(Some("prompt and answer too long"));
        }
        Ok(None)
    }
}
