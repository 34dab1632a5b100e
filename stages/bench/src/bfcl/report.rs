//! The table that people read: categories and sections with intervals, the formulas, published figures beside them.

use std::fmt::Write as _;

use super::category::{Category, Section};
use super::score::{FORMULA_V3, FORMULA_V4, Summary};
use crate::interval::{Interval, combined, wilson};

/// A published row: the STAR paper's main table (ICLR 2026), in per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// The model.
    pub name: &'static str,
    /// Overall, version 3.
    pub overall: f64,
    /// Non-Live (AST) Acc.
    pub non_live_ast: f64,
    /// Live Acc.
    pub live: f64,
    /// Multi-Turn Acc.
    pub multi_turn: f64,
}

/// Rows of the paper for models of 0.6 billion parameters.
pub const PUBLISHED: [Published; 2] = [
    Published {
        name: "Qwen3-0.6B",
        overall: 47.33,
        non_live_ast: 71.81,
        live: 65.66,
        multi_turn: 1.88,
    },
    Published {
        name: "CKD+Sim-RL",
        overall: 51.70,
        non_live_ast: 78.65,
        live: 68.19,
        multi_turn: 7.00,
    },
];

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Category, section or column of the leaderboard.
    pub name: &'static str,
    /// Right entries and all entries; `None` where it is a mean of means.
    pub count: Option<(usize, usize)>,
    /// The accuracy with its 95 % interval.
    pub accuracy: Interval,
    /// What the paper has in this column, in the order of [`PUBLISHED`].
    pub published: Option<[f64; 2]>,
}

impl Summary {
    /// Every line of the table: categories that have entries, then the columns of the leaderboard.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let judged = Category::ALL
            .into_iter()
            .filter(|c| self.count(*c).total > 0);
        let mut lines: Vec<Line> = judged
            .map(|category| {
                let count = self.count(category);
                Line {
                    name: category.name(),
                    count: Some((count.correct, count.total)),
                    accuracy: wilson(count.correct, count.total),
                    published: None,
                }
            })
            .collect();
        let (v3, v4) = (self.v3(), self.v4(0.0));
        let ast = |scale: f64| {
            let mut parts = Vec::new();
            for category in [
                Category::SimplePython,
                Category::SimpleJava,
                Category::SimpleJavaScript,
            ] {
                parts.push((scale / 3.0, category));
            }
            for category in [
                Category::Multiple,
                Category::Parallel,
                Category::ParallelMultiple,
            ] {
                parts.push((scale, category));
            }
            parts
        };
        let multi_turn = |scale: f64| {
            let dialogues = Category::ALL.into_iter();
            let dialogues = dialogues.filter(|c| c.section() == Section::MultiTurn);
            dialogues.map(move |c| (scale / 4.0, c)).collect::<Vec<_>>()
        };
        let live = |scale: f64, ast_only: bool| {
            let live = Category::ALL
                .into_iter()
                .filter(move |c| c.section() == Section::Live && (!ast_only || c.has_answers()));
            let live: Vec<Category> = live.collect();
            let total: usize = live.iter().map(|c| self.count(*c).total).sum();
            let weight =
                move |c: Category| scale * self.count(c).total as f64 / total.max(1) as f64;
            live.into_iter().map(|c| (weight(c), c)).collect::<Vec<_>>()
        };
        let irrelevance = |scale: f64| {
            vec![
                (scale / 2.0, Category::Irrelevance),
                (scale / 2.0, Category::LiveIrrelevance),
            ]
        };
        let non_live =
            |scale: f64| [ast(scale / 5.0), vec![(scale / 5.0, Category::Irrelevance)]].concat();
        let paper = |pick: fn(&Published) -> f64| Some(PUBLISHED.each_ref().map(pick));
        let mut column = |name, value, parts: Vec<(f64, Category)>, published| {
            // A category can take part in two columns: its weights belong together.
            let mut weights = [0.0; 17];
            for (weight, category) in parts {
                weights[category as usize] += weight;
            }
            let parts: Vec<_> = Category::ALL
                .into_iter()
                .zip(weights)
                .map(|(c, weight)| (weight, self.count(c).correct, self.count(c).total))
                .collect();
            lines.push(Line {
                name,
                count: None,
                accuracy: combined(value, &parts),
                published,
            });
        };
        column(
            "Non-Live (AST) Acc",
            v3.non_live_ast,
            ast(0.25),
            paper(|p| p.non_live_ast),
        );
        column("Non-Live Overall", v3.non_live_overall, non_live(1.0), None);
        column("Live Acc", v3.live, live(1.0, false), paper(|p| p.live));
        column(
            "Multi-Turn Acc",
            v3.multi_turn,
            multi_turn(1.0),
            paper(|p| p.multi_turn),
        );
        column("Irrelevance", v3.irrelevance, irrelevance(1.0), None);
        column(
            "Relevance",
            v3.relevance,
            vec![(1.0, Category::LiveRelevance)],
            None,
        );
        let overall = [
            non_live(1.0 / 3.0),
            live(1.0 / 3.0, false),
            multi_turn(1.0 / 3.0),
        ]
        .concat();
        column("Overall (v3)", v3.overall, overall, paper(|p| p.overall));
        let overall = [
            ast(0.1 / 4.0),
            live(0.1, true),
            irrelevance(0.1),
            multi_turn(0.3),
        ]
        .concat();
        column("Overall (v4, agentic 0)", v4.overall, overall, None);
        lines
    }

    /// The table as text, with the formulas below it.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = String::new();
        let [first, second] = PUBLISHED.each_ref().map(|p| p.name);
        let _ = writeln!(
            out,
            "{:<26} {:>11}  {:<24} {first:>10} {second:>10}",
            "", "right/all", "accuracy, % [95 %]"
        );
        for line in self.lines() {
            let count = line
                .count
                .map_or_else(String::new, |(right, all)| format!("{right}/{all}"));
            let _ = write!(
                out,
                "{:<26} {count:>11}  {:<24}",
                line.name,
                line.accuracy.percent()
            );
            if let Some([first, second]) = line.published {
                let _ = write!(out, " {first:>10.2} {second:>10.2}");
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        let _ = write!(
            out,
            "\nversion 3:\n{FORMULA_V3}\n\nversion 4:\n{FORMULA_V4}\n"
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bfcl::{ErrorKind, Verdict};

    #[test]
    fn lines_say_what_the_scores_say() {
        let mut summary = Summary::default();
        for category in Category::ALL {
            summary.add(category, Verdict::VALID);
            summary.add(category, ErrorKind::Missing.into());
        }
        for line in summary.lines() {
            let wanted = if line.name.starts_with("Overall (v4") {
                0.3
            } else {
                0.5
            };
            assert!(
                (line.accuracy.value - wanted).abs() < 1e-12,
                "{}",
                line.name
            );
            assert!(
                line.accuracy.low < wanted && wanted < line.accuracy.high,
                "{}",
                line.name
            );
        }
        let report = summary.report();
        assert!(report.contains("47.33") && report.contains("Overall          = mean"));
    }
}
