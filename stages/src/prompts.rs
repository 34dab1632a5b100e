//! Training rows made ready for sampling and scoring: token ids, tools, label.

use std::path::Path;

use starling_contract::StageError;
use starling_lm::generate::{Request, key_of};
use starling_lm::tokenizer::Tokenizer;
use starling_reward::toolrl::{ToolRl, toolrl};
use starling_reward::{Answer, CallFormat, Label, Mode, Outcome, ToolSet, score_as, split_thought};
use starling_text::json::{Dumps, dumps_with};

use crate::chat::{Calls, lm};
use crate::rows::{self, RowReader, object};

/// What opens the assistant's turn in ChatML; what follows it in a prompt is part of the answer.
const ASSISTANT: &str = "<|im_start|>assistant\n";

/// What encloses a thought.
const THINK: &str = "<think>";
const THINK_END: &str = "</think>";

/// A training row read as a prompt.
pub(crate) struct Prompt {
    /// The row's id.
    pub(crate) id: String,
    /// Its text up to where the model continues.
    pub(crate) inputs: String,
    /// The answer it was written with.
    pub(crate) targets: String,
    /// `inputs` as token ids.
    pub(crate) ids: Vec<u32>,
    /// What the prompt has already written of the answer: an empty or open thought.
    prefill: String,
    tools: ToolSet,
    label: Label,
    calls: CallFormat,
}

impl Prompt {
    /// All of the row that an answer and its score depend on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let parts = [&self.id, &self.inputs, &self.targets];
        // Lengths first, so that no two rows are the same bytes.
        let bytes = parts.iter().flat_map(|part| {
            let length = (part.len() as u64).to_be_bytes();
            length.into_iter().chain(part.bytes())
        });
        bytes.collect()
    }

    /// Scores an answer that continues the prompt; `text` is without its end token.
    pub(crate) fn score(&self, text: &str) -> Outcome {
        score_as(
            &self.tools,
            &self.label,
            &format!("{}{text}", self.prefill),
            self.calls,
            Mode::Fixed,
        )
    }

    /// Scores an answer as ToolRL does; answer and label are first brought into ToolRL's own layout, so that
    /// its format part asks for a readable answer and not for another language. An answer that cannot be
    /// read stays as it is.
    pub(crate) fn toolrl(&self, text: &str) -> ToolRl {
        let whole = format!("{}{text}", self.prefill);
        let read = split_thought(&whole).ok().and_then(|(thought, answer)| {
            let answer = self.calls.parse(answer).ok()?;
            toolrl_layout(thought, &answer)
        });
        let label = toolrl_layout("", self.label.answer()).unwrap_or_default();
        // A label of ours always reads.
        toolrl(read.as_deref().unwrap_or(&whole), &label).unwrap_or(ToolRl {
            format: 0.0,
            correctness: -3.0,
        })
    }

    /// What two answers share when they say the same: thought, words, and calls in any order; none when
    /// the answer cannot be read or says nothing.
    pub(crate) fn identity(&self, text: &str) -> Option<String> {
        let whole = format!("{}{text}", self.prefill);
        let (thought, answer) = split_thought(&whole).ok()?;
        let answer = self.calls.parse(answer).ok()?;
        let sorted = Dumps {
            sort_keys: true,
            ..Dumps::default()
        };
        let mut calls: Vec<String> = answer
            .calls()
            .iter()
            .map(|c| dumps_with(&c.to_value(), &sorted))
            .collect();
        calls.sort_unstable();
        let reply = answer.reply().unwrap_or_default();
        if calls.is_empty() && reply.is_empty() {
            return None;
        }
        Some(format!(
            "{}\u{1f}{reply}\u{1f}{}",
            thought.trim(),
            calls.join("\u{1f}")
        ))
    }

    /// An answer that was given elsewhere, as the text that continues this prompt; `whole` is all of the
    /// assistant's turn, calls in Hermes form. A thought that is missing is an empty one, as in rows without
    /// reasoning; none for a call that cannot be read.
    pub(crate) fn continued(&self, whole: &str) -> Option<String> {
        let open = self.prefill.trim_end_matches('\n') == THINK;
        let (thought, answer) = match (split_thought(whole), whole.rsplit_once(THINK_END)) {
            (Ok((thought, answer)), _) => (thought, answer),
            // The server's template may have opened the thought.
            (Err(_), Some((thought, answer))) => (thought, answer),
            (Err(_), None) => ("", whole),
        };
        let answer = CallFormat::Hermes.parse(answer).ok()?;
        let body = match &answer {
            Answer::Calls { calls, .. } => self.calls.render(calls),
            Answer::Reply(text) => text.clone(),
            Answer::Unclosed => return None,
        };
        let thought = thought.trim_matches('\n');
        Some(match self.prefill.as_str() {
            "" => format!("{THINK}\n{thought}\n{THINK_END}\n\n{body}"),
            THINK => format!("{thought}{THINK_END}{body}"),
            _ if open => format!("{thought}\n{THINK_END}\n\n{body}"),
            // The prompt has closed an empty thought already.
            _ => body,
        })
    }

    /// How its row writes calls.
    pub(crate) fn calls(&self) -> CallFormat {
        self.calls
    }

    /// What the prompt has already written of the answer.
    pub(crate) fn prefill(&self) -> &str {
        &self.prefill
    }

    /// A request for `samples` answers; its random numbers depend on the row's id, not on its place.
    pub(crate) fn request(&self, samples: usize) -> Request {
        Request {
            samples,
            ..Request::new(key_of(&self.id), self.ids.clone())
        }
    }
}

