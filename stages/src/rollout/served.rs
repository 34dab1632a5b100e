//! Answers of a server: what is asked, and what its replies become.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use serde_json::{Value, json};
use starling_contract::{Chunks, StageContext, StageError};
use starling_lm::generate::key_of;
use starling_lm::tokenizer::Tokenizer;
use starling_text::json as text_json;

use super::align::{Aligned, Names};
use super::{Api, Params, Report, Sampled, keep, write_chunk};
use crate::chat::{self, lm};
use crate::endpoint::probe::Needs;
use crate::endpoint::wire::{Choice, Finish};
use crate::endpoint::{Endpoint, EndpointError, Query, Reply, Settings};
use crate::prompts::Prompt;
use crate::rollouts::TopK;
use crate::rows;

/// Each prompt is a chunk, kept as soon as its answers are there: what was paid for once is not asked again.
pub(super) const CHUNKS: Chunks = Chunks {
    port: "prompts",
    rows: 1,
    unit: "prompts",
    neutral: &["prompts"],
};

/// The settings of the connection, where the parameters name one.
pub(super) fn settings(p: &Params) -> Option<Settings> {
    let (url, model) = (p.endpoint.as_ref()?, p.endpoint_model.as_ref()?);
    Some(Settings {
        base_url: url.clone(),
        model: model.clone(),
        key_variable: p.key_variable.clone(),
        timeout_seconds: p.timeout_seconds,
        retries: p.retries,
        concurrency: p.concurrency,
    })
}

/// Asks a server for the answers to prompts.
pub(super) struct Served<'a> {
    p: &'a Params,
    endpoint: Endpoint,
    tokenizer: &'a Tokenizer,
    names: Names,
    end: u32,
    /// By the id of a row, what its chat is.
    chats: BTreeMap<String, (Vec<Value>, Vec<Value>)>,
    /// Answers that one query asks for.
    at_once: usize,
}

impl<'a> Served<'a> {
    /// Connects, and finds out what the server really does.
    pub(super) fn open(
        p: &'a Params,
        settings: Settings,
        tokenizer: &'a Tokenizer,
        context: &StageContext<'_>,
    ) -> Result<Self, StageError> {
        let end = tokenizer.token_to_id(chat::END).ok_or_else(|| {
            StageError::input("tokenizer", format!("has no token `{}`", chat::END))
        })?;
        let chats = match (p.api, context.optional("conversations")) {
            (Api::Chat, Some(path)) => conversations(path)?,
            (Api::Chat, None) => {
                return Err(StageError::failed_try(
                    "a chat is asked with messages and tools, and training rows hold neither",
                    "give `inputs.conversations`, the rows that the prompts were made of, or set `api = \"completions\"`",
                ));
            }
            (Api::Completions, _) => BTreeMap::new(),
        };
        let endpoint = Endpoint::new(settings)?;
        let stop = || context.interrupted();
        let needs = Needs {
            tools: p.api == Api::Chat,
            top_logprobs: (p.top_k > 0).then_some(p.top_k),
            several: false,
            text: p.api == Api::Completions,
        };
        endpoint.check(needs, &stop)?;
        let several = Needs {
            several: true,
            tools: false,
            ..needs
        };
        let mut at_once = p.samples;
        if p.samples > 1 && endpoint.check(several, &stop).is_err() {
            context.info("the server ignores `n`: every answer is asked for by itself");
            at_once = 1;
        }
        Ok(Self {
            p,
            endpoint,
            tokenizer,
            names: Names::new(tokenizer),
            end,
            chats,
            at_once,
        })
    }

    /// Answers all prompts; a folder each.
    pub(super) fn answer(
        &self,
        context: &StageContext<'_>,
        all: &[Prompt],
    ) -> Result<Vec<std::path::PathBuf>, StageError> {
        let stop = || context.interrupted();
        context.map_chunks_unordered(&CHUNKS, all, Prompt::bytes, |missing, keep| {
            let each = self.p.samples.div_ceil(self.at_once);
            let mut queries = Vec::with_capacity(missing.len() * each);
            for prompt in missing.iter().flat_map(|rows| rows.iter()) {
                for number in 0..each {
                    queries.push(self.query(prompt, number)?);
                }
            }
            let mut replies: Vec<Vec<Option<Reply>>> = vec![vec![None; each]; missing.len()];
            let mut failures = Failures::new(2 * self.p.concurrency.max(4));
            self.endpoint.ask_each(&queries, &stop, |at, reply| {
                let (prompt, number) = (at / each, at % each);
                match reply {
                    Ok(reply) => {
                        failures.in_a_row = 0;
                        replies[prompt][number] = Some(reply);
                    }
                    Err(error) if error.is_too_long() => {
                        let none = Reply {
                            choices: Vec::new(),
                            prompt_tokens: 0,
                            completion_tokens: 0,
                        };
                        replies[prompt][number] = Some(none);
                    }
                    Err(error) => return failures.note(error),
                }
                if replies[prompt].iter().any(Option::is_none) {
                    return Ok(());
                }
                let whole: Vec<Reply> = replies[prompt].drain(..).flatten().collect();
                keep(prompt, &|folder| {
                    self.write(&missing[prompt][0], &whole, folder)
                })
            })?;
            failures.end(missing.len())
        })
    }

