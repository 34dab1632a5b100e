//! Asks a group of entries: single-turn ones once, dialogues step by step, all open ones at once.

use sha2::{Digest as _, Sha256};
use starling_bench::bfcl::{
    self, Bfcl, Dialogue, ErrorKind, Item, Kind, Message, Prompt, Verdict, read,
};
use starling_contract::{StageContext, StageError};
use starling_text::json::{Map, Value};

use super::params::{Format, Params};
use crate::asker::{Asker, Making, Question, Said};
use crate::rows::{object, string};

/// What an empty thought is written as, to switch thinking off.
const NO_THOUGHT: &str = "<think>\n\n</think>\n\n";

/// The records of a group of entries.
pub(super) fn group(
    bfcl: &Bfcl,
    asker: &Asker,
    context: &StageContext<'_>,
    params: &Params,
    making: &Making,
    items: &[&Item],
) -> Result<Vec<Value>, StageError> {
    let mut played: Vec<Played<'_>> = items.iter().map(|item| Played::new(bfcl, item)).collect();
    loop {
        let mut asked = Vec::new();
        let mut questions = Vec::new();
        for (at, entry) in played.iter_mut().enumerate() {
            if let Some(question) = entry.question(params) {
                asked.push(at);
                questions.push(question);
            }
        }
        if questions.is_empty() {
            break;
        }
        let answers = asker.ask(context, making, &questions)?;
        for ((at, question), said) in asked.into_iter().zip(questions).zip(answers) {
            played[at].take(bfcl, question, said);
        }
    }
    Ok(played.into_iter().map(|entry| entry.record(bfcl)).collect())
}

/// An entry while it is asked.
struct Played<'a> {
    item: &'a Item,
    /// The query of a single-turn entry, until it is answered.
    prompt: Option<Prompt>,
    dialogue: Option<Dialogue<'a>>,
    queries: Vec<Value>,
    outputs: Vec<String>,
    first_prompt: Option<String>,
    too_long: bool,
    /// The history cannot be written, or the entry not loaded.
    failed: bool,
    prompt_tokens: usize,
    tokens: usize,
}

impl<'a> Played<'a> {
    fn new(bfcl: &Bfcl, item: &'a Item) -> Self {
        let dialogue = bfcl.dialogue(item);
        let single = item.category.kind() != Kind::MultiTurn;
        Self {
            prompt: single.then(|| bfcl.prompt(item)),
            failed: !single && dialogue.is_none(),
            item,
            dialogue,
            queries: Vec::new(),
            outputs: Vec::new(),
            first_prompt: None,
            too_long: false,
            prompt_tokens: 0,
            tokens: 0,
        }
    }

    /// What is to be asked next; nothing when the entry is over.
    fn question(&mut self, params: &Params) -> Option<Question> {
        if self.too_long || self.failed {
            return None;
        }
        let (prompt, text) = match &mut self.dialogue {
            Some(dialogue) => {
                let text = dialogue.next_query();
                // A history that cannot be written ends the dialogue, which then counts as failed.
                (dialogue.prompt()?.clone(), text?)
            }
            None => {
                let prompt = self.prompt.take()?;
                let text = prompt.text().ok()?;
                (prompt, text)
            }
        };
        let text = match params.thinking {
            Some(false) => format!("{text}{NO_THOUGHT}"),
            _ => text,
        };
        Some(Question {
            key: format!("{}#{}", self.item.id, self.outputs.len()),
            messages: prompt.messages.iter().map(message).collect(),
            tools: prompt.documents.iter().map(tool).collect(),
            text: (params.format == Format::Official).then_some(text),
        })
    }

