//! The loop of a thread: sequences join while there is room, take a step together, and leave when they end.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::cache::Cache;
use super::model::{Model, Scratch};
use super::random::uniform;
use super::sample::{Drawn, SampleScratch, draw};
use super::{GenerateError, Progress, Request, Sample, Sampling, StopReason, StopTexts, Usage};
use crate::error::LmError;

/// Samples of one request that one thread computes after reading the prompt once.
#[derive(Clone, Debug)]
struct Job {
    request: usize,
    samples: std::ops::Range<usize>,
}

/// A sample under way.
struct Active {
    request: usize,
    sample: usize,
    limit: usize,
    made: Sample,
    /// Tokens of prompt and answer, sorted, each once, when repetition is penalised.
    seen: Vec<u32>,
    /// The end of its text, where stop texts are looked for.
    tail: Vec<u8>,
}

/// What all threads share.
struct Shared<'a> {
    model: &'a Model,
    requests: &'a [Request],
    sampling: &'a Sampling,
    jobs: Vec<Job>,
    next_job: AtomicUsize,
    stopped: AtomicBool,
    samples: AtomicUsize,
    tokens: AtomicUsize,
    all_samples: usize,
    on_progress: &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync),
}

/// A finished sample: request, sample, what it is.
type Finished = (usize, usize, Sample);

/// How many threads take sequences of their own, and how many share each product.
pub(super) fn divide(model: &Model, threads: usize, jobs: usize) -> (usize, usize) {
    let threads = threads.max(1);
    if model.is_heavy() {
        (1, threads)
    } else {
        (threads.clamp(1, jobs.max(1)), 1)
    }
}

/// Calls `work` inside a pool of this many threads, when they are more than one.
pub(super) fn in_pool<R: Send>(
    threads: usize,
    work: impl FnOnce() -> R + Send,
) -> Result<R, GenerateError> {
    if threads == 1 {
        return Ok(work());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        LmError::Config(format!("{threads} threads could not be started: {error}"))
    })?;
    Ok(pool.install(work))
}

