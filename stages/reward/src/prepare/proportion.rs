//! Sampling of a corpus by proportion of what its last answers are.

use starling_text::json::{self, Dumps, Value};
use starling_text::python;
use thiserror::Error;

use super::labels::{Tag, label_last};
use super::python_random::PythonRandom;
use super::role;

/// How many rows to take, and of what.
#[derive(Debug, Clone, PartialEq)]
pub struct Proportions {
    /// Rows wanted.
    pub size: usize,
    /// Seed of the shuffle and of the last draw.
    pub seed: u64,
    /// Rows whose last answer lies deeper in the conversation are skipped, in turns.
    pub max_turns: usize,
    /// Least share of rows of one turn; the rest is of several.
    pub single_turn: f64,
    /// Least share of rows with several calls at once; the rest has one.
    pub parallel: f64,
    /// Share of rows that end in a reply, least and most.
    pub response: f64,
    /// Least share of rows whose calls follow a tool's result.
    pub multi_step: f64,
    /// Rows with a longer prompt are dropped, in tokens.
    pub max_prompt_tokens: usize,
}

impl Proportions {
    /// The released script's shares for a number of rows.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            seed: 42,
            max_turns: 10,
            single_turn: 0.3,
            parallel: 0.5,
            response: 0.2,
            multi_step: 0.3,
            max_prompt_tokens: 8192,
        }
    }

    /// The least numbers of rows by category: shares of the size, cut to whole rows.
    pub fn min_counts(&self) -> MinCounts {
        let share = |rate: f64| (self.size as f64 * rate) as usize;
        Categories {
            single_turn: share(self.single_turn),
            multi_turn: share(1.0 - self.single_turn),
            parallel: share(self.parallel),
            single: share(1.0 - self.parallel),
            response: share(self.response),
            multi_step: share(self.multi_step),
        }
    }

    /// How many rows the walk takes: a tenth more than wanted.
    pub fn target_size(&self) -> usize {
        (self.size as f64 * 1.1) as usize
    }
}

/// Something for each category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Categories<T> {
    /// The last answer comes in the first turn.
    pub single_turn: T,
    /// It comes later.
    pub multi_turn: T,
    /// It makes several calls.
    pub parallel: T,
    /// It makes one call.
    pub single: T,
    /// It says something.
    pub response: T,
    /// Its calls follow a tool's result.
    pub multi_step: T,
}

/// The least number of rows of each category.
pub type MinCounts = Categories<usize>;

impl<T: Copy> Categories<T> {
    /// The parts by name, in a fixed order.
    pub fn parts(&self) -> [(&'static str, T); 6] {
        [
            ("single_turn", self.single_turn),
            ("multi_turn", self.multi_turn),
            ("parallel", self.parallel),
            ("single", self.single),
            ("response", self.response),
            ("multi_step", self.multi_step),
        ]
    }
}

impl Categories<bool> {
    /// The categories of a conversation, after its last answer; none without one.
    pub fn of(messages: &[Value]) -> Self {
        let Some(label) = label_last(messages) else {
            return Self::default();
        };
        let has = |tag| label.tags.contains(&tag);
        Self {
            single_turn: label.turns == 1,
            multi_turn: label.turns > 1,
            parallel: has(Tag::Parallel),
            single: has(Tag::Single),
            response: has(Tag::Response),
            multi_step: has(Tag::MultiStep),
        }
    }
}

impl Categories<usize> {
    fn add(&mut self, of: &Categories<bool>) {
        self.single_turn += usize::from(of.single_turn);
        self.multi_turn += usize::from(of.multi_turn);
        self.parallel += usize::from(of.parallel);
        self.single += usize::from(of.single);
        self.response += usize::from(of.response);
        self.multi_step += usize::from(of.multi_step);
    }
}

/// Positions of rows after each stage of the sampling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// All of them, shuffled.
    pub shuffled: Vec<usize>,
    /// What the walk took.
    pub greedy: Vec<usize>,
    /// Those of it whose prompt is short enough.
    pub filtered: Vec<usize>,
    /// What is left in the end, at most the size wanted.
    pub taken: Vec<usize>,
    /// What was taken in the end, by category.
    pub counts: Categories<usize>,
}

/// What the sampling looks at in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traits {
    /// What its last answer is.
    pub categories: Categories<bool>,
    /// How deep in the conversation that answer lies, in turns; 0 without one.
    pub turns: usize,
}

impl Traits {
    /// The traits of a conversation.
    pub fn of(messages: &[Value]) -> Self {
        Self {
            categories: Categories::of(messages),
            turns: label_last(messages).map_or(0, |label| label.turns),
        }
    }
}

/// Samples conversations. `prompt_tokens` gives the length of a row's prompt, exact or estimated; it is asked
/// only for rows that the walk took.
pub fn select(
    conversations: &[&[Value]],
    wanted: &Proportions,
    prompt_tokens: impl FnMut(usize) -> usize,
) -> Selection {
    let traits: Vec<Traits> = conversations.iter().map(|all| Traits::of(all)).collect();
    Walk::new(&traits, wanted).finish(&traits, wanted, prompt_tokens)
}