    fn take(&mut self, bfcl: &Bfcl, question: Question, said: Said) {
        let written = question.text.unwrap_or_else(|| {
            starling_text::json::dumps(&object([
                ("messages", Value::List(question.messages)),
                ("tools", Value::List(question.tools)),
            ]))
        });
        let digest = hex(&Sha256::digest(&written));
        let length = written.chars().count();
        self.first_prompt.get_or_insert(written);
        let turn = self.dialogue.as_ref().map_or(0, Dialogue::turn);
        let mut query = Map::new();
        query.insert("turn".to_owned(), Value::Int(turn as i64));
        query.insert("prompt_sha256".to_owned(), string(digest));
        query.insert("prompt_chars".to_owned(), Value::Int(length as i64));
        match said {
            Said::TooLong(tokens) => {
                self.too_long = true;
                query.insert("prompt_tokens".to_owned(), Value::Int(tokens as i64));
                query.insert("too_long".to_owned(), Value::Bool(true));
            }
            Said::Text {
                text,
                ended,
                prompt_tokens,
                tokens,
            } => {
                self.prompt_tokens += prompt_tokens;
                self.tokens += tokens;
                query.insert("prompt_tokens".to_owned(), Value::Int(prompt_tokens as i64));
                query.insert("tokens".to_owned(), Value::Int(tokens as i64));
                query.insert("ended".to_owned(), Value::Bool(ended));
                query.insert("output".to_owned(), string(text.as_str()));
                query.insert(
                    "calls".to_owned(),
                    calls(bfcl, self.item, read(&text).cleaned),
                );
                if let Some(dialogue) = &mut self.dialogue {
                    dialogue.answer(&text);
                }
                self.outputs.push(text);
            }
        }
        self.queries.push(Value::Dict(query));
    }

    /// The verdict, and what is stored and scored.
    fn judge(&self, bfcl: &Bfcl) -> (Verdict, Value) {
        let strings =
            |texts: &[String]| Value::List(texts.iter().map(|t| string(t.as_str())).collect());
        if let Some(dialogue) = &self.dialogue {
            let texts = Value::List(dialogue.texts().iter().map(|turn| strings(turn)).collect());
            let verdict = match self.too_long {
                true => ErrorKind::InferenceError.into(),
                false => dialogue.verdict(),
            };
            return (verdict, texts);
        }
        match self.outputs.first() {
            Some(output) => {
                let text = read(output).cleaned;
                (bfcl.check(self.item, text), string(text))
            }
            None => (ErrorKind::InferenceError.into(), Value::Null),
        }
    }

    fn record(self, bfcl: &Bfcl) -> Value {
        let (verdict, result) = self.judge(bfcl);
        object([
            ("id", string(self.item.id.as_str())),
            ("category", string(self.item.category.name())),
            ("valid", Value::Bool(verdict.is_valid())),
            (
                "error_type",
                verdict
                    .error
                    .map_or(Value::Null, |error| string(error.name())),
            ),
            (
                "turn",
                verdict
                    .turn
                    .map_or(Value::Null, |turn| Value::Int(turn as i64)),
            ),
            ("too_long", Value::Bool(self.too_long)),
            ("prompt_tokens", Value::Int(self.prompt_tokens as i64)),
            ("generated_tokens", Value::Int(self.tokens as i64)),
            ("prompt", self.first_prompt.map_or(Value::Null, string)),
            ("queries", Value::List(self.queries)),
            ("result", result),
        ])
    }
}

/// The calls that are read from a text, as rows of cases write them; what cannot be read is null.
fn calls(bfcl: &Bfcl, item: &Item, text: &str) -> Value {
    if item.category.kind() == Kind::MultiTurn {
        return match bfcl.decode_executable(text) {
            Ok(calls) => Value::List(calls.into_iter().map(string).collect()),
            Err(_) => Value::Null,
        };
    }
    match bfcl.decode(item, text) {
        Ok(calls) => {
            let call = |call: bfcl::DecodedCall<'_>| {
                let name = call.name.unwrap_or_default().into_owned();
                Value::Dict(
                    [(name, Value::Dict(call.arguments.into_map()))]
                        .into_iter()
                        .collect(),
                )
            };
            Value::List(calls.into_iter().map(call).collect())
        }
        Err(_) => Value::Null,
    }
}

/// A message as chat templates take it.
fn message(message: &Message) -> Value {
    let mut fields = Map::new();
    fields.insert("role".to_owned(), string(message.role.name()));
    fields.insert("content".to_owned(), string(message.content.as_str()));
    if !message.reasoning.is_empty() {
        fields.insert(
            "reasoning_content".to_owned(),
            string(message.reasoning.as_str()),
        );
    }
    if !message.tool_calls.is_empty() {
        let call =
            |call: &Value| object([("type", string("function")), ("function", call.clone())]);
        let calls = message.tool_calls.iter().map(call).collect();
        fields.insert("tool_calls".to_owned(), Value::List(calls));
    }
    Value::Dict(fields)
}

/// A document as chat templates take tools.
fn tool(document: &Value) -> Value {
    object([("type", string("function")), ("function", document.clone())])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
