//! A query as JSON, and a reply read from it.

use serde_json::{Map, Value, json};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Query {
    /// A text to continue as it is (`/completions`); then messages and tools are not sent. Left out, a chat is
    /// asked (`/chat/completions`).
    pub(crate) prompt: Option<String>,
    /// Texts that end an answer; they are no part of it.
    pub(crate) stop: Vec<String>,
    /// Messages, as the interface writes them: `{"role": …, "content": …}`.
    pub(crate) messages: Vec<Value>,
    /// Tools, as the interface writes them: `{"type": "function", "function": …}`; none when empty.
    pub(crate) tools: Vec<Value>,
    /// Sampling temperature.
    pub(crate) temperature: f64,
    /// Most tokens of an answer; the server's own bound when it is `None`.
    pub(crate) max_tokens: Option<usize>,
    /// Answers wanted; 0 counts as 1.
    pub(crate) n: usize,
    /// Log-probabilities of the chosen tokens and of so many likeliest ones; `None` asks for none.
    pub(crate) top_logprobs: Option<usize>,
    /// Seed of the sampling, where the server has one.
    pub(crate) seed: Option<u64>,
    /// Further fields, sent as they are.
    pub(crate) extra: Map<String, Value>,
}

impl Query {
    /// The body of the request.
    pub(crate) fn body(&self, model: &str) -> String {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(model));
        match &self.prompt {
            Some(prompt) => {
                body.insert("prompt".to_owned(), json!(prompt));
            }
            None => {
                body.insert("messages".to_owned(), json!(self.messages));
                if !self.tools.is_empty() {
                    body.insert("tools".to_owned(), json!(self.tools));
                }
            }
        }
        body.insert("temperature".to_owned(), json!(self.temperature));
        if !self.stop.is_empty() {
            body.insert("stop".to_owned(), json!(self.stop));
        }
        if let Some(most) = self.max_tokens {
            body.insert("max_tokens".to_owned(), json!(most));
        }
        if self.n > 1 {
            body.insert("n".to_owned(), json!(self.n));
        }
        match (self.top_logprobs, &self.prompt) {
            // Completions say with one number what chats say with two fields.
            (Some(top), Some(_)) => {
                body.insert("logprobs".to_owned(), json!(top));
            }
            (Some(top), None) => {
                body.insert("logprobs".to_owned(), json!(true));
                body.insert("top_logprobs".to_owned(), json!(top));
            }
            (None, _) => {}
        }
        if let Some(seed) = self.seed {
            body.insert("seed".to_owned(), json!(seed));
        }
        body.extend(self.extra.clone());
        Value::Object(body).to_string()
    }
}

/// A tool call of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolCall {
    /// The function.
    pub(crate) name: String,
    /// The arguments, as the text that the server gave.
    pub(crate) arguments: String,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    /// Its text.
    pub(crate) text: String,
    /// Its log-probability in nats.
    pub(crate) logprob: f64,
    /// Its id, where the server tells it.
    pub(crate) id: Option<u32>,
    /// Its bytes, where the server tells them: a token need not be whole characters.
    pub(crate) bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place.
    pub(crate) top: Vec<Likely>,
}

/// A token that could have stood in the place of another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Likely {
    /// Its text.
    pub(crate) text: String,
    /// Its log-probability in nats.
    pub(crate) logprob: f64,
    /// Its id and bytes, where the server tells them.
    pub(crate) id: Option<u32>,
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, with or without calls.
    Stop,
    /// It reached the longest answer.
    Length,
    /// Anything else, for example a filter.
    Other,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    /// Its text; empty where the server gives calls alone.
    pub(crate) content: String,
    /// What was thought, where the server gives it apart.
    pub(crate) reasoning: String,
    /// Its tool calls, where the server parses them.
    pub(crate) tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub(crate) finish: Finish,
    /// Its tokens, where log-probabilities were asked for.
    pub(crate) tokens: Vec<Token>,
}

impl Choice {
    /// The answer as one text in the form of Hermes: calls that the server parsed are written back as
    /// `<tool_call>` objects behind the content, a thought that it took apart in front.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.reasoning.is_empty() {
            text.push_str(&format!(
                "<think>\n{}\n</think>\n\n",
                self.reasoning.trim_matches('\n')
            ));
        }
        text.push_str(&self.content);
        for call in &self.tool_calls {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            // Arguments that are no JSON stay a text, and fail where they are read.
            let name = Value::from(call.name.as_str());
            let arguments = match serde_json::from_str::<serde::de::IgnoredAny>(&call.arguments) {
                Ok(_) => call.arguments.trim().to_owned(),
                Err(_) => Value::from(call.arguments.as_str()).to_string(),
            };
            text.push_str(&format!(
                "<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>"
            ));
        }
        text
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    /// The answers, in the server's order.
    pub(crate) choices: Vec<Choice>,
    /// Tokens of the prompt, as the server counts them; 0 when it does not tell.
    pub(crate) prompt_tokens: u64,
    /// Tokens of all answers, likewise.
    pub(crate) completion_tokens: u64,
}

