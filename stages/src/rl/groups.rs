//! Groups of answers: sampling, judging, and choosing the groups that teach.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use starling_lm::generate::{GenerateError, Generator, Request, Sample, Sampling, StopReason};
use starling_lm::policy::advantage::overlong_penalty;
use starling_lm::policy::keep_group;
use starling_lm::tokenizer::Tokenizer;

use super::{Params, Reward};
use crate::chat;
use crate::prompts::Prompt;
use crate::random::Epochs;
use crate::rollouts::Rollouts;
use crate::training::{Step, Trouble};

/// An answer that a group is made of.
pub(super) struct Member {
    pub(super) ids: Vec<u32>,
    /// Under the policy that sampled; of a trace, filled in by the learner.
    pub(super) logprobs: Vec<f32>,
    pub(super) reward: f64,
    /// Whether a teacher wrote it.
    pub(super) foreign: bool,
}

/// The answers to one prompt.
pub(super) struct Group {
    pub(super) prompt: Vec<u32>,
    pub(super) members: Vec<Member>,
}

impl Group {
    /// Whether all rewards are equal, so that a comparison within the group says nothing.
    fn is_equal(&self) -> bool {
        let mut rewards = self.members.iter().map(|member| member.reward);
        let first = rewards.next().unwrap_or_default();
        rewards.all(|reward| (reward - first).abs() <= 0.0)
    }
}

