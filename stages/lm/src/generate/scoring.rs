//! Log-probabilities of given texts by the arithmetic of generation: a token that was generated has here the very
//! log-probability that was recorded with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::model::Scratch;
use super::sample::{SampleScratch, record};
use super::{GenerateError, Generator, batch};
use crate::score::Scores;

/// Positions whose logits are held at once.
const ROWS: usize = 32;

impl Generator {
    /// Scores every token of every text from its second on, and lists the `top` likeliest tokens at each place. The
    /// result does not depend on `threads`, nor on the other texts.
    ///
    /// `done` is called with each text's number and outcome, in any order, from any thread.
    ///
    /// # Errors
    /// [`GenerateError::Model`] when threads cannot be started. An outcome is [`GenerateError::Request`] for unknown
    /// tokens or a text longer than the context, and [`GenerateError::NotFinite`] for a broken model.
    pub fn score<T: AsRef<[u32]> + Sync>(
        &self,
        texts: &[T],
        top: usize,
        threads: usize,
        done: &(dyn Fn(usize, Result<Scores, GenerateError>) + Sync),
    ) -> Result<(), GenerateError> {
        let (workers, team) = batch::divide(&self.model, threads, texts.len());
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut scratch, mut draws) = (Scratch::new(team), SampleScratch::default());
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(at) else { break };
                done(
                    at,
                    self.score_one(at, text.as_ref(), top, &mut scratch, &mut draws),
                );
            }
        };
        batch::in_pool(team, || {
            std::thread::scope(|scope| {
                for _ in 1..workers {
                    scope.spawn(work);
                }
                work();
            });
        })
    }

    /// As [`score`](Self::score), with the outcomes in order.
    ///
    /// # Errors
    /// The first error of any text.
    pub fn scores<T: AsRef<[u32]> + Sync>(
        &self,
        texts: &[T],
        top: usize,
        threads: usize,
    ) -> Result<Vec<Scores>, GenerateError> {
        let found = Mutex::new(BTreeMap::new());
        self.score(texts, top, threads, &|at, outcome| {
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert(at, outcome);
        })?;
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.into_values().collect()
    }

    fn score_one(
        &self,
        at: usize,
        text: &[u32],
        top: usize,
        scratch: &mut Scratch,
        draws: &mut SampleScratch,
    ) -> Result<Scores, GenerateError> {
        let mut scores = Scores::default();
        let longest = self.model.config.max_position_embeddings;
        let wrong = |reason: String| GenerateError::Request {
            id: at as u64,
            reason,
        };
        if text.len() > longest {
            let len = text.len();
            return Err(wrong(format!(
                "{len} tokens are more than the context of {longest}"
            )));
        }
        let Some((_, read)) = text.split_last() else {
            return Ok(scores);
        };
        if let Some(reason) = self.fault(text) {
            return Err(wrong(reason));
        }
        if read.is_empty() {
            return Ok(scores);
        }
        let hidden = self.model.config.hidden_size;
        let rows = self
            .model
            .read(read, &mut self.model.cache(), read.len(), scratch);
        let mut logits = Vec::new();
        let mut targets = text[1..].iter();
        for rows in rows.chunks(ROWS * hidden) {
            self.model.logits(rows, scratch, &mut logits);
            let rows = logits.chunks_exact(self.model.config.vocab_size);
            for (logits, &target) in rows.zip(targets.by_ref()) {
                let Some(record) = record(logits, target, top, draws) else {
                    return Err(GenerateError::NotFinite {
                        id: at as u64,
                        sample: 0,
                        position: scores.logprobs.len(),
                    });
                };
                scores.logprobs.push(record.logprob);
                scores.entropies.push(record.entropy);
                scores.top_ids.extend(record.top.iter().map(|top| top.id));
                scores
                    .top_logprobs
                    .extend(record.top.iter().map(|top| top.logprob));
            }
        }
        Ok(scores)
    }
}
