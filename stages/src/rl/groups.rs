//! Groups of answers: sampling, judging, and choosing the groups that teach.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use starling_lm::generate::{GenerateError, Request, Sample, Sampling, StopReason};
use starling_lm::place::Generator;
use starling_lm::policy::advantage::overlong_penalty;
use starling_lm::policy::keep_group;
use starling_lm::tokenizer::Tokenizer;

use super::time::Times;
use super::{Params, Reward};
use crate::chat;
use crate::prompts::Prompt;
use crate::random::Epochs;
use crate::rollouts::Rollouts;
use crate::samples::{self, Parts};
use crate::training::{Step, Trouble};

/// An answer that a group is made of.
pub(super) struct Member {
    pub(super) ids: Vec<u32>,
    /// Under the policy that sampled; of a trace, filled in by the learner.
    pub(super) logprobs: Vec<f32>,
    pub(super) reward: f64,
    /// Whether a teacher wrote it.
    pub(super) foreign: bool,
    /// Its place in [`Drawn::samples`].
    pub(super) number: usize,
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
    /// Every answer, in the order of groups.
    pub(super) samples: Vec<samples::Sample>,
}

/// What an answer earned.
struct Judged {
    reward: f64,
    exact: bool,
    good_format: bool,
    /// The answer's reward of Sim-RL, whatever is learned from.
    answer: f64,
    parts: Parts,
    failed: Option<String>,
    text: String,
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
    answer: f64,
    overlong: f64,
    unfinished: usize,
    entropy: f64,
    tokens: usize,
    longest: usize,
    prompt_tokens: u64,
    samples: Vec<samples::Sample>,
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
        times: &mut Times<'_>,
    ) -> Result<Drawn, Trouble> {
        let (mut kept, mut seen, mut rounds) = (Vec::new(), Seen::default(), 0);
        while rounds < self.p.filter.rounds && kept.len() < self.p.prompts {
            let chosen = self.prompts(step, rounds);
            let samples = self.sample(generator, &chosen, step, threads)?;
            times.generation();
            for (prompt, samples) in chosen.into_iter().zip(samples) {
                let group = self.judge(prompt, samples, step.update, &mut seen);
                seen.equal += usize::from(group.is_equal());
                let first = seen.samples.len() - group.members.len();
                match self.left_out(&group) {
                    None => kept.push(group),
                    Some(why) => {
                        for sample in &mut seen.samples[first..] {
                            sample.filtered = Some(why.to_owned());
                        }
                    }
                }
            }
            times.reward();
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
            ("response_tokens_max", seen.longest as f64),
            ("reward_answer", seen.answer / n),
            ("reward_overlong", -seen.overlong / n),
        ];
        Ok(Drawn {
            samples: seen.samples,
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

    fn judge(&self, prompt: &Prompt, answers: Vec<Sample>, update: u64, seen: &mut Seen) -> Group {
        let group = seen.groups;
        seen.groups += 1;
        seen.prompt_tokens += prompt.ids.len() as u64;
        let mut members = Vec::with_capacity(answers.len() + 1);
        for answer in answers {
            let judged = self.reward(prompt, &answer.tokens);
            let tokens = answer.tokens.len();
            let finished = answer.stop == StopReason::Stop;
            let entropy: f64 = answer.entropies.iter().map(|e| f64::from(*e)).sum();
            seen.answers += 1;
            seen.reward += judged.reward;
            seen.exact += usize::from(judged.exact);
            seen.good_format += usize::from(judged.good_format);
            seen.answer += judged.answer;
            seen.overlong += judged.parts.overlong;
            seen.unfinished += usize::from(!finished);
            seen.entropy += entropy;
            seen.tokens += tokens;
            seen.longest = seen.longest.max(tokens);
            let logprob: f64 = answer.logprobs.iter().map(|lp| f64::from(*lp)).sum();
            let mean = |sum: f64| Some(sum / tokens.max(1) as f64);
            members.push(Member {
                reward: judged.reward,
                ids: answer.tokens,
                logprobs: answer.logprobs,
                foreign: false,
                number: seen.samples.len(),
            });
            seen.samples.push(samples::Sample {
                logprob: mean(logprob),
                entropy: mean(entropy),
                finished,
                ..judged.sample(prompt, (update, group, members.len() - 1), tokens)
            });
        }
        if let (Some(traces), Some(known)) = (self.traces, self.by_seed.get(prompt.id.as_str())) {
            let trace = &traces.rollouts[known[update as usize % known.len()]];
            let judged = self.reward(prompt, &trace.ids);
            members.push(Member {
                reward: judged.reward,
                ids: trace.ids.clone(),
                logprobs: Vec::new(),
                foreign: true,
                number: seen.samples.len(),
            });
            seen.samples.push(samples::Sample {
                finished: true,
                foreign: true,
                ..judged.sample(prompt, (update, group, members.len() - 1), trace.ids.len())
            });
        }
        Group {
            prompt: prompt.ids.clone(),
            members,
        }
    }

    fn reward(&self, prompt: &Prompt, ids: &[u32]) -> Judged {
        let text = self.tokenizer.decode(ids, false);
        let outcome = prompt.score(text.strip_suffix(chat::END).unwrap_or(&text));
        let (exact, good_format) = (outcome.reward >= 1.0, outcome.format_reward > 0.0);
        let mut parts = Parts {
            format: outcome.format_reward,
            answer: outcome.answer_reward,
            overlong: 0.0,
        };
        let plain = match self.p.reward {
            Reward::SimRl => outcome.reward,
            Reward::Toolrl => {
                let own = prompt.toolrl(text.strip_suffix(chat::END).unwrap_or(&text));
                (parts.format, parts.answer) = (own.format, own.correctness);
                own.score()
            }
            Reward::FormatExact => {
                parts.answer = f64::from(u8::from(exact));
                match (exact, good_format) {
                    (true, _) => 1.0,
                    (false, true) => 0.0,
                    (false, false) => -1.0,
                }
            }
        };
        let reward = if self.p.overlong_buffer == 0 {
            plain
        } else {
            let (limit, buffer) = (self.p.max_new_tokens, self.p.overlong_buffer);
            overlong_penalty(plain, ids.len(), limit, buffer, self.p.overlong_penalty)
        };
        parts.overlong = plain - reward;
        Judged {
            reward,
            exact,
            good_format,
            answer: outcome.answer_reward,
            parts,
            failed: outcome.why.map(|fault| fault.rule().to_owned()),
            text,
        }
    }

    /// Why a group does not teach; none when it does.
    fn left_out(&self, group: &Group) -> Option<&'static str> {
        let rewards: Vec<f64> = group.members.iter().map(|m| m.reward).collect();
        if rewards.is_empty() {
            return Some(EQUAL);
        }
        let filter = &self.p.filter;
        match (filter.low, filter.high) {
            (None, None) => group.is_equal().then_some(EQUAL),
            (low, high) => {
                // the bounds are on the answer's part, which a bad format earns nothing of
                let answers: Vec<f64> = rewards.iter().map(|r| r.max(0.0)).collect();
                let bounds = (
                    low.unwrap_or(f64::NEG_INFINITY),
                    high.unwrap_or(f64::INFINITY),
                );
                match keep_group(&answers, bounds, 0.0) {
                    true => None,
                    false if group.is_equal() => Some(EQUAL),
                    false => Some("out-of-bounds"),
                }
            }
        }
    }
}

/// All rewards of the group are the same.
const EQUAL: &str = "equal-rewards";

impl Judged {
    /// What is kept of it; `place` is update (from 0), group and number within it.
    fn sample(self, prompt: &Prompt, place: (u64, usize, usize), tokens: usize) -> samples::Sample {
        samples::Sample {
            update: place.0 + 1,
            group: place.1,
            sample: place.2,
            id: prompt.id.clone(),
            answer: self.text,
            tokens,
            reward: self.reward,
            parts: self.parts,
            failed: self.failed,
            ..samples::Sample::default()
        }
    }
}

/// Sets the order of replacing prompts apart from the first.
const REPLACEMENTS: u64 = 0x5eed_0f5e_c04d_0000;