/// What one update has to learn from, and what was seen while drawing it.
pub(super) struct Drawn {
    /// Groups that teach.
    pub(super) groups: Vec<Group>,
    pub(super) columns: Vec<(&'static str, f64)>,
    pub(super) generated_tokens: u64,
    pub(super) read_tokens: u64,
}

/// Sums over all answers of an update.
#[derive(Default)]
struct Seen {
    groups: usize,
    /// Groups whose rewards are all equal.
    equal: usize,
    answers: usize,
    reward: f64,
    exact: usize,
    good_format: usize,
    unfinished: usize,
    entropy: f64,
    tokens: usize,
    prompt_tokens: u64,
}

/// Draws groups.
pub(super) struct Sampler<'a> {
    p: &'a Params,
    all: &'a [Prompt],
    tokenizer: &'a Tokenizer,
    ends: Vec<u32>,
    /// One order for the first round of each update, one for the rounds that replace groups.
    orders: [Epochs; 2],
    traces: Option<&'a Rollouts>,
    /// Traces by the id of the row they answer.
    by_seed: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Sampler<'a> {
    pub(super) fn new(
        p: &'a Params,
        all: &'a [Prompt],
        tokenizer: &'a Tokenizer,
        ends: Vec<u32>,
        traces: Option<&'a Rollouts>,
    ) -> Self {
        let mut by_seed: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, rollout) in traces.iter().flat_map(|t| t.rollouts.iter().enumerate()) {
            by_seed.entry(&rollout.seed).or_default().push(at);
        }
        Self {
            p,
            all,
            tokenizer,
            ends,
            orders: [
                Epochs::new(p.seed, all.len()),
                Epochs::new(p.seed ^ REPLACEMENTS, all.len()),
            ],
            traces,
            by_seed,
        }
    }

    /// The groups of an update: they depend on its number and attempt, the seed and the weights only.
    pub(super) fn draw(
        &mut self,
        generator: &Generator,
        step: Step,
        threads: usize,
    ) -> Result<Drawn, Trouble> {
        let (mut kept, mut seen, mut rounds) = (Vec::new(), Seen::default(), 0);
        while rounds < self.p.filter.rounds && kept.len() < self.p.prompts {
            let chosen = self.prompts(step, rounds);
            let samples = self.sample(generator, &chosen, step, threads)?;
            for (prompt, samples) in chosen.into_iter().zip(samples) {
                let group = self.judge(prompt, samples, step.update, &mut seen);
                seen.equal += usize::from(group.is_equal());
                if self.teaches(&group) {
                    kept.push(group);
                }
            }
            rounds += 1;
        }
        let n = seen.answers as f64;
        let columns = vec![
            ("reward", seen.reward / n),
            ("exact", seen.exact as f64 / n),
            ("format", seen.good_format as f64 / n),
            ("unfinished", seen.unfinished as f64 / n),
            ("groups", seen.groups as f64),
            ("groups_equal", seen.equal as f64),
            ("groups_kept", kept.len() as f64),
            ("entropy", seen.entropy / seen.tokens.max(1) as f64),
            ("response_tokens", seen.tokens as f64 / n),
        ];
        Ok(Drawn {
            groups: kept,
            columns,
            generated_tokens: seen.tokens as u64,
            read_tokens: seen.prompt_tokens,
        })
    }

    fn prompts(&mut self, step: Step, round: usize) -> Vec<&'a Prompt> {
        let (n, update) = (self.p.prompts, step.update as usize);
        let (order, first) = match round {
            0 => (&mut self.orders[0], update * n),
            later => {
                let rounds = self.p.filter.rounds - 1;
                (&mut self.orders[1], (update * rounds + later - 1) * n)
            }
        };
        (first..first + n)
            .map(|i| &self.all[order.row(step.attempt, i)])
            .collect()
    }

    fn sample(
        &self,
        generator: &Generator,
        chosen: &[&Prompt],
        step: Step,
        threads: usize,
    ) -> Result<Vec<Vec<Sample>>, GenerateError> {
        let sampling = Sampling {
            temperature: self.p.temperature,
            stop_tokens: self.ends.clone(),
            max_new_tokens: self.p.max_new_tokens,
            seed: self
                .p
                .seed
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(step.update)
                .wrapping_add(step.attempt.wrapping_mul(0xd1b5_4a32_d192_ed03)),
            ..Sampling::default()
        };
        let own = |prompt: &Prompt| {
            let traced = self.by_seed.contains_key(prompt.id.as_str());
            self.p.samples - usize::from(traced)
        };
        let requests: Vec<Request> = chosen.iter().map(|q| q.request(own(q))).collect();
        generator.generate(
            &requests,
            &sampling,
            threads,
            &|_| ControlFlow::Continue(()),
        )
    }

    fn judge(&self, prompt: &Prompt, samples: Vec<Sample>, update: u64, seen: &mut Seen) -> Group {
        seen.groups += 1;
        seen.prompt_tokens += prompt.ids.len() as u64;
        let mut members = Vec::with_capacity(samples.len() + 1);
        for sample in samples {
            let (reward, exact, good_format) = self.reward(prompt, &sample.tokens);
            seen.answers += 1;
            seen.reward += reward;
            seen.exact += usize::from(exact);
            seen.good_format += usize::from(good_format);
            seen.unfinished += usize::from(sample.stop != StopReason::Stop);
            seen.entropy += sample.entropies.iter().map(|e| f64::from(*e)).sum::<f64>();
            seen.tokens += sample.tokens.len();
            members.push(Member {
                reward,
                ids: sample.tokens,
                logprobs: sample.logprobs,
                foreign: false,
            });
        }
        if let (Some(traces), Some(known)) = (self.traces, self.by_seed.get(prompt.id.as_str())) {
            let trace = &traces.rollouts[known[update as usize % known.len()]];
            members.push(Member {
                reward: self.reward(prompt, &trace.ids).0,
                ids: trace.ids.clone(),
                logprobs: Vec::new(),
                foreign: true,
            });
        }
        Group {
            prompt: prompt.ids.clone(),
            members,
        }
    }

    /// Reward, whether the answer is the right one, whether its format is good.
    fn reward(&self, prompt: &Prompt, ids: &[u32]) -> (f64, bool, bool) {
        let text = self.tokenizer.decode(ids, false);
        let text = text.strip_suffix(chat::END).unwrap_or(&text);
        let outcome = prompt.score(text);
        let (exact, good_format) = (outcome.reward >= 1.0, outcome.format_reward > 0.0);
        let reward = match self.p.reward {
            Reward::SimRl => outcome.reward,
            Reward::Toolrl => prompt.toolrl(text),
            Reward::FormatExact if exact => 1.0,
            Reward::FormatExact if good_format => 0.0,
            Reward::FormatExact => -1.0,
        };
        let reward = if self.p.overlong_buffer == 0 {
            reward
        } else {
            let (limit, buffer) = (self.p.max_new_tokens, self.p.overlong_buffer);
            overlong_penalty(reward, ids.len(), limit, buffer, self.p.overlong_penalty)
        };
        (reward, exact, good_format)
    }

    fn teaches(&self, group: &Group) -> bool {
        let rewards: Vec<f64> = group.members.iter().map(|m| m.reward).collect();
        if rewards.is_empty() {
            return false;
        }
        let filter = &self.p.filter;
        match (filter.low, filter.high) {
            (None, None) => !group.is_equal(),
            (low, high) => {
                // the bounds are on the answer's part, which a bad format earns nothing of
                let answers: Vec<f64> = rewards.iter().map(|r| r.max(0.0)).collect();
                let bounds = (
                    low.unwrap_or(f64::NEG_INFINITY),
                    high.unwrap_or(f64::INFINITY),
                );
                keep_group(&answers, bounds, 0.0)
            }
        }
    }
}

/// Sets the order of replacing prompts apart from the first.
const REPLACEMENTS: u64 = 0x5eed_0f5e_c04d_0000;
