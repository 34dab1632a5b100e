//! `starling lm generate`: answers rows of prompts.

use std::ops::ControlFlow;
use std::time::Instant;

use clap::Args;
use starling_lm::generate::{Request, Sample, Sampling, StopReason, StopTexts, Usage, key_of};
use starling_lm::load::Checkpoint;
use starling_lm::place::Generator;
use starling_lm::tokenizer::Tokenizer;
use starling_text::json::{self, Map, Value};
use starling_text::template::{ChatTemplate, Options};

use super::ModelArguments;
use super::logprobs::reason;
use super::rows::{self, Files, Row, Stream, Texts, to_json};
use crate::cli::output::{Failure, story};

/// Rows held at once; prompts among them that begin alike are read once.
const ROWS: usize = 1024;

/// Continue prompts
///
/// Rows come as `{"id", "prompt"}`, `{"id", "messages", "tools"}` (written by the model's chat template; `options` names
/// further values for it) or `{"id", "ids": [...]}`, each with `n` and `max_tokens` of its own if it likes, and go as
/// `{"id", "sample", "text", "ids", "logprobs", "stop"}`, n for each, in their order. `logprobs` are natural, of the
/// model's own distribution, whatever was drawn from; `stop` is `stop`, `text`, `length` or `context`; the text ends
/// before what stopped it. What is wrong with a row is told in its place as `{"id", "error"}`, and the exit code is
/// 4 then. A sample depends on the seed, the row's id, its own number and nothing else: not on the other rows, the
/// batch or the threads.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    files: Files,
    /// Divides the logits; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Only the K likeliest tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Only the likeliest tokens that hold this much together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Only tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Makes tokens that were there already less likely; 1 for not
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Samples of each prompt
    #[arg(long, value_name = "N", default_value_t = 1)]
    n: usize,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// A text that ends an answer; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on past the model's end tokens
    #[arg(long)]
    ignore_end: bool,
    /// Seeds every random number
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Sequences computed at once; changes speed and memory alone
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Also write the K likeliest tokens at each place, as `top_ids` and `top_logprobs`
    #[arg(long, value_name = "K", default_value_t = 0)]
    topk: usize,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let mut stream = self.files.open()?;
        let (checkpoint, generator) = self.model.load()?;
        let source = Source::new(&checkpoint);
        let sampling = self.sampling(&checkpoint, &source)?;
        let mut total = Total::default();
        loop {
            let rows = stream.read(ROWS)?;
            if rows.is_empty() {
                total.tell();
                return stream.finish();
            }
            let begin = Instant::now();
            self.answer(
                &generator,
                &source,
                &sampling,
                &rows,
                &mut stream,
                &mut total,
            )?;
            total.seconds += begin.elapsed().as_secs_f64();
            stream.flush()?;
        }
    }

    fn sampling(&self, checkpoint: &Checkpoint, source: &Source) -> Result<Sampling, Failure> {
        let stop_texts = if self.stop.is_empty() {
            None
        } else {
            let tokenizer = source.texts.tokenizer();
            let tokenizer =
                tokenizer.map_err(|reason| Failure::usage(format!("`--stop`: {reason}")))?;
            StopTexts::new(tokenizer, &self.stop)
        };
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            stop_tokens: if self.ignore_end {
                Vec::new()
            } else {
                checkpoint.config.eos_token_ids.clone()
            },
            stop_texts,
            max_new_tokens: self.max_tokens,
            seed: self.seed,
            top_logprobs: self.topk.min(checkpoint.config.vocab_size),
            batch: self.batch,
        };
        sampling
            .check()
            .map_err(|error| Failure::usage(error.to_string()))?;
        Ok(sampling)
    }

    fn answer(
        &self,
        generator: &Generator,
        source: &Source,
        sampling: &Sampling,
        rows: &[Row],
        stream: &mut Stream,
        total: &mut Total,
    ) -> Result<(), Failure> {
        let asked: Vec<Result<Request, String>> = rows
            .iter()
            .map(|row| {
                let request = source.request(row, self.n)?;
                generator.fault(&request.prompt).map_or(Ok(request), Err)
            })
            .collect();
        let requests: Vec<Request> = asked.iter().flatten().cloned().collect();
        let threads = self.model.threads();
        let go_on = |_| ControlFlow::Continue(());
        let mut answers = match generator.generate_with_usage(&requests, sampling, threads, &go_on)
        {
            Ok((answers, usage)) => {
                total.usage += usage;
                answers.into_iter().map(Ok).collect::<Vec<_>>()
            }
            // One broken row must not lose the others.
            Err(_) => requests
                .iter()
                .map(|request| {
                    let one = std::slice::from_ref(request);
                    let answer = generator.generate(one, sampling, threads, &go_on);
                    answer.map(|mut answers| answers.remove(0)).map_err(reason)
                })
                .collect(),
        }
        .into_iter();
        for (row, asked) in rows.iter().zip(asked) {
            let samples = asked.and_then(|_| {
                let missing = || Err("was not answered".to_owned());
                answers.next().unwrap_or_else(missing)
            });
            match samples {
                Ok(samples) => {
                    for (number, sample) in samples.iter().enumerate() {
                        total.tokens += sample.tokens.len();
                        total.samples += 1;
                        let fields = self.fields(source, sampling, number, sample);
                        stream.write(row, &fields)?;
                    }
                }
                Err(reason) => stream.write_wrong(row, &reason)?,
            }
        }
        Ok(())
    }

    fn fields(
        &self,
        source: &Source,
        sampling: &Sampling,
        number: usize,
        sample: &Sample,
    ) -> Vec<(&'static str, String)> {
        let text = source.texts.tokenizer().ok().map(|t| self.text(t, sample));
        let stop = match sample.stop {
            StopReason::Stop => "stop",
            StopReason::Text => "text",
            StopReason::Length => "length",
            StopReason::Context => "context",
        };
        let mut fields = vec![
            ("sample", number.to_string()),
            ("text", to_json(&text)),
            ("ids", to_json(&sample.tokens)),
            ("logprobs", to_json(&sample.logprobs)),
            ("stop", to_json(stop)),
        ];
        if sampling.top_logprobs > 0 {
            let ids = sample
                .top
                .iter()
                .map(|top| top.iter().map(|t| t.id).collect());
            let ids: Vec<Vec<u32>> = ids.collect();
            let logprobs = sample
                .top
                .iter()
                .map(|top| top.iter().map(|t| t.logprob).collect());
            let logprobs: Vec<Vec<f32>> = logprobs.collect();
            fields.push(("top_ids", to_json(&ids)));
            fields.push(("top_logprobs", to_json(&logprobs)));
        }
        fields
    }

    /// The text of an answer, up to what stopped it.
    fn text(&self, tokenizer: &Tokenizer, sample: &Sample) -> String {
        let ids = match (sample.stop, sample.tokens.split_last()) {
            (StopReason::Stop, Some((_, before))) => before,
            _ => &sample.tokens,
        };
        let mut text = tokenizer.decode(ids, false);
        if sample.stop == StopReason::Text {
            let stops = self.stop.iter().filter(|stop| !stop.is_empty());
            if let Some(end) = stops.filter_map(|stop| text.find(stop.as_str())).min() {
                text.truncate(end);
            }
        }
        text
    }
}