pub(super) fn run(
    model: &Model,
    requests: &[Request],
    sampling: &Sampling,
    threads: usize,
    on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<(Vec<Vec<Sample>>, Usage), GenerateError> {
    let all_samples: usize = requests.iter().map(|request| request.samples).sum();
    let (workers, team) = divide(model, threads, all_samples);
    let jobs = jobs(requests, workers);
    let workers = workers.clamp(1, jobs.len().max(1));
    // A thread that took more would leave the others idle.
    let rows = sampling.batch.min(all_samples.div_ceil(workers)).max(1);
    let shared = Shared {
        model,
        requests,
        sampling,
        jobs,
        next_job: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
        samples: AtomicUsize::new(0),
        tokens: AtomicUsize::new(0),
        all_samples,
        on_progress,
    };
    let outcomes: Vec<Result<(Vec<Finished>, Usage), GenerateError>> = in_pool(team, || {
        std::thread::scope(|scope| {
            let work = || Worker::new(&shared, rows, team).run();
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut outcomes = vec![work()];
            outcomes.extend(others.into_iter().map(|other| match other.join() {
                Ok(outcome) => outcome,
                Err(panic) => std::panic::resume_unwind(panic),
            }));
            outcomes
        })
    })?;
    let mut usage = Usage::default();
    let mut finished = Vec::with_capacity(all_samples);
    let mut error: Option<GenerateError> = None;
    let mut interrupted = false;
    for outcome in outcomes {
        match outcome {
            Ok((list, used)) => {
                finished.extend(list);
                usage += used;
            }
            // What went wrong tells more than that the others were stopped for it.
            Err(GenerateError::Interrupted) => interrupted = true,
            Err(other) => error = error.or(Some(other)),
        }
    }
    let interruption = interrupted.then_some(GenerateError::Interrupted);
    if let Some(error) = error.or(interruption) {
        return Err(error);
    }
    finished.sort_by_key(|&(request, sample, _)| (request, sample));
    let mut answers: Vec<Vec<Sample>> = requests.iter().map(|_| Vec::new()).collect();
    for (request, _, sample) in finished {
        answers[request].push(sample);
    }
    Ok((answers, usage))
}

/// A job for each request; when there are fewer requests than threads, their samples are spread. Prompts that begin
/// alike follow each other, so that each finds the beginning in the cache.
fn jobs(requests: &[Request], threads: usize) -> Vec<Job> {
    let parts = threads.div_ceil(requests.len().max(1));
    let mut jobs = Vec::new();
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by(|&a, &b| requests[a].prompt.cmp(&requests[b].prompt));
    for request in order {
        let asked = &requests[request];
        let size = asked.samples.div_ceil(parts).max(1);
        for first in (0..asked.samples).step_by(size) {
            jobs.push(Job {
                request,
                samples: first..asked.samples.min(first + size),
            });
        }
    }
    jobs
}

/// One thread's state.
struct Worker<'a> {
    shared: &'a Shared<'a>,
    rows: usize,
    /// Under way, with the cache of each beside it.
    active: Vec<Active>,
    caches: Vec<Cache>,
    /// The job being handed out: its prompt is read, the samples of the range have not begun.
    current: Option<(Job, Cache, Vec<f32>)>,
    /// The request whose prompt was read last, and the past that it left.
    last: Option<(usize, Cache)>,
    finished: Vec<Finished>,
    usage: Usage,
    scratch: Scratch,
    draws: SampleScratch,
    logits: Vec<f32>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>, rows: usize, team: usize) -> Self {
        Self {
            shared,
            rows,
            active: Vec::new(),
            caches: Vec::new(),
            current: None,
            last: None,
            finished: Vec::new(),
            usage: Usage::default(),
            scratch: Scratch::new(team),
            draws: SampleScratch::default(),
            logits: Vec::new(),
        }
    }

    fn run(mut self) -> Result<(Vec<Finished>, Usage), GenerateError> {
        let outcome = self.work();
        if outcome.is_err() {
            self.shared.stopped.store(true, Ordering::Relaxed);
        }
        outcome.map(|()| (self.finished, self.usage))
    }

    fn work(&mut self) -> Result<(), GenerateError> {
        loop {
            while self.active.len() < self.rows && self.begin()? {}
            if self.active.is_empty() {
                return Ok(());
            }
            if self.shared.stopped.load(Ordering::Relaxed) {
                return Err(GenerateError::Interrupted);
            }
            self.step()?;
        }
    }

    /// Begins one more sample; false when there is none left.
    fn begin(&mut self) -> Result<bool, GenerateError> {
        let Some((mut job, cache, logits)) = self.current.take().or_else(|| self.next_job()) else {
            return Ok(false);
        };
        if let Some(sample) = job.samples.next() {
            let request = &self.shared.requests[job.request];
            let longest = request
                .max_new_tokens
                .unwrap_or(self.shared.sampling.max_new_tokens);
            let active = Active {
                request: job.request,
                sample,
                limit: longest,
                made: Sample::empty(),
                seen: self.seen(request),
                tail: Vec::new(),
            };
            let room = self.room(request, &active);
            if room == 0 {
                self.finish(active)?;
            } else if let Some(active) = self.take(active, &logits)? {
                self.active.push(active);
                self.caches.push(cache.fork());
            }
            self.current = Some((job, cache, logits));
        }
        Ok(true)
    }

    /// The tokens of a prompt that a repetition penalty falls on.
    fn seen(&self, request: &Request) -> Vec<u32> {
        if !self.shared.sampling.penalises() {
            return Vec::new();
        }
        let mut seen = request.prompt.clone();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Takes a job and reads its prompt (unless no answer fits behind it), from where it differs from the last one.
    fn next_job(&mut self) -> Option<(Job, Cache, Vec<f32>)> {
        let index = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let job = self.shared.jobs.get(index)?.clone();
        let (model, requests) = (self.shared.model, self.shared.requests);
        let prompt = &requests[job.request].prompt;
        if prompt.len() >= model.config.max_position_embeddings {
            return Some((job, model.cache(), Vec::new()));
        }
        let begun = self.last.take().map(|(request, cache)| {
            // the last token is read again: its logits are wanted
            let alike = common(&requests[request].prompt, prompt).min(prompt.len() - 1);
            cache.prefix(alike)
        });
        let mut cache = begun.unwrap_or_else(|| model.cache());
        self.usage.shared_tokens += cache.length();
        let rest = &prompt[cache.length()..];
        self.usage.read_tokens += rest.len();
        let mut logits = Vec::new();
        let rows = model.read(rest, &mut cache, 1, &mut self.scratch);
        model.logits(&rows, &mut self.scratch, &mut logits);
        cache.share();
        self.last = Some((job.request, cache.fork()));
        Some((job, cache, logits))
    }

    /// How many tokens an answer may still get.
    fn room(&self, request: &Request, active: &Active) -> usize {
        let context = self.shared.model.config.max_position_embeddings;
        let made = active.made.tokens.len();
        let left = context.saturating_sub(request.prompt.len() + made);
        left.min(active.limit.saturating_sub(made))
    }

    /// One token more for every sequence.
    fn step(&mut self) -> Result<(), GenerateError> {
        let last = |active: &Active| active.made.tokens.last().copied().unwrap_or(0);
        let tokens: Vec<u32> = self.active.iter().map(last).collect();
        let mut logits = std::mem::take(&mut self.logits);
        let model = self.shared.model;
        model.step(&tokens, &mut self.caches, &mut self.scratch, &mut logits);
        self.usage.steps += 1;
        self.usage.step_tokens += tokens.len();
        self.usage.cache_bytes = self.usage.cache_bytes.max(self.cache_bytes());
        let rows = logits.chunks_exact(model.config.vocab_size);
        let active = std::mem::take(&mut self.active);
        let caches = std::mem::take(&mut self.caches);
        for ((active, cache), logits) in active.into_iter().zip(caches).zip(rows) {
            if let Some(active) = self.take(active, logits)? {
                self.active.push(active);
                self.caches.push(cache);
            }
        }
        self.logits = logits;
        Ok(())
    }

    /// What the pasts of the sequences under way take; a past that several share counts once.
    fn cache_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut counted = None;
        for (active, cache) in self.active.iter().zip(&self.caches) {
            let (own, shared) = cache.bytes();
            bytes += own;
            if counted != Some(active.request) {
                bytes += shared;
                counted = Some(active.request);
            }
        }
        bytes
    }

    /// Draws the next token of a sample and gives the sample back unless that ends it.
    fn take(
        &mut self,
        mut active: Active,
        logits: &[f32],
    ) -> Result<Option<Active>, GenerateError> {
        let sampling = self.shared.sampling;
        let request = &self.shared.requests[active.request];
        let position = active.made.tokens.len();
        let number = uniform(
            sampling.seed,
            request.id,
            active.sample as u64,
            position as u64,
        );
        let Some(drawn) = draw(logits, &active.seen, sampling, number, &mut self.draws) else {
            return Err(GenerateError::NotFinite {
                id: request.id,
                sample: active.sample,
                position,
            });
        };
        let Drawn {
            token,
            logprob,
            entropy,
            top,
        } = drawn;
        active.made.tokens.push(token);
        active.made.logprobs.push(logprob);
        active.made.entropies.push(entropy);
        active.made.top.push(top);
        if sampling.penalises()
            && let Err(place) = active.seen.binary_search(&token)
        {
            active.seen.insert(place, token);
        }
        let complete = |stop: &StopTexts| stop.push(token, &mut active.tail);
        let ended = if sampling.stop_tokens.contains(&token) {
            active.made.stop = StopReason::Stop;
            true
        } else if sampling.stop_texts.as_ref().is_some_and(complete) {
            active.made.stop = StopReason::Text;
            true
        } else {
            false
        };
        if ended || self.room(request, &active) == 0 {
            self.finish(active)?;
            return Ok(None);
        }
        Ok(Some(active))
    }

    fn finish(&mut self, mut active: Active) -> Result<(), GenerateError> {
        let shared = self.shared;
        let tokens = active.made.tokens.len();
        if active.made.stop == StopReason::Length && tokens < active.limit {
            active.made.stop = StopReason::Context;
        }
        self.finished
            .push((active.request, active.sample, active.made));
        let progress = Progress {
            samples: shared.samples.fetch_add(1, Ordering::Relaxed) + 1,
            all_samples: shared.all_samples,
            tokens: shared.tokens.fetch_add(tokens, Ordering::Relaxed) + tokens,
        };
        match (shared.on_progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GenerateError::Interrupted),
        }
    }
}

/// How many tokens two prompts begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
