//! What one update of a distillation learns from: recorded answers, or the student's own of this moment.

use std::ops::{ControlFlow, Range};

use starling_contract::StageError;
use starling_lm::config::ModelConfig;
use starling_lm::generate::{Request, Sampling, key_of};
use starling_lm::loss::TopKSettings;
use starling_lm::place::{Place, Scorer, Trainer};
use starling_lm::score::Request as Scored;
use starling_lm::train::{LossTarget, Sequence, TopKTarget};

use super::Params;
use crate::chat::lm;
use crate::cost::Work;
use crate::masks::Masks;
use crate::model::Model;
use crate::random::{Epochs, Random, purpose};
use crate::rollouts::{Rollouts, TopK};
use crate::training::{self, Batch, Step, Trouble};

/// A teacher that thinks again.
pub(super) struct Teacher {
    scorer: Scorer,
    parameters: u64,
}

impl Teacher {
    /// # Errors
    /// [`StageError::Input`] when its vocabulary is not the student's.
    pub(super) fn new(
        place: &Place,
        model: &Model,
        student: &ModelConfig,
    ) -> Result<Self, StageError> {
        let (own, other) = (model.config().vocab_size, student.vocab_size);
        if own != other {
            return Err(StageError::input(
                "teacher",
                format!("has a vocabulary of {own} tokens, the student one of {other}"),
            ));
        }
        Ok(Self {
            scorer: Scorer::new(place, model.config(), &model.checkpoint.weights).map_err(lm)?,
            parameters: model.parameters(),
        })
    }

    /// What reading cost.
    pub(super) fn work(&self, kind: &str, read_tokens: u64) -> Work {
        Work {
            kind: format!("{kind}, teacher"),
            trained_tokens: 0,
            generated_tokens: 0,
            read_tokens,
            parameters: self.parameters,
        }
    }

    /// Its `k` likeliest tokens at the counted positions of answers.
    fn top(&self, answers: &[Answer], k: usize, threads: usize) -> Result<Vec<TopK>, StageError> {
        let ids: Vec<Vec<u32>> = answers.iter().map(Answer::whole).collect();
        let positions: Vec<Vec<u32>> = answers.iter().map(Answer::positions).collect();
        let requests: Vec<Scored<'_>> = ids
            .iter()
            .zip(&positions)
            .map(|(ids, positions)| Scored { ids, positions })
            .collect();
        let scores = self.scorer.score(&requests, k, threads).map_err(lm)?;
        Ok(scores
            .into_iter()
            .map(|s| TopK {
                ids: s.top_ids,
                logprobs: s.top_logprobs,
            })
            .collect())
    }
}

/// An answer and which of its tokens count.
struct Answer {
    prompt: Vec<u32>,
    ids: Vec<u32>,
    counted: Range<usize>,
}

impl Answer {
    fn whole(&self) -> Vec<u32> {
        self.prompt.iter().chain(&self.ids).copied().collect()
    }

    fn positions(&self) -> Vec<u32> {
        let first = self.prompt.len();
        ((first + self.counted.start) as u32..(first + self.counted.end) as u32).collect()
    }
}

