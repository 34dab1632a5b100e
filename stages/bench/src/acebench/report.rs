//! The table that people read, with intervals and published figures beside the official numbers.

use std::fmt::Write as _;

use super::score::{CategoryScore, Summary};
use super::{Category, Family};
use crate::interval::{Interval, combined, wilson};

/// Rows of the STAR paper (ICLR 2026), in per cent: name, atom, single turn, multi turn, similar, preference, summary.
pub const PUBLISHED: [(&str, [f64; 6]); 2] = [
    ("Qwen3-0.6B", [37.70, 19.50, 10.00, 36.00, 6.00, 27.20]),
    ("CKD+Sim-RL", [69.30, 35.00, 32.00, 62.00, 20.00, 53.00]),
];

/// The columns of [`PUBLISHED`], as the official table names them.
const COLUMNS: [&str; 6] = [
    "atom",
    "single_turn",
    "multi_turn",
    "similar_api",
    "preference",
    "normal_summary",
];

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As the official table names it.
    pub name: &'static str,
    /// Right and all: entries, or dialogues in multi-turn; `None` for a mean of categories.
    pub count: Option<(usize, usize)>,
    /// The official number, with its 95 % interval; `None` for process accuracies.
    pub accuracy: Interval,
    /// Whether an interval can be given.
    pub has_interval: bool,
    /// What the paper has in this column, in the order of [`PUBLISHED`].
    pub published: Option<[f64; 2]>,
}

/// The category behind a name of the official table.
fn category(name: &str) -> Option<Category> {
    ["normal_", "special_", ""]
        .iter()
        .find_map(|prefix| Category::from_name(&format!("{prefix}{name}")))
}

/// The categories whose mean a line is, with their weights.
fn parts(name: &str) -> Vec<(f64, Category)> {
    use Category as C;
    let of = |family: Family| -> Vec<Category> {
        Category::ALL
            .into_iter()
            .filter(|c| c.family() == family)
            .collect()
    };
    let atoms = vec![
        C::AtomBool,
        C::AtomEnum,
        C::AtomNumber,
        C::AtomList,
        C::AtomObjectDeep,
        C::AtomObjectShort,
    ];
    let even = |categories: Vec<Category>, scale: f64| -> Vec<(f64, Category)> {
        let weight = scale / categories.len() as f64;
        categories.into_iter().map(|c| (weight, c)).collect()
    };
    match name {
        "atom" => even(atoms, 1.0),
        "single_turn" => even(vec![C::SingleFunction, C::ParallelFunction], 1.0),
        "multi_turn" => even(vec![C::UserSwitch, C::UserAdjust], 1.0),
        "normal_summary" => even(of(Family::Normal), 1.0),
        "special_summary" => even(of(Family::Special), 1.0),
        "agent_summary" => even(of(Family::Agent), 1.0),
        "overall" => [
            even(of(Family::Special), super::score::SPECIAL),
            even(of(Family::Normal), super::score::NORMAL),
            even(of(Family::Agent), super::score::AGENT),
        ]
        .concat(),
        _ => Vec::new(),
    }
}

/// What an accuracy counts: dialogues where the official number is of dialogues.
fn units(score: &CategoryScore) -> (usize, usize) {
    score.dialogues.unwrap_or((score.correct, score.total))
}

impl Summary {
    /// Every line of the official table that something was judged for.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let counted = |c: Category| self.category(c).filter(|score| score.total > 0).map(units);
        let line = |(name, value): (&'static str, f64)| {
            let published = COLUMNS
                .iter()
                .position(|column| *column == name)
                .map(|column| PUBLISHED.each_ref().map(|(_, row)| row[column]));
            let only = category(name);
            let members = parts(name);
            if let Some(only) = only {
                let (right, all) = counted(only)?;
                let accuracy = Interval {
                    value,
                    ..wilson(right, all)
                };
                return Some(Line {
                    name,
                    count: Some((right, all)),
                    accuracy,
                    has_interval: true,
                    published,
                });
            }
            let shares: Vec<_> = members
                .iter()
                .filter_map(|(weight, c)| counted(*c).map(|(right, all)| (*weight, right, all)))
                .collect();
            let process = name.ends_with("_process");
            if shares.is_empty() && !process {
                return None;
            }
            if process && counted(category(name.trim_end_matches("_process"))?).is_none() {
                return None;
            }
            Some(Line {
                name,
                count: None,
                accuracy: combined(value, &shares),
                has_interval: !process,
                published,
            })
        };
        self.rows().into_iter().filter_map(line).collect()
    }

    /// The table as text, with the formula below it.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = String::new();
        let [first, second] = PUBLISHED.each_ref().map(|(name, _)| *name);
        let _ = writeln!(
            out,
            "{:<30} {:>9}  {:<24} {first:>10} {second:>10}",
            "", "right/all", "accuracy, % [95 %]"
        );
        for line in self.lines() {
            let count = line
                .count
                .map_or_else(String::new, |(right, all)| format!("{right}/{all}"));
            let accuracy = match line.has_interval {
                true => line.accuracy.percent(),
                false => format!("{:6.2}", 100.0 * line.accuracy.value),
            };
            let _ = write!(out, "{:<30} {count:>9}  {accuracy:<24}", line.name);
            if let Some([first, second]) = line.published {
                let _ = write!(out, " {first:>10.2} {second:>10.2}");
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        let _ = write!(out, "\n{}", Self::formula());
        out
    }
}
