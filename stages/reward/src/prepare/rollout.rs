//! Rows out of a teacher's answers: what is valid, what is a repetition, what becomes of the rest.

use std::collections::BTreeSet;

use starling_text::json::{self, Dumps, Value};
use starling_text::python;
use starling_text::template::{ChatTemplate, Options};

use super::{DropReason, messages, object, role};
use crate::Mode;
use crate::call::{Answer, CallFormat, split_thought};
use crate::score::{Fault, generation_of, read_generation};
use crate::tools::ToolSet;

/// Whether a seed row is to be answered. Rows whose last message is not the assistant's, or that have none,
/// pass through unchanged.
pub fn answers_needed(seed: &Value) -> bool {
    messages(seed).is_ok_and(|all| all.last().and_then(role) == Some("assistant"))
}

/// The teacher's prompt: everything but the last message, thinking on, no thought opened.
///
/// # Errors
/// [`DropReason`].
pub fn rollout_prompt(seed: &Value, template: &ChatTemplate) -> Result<String, DropReason> {
    let (_, before) = messages(seed)?.split_last().ok_or(DropReason::NoMessages)?;
    let options = Options {
        enable_thinking: Some(true),
        ..Options::prompt()
    };
    template
        .render(before, seed.get("tools"), &options)
        .map_err(|_| DropReason::PromptRender)
}

/// Reads one answer of the teacher into the message that takes the place of the seed's last one.
///
/// # Errors
/// The rule that makes the answer's format bad.
pub fn judge_answer(tools: &ToolSet, text: &str, mode: Mode) -> Result<Value, Fault> {
    let opened = if text.contains("<think>") {
        text.to_owned()
    } else {
        format!("<think>{text}")
    };
    let answer =
        read_generation(tools, &opened, CallFormat::Hermes, mode).map_err(|(fault, _)| fault)?;
    let (thought, _) = split_thought(generation_of(&opened)).map_err(Fault::Thoughts)?;
    let full = |text: &str| {
        if text.is_empty() {
            Value::Null
        } else {
            text.into()
        }
    };
    let (content, calls) = match &answer {
        Answer::Calls { calls, .. } => {
            let calls = calls.iter().map(|call| call.to_value()).collect::<Vec<_>>();
            (Value::Null, calls.into())
        }
        Answer::Reply(text) => (full(text), Value::Null),
        Answer::Unclosed => (Value::Null, Value::Null),
    };
    Ok(object([
        ("role", "assistant".into()),
        ("content", content),
        ("tool_calls", calls),
        ("reasoning_content", full(python::strip(thought))),
    ]))
}

/// What became of the answers to one seed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answered {
    /// A row for each distinct valid answer.
    pub rows: Vec<Value>,
    /// How many answers were valid.
    pub valid: usize,
    /// Why the others were not.
    pub faults: Vec<Fault>,
}

/// Turns the answers to one seed into rows. Two answers are the same when content, reasoning and calls, in any
/// order, are. Unless faithful, ids are made unique with `#` and the answer's number.
///
/// # Errors
/// [`DropReason::Tools`] when the seed's tools cannot be read.
pub fn answer_rows(seed: &Value, texts: &[String], mode: Mode) -> Result<Answered, DropReason> {
    let row = seed.as_dict().ok_or(DropReason::NotAnObject)?;
    let (_, before) = messages(seed)?.split_last().ok_or(DropReason::NoMessages)?;
    let tools = row.get("tools").unwrap_or(&Value::Null);
    let tools = ToolSet::unwrapped(tools, mode).map_err(|_| DropReason::Tools)?;
    let mut answered = Answered::default();
    let mut seen = BTreeSet::new();
    for text in texts {
        let message = match judge_answer(&tools, text, mode) {
            Ok(message) => message,
            Err(fault) => {
                answered.faults.push(fault);
                continue;
            }
        };
        answered.valid += 1;
        if !seen.insert(identity(&message)) {
            continue;
        }
        let mut row = row.clone();
        if !mode.is_faithful() {
            let id = row.get("id").map_or_else(Default::default, python::str);
            let id = format!("{id}#{}", answered.rows.len());
            row.insert("id".to_owned(), id.into());
        }
        let all: Vec<Value> = before.iter().cloned().chain([message]).collect();
        row.insert("messages".to_owned(), all.into());
        answered.rows.push(Value::Dict(row));
    }
    Ok(answered)
}

/// What became of a whole rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolledOut<E> {
    /// Seeds that pass through, then the rows of the answered ones, in order.
    pub rows: Vec<Value>,
    /// Seeds that gave at least one row.
    pub succeeded: usize,
    /// Seeds that gave none: no valid answer, or no answer at all.
    pub discarded: usize,
    /// The batch of each call of the engine.
    pub calls: Vec<usize>,
    /// The last error of each batch that was given up.
    pub errors: Vec<E>,
}

/// Has the seeds that need it answered in batches. The engine gets a batch's seeds and returns the texts of
/// each; a batch is tried again only when the engine fails, `tries` times in all, and then given up.
pub fn roll_out<E>(
    seeds: &[Value],
    batch_size: usize,
    tries: usize,
    mode: Mode,
    mut engine: impl FnMut(usize, &[&Value]) -> Result<Vec<Vec<String>>, E>,
) -> RolledOut<E> {
    let (needed, passed): (Vec<_>, Vec<_>) = seeds.iter().partition(|seed| answers_needed(seed));
    let mut rolled = RolledOut {
        succeeded: passed.len(),
        rows: passed.into_iter().cloned().collect(),
        discarded: 0,
        calls: Vec::new(),
        errors: Vec::new(),
    };
    for (batch, seeds) in needed.chunks(batch_size.max(1)).enumerate() {
        let mut texts = Vec::new();
        for attempt in 1..=tries.max(1) {
            rolled.calls.push(batch);
            match engine(batch, seeds) {
                Ok(answers) => {
                    texts = answers;
                    break;
                }
                Err(error) if attempt >= tries => rolled.errors.push(error),
                Err(_) => {}
            }
        }
        texts.resize(seeds.len(), Vec::new());
        for (seed, texts) in seeds.iter().zip(texts) {
            let rows = answer_rows(seed, &texts, mode).map(|answered| answered.rows);
            let rows = rows.unwrap_or_default();
            let count = if rows.is_empty() {
                &mut rolled.discarded
            } else {
                &mut rolled.succeeded
            };
            *count += 1;
            rolled.rows.extend(rows);
        }
    }
    rolled
}

fn identity(message: &Value) -> (String, Vec<String>, String) {
    let sorted = Dumps {
        sort_keys: true,
        ..Dumps::default()
    };
    let dumped = |value: &Value| json::dumps_with(value, &sorted);
    let part = |key| message.get(key).map(dumped).unwrap_or_default();
    let calls = message
        .get("tool_calls")
        .and_then(Value::as_list)
        .unwrap_or_default();
    let mut calls: Vec<String> = calls.iter().map(dumped).collect();
    calls.sort_unstable();
    (part("content"), calls, part("reasoning_content"))
}
