//! Generation on a device: sequences join while there is room, take a step together, and leave when they end.
//!
//! Tokens are drawn on the device; what comes back of each is its id, log-probability and entropy, and the likeliest
//! tokens when they are asked for.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::board::{Arg, Buffer};
use super::cache::Cache;
use super::device::Device;
use super::losses::STATS;
use super::ops::int;
use super::step::Stepper;
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::generate::{
    GenerateError, Progress, Request, Sample, Sampling, StopReason, StopTexts, TopToken, Usage,
};
use crate::score::Scores;
use crate::weights::Weights;

/// Rows of every product: sequences at most under way, and tokens of a prompt read at once.
pub(crate) const ROWS: usize = 128;

/// A model ready to generate on a device.
#[derive(Debug)]
pub struct Generator {
    stepper: Stepper,
}

impl Generator {
    /// Puts weights on a device.
    ///
    /// # Errors
    /// [`LmError`] when the weights do not fit the configuration, or the device fails.
    pub fn new(device: &Device, config: &ModelConfig, weights: &Weights) -> Result<Self, LmError> {
        Self::with_rows(device, config, weights, ROWS)
    }

    /// As [`new`](Self::new), with so many rows in every product; results are of one class only among equal ones.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_rows(
        device: &Device,
        config: &ModelConfig,
        weights: &Weights,
        rows: usize,
    ) -> Result<Self, LmError> {
        Ok(Self {
            stepper: Stepper::new(device, config, weights, rows.max(1))?,
        })
    }

    /// The configuration of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.stepper.model.config
    }

    /// What is wrong with a prompt: none of its tokens may be unknown, and there must be one.
    pub fn fault(&self, prompt: &[u32]) -> Option<String> {
        crate::generate::fault(self.config(), prompt)
    }

    /// Answers every request, as [`crate::generate::Generator::generate_with_usage`] does.
    ///
    /// # Errors
    /// As there, and [`GenerateError::Model`] when the device fails.
    pub fn generate_with_usage(
        &self,
        requests: &[Request],
        sampling: &Sampling,
        on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
    ) -> Result<(Vec<Vec<Sample>>, Usage), GenerateError> {
        crate::generate::check(self.config(), requests, sampling)?;
        let mut order: Vec<usize> = (0..requests.len()).collect();
        // prompts that begin alike follow each other, so that each finds the beginning in the cache
        order.sort_by(|&a, &b| requests[a].prompt.cmp(&requests[b].prompt));
        let mut run = Run {
            stepper: &self.stepper,
            requests,
            sampling,
            waiting: order.into_iter(),
            rows: sampling.batch.clamp(1, self.stepper.rows),
            active: Vec::new(),
            current: None,
            last: None,
            finished: Vec::new(),
            usage: Usage::default(),
            progress: Progress {
                samples: 0,
                all_samples: requests.iter().map(|request| request.samples).sum(),
                tokens: 0,
            },
            on_progress,
        };
        run.work()?;
        let (mut finished, usage) = (run.finished, run.usage);
        finished.sort_by_key(|&(request, sample, _)| (request, sample));
        let mut answers: Vec<Vec<Sample>> = requests.iter().map(|_| Vec::new()).collect();
        for (request, _, sample) in finished {
            answers[request].push(sample);
        }
        Ok((answers, usage))
    }

    /// Scores every token of a text from its second on, by the arithmetic of generation, and lists the `top` likeliest
    /// tokens at each place.
    ///
    /// # Errors
    /// [`GenerateError::Request`] for unknown tokens or a text longer than the context, [`GenerateError::NotFinite`] for
    /// a broken model, [`GenerateError::Model`] when the device fails.
    pub fn score(&self, number: usize, text: &[u32], top: usize) -> Result<Scores, GenerateError> {
        let id = number as u64;
        let mut scores = Scores::default();
        let (config, ops) = (self.config(), &self.stepper.model.ops);
        let longest = config.max_position_embeddings;
        if text.len() > longest {
            let len = text.len();
            let reason = format!("{len} tokens are more than the context of {longest}");
            return Err(GenerateError::Request { id, reason });
        }
        let Some((_, read)) = text.split_last().filter(|(_, read)| !read.is_empty()) else {
            return Ok(scores);
        };
        if let Some(reason) = self.fault(text) {
            return Err(GenerateError::Request { id, reason });
        }
        let (rows, v) = (self.stepper.rows, config.vocab_size);
        let top = top.min(v);
        let mut targets = text[1..].iter().map(|&target| target as i32);
        self.stepper
            .read(read, &mut self.stepper.cache(), |hidden, count| {
                let logits = self.stepper.logits(&hidden)?;
                let mut wanted: Vec<i32> = targets.by_ref().take(count).collect();
                wanted.resize(rows, 0);
                let wanted = ops.upload_ints(&wanted)?;
                let stats = ops.row_stats(&logits, rows, v, &wanted)?;
                let said = stats.floats(STATS * count)?;
                for row in said.chunks_exact(STATS) {
                    scores.logprobs.push(row[0]);
                    scores.entropies.push(row[1]);
                }
                if top > 0 {
                    let (ids, logprobs) = ops.top_rows(&logits, count, v, &stats, top)?;
                    scores.top_ids.extend(ids.ids(top * count)?);
                    scores.top_logprobs.extend(logprobs.floats(top * count)?);
                }
                Ok(())
            })?;
        match scores
            .entropies
            .iter()
            .position(|entropy| !entropy.is_finite())
        {
            Some(position) => Err(GenerateError::NotFinite {
                id,
                sample: 0,
                position,
            }),
            None => Ok(scores),
        }
    }
}

