//! From verdicts to the official numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;

use super::agent::AgentScore;
use super::{Category, Dataset, Family, Verdict};

/// Python's `round(x, 3)`: the nearest three-decimal number to the binary value, exact ties to even.
pub(super) fn round3(x: f64) -> f64 {
    // Rust's formatting rounds the exact binary value, ties to even.
    format!("{x:.3}").parse().unwrap_or(x)
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// Of a Normal or Special entry.
    Verdict(Verdict),
    /// Of an Agent entry.
    Agent(AgentScore),
}

/// The score of one category.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CategoryScore {
    /// In [0, 1]; of dialogues in multi-turn, of right end states for agents.
    pub accuracy: f64,
    /// Entries that count (turns in multi-turn).
    pub correct: usize,
    /// Entries judged.
    pub total: usize,
    /// Mean share of right turns a dialogue, or of milestones met a conversation.
    pub process: Option<f64>,
    /// In multi-turn: dialogues with every turn right, and all dialogues.
    pub dialogues: Option<(usize, usize)>,
}

/// The official table of one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    categories: BTreeMap<Category, CategoryScore>,
}

/// Share of the Special group in the overall score; the three come from square roots of family sizes.
pub(super) const SPECIAL: f64 = 0.2676;
/// Share of the Normal group.
pub(super) const NORMAL: f64 = 0.578;
/// Share of the Agent group.
pub(super) const AGENT: f64 = 0.1545;

const ATOM: [Category; 6] = [
    Category::AtomBool,
    Category::AtomEnum,
    Category::AtomNumber,
    Category::AtomList,
    Category::AtomObjectDeep,
    Category::AtomObjectShort,
];
const SINGLE: [Category; 2] = [Category::SingleFunction, Category::ParallelFunction];
const MULTI: [Category; 2] = [Category::UserSwitch, Category::UserAdjust];
const SPECIALS: [Category; 3] = [
    Category::Incomplete,
    Category::ErrorParam,
    Category::Irrelevant,
];
const AGENTS: [Category; 2] = [Category::AgentMultiTurn, Category::AgentMultiStep];

impl Dataset {
    /// Adds up outcomes by entry id. Entries without an outcome are left out of the counts, and a category
    /// without any scores 0 in its group.
    pub fn summary(&self, outcomes: &IndexMap<String, Outcome>) -> Summary {
        let mut categories = BTreeMap::new();
        for category in Category::ALL {
            let judged: Vec<(&str, Outcome)> = self
                .category(category)
                .filter_map(|item| {
                    let outcome = outcomes.get(&item.id)?;
                    Some((item.dialogue().unwrap_or(&item.id), *outcome))
                })
                .collect();
            if !judged.is_empty() {
                categories.insert(category, CategoryScore::new(category, &judged));
            }
        }
        Summary { categories }
    }
}

impl CategoryScore {
    /// Outcomes in the order of the file, each with its dialogue's name.
    fn new(category: Category, judged: &[(&str, Outcome)]) -> Self {
        let valid: Vec<bool> = judged.iter().map(|(_, outcome)| outcome.valid()).collect();
        let correct = valid.iter().filter(|valid| **valid).count();
        let total = valid.len();
        let share = correct as f64 / total as f64;
        let mut dialogues = None;
        let (accuracy, process) = match category.family() {
            Family::Agent => (
                round3(share),
                Some(round3(mean(
                    judged.iter().map(|(_, outcome)| outcome.process()),
                ))),
            ),
            Family::Special => (share, None),
            Family::Normal if category.is_multi_turn() => {
                let (end, process): (Vec<f64>, Vec<f64>) = judged
                    .chunk_by(|(a, _), (b, _)| a == b)
                    .map(|turns| {
                        let right = turns.iter().filter(|(_, outcome)| outcome.valid()).count();
                        let end = if right == turns.len() { 1.0 } else { 0.0 };
                        (end, round3(right as f64 / turns.len() as f64))
                    })
                    .unzip();
                let right = end.iter().filter(|end| **end > 0.5).count();
                dialogues = Some((right, end.len()));
                (
                    round3(mean(end.into_iter())),
                    Some(round3(mean(process.into_iter()))),
                )
            }
            Family::Normal => (round3(share), None),
        };
        Self {
            accuracy,
            correct,
            total,
            process,
            dialogues,
        }
    }
}

impl Outcome {
    fn valid(self) -> bool {
        match self {
            Self::Verdict(verdict) => verdict.valid(),
            Self::Agent(score) => score.end,
        }
    }

    fn process(self) -> f64 {
        match self {
            Self::Verdict(verdict) => f64::from(u8::from(verdict.valid())),
            Self::Agent(score) => score.process,
        }
    }
}

/// The sum in order, divided by the count.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / f64::from(count)
}

impl Summary {
    /// Builds a summary from categories that were scored elsewhere.
    pub fn from_categories(
        categories: impl IntoIterator<Item = (Category, CategoryScore)>,
    ) -> Self {
        Self {
            categories: categories.into_iter().collect(),
        }
    }