impl Reply {
    /// Reads the body of a reply to `query`.
    ///
    /// # Errors
    /// What is wrong with it, in words: no JSON, no choices, fewer answers than asked for, no log-probabilities
    /// though asked for.
    pub(crate) fn read(text: &str, query: &Query) -> Result<Self, String> {
        let body: Value =
            serde_json::from_str(text).map_err(|e| format!("the reply is not JSON: {e}"))?;
        let choices = body.get("choices").and_then(Value::as_array);
        let choices = choices.ok_or("the reply has no `choices`: it is no chat completion")?;
        let wanted = query.n.max(1);
        if choices.len() < wanted {
            return Err(format!(
                "{wanted} answers were asked for and {} came: the server ignores `n`",
                choices.len()
            ));
        }
        let choices = choices
            .iter()
            .map(|choice| read_choice(choice, query))
            .collect::<Result<Vec<_>, _>>()?;
        let usage = |name: &str| {
            body.get("usage")
                .and_then(|usage| usage.get(name)?.as_u64())
                .unwrap_or(0)
        };
        Ok(Self {
            choices,
            prompt_tokens: usage("prompt_tokens"),
            completion_tokens: usage("completion_tokens"),
        })
    }

    /// The first answer.
    pub(crate) fn first(&self) -> Option<&Choice> {
        self.choices.first()
    }
}

fn read_choice(choice: &Value, query: &Query) -> Result<Choice, String> {
    if query.prompt.is_some() {
        let content = choice.get("text").and_then(Value::as_str);
        return Ok(Choice {
            content: content.ok_or("an answer has no `text`")?.to_owned(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            finish: read_finish(choice),
            tokens: read_tokens(choice, query)?,
        });
    }
    let message = choice.get("message").ok_or("an answer has no `message`")?;
    let text = |name: &str| {
        message
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let tool_calls = calls
        .into_iter()
        .flatten()
        .map(|call| {
            let function = call.get("function").unwrap_or(call);
            let name = function.get("name").and_then(Value::as_str);
            let arguments = match function.get("arguments") {
                Some(Value::String(text)) => text.clone(),
                // Some servers give the object itself.
                Some(value) => value.to_string(),
                None => "{}".to_owned(),
            };
            let name = name.ok_or("a tool call has no name")?.to_owned();
            Ok(ToolCall { name, arguments })
        })
        .collect::<Result<Vec<_>, String>>()?;
    let reasoning = match text("reasoning_content") {
        empty if empty.is_empty() => text("reasoning"),
        reasoning => reasoning,
    };
    Ok(Choice {
        content: text("content"),
        reasoning,
        tool_calls,
        finish: read_finish(choice),
        tokens: read_tokens(choice, query)?,
    })
}

fn read_finish(choice: &Value) -> Finish {
    match choice.get("finish_reason").and_then(Value::as_str) {
        Some("stop" | "tool_calls" | "function_call") => Finish::Stop,
        Some("length") => Finish::Length,
        _ => Finish::Other,
    }
}

fn read_tokens(choice: &Value, query: &Query) -> Result<Vec<Token>, String> {
    if query.top_logprobs.is_none() {
        return Ok(Vec::new());
    }
    let logprobs = choice.get("logprobs").filter(|value| !value.is_null());
    let logprobs = logprobs
        .ok_or("log-probabilities were asked for and none came: the server ignores `logprobs`")?;
    read_logprobs(logprobs)
}

/// A token as chats describe it, without what could have stood in its place.
fn read_likely(token: &Value) -> Result<Likely, String> {
    let bytes = token.get("bytes").and_then(Value::as_array);
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    let text = token.get("token").and_then(Value::as_str);
    Ok(Likely {
        text: text.unwrap_or_default().to_owned(),
        logprob: number(token.get("logprob"))?,
        id: token
            .get("id")
            .and_then(Value::as_u64)
            .and_then(|id| id.try_into().ok()),
        bytes: bytes.and_then(|bytes| bytes.iter().map(byte).collect()),
    })
}

fn number(value: Option<&Value>) -> Result<f64, String> {
    value
        .and_then(Value::as_f64)
        .ok_or_else(|| "a token has no log-probability".to_owned())
}

/// Log-probabilities in the shape of chats (`content`: a list of tokens) or of completions (parallel lists).
fn read_logprobs(logprobs: &Value) -> Result<Vec<Token>, String> {
    if let Some(content) = logprobs.get("content").and_then(Value::as_array) {
        let token = |token: &Value| {
            let own = read_likely(token)?;
            let top = token.get("top_logprobs").and_then(Value::as_array);
            Ok(Token {
                text: own.text,
                logprob: own.logprob,
                id: own.id,
                bytes: own.bytes,
                top: top
                    .into_iter()
                    .flatten()
                    .map(read_likely)
                    .collect::<Result<_, String>>()?,
            })
        };
        return content.iter().map(token).collect();
    }
    let list = |name: &str| logprobs.get(name).and_then(Value::as_array);
    let (Some(texts), Some(values)) = (list("tokens"), list("token_logprobs")) else {
        return Err("log-probabilities came in a shape that is not known".to_owned());
    };
    if texts.len() != values.len() {
        return Err("log-probabilities and tokens are not equally many".to_owned());
    }
    let tops = list("top_logprobs");
    let token = |(at, (text, value)): (usize, (&Value, &Value))| {
        let top = tops.and_then(|tops| tops.get(at)?.as_object());
        let top = top.into_iter().flatten();
        Ok(Token {
            text: text.as_str().unwrap_or_default().to_owned(),
            logprob: number(Some(value))?,
            id: None,
            bytes: None,
            top: top
                .map(|(text, value)| {
                    Ok(Likely {
                        text: text.clone(),
                        logprob: number(Some(value))?,
                        id: None,
                        bytes: None,
                    })
                })
                .collect::<Result<_, String>>()?,
        })
    };
    texts.iter().zip(values).enumerate().map(token).collect()
}