/// An answer in ToolRL's layout: a thought, then a block of calls, one a line, or a block of words.
fn toolrl_layout(thought: &str, answer: &Answer) -> Option<String> {
    let calls = answer.calls();
    if calls.is_empty() {
        let reply = answer.reply()?;
        return Some(format!(
            "<think>{thought}</think>\n<response>{reply}</response>"
        ));
    }
    let lines: Vec<String> = calls
        .iter()
        .map(|call| {
            let call = object([
                ("name", call.name.clone()),
                ("parameters", call.arguments.clone()),
            ]);
            dumps_with(&call, &Dumps::default())
        })
        .collect();
    let lines = lines.join("\n");
    Some(format!(
        "<think>{thought}</think>\n<tool_call>\n{lines}\n</tool_call>"
    ))
}

/// The text of one training row.
pub(crate) struct TextRow {
    /// The row's id.
    pub(crate) id: String,
    /// The prompt.
    pub(crate) inputs: String,
    /// The answer, its end token included.
    pub(crate) targets: String,
    /// How it writes calls.
    pub(crate) calls: CallFormat,
}

/// Reads training rows, at most `limit`.
pub(crate) fn read_text(
    path: &Path,
    port: &str,
    limit: Option<usize>,
) -> Result<Vec<TextRow>, StageError> {
    let mut reader = RowReader::open(path)?;
    let mut all = Vec::new();
    while let Some((line, row)) = reader.next_row()? {
        if limit.is_some_and(|l| all.len() >= l) {
            break;
        }
        let part = |name: &str| {
            rows::text(&row, name)
                .map(str::to_owned)
                .ok_or_else(|| StageError::input(port, format!("line {line} has no text `{name}`")))
        };
        let calls = Calls::of(rows::text(&row, "call_format")).ok_or_else(|| {
            let message = format!("line {line}: `call_format` is none of hermes, json, pythonic");
            StageError::input(port, message)
        })?;
        all.push(TextRow {
            calls: calls.format(),
            id: part("id")?,
            inputs: part("inputs")?,
            targets: part("targets")?,
        });
    }
    if all.is_empty() {
        return Err(StageError::input(port, "holds no rows"));
    }
    Ok(all)
}

/// What a prompt's text has already written of the answer.
pub(crate) fn prefill_of(inputs: &str) -> &str {
    match inputs.rfind(ASSISTANT) {
        Some(at) => &inputs[at + ASSISTANT.len()..],
        None => "",
    }
}

/// Reads training rows as prompts, at most `limit`; a row without usable tools or label is an error of
/// the data, named with its id.
pub(crate) fn read(
    path: &Path,
    port: &str,
    tokenizer: &Tokenizer,
    limit: Option<usize>,
) -> Result<Vec<Prompt>, StageError> {
    read_text(path, port, limit)?
        .into_iter()
        .map(|row| {
            let wrong = |what: &str, e: &dyn std::fmt::Display| {
                StageError::input(port, format!("row `{}`: {what}: {e}", row.id))
            };
            let tools =
                ToolSet::from_prompt(&row.inputs, Mode::Fixed).map_err(|e| wrong("tools", &e))?;
            let prefill = prefill_of(&row.inputs).to_owned();
            let turn = format!("{prefill}{}", row.targets);
            let label =
                Label::parse_as(&turn, row.calls, Mode::Fixed).map_err(|e| wrong("label", &e))?;
            let ids = tokenizer.encode(&row.inputs).map_err(lm)?;
            Ok(Prompt {
                id: row.id,
                inputs: row.inputs,
                targets: row.targets,
                ids,
                prefill,
                tools,
                label,
                calls: row.calls,
            })
        })
        .collect()
}
