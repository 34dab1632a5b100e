//! Accuracies: of categories, of sections, and overall by the formulas of versions 3 and 4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::category::{Category, Section};
use super::verdict::{ErrorKind, Verdict};

/// How the overall score of version 3 comes about.
pub const FORMULA_V3: &str = "\
Simple           = mean(simple_python, simple_java, simple_javascript)
Non-Live (AST)   = mean(Simple, multiple, parallel, parallel_multiple)
Non-Live Overall = mean(Simple, multiple, parallel, parallel_multiple, irrelevance)
Live             = right entries / entries of all six live categories
Multi-Turn       = mean(base, miss_func, miss_param, long_context)
Overall          = mean(Live, Non-Live Overall, Multi-Turn)
A category without results counts as 0, in Live with all its entries.";

/// How the overall score of version 4 comes about.
pub const FORMULA_V4: &str = "\
Non-Live    = mean(Simple, multiple, parallel, parallel_multiple)
Live        = right entries / entries of the four live categories with calls
Irrelevance = mean(irrelevance, live_irrelevance)
Multi-Turn  = mean(base, miss_func, miss_param, long_context)
Agentic     = mean(web search, memory)
Overall     = 0.1 Non-Live + 0.1 Live + 0.1 Irrelevance + 0.3 Multi-Turn + 0.4 Agentic
A category without results counts as 0, in Live with all its entries.";

/// Right entries of a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Right entries.
    pub correct: usize,
    /// All entries.
    pub total: usize,
}

impl Count {
    /// The share of right entries; 0 without entries.
    pub fn accuracy(self) -> f64 {
        match self.total {
            0 => 0.0,
            total => self.correct as f64 / total as f64,
        }
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            correct: self.correct + other.correct,
            total: self.total + other.total,
        }
    }
}

/// The score of version 3, in shares of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreV3 {
    /// Column "Non-Live (AST) Acc".
    pub non_live_ast: f64,
    /// With irrelevance; goes into `overall`.
    pub non_live_overall: f64,
    /// Column "Live Acc".
    pub live: f64,
    /// Column "Multi-Turn Acc".
    pub multi_turn: f64,
    /// Mean of the three sections.
    pub overall: f64,
    /// Mean of both irrelevance categories.
    pub irrelevance: f64,
    /// `live_relevance`.
    pub relevance: f64,
}

/// The score of version 4, in shares of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreV4 {
    /// Weight 0.1.
    pub non_live: f64,
    /// Weight 0.1.
    pub live: f64,
    /// Weight 0.1.
    pub irrelevance: f64,
    /// Weight 0.3.
    pub multi_turn: f64,
    /// Weight 0.4; given by the caller, for its categories are not part of this benchmark.
    pub agentic: f64,
    /// The weighted sum.
    pub overall: f64,
}

/// Counts of every category that has results.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    counts: BTreeMap<Category, Count>,
    errors: BTreeMap<(Category, ErrorKind), usize>,
}

impl Summary {
    /// Counts one verdict.
    pub fn add(&mut self, category: Category, verdict: Verdict) {
        let count = self.counts.entry(category).or_default();
        count.total += 1;
        count.correct += usize::from(verdict.is_valid());
        if let Some(error) = verdict.error {
            *self.errors.entry((category, error)).or_default() += 1;
        }
    }

    /// The count of a category.
    pub fn count(&self, category: Category) -> Count {
        self.counts.get(&category).copied().unwrap_or_default()
    }

    /// Errors by category and kind.
    pub fn errors(&self) -> impl Iterator<Item = (Category, ErrorKind, usize)> {
        self.errors
            .iter()
            .map(|((category, kind), count)| (*category, *kind, *count))
    }

    /// Right entries of all categories.
    pub fn total(&self) -> Count {
        self.counts
            .values()
            .fold(Count::default(), |sum, count| sum + *count)
    }

    fn accuracy(&self, category: Category) -> f64 {
        self.count(category).accuracy()
    }

    fn mean(&self, categories: &[Category]) -> f64 {
        mean(
            &categories
                .iter()
                .map(|c| self.accuracy(*c))
                .collect::<Vec<_>>(),
        )
    }

    /// Entries of several categories as if they were one; of a category without results all are wrong.
    fn pooled(&self, wanted: impl Fn(Category) -> bool) -> Count {
        let categories = Category::ALL.into_iter().filter(|c| wanted(*c));
        let counts = categories.map(|category| match self.count(category) {
            Count { total: 0, .. } => Count {
                correct: 0,
                total: category.entries(),
            },
            count => count,
        });
        counts.fold(Count::default(), |sum, count| sum + count)
    }

