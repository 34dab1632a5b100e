//! The loop of a thread: sequences join while there is room, take a step together, and leave when they end.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::cache::Cache;
use super::model::{Model, Scratch};
use super::random::uniform;
use super::sample::{Drawn, SampleScratch, draw};
use super::{GenerateError, Progress, Request, Sample, Sampling, StopReason};

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

pub(super) fn run(
    model: &Model,
    requests: &[Request],
    sampling: &Sampling,
    threads: usize,
    on_progress: &(dyn Fn(Progress) -> ControlFlow<()> + Sync),
) -> Result<Vec<Vec<Sample>>, GenerateError> {
    let all_samples: usize = requests.iter().map(|request| request.samples).sum();
    let jobs = jobs(requests, threads.max(1));
    let threads = threads.clamp(1, jobs.len().max(1));
    // A thread that took more would leave the others idle.
    let rows = sampling.batch.min(all_samples.div_ceil(threads)).max(1);
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
    let outcomes: Vec<Result<Vec<Finished>, GenerateError>> = std::thread::scope(|scope| {
        let work = || Worker::new(&shared, rows).run();
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut outcomes = vec![work()];
        outcomes.extend(others.into_iter().map(|other| match other.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        outcomes
    });
    let mut finished = Vec::with_capacity(all_samples);
    let mut error: Option<GenerateError> = None;
    let mut interrupted = false;
    for outcome in outcomes {
        match outcome {
            Ok(list) => finished.extend(list),
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
    Ok(answers)
}

/// A job for each request; when there are fewer requests than threads, their samples are spread.
fn jobs(requests: &[Request], threads: usize) -> Vec<Job> {
    let parts = threads.div_ceil(requests.len().max(1));
    let mut jobs = Vec::new();
    for (request, asked) in requests.iter().enumerate() {
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
    finished: Vec<Finished>,
    scratch: Scratch,
    draws: SampleScratch,
    logits: Vec<f32>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>, rows: usize) -> Self {
        Self {
            shared,
            rows,
            active: Vec::new(),
            caches: Vec::new(),
            current: None,
            finished: Vec::new(),
            scratch: Scratch::default(),
            draws: SampleScratch::default(),
            logits: Vec::new(),
        }
    }

    fn run(mut self) -> Result<Vec<Finished>, GenerateError> {
        let outcome = self.work();
        if outcome.is_err() {
            self.shared.stopped.store(true, Ordering::Relaxed);
        }
        outcome.map(|()| self.finished)
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
                made: Sample {
                    tokens: Vec::new(),
                    logprobs: Vec::new(),
                    entropies: Vec::new(),
                    top: Vec::new(),
                    stop: StopReason::Length,
                },
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

    /// Takes a job and reads its prompt, but for its last token when no answer fits behind it.
    fn next_job(&mut self) -> Option<(Job, Cache, Vec<f32>)> {
        let index = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let job = self.shared.jobs.get(index)?.clone();
        let model = self.shared.model;
        let prompt = &self.shared.requests[job.request].prompt;
        let mut cache = model.cache();
        let mut logits = Vec::new();
        if prompt.len() < model.config.max_position_embeddings {
            let rows = model.read(prompt, &mut cache, 1, &mut self.scratch);
            model.logits(&rows, &mut self.scratch, &mut logits);
        }
        cache.share();
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
        let Some(drawn) = draw(logits, sampling, number, &mut self.draws) else {
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
        let ended = sampling.stop_tokens.contains(&token);
        if ended {
            active.made.stop = StopReason::Stop;
        }
        if ended || self.room(request, &active) == 0 {
            self.finish(active)?;
            return Ok(None);
        }
        Ok(Some(active))
    }

    fn finish(&mut self, mut active: Active) -> Result<(), GenerateError> {
        let shared = self.shared;
        let tokens = active.made.tokens.len();
        if active.made.stop != StopReason::Stop && tokens < active.limit {
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
