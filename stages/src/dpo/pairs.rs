//! Pairs of answers to one prompt, ranked by the reward.

use std::collections::BTreeMap;
use std::path::Path;

use starling_contract::StageError;
use starling_text::json::Value;

use crate::chat;
use crate::prompts::Prompt;
use crate::rollouts::{Rollout, Rollouts};
use crate::rows::{RowWriter, object, string};

/// One side of a pair.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Side {
    pub(super) ids: Vec<u32>,
    text: String,
    reward: f64,
}

/// A prompt with a better and a worse answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ranked {
    id: String,
    inputs: String,
    pub(super) prompt: Vec<u32>,
    /// The chosen one, then the rejected one.
    pub(super) answers: [Side; 2],
}

impl Ranked {
    /// Prompt and answer of one side.
    pub(super) fn whole(&self, side: usize) -> Vec<u32> {
        self.prompt
            .iter()
            .chain(&self.answers[side].ids)
            .copied()
            .collect()
    }

    /// Tokens of both sequences.
    pub(super) fn tokens(&self) -> usize {
        self.answers
            .iter()
            .map(|a| self.prompt.len() + a.ids.len())
            .sum()
    }
}

/// Pairs each prompt's best answer with its worst: of equal ones the first in the order of the sets.
pub(super) fn rank(
    prompts: &[Prompt],
    sets: &[Rollouts],
    chosen_min: f64,
    min_margin: f64,
) -> Vec<Ranked> {
    let mut answers: BTreeMap<&str, Vec<&Rollout>> = BTreeMap::new();
    for rollout in sets.iter().flat_map(|set| &set.rollouts) {
        answers.entry(&rollout.seed).or_default().push(rollout);
    }
    let pair = |prompt: &Prompt| {
        let rewards = answers.get(prompt.id.as_str())?.iter().map(|rollout| {
            let text = rollout.targets.strip_suffix(chat::END);
            let text = text.unwrap_or(&rollout.targets);
            (prompt.score(text).reward, *rollout)
        });
        let rewards: Vec<(f64, &Rollout)> = rewards.collect();
        let best = rewards.iter().rev().max_by(|a, b| a.0.total_cmp(&b.0))?;
        let worst = rewards.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
        if best.0 < chosen_min || best.0 - worst.0 < min_margin {
            return None;
        }
        let side = |(reward, rollout): &(f64, &Rollout)| Side {
            ids: rollout.ids.clone(),
            text: rollout.targets.clone(),
            reward: *reward,
        };
        Some(Ranked {
            id: prompt.id.clone(),
            inputs: prompt.inputs.clone(),
            prompt: prompt.ids.clone(),
            answers: [side(best), side(worst)],
        })
    };
    prompts.iter().filter_map(pair).collect()
}

/// Writes the pairs for people to read.
pub(super) fn write(path: &Path, pairs: &[Ranked]) -> Result<(), StageError> {
    let mut rows = RowWriter::create(path)?;
    for pair in pairs {
        let [chosen, rejected] = &pair.answers;
        rows.write(&object([
            ("id", string(pair.id.as_str())),
            ("inputs", string(pair.inputs.as_str())),
            ("chosen", string(chosen.text.as_str())),
            ("rejected", string(rejected.text.as_str())),
            ("chosen_reward", Value::Float(chosen.reward)),
            ("rejected_reward", Value::Float(rejected.reward)),
        ]))?;
    }
    rows.finish().map(|_| ())
}