    /// The score of a category, if any of its entries was judged.
    pub fn category(&self, category: Category) -> Option<&CategoryScore> {
        self.categories.get(&category)
    }

    fn accuracy(&self, category: Category) -> f64 {
        self.categories
            .get(&category)
            .map_or(0.0, |score| score.accuracy)
    }

    fn process(&self, category: Category) -> f64 {
        self.categories
            .get(&category)
            .and_then(|score| score.process)
            .unwrap_or(0.0)
    }

    fn group(&self, categories: &[Category]) -> f64 {
        round3(mean(
            categories.iter().map(|&category| self.accuracy(category)),
        ))
    }

    /// Mean of the six atom categories.
    pub fn atom(&self) -> f64 {
        self.group(&ATOM)
    }

    /// Mean of the two single-turn categories.
    pub fn single_turn(&self) -> f64 {
        self.group(&SINGLE)
    }

    /// Mean of the two multi-turn categories, by dialogues.
    pub fn multi_turn(&self) -> f64 {
        self.group(&MULTI)
    }

    /// Mean of the twelve Normal categories, not weighted by their sizes.
    pub fn normal(&self) -> f64 {
        let twelve: Vec<Category> = Category::ALL
            .into_iter()
            .filter(|category| category.family() == Family::Normal)
            .collect();
        self.group(&twelve)
    }

    /// Mean of the three Special categories.
    pub fn special(&self) -> f64 {
        self.group(&SPECIALS)
    }

    /// Mean of the two agent categories' end accuracies.
    pub fn agent(&self) -> f64 {
        self.group(&AGENTS)
    }

    /// The weighted sum of the three groups.
    pub fn overall(&self) -> f64 {
        round3(self.special() * SPECIAL + self.normal() * NORMAL + self.agent() * AGENT)
    }

    /// Every number of the official table, by name, in its order.
    pub fn rows(&self) -> Vec<(&'static str, f64)> {
        use Category as C;
        vec![
            ("atom_bool", self.accuracy(C::AtomBool)),
            ("atom_enum", self.accuracy(C::AtomEnum)),
            ("atom_number", self.accuracy(C::AtomNumber)),
            ("atom_list", self.accuracy(C::AtomList)),
            ("atom_object_deep", self.accuracy(C::AtomObjectDeep)),
            ("atom_object_short", self.accuracy(C::AtomObjectShort)),
            ("atom", self.atom()),
            (
                "single_turn_single_function",
                self.accuracy(C::SingleFunction),
            ),
            (
                "single_turn_parallel_function",
                self.accuracy(C::ParallelFunction),
            ),
            ("single_turn", self.single_turn()),
            ("multi_turn_user_switch", self.accuracy(C::UserSwitch)),
            ("multi_turn_user_adjust", self.accuracy(C::UserAdjust)),
            ("multi_turn", self.multi_turn()),
            ("similar_api", self.accuracy(C::SimilarApi)),
            ("preference", self.accuracy(C::Preference)),
            ("normal_summary", self.normal()),
            ("incomplete", self.accuracy(C::Incomplete)),
            ("error_param", self.accuracy(C::ErrorParam)),
            ("irrelevant", self.accuracy(C::Irrelevant)),
            ("special_summary", self.special()),
            ("agent_multi_turn", self.accuracy(C::AgentMultiTurn)),
            ("agent_multi_turn_process", self.process(C::AgentMultiTurn)),
            ("agent_multi_step", self.accuracy(C::AgentMultiStep)),
            ("agent_multi_step_process", self.process(C::AgentMultiStep)),
            ("agent_summary", self.agent()),
            ("overall", self.overall()),
        ]
    }

    /// How the groups are made, in words that can be printed beside the numbers.
    pub fn formula() -> String {
        format!(
            "group = round3(mean of its categories' accuracies), whatever their sizes\n\
             multi-turn accuracy = dialogues with every turn right / dialogues\n\
             normal = the twelve Normal categories = (6 atom + 2 single + 2 multi + similar + preference) / 12\n\
             overall = round3({SPECIAL} * special + {NORMAL} * normal + {AGENT} * agent)\n\
             a category that was not run counts as 0\n"
        )
    }

    /// The table as text: a line a number, in percent, with entries right and judged where it is a category.
    pub fn table(&self) -> String {
        let counts: BTreeMap<&str, &CategoryScore> = self
            .categories
            .iter()
            .map(|(category, score)| {
                let name = category.name();
                let short = name
                    .strip_prefix("normal_")
                    .or_else(|| name.strip_prefix("special_"));
                (short.unwrap_or(name), score)
            })
            .collect();
        let mut out = String::new();
        for (name, value) in self.rows() {
            let _ = write!(out, "{name:<30} {:>5.1}", value * 100.0);
            if let Some(score) = counts.get(name) {
                let _ = write!(out, "  {:>3} / {}", score.correct, score.total);
            }
            out.push('\n');
        }
        out
    }
}