/// Figures over all rows.
#[derive(Default)]
struct Total {
    usage: Usage,
    samples: usize,
    tokens: usize,
    seconds: f64,
}

impl Total {
    fn tell(&self) {
        let Usage {
            read_tokens,
            shared_tokens,
            steps,
            step_tokens,
            cache_bytes,
        } = self.usage;
        story(&format!(
            "{} samples, {} tokens in {:.2} s ({:.1} tokens/s); prompts: {read_tokens} tokens read, {shared_tokens} \
             shared; {:.1} sequences a step; keys and values at most {:.1} MB",
            self.samples,
            self.tokens,
            self.seconds,
            self.tokens as f64 / self.seconds.max(1e-9),
            step_tokens as f64 / steps.max(1) as f64,
            cache_bytes as f64 / 1e6,
        ));
    }
}

/// What turns rows into prompts.
struct Source {
    texts: Texts,
    template: Result<ChatTemplate, String>,
}

impl Source {
    fn new(checkpoint: &Checkpoint) -> Self {
        let template = match checkpoint.chat_template() {
            None => {
                Err("the model comes without a chat template; give `prompt` or `ids`".to_owned())
            }
            Some(source) => ChatTemplate::from_source(&source).map_err(|error| error.to_string()),
        };
        Self {
            texts: Texts::new(checkpoint),
            template,
        }
    }

    fn request(&self, row: &Row, samples: usize) -> Result<Request, String> {
        let body = row.body.as_ref().map_err(String::clone)?;
        let given: Vec<&str> = ["prompt", "messages", "ids"]
            .into_iter()
            .filter(|name| body.get(name).is_some())
            .collect();
        let prompt = match given.as_slice() {
            ["prompt"] => {
                let text = body.get("prompt").and_then(Value::as_str);
                self.texts.encode(text.ok_or("`prompt` is not a text")?)?
            }
            ["messages"] => self.texts.encode(&self.rendered(body)?)?,
            ["ids"] => rows::ids(body.get("ids").unwrap_or(&Value::Null))?,
            [] => return Err("a row needs `prompt`, `messages` or `ids`".to_owned()),
            several => {
                return Err(format!(
                    "a row has one of `prompt`, `messages` and `ids`, not {several:?}"
                ));
            }
        };
        let count = |name: &str| -> Result<Option<usize>, String> {
            let Some(value) = body.get(name).filter(|value| !value.is_null()) else {
                return Ok(None);
            };
            let count = value.as_i64().and_then(|count| usize::try_from(count).ok());
            let wrong = || format!("`{name}` is {}, not a count", json::dumps(value));
            count.map(Some).ok_or_else(wrong)
        };
        Ok(Request {
            samples: count("n")?.unwrap_or(samples),
            max_new_tokens: count("max_tokens")?,
            ..Request::new(key_of(&row.name()), prompt)
        })
    }

    fn rendered(&self, body: &Value) -> Result<String, String> {
        let template = self.template.as_ref().map_err(String::clone)?;
        let messages = body.get("messages").and_then(Value::as_list);
        let messages = messages.ok_or("`messages` is not a list")?;
        let extra = match body.get("options") {
            None | Some(Value::Null) => Map::default(),
            Some(Value::Dict(map)) => map.clone(),
            Some(_) => return Err("`options` is not an object".to_owned()),
        };
        let options = Options {
            extra,
            ..Options::prompt()
        };
        let tools = body.get("tools").filter(|tools| !tools.is_null());
        template
            .render(messages, tools, &options)
            .map_err(|error| error.to_string())
    }
}
