//! Asks a group of entries: Normal and Special ones once, agents message by message, all open ones at once.

use serde_json::json;
use starling_bench::acebench::{
    Acebench, AgentScore, Category, Dataset, Item, Lang, MultiStep, MultiTurn, Role, Turn, Verdict,
    strip_thinking, text_from_tool_calls,
};
use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use super::params::{Mode, Params};
use crate::asker::{Asker, Making, Question, Said};
use crate::chat::lm;
use crate::endpoint::{Endpoint, Query};
use crate::rows::{object, string};

/// What all entries are asked with.
pub(super) struct World<'a> {
    pub(super) bench: &'a Acebench,
    pub(super) asker: &'a Asker,
    pub(super) user: Option<&'a Endpoint>,
    pub(super) params: &'a Params,
    pub(super) making: &'a Making,
}

/// The records of a group of entries.
pub(super) fn group(
    world: &World<'_>,
    context: &StageContext<'_>,
    items: &[(Lang, &Item)],
) -> Result<Vec<Value>, StageError> {
    let mut played = Vec::with_capacity(items.len());
    for (lang, item) in items {
        let data = world
            .bench
            .dataset(*lang, world.params.profile())
            .map_err(lm)?;
        played.push(Played::new(data, item)?);
    }
    loop {
        users(world, context, &mut played)?;
        let mut asked = Vec::new();
        let mut questions = Vec::new();
        for (at, entry) in played.iter_mut().enumerate() {
            if let Some(question) = entry.question(world.params.mode) {
                asked.push(at);
                questions.push(question);
            }
        }
        if questions.is_empty() {
            break;
        }
        let answers = world.asker.ask(context, world.making, &questions)?;
        for ((at, question), said) in asked.into_iter().zip(questions).zip(answers) {
            played[at].take(world.params, &question, said);
        }
    }
    Ok(played
        .into_iter()
        .map(|entry| entry.record(world.params))
        .collect())
}

/// Lets the user's model speak wherever it is its turn.
fn users(
    world: &World<'_>,
    context: &StageContext<'_>,
    played: &mut [Played<'_>],
) -> Result<(), StageError> {
    loop {
        let mut asked = Vec::new();
        let mut queries = Vec::new();
        for (at, entry) in played.iter().enumerate() {
            let Stage::Turn(turn) = &entry.stage else {
                continue;
            };
            if entry.too_long {
                continue;
            }
            if let Some(Turn::User(messages)) = turn.next() {
                let message = |message: &starling_bench::acebench::ChatMessage| {
                    let role = match message.role {
                        Role::System => "system",
                        Role::User => "user",
                    };
                    json!({"role": role, "content": message.content})
                };
                asked.push(at);
                queries.push(Query {
                    messages: messages.iter().map(message).collect(),
                    max_tokens: Some(world.making.max_new_tokens),
                    seed: Some(world.making.seed),
                    ..Query::default()
                });
            }
        }
        if queries.is_empty() {
            return Ok(());
        }
        let user = world
            .user
            .ok_or_else(|| StageError::failed("`agent_multi_turn` needs the parameter `user`"))?;
        let replies = user.ask_all(&queries, &|| context.interrupted())?;
        for (at, reply) in asked.into_iter().zip(replies) {
            let said = reply
                .first()
                .map(|choice| choice.content.clone())
                .unwrap_or_default();
            played[at].user_says(&said);
        }
    }
}

/// An entry while it is asked.
struct Played<'d> {
    data: &'d Dataset,
    item: &'d Item,
    stage: Stage<'d>,
    queries: Vec<Value>,
    outputs: Vec<String>,
    too_long: bool,
    prompt_tokens: usize,
    tokens: usize,
}