/// A sample under way.
struct Active {
    request: usize,
    sample: usize,
    limit: usize,
    made: Sample,
    /// A bit a token of prompt and answer, on the device, when repetition is penalised.
    seen: Option<Buffer>,
    /// The end of its text, where stop texts are looked for.
    tail: Vec<u8>,
    cache: Cache,
}

/// A request whose prompt was read and whose samples have not all begun.
struct Current {
    request: usize,
    samples: Range<usize>,
    cache: Cache,
    /// Logits after the prompt, and in which row; none when no answer fits behind it.
    logits: Option<(Arc<Buffer>, usize)>,
}

/// What a draw gave, as `Drawn` in `cuda/sample.cu` has it, and the likeliest tokens.
struct Drawn {
    token: i32,
    logprob: f32,
    entropy: f32,
    top: Vec<TopToken>,
}

struct Run<'a> {
    stepper: &'a Stepper,
    requests: &'a [Request],
    sampling: &'a Sampling,
    waiting: std::vec::IntoIter<usize>,
    rows: usize,
    active: Vec<Active>,
    current: Option<Current>,
    /// The request whose prompt was read last, and the past that it left.
    last: Option<(usize, Cache)>,
    finished: Vec<(usize, usize, Sample)>,
    usage: Usage,
    progress: Progress,
    on_progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync),
}