/// Makes the batch of any update.
pub(super) struct Batches<'a> {
    p: &'a Params,
    set: &'a Rollouts,
    order: Epochs,
    masks: Masks,
    ends: Vec<u32>,
    k: usize,
    settings: TopKSettings,
    teacher: Option<&'a Teacher>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        p: &'a Params,
        set: &'a Rollouts,
        model: &Model,
        k: usize,
        settings: TopKSettings,
        teacher: Option<&'a Teacher>,
    ) -> Result<Self, StageError> {
        let rows = p.rows.unwrap_or(usize::MAX).min(set.rollouts.len());
        if rows == 0 {
            return Err(StageError::input("rollouts", "`rows` takes none of them"));
        }
        Ok(Self {
            p,
            set,
            order: Epochs::new(p.seed, rows),
            masks: Masks::new(p.mask, &model.tokenizer()?)?,
            ends: model.ends(),
            k,
            settings,
            teacher,
        })
    }

    /// The batch of an update, which depends on its number and attempt, the seed and the weights only.
    pub(super) fn batch(
        &mut self,
        step: Step,
        trainer: &Trainer,
        threads: usize,
    ) -> Result<Batch, Trouble> {
        let first = step.update as usize * self.p.batch;
        let chosen: Vec<usize> = (first..first + self.p.batch)
            .map(|i| self.order.row(step.attempt, i))
            .collect();
        let drawn = purpose(&format!("on-policy {}", step.update), step.attempt);
        let own = Random::new(self.p.seed, &drawn).unit() < self.p.on_policy;
        let (answers, generated) = if own {
            self.sampled(&chosen, step, trainer, threads)?
        } else {
            (self.recorded(&chosen)?, 0)
        };
        let mut read = 0;
        let tops: Vec<(TopK, usize)> = match self.teacher {
            Some(teacher) if own || self.set.k == 0 => {
                read = answers
                    .iter()
                    .map(|a| (a.prompt.len() + a.ids.len()) as u64)
                    .sum();
                let tops = teacher.top(&answers, self.k, threads)?;
                tops.into_iter().map(|top| (top, self.k)).collect()
            }
            _ => chosen
                .iter()
                .zip(&answers)
                .map(|(at, answer)| {
                    Ok((
                        cut(&self.set.top(*at)?, self.set.k, &answer.counted),
                        self.set.k,
                    ))
                })
                .collect::<Result<_, StageError>>()?,
        };
        let sequences = answers.iter().zip(tops);
        let mut batch = Batch::of(
            sequences
                .filter(|(answer, _)| !answer.counted.is_empty())
                .map(|(answer, (top, recorded))| self.sequence(answer, &top, recorded))
                .collect(),
        );
        batch.generated_tokens = generated;
        batch.read_tokens = read;
        Ok(batch)
    }

    fn recorded(&self, chosen: &[usize]) -> Result<Vec<Answer>, StageError> {
        let answers = chosen.iter().enumerate().map(|(number, at)| {
            let r = &self.set.rollouts[*at];
            let counted = self.masks.range(&r.ids, number).ok_or_else(|| {
                StageError::input(
                    "rollouts",
                    format!(
                        "answer `{}` has no end of thinking, which `mask` needs",
                        r.id
                    ),
                )
            })?;
            Ok(Answer {
                prompt: self.set.prompts[r.prompt].clone(),
                ids: r.ids.clone(),
                counted,
            })
        });
        answers.collect()
    }

    /// Answers of the student of this moment, and how many tokens they took. One that never ends its
    /// thinking has nothing that a mask could choose, and is left out of the loss.
    fn sampled(
        &self,
        chosen: &[usize],
        step: Step,
        trainer: &Trainer,
        threads: usize,
    ) -> Result<(Vec<Answer>, u64), Trouble> {
        let generator = trainer.generator().map_err(lm)?;
        let sampling = Sampling {
            temperature: self.p.temperature,
            stop_tokens: self.ends.clone(),
            max_new_tokens: self.p.max_new_tokens.unwrap_or_default(),
            seed: self.p.seed,
            ..Sampling::default()
        };
        let prompt = |at: usize| self.set.prompts[self.set.rollouts[at].prompt].clone();
        let requests: Vec<Request> = chosen
            .iter()
            .enumerate()
            .map(|(i, at)| {
                Request::new(
                    key_of(&purpose(&format!("{}/{i}", step.update), step.attempt)),
                    prompt(*at),
                )
            })
            .collect();
        let samples =
            generator.generate(
                &requests,
                &sampling,
                threads,
                &|_| ControlFlow::Continue(()),
            )?;
        let mut generated = 0;
        let answers = chosen.iter().zip(samples).enumerate();
        let answers = answers.map(|(number, (at, mut samples))| {
            let ids = samples.pop().map(|s| s.tokens).unwrap_or_default();
            generated += ids.len() as u64;
            Answer {
                prompt: prompt(*at),
                counted: self.masks.range(&ids, number).unwrap_or(0..0),
                ids,
            }
        });
        let answers = answers.collect();
        Ok((answers, generated))
    }

    /// An answer as a sequence; `top` lists `recorded` tokens at each of its counted positions.
    fn sequence(&self, answer: &Answer, top: &TopK, recorded: usize) -> Sequence {
        Sequence {
            ids: answer.whole(),
            loss: LossTarget::TopK(TopKTarget {
                positions: answer.positions(),
                weights: Vec::new(),
                k: self.k,
                teacher_ids: training::heads(&top.ids, recorded, self.k),
                teacher_logprobs: training::heads(&top.logprobs, recorded, self.k),
                settings: self.settings,
            }),
        }
    }
}

/// The rows of the counted positions.
fn cut(top: &TopK, k: usize, counted: &Range<usize>) -> TopK {
    let rows = counted.start * k..counted.end * k;
    TopK {
        ids: top.ids[rows.clone()].to_vec(),
        logprobs: top.logprobs[rows].to_vec(),
    }
}