    fn query(&self, prompt: &Prompt, number: usize) -> Result<Query, StageError> {
        let p = self.p;
        // Servers take 31 bits; each answer that is asked for by itself needs a seed of its own.
        let seed = key_of(&format!("{} {} {number}", p.seed, prompt.id)) >> 33;
        let mut query = Query {
            temperature: f64::from(p.temperature),
            max_tokens: Some(p.max_new_tokens),
            n: self.at_once,
            top_logprobs: (p.top_k > 0 || p.logprobs).then_some(p.top_k),
            seed: Some(seed),
            ..Query::default()
        };
        match p.api {
            Api::Completions => {
                query.prompt = Some(prompt.inputs.clone());
                query.stop = vec![chat::END.to_owned()];
            }
            Api::Chat => {
                let (messages, tools) = self.chats.get(&prompt.id).ok_or_else(|| {
                    let message = format!("has no row `{}`, which the prompts have", prompt.id);
                    StageError::input("conversations", message)
                })?;
                query.messages.clone_from(messages);
                query.tools.clone_from(tools);
            }
        }
        Ok(query)
    }

    /// Writes what a prompt's replies came to.
    fn write(&self, prompt: &Prompt, replies: &[Reply], folder: &Path) -> Result<(), StageError> {
        let mut report = Report::default();
        let choices = replies.iter().flat_map(|r| &r.choices).take(self.p.samples);
        let samples = choices
            .map(|choice| self.sampled(prompt, choice))
            .collect::<Result<Vec<_>, _>>()?;
        if samples.is_empty() {
            report.too_long += 1;
        }
        let answers = keep(self.p, prompt, samples, &mut report);
        let (k, vocabulary) = (self.p.top_k, self.tokenizer.vocab_size());
        let answers = vec![(prompt.ids.as_slice(), answers)];
        write_chunk(folder, k, vocabulary, answers, &report)
    }

    fn sampled(&self, prompt: &Prompt, choice: &Choice) -> Result<Sampled, StageError> {
        let (text, raw) = self.text(prompt, choice);
        let k = self.p.top_k;
        let mut tokens = choice.tokens.as_slice();
        // Some servers list the end token, most do not.
        let end = tokens.last().filter(|t| self.names.ends(t, self.end));
        if end.is_some() {
            tokens = &tokens[..tokens.len() - 1];
        }
        let aligned = match raw && !tokens.is_empty() {
            true => self.names.align(self.tokenizer, tokens, &text, k),
            false => None,
        };
        let known = aligned.is_some();
        let Aligned {
            mut ids,
            mut logprobs,
            mut top,
        } = match aligned {
            Some(aligned) => aligned,
            None => {
                let ids = self.tokenizer.encode(&text).map_err(lm)?;
                Aligned {
                    logprobs: vec![f32::NAN; ids.len()],
                    ids,
                    top: TopK::default(),
                }
            }
        };
        let finished = choice.finish == Finish::Stop;
        let mut targets = text.clone();
        if finished {
            ids.push(self.end);
            targets.push_str(chat::END);
            logprobs.push(end.filter(|_| known).map_or(f32::NAN, |t| t.logprob as f32));
            if known {
                let likely = end.map_or(&[][..], |t| &t.top);
                self.names.end(self.end, likely, k, &mut top);
            }
        }
        Ok(Sampled {
            tokens: ids,
            logprobs,
            top,
            // Without the teacher's tokens an answer cannot join a set that lists them.
            unaligned: k > 0 && !known,
            text,
            targets,
            finished,
        })
    }

    /// The answer as the text that continues the prompt, and whether it is the server's own, letter by letter.
    fn text(&self, prompt: &Prompt, choice: &Choice) -> (String, bool) {
        if choice.reasoning.is_empty() && choice.tool_calls.is_empty() {
            let own = &choice.content;
            let own = own.strip_suffix(chat::END).unwrap_or(own);
            // A chat may repeat what the prompt has written already.
            let repeats = !prompt.prefill().is_empty() && own.starts_with(prompt.prefill());
            if !repeats && prompt.score(own).format_reward > 0.0 {
                return (own.to_owned(), true);
            }
            if self.p.api == Api::Completions {
                return (own.to_owned(), true);
            }
        }
        let whole = choice.text();
        (prompt.continued(&whole).unwrap_or(whole), false)
    }
}

/// What went wrong, so that the rest is asked before it is told.
struct Failures {
    count: usize,
    in_a_row: usize,
    most_in_a_row: usize,
    last: Option<EndpointError>,
}