impl Run<'_> {
    fn work(&mut self) -> Result<(), GenerateError> {
        loop {
            while self.active.len() < self.rows && self.begin()? {}
            if self.active.is_empty() {
                return Ok(());
            }
            self.step()?;
        }
    }

    /// Begins samples of one request, as many as there is room for; false when none is left.
    fn begin(&mut self) -> Result<bool, GenerateError> {
        let current = match self.current.take() {
            Some(current) => current,
            None => match self.waiting.next() {
                Some(request) => self.read(request)?,
                None => return Ok(false),
            },
        };
        let room = self.rows - self.active.len();
        let Current {
            request,
            samples,
            cache,
            logits,
        } = current;
        let now = samples.start..samples.end.min(samples.start + room);
        let rest = now.end..samples.end;
        let mut fresh = Vec::new();
        for sample in now {
            let active = self.fresh(request, sample, cache.clone())?;
            if logits.is_none() || self.room(&active) == 0 {
                self.finish(active)?;
            } else {
                fresh.push(active);
            }
        }
        if let Some((logits, row)) = &logits {
            let rows = vec![*row; fresh.len()];
            let drawn = self.draw(logits, &rows, &fresh)?;
            self.take(fresh, drawn)?;
        }
        if !rest.is_empty() {
            self.current = Some(Current {
                request,
                samples: rest,
                cache,
                logits,
            });
        }
        Ok(true)
    }

    fn fresh(&self, request: usize, sample: usize, cache: Cache) -> Result<Active, LmError> {
        let asked = &self.requests[request];
        let limit = asked.max_new_tokens.unwrap_or(self.sampling.max_new_tokens);
        let seen = if self.sampling.penalises() {
            let vocabulary = self.stepper.model.config.vocab_size;
            let mut bits = vec![0_u32; vocabulary.div_ceil(32)];
            for &token in &asked.prompt {
                bits[token as usize / 32] |= 1 << (token % 32);
            }
            let bits: Vec<i32> = bits.into_iter().map(u32::cast_signed).collect();
            Some(self.stepper.model.ops.upload_ints(&bits)?)
        } else {
            None
        };
        Ok(Active {
            request,
            sample,
            limit,
            made: Sample::empty(),
            seen,
            tail: Vec::new(),
            cache,
        })
    }

    /// Reads a prompt (unless no answer fits behind it), from where it differs from the last one.
    fn read(&mut self, request: usize) -> Result<Current, LmError> {
        let asked = &self.requests[request];
        let mut current = Current {
            request,
            samples: 0..asked.samples,
            cache: self.stepper.cache(),
            logits: None,
        };
        if asked.prompt.len() >= self.stepper.model.config.max_position_embeddings {
            return Ok(current);
        }
        if let Some((before, cache)) = self.last.take() {
            let alike = self.requests[before].prompt.iter().zip(&asked.prompt);
            let alike = alike.take_while(|(a, b)| a == b).count();
            // the last token is read again: its logits are wanted
            current.cache = cache.prefix(alike.min(asked.prompt.len() - 1));
        }
        self.usage.shared_tokens += current.cache.length();
        let rest = &asked.prompt[current.cache.length()..];
        self.usage.read_tokens += rest.len();
        let mut left = None;
        self.stepper
            .read(rest, &mut current.cache, |hidden, count| {
                left = Some((hidden, count - 1));
                Ok(())
            })?;
        if let Some((hidden, row)) = left {
            current.logits = Some((Arc::new(self.stepper.logits(&hidden)?), row));
        }
        self.last = Some((request, current.cache.clone()));
        Ok(current)
    }

    /// How many tokens an answer may still get.
    fn room(&self, active: &Active) -> usize {
        let context = self.stepper.model.config.max_position_embeddings;
        let made = active.made.tokens.len();
        let left = context.saturating_sub(self.requests[active.request].prompt.len() + made);
        left.min(active.limit.saturating_sub(made))
    }

    /// One token more for every sequence.
    fn step(&mut self) -> Result<(), GenerateError> {
        let last = |active: &Active| active.made.tokens.last().copied().unwrap_or(0);
        let tokens: Vec<u32> = self.active.iter().map(last).collect();
        let mut caches: Vec<&mut Cache> =
            self.active.iter_mut().map(|one| &mut one.cache).collect();
        let hidden = self.stepper.step(&tokens, &mut caches)?;
        let logits = self.stepper.logits(&hidden)?;
        self.usage.steps += 1;
        self.usage.step_tokens += tokens.len();
        self.usage.cache_bytes = self.usage.cache_bytes.max(self.cache_bytes());
        let rows: Vec<usize> = (0..tokens.len()).collect();
        let active = std::mem::take(&mut self.active);
        let drawn = self.draw(&logits, &rows, &active)?;
        self.take(active, drawn)
    }

    /// What the pasts of the sequences under way take; a block that several share counts once.
    fn cache_bytes(&self) -> usize {
        let blocks = self.active.iter().flat_map(|active| active.cache.sizes());
        blocks.collect::<BTreeMap<u64, usize>>().values().sum()
    }

    /// Draws a token for each sample from its row of the logits.
    fn draw(
        &self,
        logits: &Buffer,
        rows: &[usize],
        active: &[Active],
    ) -> Result<Vec<Drawn>, LmError> {
        let (ops, sampling) = (&self.stepper.model.ops, self.sampling);
        let vocabulary = self.stepper.model.config.vocab_size;
        let mut draws = Vec::with_capacity(5 * active.len());
        for (one, &row) in active.iter().zip(rows) {
            draws.extend([
                self.requests[one.request].id,
                one.sample as u64,
                one.made.tokens.len() as u64,
                one.seen.as_ref().map_or(0, Buffer::address),
                row as u64,
            ]);
        }
        let draws = ops.upload_longs(&draws)?;
        let drawn = ops.floats(4 * active.len())?;
        let args = [
            logits.arg(),
            int(vocabulary),
            draws.arg(),
            Arg::Long(sampling.seed),
            Arg::Float(sampling.temperature),
            int(sampling.top_k.min(vocabulary)),
            Arg::Float(sampling.top_p),
            Arg::Float(sampling.min_p),
            Arg::Float(sampling.repetition_penalty),
            drawn.arg(),
        ];
        ops.logits("sample_rows", active.len(), vocabulary, 0, &args)?;
        let mut top = self.likeliest(logits, rows)?.into_iter();
        let words = drawn.read(16 * active.len())?;
        let drawn = words.as_chunks::<16>().0.iter().map(|words| {
            let word = |at: usize| {
                <[u8; 4]>::try_from(&words[4 * at..4 * at + 4]).expect("four bytes of sixteen")
            };
            Drawn {
                token: i32::from_le_bytes(word(0)),
                logprob: f32::from_le_bytes(word(1)),
                entropy: f32::from_le_bytes(word(2)),
                top: top.next().unwrap_or_default(),
            }
        });
        Ok(drawn.collect())
    }

    /// The likeliest tokens of each row, when they are asked for.
    fn likeliest(&self, logits: &Buffer, rows: &[usize]) -> Result<Vec<Vec<TopToken>>, LmError> {
        let ops = &self.stepper.model.ops;
        let vocabulary = self.stepper.model.config.vocab_size;
        let k = self.sampling.top_logprobs.min(vocabulary);
        if k == 0 || rows.is_empty() {
            return Ok(Vec::new());
        }
        let count = rows.iter().max().map_or(0, |last| last + 1);
        let targets = ops.upload_ints(&vec![0; count])?;
        let stats = ops.row_stats(logits, count, vocabulary, &targets)?;
        let (ids, logprobs) = ops.top_rows(logits, count, vocabulary, &stats, k)?;
        let (ids, logprobs) = (ids.ids(count * k)?, logprobs.floats(count * k)?);
        let list = |&row: &usize| {
            let part = row * k..(row + 1) * k;
            let pairs = ids[part.clone()].iter().zip(&logprobs[part]);
            pairs
                .map(|(&id, &logprob)| TopToken { id, logprob })
                .collect()
        };
        Ok(rows.iter().map(list).collect())
    }

    /// Adds what was drawn; samples that go on are under way afterwards.
    fn take(&mut self, active: Vec<Active>, drawn: Vec<Drawn>) -> Result<(), GenerateError> {
        for (mut active, drawn) in active.into_iter().zip(drawn) {
            let Ok(token) = u32::try_from(drawn.token) else {
                return Err(GenerateError::NotFinite {
                    id: self.requests[active.request].id,
                    sample: active.sample,
                    position: active.made.tokens.len(),
                });
            };
            active.made.tokens.push(token);
            active.made.logprobs.push(drawn.logprob);
            active.made.entropies.push(drawn.entropy);
            active.made.top.push(drawn.top);
            let complete = |stop: &StopTexts| stop.push(token, &mut active.tail);
            let ended = if self.sampling.stop_tokens.contains(&token) {
                active.made.stop = StopReason::Stop;
                true
            } else if self.sampling.stop_texts.as_ref().is_some_and(complete) {
                active.made.stop = StopReason::Text;
                true
            } else {
                false
            };
            if ended || self.room(&active) == 0 {
                self.finish(active)?;
            } else {
                self.active.push(active);
            }
        }
        Ok(())
    }

    fn finish(&mut self, mut active: Active) -> Result<(), GenerateError> {
        let tokens = active.made.tokens.len();
        if active.made.stop == StopReason::Length && tokens < active.limit {
            active.made.stop = StopReason::Context;
        }
        self.finished
            .push((active.request, active.sample, active.made));
        self.progress.samples += 1;
        self.progress.tokens += tokens;
        match (self.on_progress)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GenerateError::Interrupted),
        }
    }
}