/// Why the walk did not take a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum PassedOver {
    /// Its last answer comes after too many turns.
    #[error("the last answer lies deeper than `max-turns`")]
    Deep,
    /// It ends in a reply, and there were enough of those.
    #[error("enough rows end in a reply")]
    Replies,
    /// All of its categories had their least number of rows, or it has none for want of an answer.
    #[error("enough rows have its categories")]
    Categories,
    /// The walk had ended before.
    #[error("enough rows were taken before it")]
    Behind,
}

/// The first half of the sampling: what is taken before the lengths of prompts are known.
#[derive(Debug)]
pub struct Walk {
    random: PythonRandom,
    shuffled: Vec<usize>,
    greedy: Vec<usize>,
    passed_over: Vec<(usize, PassedOver)>,
}

impl Walk {
    /// Shuffles and walks.
    pub fn new(traits: &[Traits], wanted: &Proportions) -> Self {
        let mut random = PythonRandom::new(wanted.seed);
        let mut shuffled: Vec<usize> = (0..traits.len()).collect();
        random.shuffle(&mut shuffled);
        let (greedy, mut passed_over) = walk(traits, &shuffled, wanted);
        passed_over.sort_unstable();
        Self {
            random,
            shuffled,
            greedy,
            passed_over,
        }
    }

    /// The rows that were not taken and why, by their place.
    pub fn passed_over(&self) -> &[(usize, PassedOver)] {
        &self.passed_over
    }

    /// The rows whose prompts' lengths are asked for next.
    pub fn taken(&self) -> &[usize] {
        &self.greedy
    }

    /// Drops long prompts and draws the sample.
    pub fn finish(
        mut self,
        traits: &[Traits],
        wanted: &Proportions,
        mut prompt_tokens: impl FnMut(usize) -> usize,
    ) -> Selection {
        let fits = |&row: &usize| prompt_tokens(row) <= wanted.max_prompt_tokens;
        let filtered: Vec<usize> = self.greedy.iter().copied().filter(fits).collect();
        let taken = if filtered.len() > wanted.size {
            let drawn = self.random.sample(filtered.len(), wanted.size);
            drawn.into_iter().map(|i| filtered[i]).collect()
        } else {
            filtered.clone()
        };
        let mut counts = Categories::default();
        taken
            .iter()
            .for_each(|&row: &usize| counts.add(&traits[row].categories));
        Selection {
            shuffled: self.shuffled,
            greedy: self.greedy,
            filtered,
            taken,
            counts,
        }
    }
}

fn walk(
    traits: &[Traits],
    order: &[usize],
    wanted: &Proportions,
) -> (Vec<usize>, Vec<(usize, PassedOver)>) {
    let least = wanted.min_counts();
    let mut counts = Categories::<usize>::default();
    let (mut taken, mut passed_over) = (Vec::new(), Vec::new());
    for &row in order {
        let Traits { categories, turns } = traits[row];
        let (has, counted, least_of) = (categories.parts(), counts.parts(), least.parts());
        let why = if taken.len() >= wanted.target_size() {
            PassedOver::Behind
        } else if turns > wanted.max_turns {
            PassedOver::Deep
        } else if categories.response && counts.response >= least.response {
            PassedOver::Replies
        } else if (0..has.len()).any(|i| has[i].1 && counted[i].1 < least_of[i].1) {
            counts.add(&categories);
            taken.push(row);
            continue;
        } else {
            PassedOver::Categories
        };
        passed_over.push((row, why));
    }
    (taken, passed_over)
}

/// A guess at the tokens of a row's prompt (the messages before the last answer, and the tools): a third of
/// its characters.
pub fn estimate_tokens(messages: &[Value], tools: Option<&Value>) -> usize {
    let last = messages
        .iter()
        .rposition(|message| role(message) == Some("assistant"));
    let length = |text: &str| text.chars().count();
    let dumped = |value: &Value| {
        length(&json::dumps_with(
            value,
            &Dumps {
                ensure_ascii: false,
                ..Dumps::default()
            },
        ))
    };
    let message = |message: &Value| {
        let part = |key| message.get(key).filter(|value| python::truthy(value));
        let role = part("role").map_or(0, |role| length(&python::str(role)));
        let content = part("content").map_or(0, |content| length(&python::str(content)));
        let reasoning = part("reasoning_content").map_or(0, |text| length(&python::str(text)));
        role + 10 + content + reasoning + part("tool_calls").map_or(0, dumped)
    };
    let before = &messages[..last.unwrap_or(messages.len())];
    let tools = tools
        .filter(|tools| python::truthy(tools))
        .map_or(0, dumped);
    (before.iter().map(message).sum::<usize>() + tools) / 3
}