impl Failures {
    fn new(most_in_a_row: usize) -> Self {
        Self {
            count: 0,
            in_a_row: 0,
            most_in_a_row,
            last: None,
        }
    }

    /// Takes a failure in; an error when there is no use in asking on.
    fn note(&mut self, error: EndpointError) -> Result<(), StageError> {
        self.count += 1;
        self.in_a_row += 1;
        let hopeless = matches!(error, EndpointError::Refused { .. });
        if hopeless || self.in_a_row >= self.most_in_a_row {
            return Err(failure(error));
        }
        self.last = Some(error);
        Ok(())
    }

    fn end(self, prompts: usize) -> Result<(), StageError> {
        match self.last {
            None => Ok(()),
            Some(error) => Err(StageError::transient(format!(
                "{} queries for {prompts} prompts have no reply, all others are kept; the last time: {error}",
                self.count
            ))),
        }
    }
}

/// A server that gave no reply may give one later.
fn failure(error: EndpointError) -> StageError {
    match error {
        EndpointError::GaveUp { .. } => StageError::transient(error.to_string()),
        other => other.into(),
    }
}

/// Messages and tools.
type Conversation = (Vec<Value>, Vec<Value>);

/// Conversation rows, as the interface writes them, by the rows' ids.
fn conversations(path: &Path) -> Result<BTreeMap<String, Conversation>, StageError> {
    let mut chats = BTreeMap::new();
    for row in rows::read_all(path)? {
        let id = rows::id_of(&row).clone();
        let row: Value = serde_json::from_str(&text_json::dumps(&row)).map_err(lm)?;
        let list = |name: &str| row.get(name).and_then(Value::as_array).cloned();
        let mut messages = list("messages").unwrap_or_default();
        // The last message is the row's own answer.
        drop(messages.pop());
        let mut calls = Calls::default();
        let messages = messages.iter().map(|m| message(m, &mut calls)).collect();
        let tools = list("tools").unwrap_or_default();
        let tools: Option<Vec<Value>> = tools.iter().map(tool).collect();
        let tools = tools.ok_or_else(|| {
            StageError::failed_try(
                format!(
                    "{}: row `{id}` has a tool that is no JSON object",
                    path.display()
                ),
                "bring the rows into the unified form with the kind `format`",
            )
        })?;
        chats.insert(id, (messages, tools));
    }
    Ok(chats)
}

/// Calls of a conversation that have no result yet.
#[derive(Default)]
struct Calls {
    made: usize,
    open: VecDeque<String>,
}

/// A message with calls wrapped, numbered, and their arguments as text; results refer to calls in their order.
fn message(message: &Value, calls: &mut Calls) -> Value {
    let role = message.get("role").and_then(Value::as_str);
    let role = role.unwrap_or("user");
    let content = message.get("content").cloned().unwrap_or(Value::Null);
    let mut out = json!({"role": role, "content": content});
    let made = message.get("tool_calls").and_then(Value::as_array);
    if let Some(made) = made.filter(|made| !made.is_empty()) {
        let wrapped = made.iter().map(|call| {
            let function = call.get("function").unwrap_or(call);
            let arguments = match function.get("arguments") {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => "{}".to_owned(),
            };
            let id = format!("call_{}", calls.made);
            calls.made += 1;
            calls.open.push_back(id.clone());
            json!({"id": id, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
        });
        out["tool_calls"] = wrapped.collect();
    }
    if role == "tool" {
        out["tool_call_id"] = calls.open.pop_front().unwrap_or_default().into();
        if !content.is_string() {
            out["content"] = content.to_string().into();
        }
    }
    out
}

/// A tool with its parameters as a schema; none where it is no object.
fn tool(tool: &Value) -> Option<Value> {
    let mut function = tool.get("function").unwrap_or(tool).as_object()?.clone();
    let parameters = function
        .get("parameters")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let is_schema = parameters.get("properties").is_some_and(Value::is_object)
        && parameters.get("type").is_some_and(|t| !t.is_null());
    if !is_schema {
        let schema = json!({"type": "object", "properties": parameters});
        function.insert("parameters".to_owned(), schema);
    }
    Some(json!({"type": "function", "function": function}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_no_object_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        let messages =
            r#"[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]"#;
        let row = |tool: &str| {
            format!("{{\"id\": \"r1\", \"messages\": {messages}, \"tools\": [{tool}]}}\n")
        };
        for wrong in [r#""a text""#, "7", "null", r#"{"function": []}"#] {
            std::fs::write(&path, row(wrong)).expect("written");
            let error = conversations(&path).expect_err(wrong).to_string();
            assert!(error.contains("row `r1` has a tool"), "{error}");
        }
        let bare = r#"{"name": "f", "parameters": {"a": {"type": "string"}}}"#;
        std::fs::write(&path, row(bare)).expect("written");
        let chats = conversations(&path).expect("rows");
        let schema = &chats["r1"].1[0]["function"]["parameters"];
        assert_eq!(schema["properties"]["a"]["type"], "string");
    }
}