    fn non_live_parts(&self) -> [f64; 4] {
        use Category::{
            Multiple, Parallel, ParallelMultiple, SimpleJava, SimpleJavaScript, SimplePython,
        };
        [
            self.mean(&[SimplePython, SimpleJava, SimpleJavaScript]),
            self.accuracy(Multiple),
            self.accuracy(Parallel),
            self.accuracy(ParallelMultiple),
        ]
    }

    fn multi_turn(&self) -> f64 {
        use Category::{
            MultiTurnBase, MultiTurnLongContext, MultiTurnMissFunc, MultiTurnMissParam,
        };
        self.mean(&[
            MultiTurnBase,
            MultiTurnMissFunc,
            MultiTurnMissParam,
            MultiTurnLongContext,
        ])
    }

    fn irrelevance(&self) -> f64 {
        self.mean(&[Category::Irrelevance, Category::LiveIrrelevance])
    }

    /// The score by [`FORMULA_V3`].
    pub fn v3(&self) -> ScoreV3 {
        let [simple, multiple, parallel, both] = self.non_live_parts();
        let irrelevance = self.accuracy(Category::Irrelevance);
        let non_live_overall = mean(&[simple, multiple, parallel, both, irrelevance]);
        let live = self
            .pooled(|category| category.section() == Section::Live)
            .accuracy();
        let multi_turn = self.multi_turn();
        ScoreV3 {
            non_live_ast: mean(&self.non_live_parts()),
            non_live_overall,
            live,
            multi_turn,
            overall: mean(&[live, non_live_overall, multi_turn]),
            irrelevance: self.irrelevance(),
            relevance: self.accuracy(Category::LiveRelevance),
        }
    }

    /// The score by [`FORMULA_V4`], with the accuracy of the agentic section (0 where it was not run).
    pub fn v4(&self, agentic: f64) -> ScoreV4 {
        let is_live_ast = |c: Category| c.section() == Section::Live && c.has_answers();
        let non_live = mean(&self.non_live_parts());
        let live = self.pooled(is_live_ast).accuracy();
        let irrelevance = self.irrelevance();
        let multi_turn = self.multi_turn();
        ScoreV4 {
            non_live,
            live,
            irrelevance,
            multi_turn,
            agentic,
            overall: 0.1 * non_live
                + 0.1 * live
                + 0.1 * irrelevance
                + 0.3 * multi_turn
                + 0.4 * agentic,
        }
    }

    /// A table for people: categories with their counts, sections, both overall scores.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for category in Category::ALL {
            let Count { correct, total } = self.count(category);
            let share = percent(self.accuracy(category));
            push(
                &mut out,
                format_args!("{category:<26} {share:>7}  {correct}/{total}\n"),
            );
        }
        let (v3, v4) = (self.v3(), self.v4(0.0));
        for (name, value) in [
            ("Non-Live (AST) Acc", v3.non_live_ast),
            ("Non-Live Overall", v3.non_live_overall),
            ("Live Acc", v3.live),
            ("Multi-Turn Acc", v3.multi_turn),
            ("Irrelevance", v3.irrelevance),
            ("Relevance", v3.relevance),
            ("Overall (v3)", v3.overall),
            ("Overall (v4, agentic 0)", v4.overall),
        ] {
            push(&mut out, format_args!("{name:<26} {:>7}\n", percent(value)));
        }
        out
    }
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args)
        .expect("writing to a string cannot fail");
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A share as percent with two decimals.
pub fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(counts: &[(Category, usize, usize)]) -> Summary {
        let counts = counts.iter().map(|(category, correct, total)| {
            let (correct, total) = (*correct, *total);
            (*category, Count { correct, total })
        });
        Summary {
            counts: counts.collect(),
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn percent_rounds_half_to_even() {
        assert_eq!(percent(0.125_625), "12.56%");
        assert_eq!(percent(1.0), "100.00%");
    }

    #[test]
    fn missing_categories_count_as_zero() {
        let summary = summary(&[(Category::Irrelevance, 204, 240)]);
        let v3 = summary.v3();
        assert_eq!(percent(v3.non_live_overall), "17.00%");
        assert_eq!(percent(v3.overall), "5.67%");
        assert_eq!(percent(v3.irrelevance), "42.50%");
        assert_eq!(percent(Summary::default().v3().overall), "0.00%");
    }

    #[test]
    fn live_weighs_entries() {
        let summary = summary(&[
            (Category::LiveSimple, 1, 1),
            (Category::LiveMultiple, 0, 3),
            (Category::LiveParallelMultiple, 20, 20),
            (Category::LiveIrrelevance, 24, 24),
        ]);
        // 16 entries each of `live_parallel` and `live_relevance` have no results.
        assert_eq!(percent(summary.v3().live), "56.25%");
        assert_eq!(percent(summary.v4(0.0).live), "52.50%");
    }
}
