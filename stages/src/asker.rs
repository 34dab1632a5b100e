//! Asks a model for texts, wherever it runs: the engine of this process, or a server.
//!
//! A kind says what is asked as messages and tools, and for the engine how that becomes one text; prompts that are
//! too long are not asked and counted by the caller. Greedy answers of the engine depend on weights and prompt
//! alone, sampled ones on seed and the question's key too.

use std::ops::ControlFlow;

use starling_contract::{StageContext, StageError};
use starling_lm::generate::{Request, Sampling, StopReason, key_of};
use starling_lm::place::Generator;
use starling_lm::tokenizer::Tokenizer;
use starling_text::json::{self, Value};
use starling_text::template::{ChatTemplate, Options};

use crate::chat::{self, lm};
use crate::device;
use crate::endpoint::wire::Finish;
use crate::endpoint::{Endpoint, Query, Settings};
use crate::model::Model;

/// How texts are made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Making {
    /// Temperature; 0 takes the likeliest token.
    pub(crate) temperature: f32,
    /// Most tokens of an answer.
    pub(crate) max_new_tokens: usize,
    /// Longest prompt that is asked, in tokens; the engine alone can count them.
    pub(crate) max_prompt_tokens: usize,
    /// Seed of the sampling.
    pub(crate) seed: u64,
    /// Whether the model may think, where its template knows of it.
    pub(crate) thinking: Option<bool>,
}

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// A name of its own, which random numbers depend on.
    pub(crate) key: String,
    /// Messages as objects of `role` and `content`, and `tool_calls` where there are some.
    pub(crate) messages: Vec<Value>,
    /// Tools, as `{"type": "function", "function": …}`; none when empty.
    pub(crate) tools: Vec<Value>,
    /// The prompt as one text, where the benchmark writes it itself; else the model's chat template does.
    pub(crate) text: Option<String>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// The prompt is longer than may be asked; its tokens, or 0 where a server refused it.
    TooLong(usize),
    /// An answer.
    Text {
        /// The text, without its end token.
        text: String,
        /// Whether the model ended it itself.
        ended: bool,
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens of the answer.
        tokens: usize,
    },
}

/// A model that can be asked.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub(crate) enum Asker {
    /// This process computes.
    Engine(Engine),
    /// A server computes.
    Server(Endpoint),
}

/// The engine with what turns questions into tokens.
pub(crate) struct Engine {
    pub(crate) model: Model,
    generator: Generator,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
}

impl Asker {
    /// Loads the checkpoint behind the optional port `model`, or connects to the server: exactly one must be given.
    pub(crate) fn open(
        context: &StageContext<'_>,
        endpoint: Option<&Settings>,
    ) -> Result<Self, StageError> {
        match (context.optional("model"), endpoint) {
            (Some(folder), None) => {
                let place = device::place(context)?;
                let model = Model::load(folder)?;
                let has_template = folder.join("chat_template.jinja").exists();
                Ok(Self::Engine(Engine {
                    generator: Generator::new(&place, model.config(), &model.checkpoint.weights)
                        .map_err(lm)?,
                    tokenizer: model.tokenizer()?,
                    template: has_template.then(|| chat::template(folder)).transpose()?,
                    model,
                }))
            }
            (None, Some(settings)) => Ok(Self::Server(Endpoint::new(settings.clone())?)),
            _ => Err(StageError::failed_try(
                "exactly one of the input `model` and the parameter `endpoint` is needed",
                "give `inputs.model` for a checkpoint, `endpoint = { base-url = …, model = … }` for a server",
            )),
        }
    }

    /// Asks all questions; answers are in their order.
    pub(crate) fn ask(
        &self,
        context: &StageContext<'_>,
        making: &Making,
        questions: &[Question],
    ) -> Result<Vec<Said>, StageError> {
        match self {
            Self::Engine(engine) => engine.ask(context.threads(), making, questions),
            Self::Server(endpoint) => ask_server(endpoint, context, making, questions),
        }
    }
}

impl Engine {
    /// The prompt of a question as one text.
    fn prompt(&self, making: &Making, question: &Question) -> Result<String, StageError> {
        if let Some(text) = &question.text {
            return Ok(text.clone());
        }
        let template = self.template.as_ref().ok_or_else(|| {
            StageError::failed_try(
                "the model has no chat template",
                "give one to `model-init` with `chat-template`",
            )
        })?;
        let tools = Value::List(question.tools.clone());
        let tools = (!question.tools.is_empty()).then_some(&tools);
        let options = Options {
            enable_thinking: making.thinking,
            ..Options::prompt()
        };
        template
            .render(&question.messages, tools, &options)
            .map_err(lm)
    }