enum Stage<'d> {
    /// One query; whether it was asked.
    Single(bool),
    Step(MultiStep<'d>),
    Turn(MultiTurn<'d>),
}

impl<'d> Played<'d> {
    fn new(data: &'d Dataset, item: &'d Item) -> Result<Self, StageError> {
        Ok(Self {
            stage: match item.category {
                Category::AgentMultiStep => Stage::Step(MultiStep::new(data, item).map_err(lm)?),
                Category::AgentMultiTurn => Stage::Turn(MultiTurn::new(data, item).map_err(lm)?),
                _ => Stage::Single(false),
            },
            data,
            item,
            queries: Vec::new(),
            outputs: Vec::new(),
            too_long: false,
            prompt_tokens: 0,
            tokens: 0,
        })
    }

    /// What the model is to be asked next; nothing when the entry is over.
    fn question(&mut self, mode: Mode) -> Option<Question> {
        if self.too_long {
            return None;
        }
        let (system, user, tools) = match &mut self.stage {
            Stage::Single(true) => return None,
            Stage::Single(asked) => {
                *asked = true;
                match mode {
                    Mode::Text => {
                        let prompt = self.data.prompt(self.item);
                        (prompt.system, prompt.user, Vec::new())
                    }
                    Mode::Tool => {
                        let prompt = self.data.tool_prompt(self.item);
                        (prompt.system, prompt.user, prompt.tools)
                    }
                }
            }
            Stage::Step(step) => {
                let prompt = step.prompt()?;
                (prompt.system, prompt.user, Vec::new())
            }
            Stage::Turn(turn) => match turn.next()? {
                Turn::Agent(prompt) => (prompt.system, prompt.user, Vec::new()),
                Turn::User(_) => return None,
            },
        };
        let message = |role: &str, content: String| {
            object([("role", string(role)), ("content", string(content))])
        };
        let mut messages = Vec::new();
        if !system.is_empty() {
            messages.push(message("system", system));
        }
        messages.push(message("user", user));
        Some(Question {
            key: format!("{}/{}#{}", self.item.lang, self.item.id, self.outputs.len()),
            messages,
            tools,
            text: None,
        })
    }

    /// The text that is scored, or that goes to the environment.
    fn scored(params: &Params, text: &str) -> String {
        let text = if params.strip_thinking {
            strip_thinking(text)
        } else {
            text
        };
        let rewritten = match params.mode {
            Mode::Tool => text_from_tool_calls(text),
            Mode::Text => None,
        };
        rewritten.unwrap_or_else(|| text.to_owned())
    }

    fn take(&mut self, params: &Params, question: &Question, said: Said) {
        let mut query = vec![("messages", Value::List(question.messages.clone()))];
        if !question.tools.is_empty() {
            query.push(("tools", Value::List(question.tools.clone())));
        }
        match said {
            Said::TooLong(tokens) => {
                self.too_long = true;
                query.push(("prompt_tokens", Value::Int(tokens as i64)));
                query.push(("too_long", Value::Bool(true)));
            }
            Said::Text {
                text,
                ended,
                prompt_tokens,
                tokens,
            } => {
                self.prompt_tokens += prompt_tokens;
                self.tokens += tokens;
                let scored = Self::scored(params, &text);
                query.push(("prompt_tokens", Value::Int(prompt_tokens as i64)));
                query.push(("tokens", Value::Int(tokens as i64)));
                query.push(("ended", Value::Bool(ended)));
                query.push(("output", string(text.as_str())));
                let answer = match &mut self.stage {
                    Stage::Single(_) => None,
                    Stage::Step(step) => step.respond(&scored),
                    Stage::Turn(turn) => turn.respond(&scored),
                };
                if let Some(answer) = answer {
                    query.push(("environment", answer));
                }
                self.outputs.push(scored);
            }
        }
        let query = query
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        self.queries.push(Value::Dict(query.collect()));
    }

    fn user_says(&mut self, text: &str) {
        if let Stage::Turn(turn) = &mut self.stage {
            turn.respond(text);
            self.queries.push(object([("user", string(text))]));
        }
    }

    fn record(self, params: &Params) -> Value {
        let (valid, error, process): (bool, &str, Option<f64>) = match &self.stage {
            _ if self.too_long => (false, "prompt_too_long", Some(0.0)),
            Stage::Single(_) => {
                let output = self.outputs.first().map_or("", String::as_str);
                let verdict: Verdict = self.data.check(self.item, output);
                (verdict.valid(), verdict.error_name(), None)
            }
            Stage::Step(step) => agent(step.score()),
            Stage::Turn(turn) => agent(turn.score()),
        };
        let decoded = match (&self.stage, self.outputs.first()) {
            (Stage::Single(_), Some(output)) => decoded(self.data, self.item, output),
            _ => Value::Null,
        };
        let output = match (&self.stage, self.outputs.first()) {
            (Stage::Single(_), Some(output)) => string(output.as_str()),
            _ => Value::List(
                self.outputs
                    .iter()
                    .map(|text| string(text.as_str()))
                    .collect(),
            ),
        };
        object([
            ("id", string(self.item.id.as_str())),
            ("lang", string(self.item.lang.name())),
            ("category", string(self.item.category.name())),
            ("evaluator", string(params.profile().name())),
            ("valid", Value::Bool(valid)),
            ("error_type", string(error)),
            ("process", process.map_or(Value::Null, Value::Float)),
            ("too_long", Value::Bool(self.too_long)),
            ("prompt_tokens", Value::Int(self.prompt_tokens as i64)),
            ("generated_tokens", Value::Int(self.tokens as i64)),
            ("queries", Value::List(self.queries)),
            ("calls", decoded),
            ("output", output),
        ])
    }
}

fn agent(score: AgentScore) -> (bool, &'static str, Option<f64>) {
    let error = if score.end { "" } else { "wrong_end_state" };
    (score.end, error, Some(score.process))
}

/// The calls that the evaluator reads, arguments as Python prints them; null when it reads none.
fn decoded(data: &Dataset, item: &Item, output: &str) -> Value {
    let Some(calls) = data.decoded(item, output) else {
        return Value::Null;
    };
    let call = |(name, arguments): (String, Vec<(String, String)>)| {
        let arguments = arguments
            .into_iter()
            .map(|(name, value)| (name, string(value)));
        Value::Dict(
            [(name, Value::Dict(arguments.collect()))]
                .into_iter()
                .collect(),
        )
    };
    Value::List(calls.into_iter().map(call).collect())
}