    fn ask(
        &self,
        threads: usize,
        making: &Making,
        questions: &[Question],
    ) -> Result<Vec<Said>, StageError> {
        let sampling = Sampling {
            temperature: making.temperature,
            max_new_tokens: making.max_new_tokens,
            stop_tokens: self.model.ends(),
            seed: making.seed,
            ..Sampling::default()
        };
        let longest = making.max_prompt_tokens;
        let longest = longest.min(
            self.model
                .config()
                .max_position_embeddings
                .saturating_sub(2),
        );
        let mut said = Vec::with_capacity(questions.len());
        let mut requests = Vec::new();
        for question in questions {
            let ids = self
                .tokenizer
                .encode(&self.prompt(making, question)?)
                .map_err(lm)?;
            said.push(Said::TooLong(ids.len()));
            if ids.len() <= longest {
                requests.push((said.len() - 1, Request::new(key_of(&question.key), ids)));
            }
        }
        let asked: Vec<Request> = requests
            .iter()
            .map(|(_, request)| request.clone())
            .collect();
        let samples = self
            .generator
            .generate(&asked, &sampling, threads, &|_| ControlFlow::Continue(()))
            .map_err(lm)?;
        for ((at, request), samples) in requests.into_iter().zip(samples) {
            let Some(sample) = samples.into_iter().next() else {
                return Err(StageError::failed("a question has no answer"));
            };
            let ended = sample.stop == StopReason::Stop;
            let count = sample.tokens.len();
            let body = &sample.tokens[..count - usize::from(ended && count > 0)];
            said[at] = Said::Text {
                text: self.tokenizer.decode(body, false),
                ended,
                prompt_tokens: request.prompt.len(),
                tokens: count,
            };
        }
        Ok(said)
    }
}

/// Values of starling's JSON as those of serde.
fn serde(value: &Value) -> Result<serde_json::Value, StageError> {
    serde_json::from_str(&json::dumps(value)).map_err(lm)
}

fn ask_server(
    endpoint: &Endpoint,
    context: &StageContext<'_>,
    making: &Making,
    questions: &[Question],
) -> Result<Vec<Said>, StageError> {
    let query = |question: &Question| -> Result<Query, StageError> {
        let mut query = Query {
            messages: question
                .messages
                .iter()
                .map(serde)
                .collect::<Result<_, _>>()?,
            tools: question.tools.iter().map(serde).collect::<Result<_, _>>()?,
            temperature: f64::from(making.temperature),
            max_tokens: Some(making.max_new_tokens),
            seed: Some(making.seed),
            ..Query::default()
        };
        if let Some(thinking) = making.thinking {
            let options = serde_json::json!({"enable_thinking": thinking});
            query
                .extra
                .insert("chat_template_kwargs".to_owned(), options);
        }
        Ok(query)
    };
    let queries: Vec<Query> = questions.iter().map(query).collect::<Result<_, _>>()?;
    let stop = || context.interrupted();
    match endpoint.ask_all(&queries, &stop) {
        Ok(replies) => Ok(replies.iter().map(said).collect()),
        // One prompt that does not fit would end the run: ask one by one, and count what does not fit.
        Err(error) if error.is_too_long() => {
            let mut all = Vec::with_capacity(queries.len());
            for query in &queries {
                match endpoint.ask(query, &stop) {
                    Ok(reply) => all.push(said(&reply)),
                    Err(error) if error.is_too_long() => all.push(Said::TooLong(0)),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(all)
        }
        Err(error) => Err(error.into()),
    }
}

fn said(reply: &crate::endpoint::Reply) -> Said {
    let first = reply.first();
    Said::Text {
        text: first.map(|choice| choice.text()).unwrap_or_default(),
        ended: first.is_some_and(|choice| choice.finish == Finish::Stop),
        prompt_tokens: usize::try_from(reply.prompt_tokens).unwrap_or(usize::MAX),
        tokens: usize::try_from(reply.completion_tokens).unwrap_or(usize::MAX),
    }
}
