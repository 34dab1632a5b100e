//! Split: divides rows into training and test rows, by tool names or by row.
//!
//! | port     | way | artifact | holds                                     |
//! |----------|-----|----------|-------------------------------------------|
//! | `rows`   | in  | rows     | conversations with their tools            |
//! | `train`  | out | rows     | rows to learn from, in their order        |
//! | `test`   | out | rows     | held-out rows, in their order             |
//! | `report` | out | report   | counts of rows and tools on each side     |
//!
//! By tools, rows that share a tool name, directly or through other rows, stay together: no tool of a
//! test row occurs in any training row, and no row is lost.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_text::json::Value;

use crate::random::Random;
use crate::rows::{self, RowWriter};

/// The kind `split`.
pub(crate) struct Split;

/// What stays together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// Rows that share a tool name.
    Tools,
    /// Nothing: each row goes where it falls.
    Row,
}

/// How to divide.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Share of the rows to hold out, in (0, 1); by tools the nearest that whole groups allow.
    test: f64,
    /// `tools` holds out whole groups of rows, so that no test tool is trained on; `row` does not.
    #[serde(default = "by_tools")]
    by: By,
    /// Seed of the choice.
    #[serde(default)]
    seed: u64,
}

fn by_tools() -> By {
    By::Tools
}

#[derive(Serialize)]
struct Report {
    train_rows: usize,
    test_rows: usize,
    train_tools: usize,
    test_tools: usize,
    shared_tools: usize,
    groups: usize,
    largest_group: usize,
}

impl Stage for Split {
    const KIND: &'static str = "split";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "divides rows into training and test rows, by tool names or by row";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Report, Rows};
        const {
            Ports {
                inputs: &[Input::required(
                    "rows",
                    Rows,
                    "conversations with their tools",
                )],
                outputs: &[
                    Output::new("train", Rows, "rows to learn from, in their order"),
                    Output::new("test", Rows, "held-out rows, in their order"),
                    Output::new("report", Report, "counts of rows and tools on each side"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        if p.test > 0.0 && p.test < 1.0 {
            Vec::new()
        } else {
            vec![Complaint::new("test", "must be between 0 and 1")]
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let all = rows::read_all(context.input("rows")?)?;
        let tools: Vec<BTreeSet<&str>> = all.iter().map(tool_names).collect();
        let groups = match p.by {
            By::Tools => connected(&tools),
            By::Row => (0..all.len()).map(|i| vec![i]).collect(),
        };
        let held_out = hold_out(&groups, all.len(), p.test, p.seed);
        let count = held_out.iter().filter(|h| **h).count();
        if count == 0 || count == all.len() {
            return Err(StageError::failed_try(
                format!(
                    "the {} rows form {} groups that share tools, the largest of {} rows: no split \
                     leaves rows on both sides",
                    all.len(),
                    groups.len(),
                    groups.iter().map(Vec::len).max().unwrap_or(0)
                ),
                "set `by = \"row\"`, or bring more rows",
            ));
        }
        let mut train = RowWriter::create(&context.output("train"))?;
        let mut test = RowWriter::create(&context.output("test"))?;
        let mut seen: [BTreeSet<&str>; 2] = Default::default();
        for ((row, names), is_test) in all.iter().zip(&tools).zip(&held_out) {
            if *is_test { &mut test } else { &mut train }.write(row)?;
            seen[usize::from(*is_test)].extend(names);
        }
        let report = Report {
            train_rows: train.finish()?,
            test_rows: test.finish()?,
            train_tools: seen[0].len(),
            test_tools: seen[1].len(),
            shared_tools: seen[0].intersection(&seen[1]).count(),
            groups: groups.len(),
            largest_group: groups.iter().map(Vec::len).max().unwrap_or(0),
        };
        context.info(format!(
            "{} rows to learn from, {} held out, {} tools in both",
            report.train_rows, report.test_rows, report.shared_tools
        ));
        rows::write_json(&context.output("report"), &report)
    }
}

fn tool_names(row: &Value) -> BTreeSet<&str> {
    rows::list(row, "tools")
        .iter()
        .map(|t| rows::field(t, "function").unwrap_or(t))
        .filter_map(|t| rows::text(t, "name"))
        .collect()
}

/// Groups of rows that share a tool name, directly or through other rows, by their first row.
fn connected(tools: &[BTreeSet<&str>]) -> Vec<Vec<usize>> {
    let mut parent: Vec<usize> = (0..tools.len()).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    let mut first_with: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, names) in tools.iter().enumerate() {
        for name in names {
            let j = *first_with.entry(name).or_insert(i);
            let (a, b) = (root(&mut parent, i), root(&mut parent, j));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..tools.len() {
        let r = root(&mut parent, i);
        groups.entry(r).or_default().push(i);
    }
    groups.into_values().collect()
}

/// Marks groups as held out, in a seeded order, as long as they fit into the wished share.
fn hold_out(groups: &[Vec<usize>], rows: usize, share: f64, seed: u64) -> Vec<bool> {
    let wanted = (share * rows as f64).round() as usize;
    let mut order: Vec<usize> = (0..groups.len()).collect();
    Random::new(seed, "split").shuffle(&mut order);
    let mut held_out = vec![false; rows];
    let mut taken = 0;
    for group in order {
        if taken + groups[group].len() <= wanted {
            taken += groups[group].len();
            groups[group].iter().for_each(|i| held_out[*i] = true);
        }
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_share_tools_through_others_stay_together() {
        let tools: Vec<BTreeSet<&str>> = [&["a", "b"][..], &["c"], &["b", "d"], &["d"], &["e"]]
            .iter()
            .map(|t| t.iter().copied().collect())
            .collect();
        assert_eq!(connected(&tools), vec![vec![0, 2, 3], vec![1], vec![4]]);
    }

    #[test]
    fn held_out_tools_are_never_trained_on() {
        let mut random = Random::new(3, "rows");
        let names: Vec<String> = (0..400).map(|i| format!("t{i}")).collect();
        let tools: Vec<BTreeSet<&str>> = (0..150)
            .map(|_| (0..2).map(|_| random.pick(&names).as_str()).collect())
            .collect();
        let held_out = hold_out(&connected(&tools), tools.len(), 0.2, 5);
        let side = |s: bool| -> BTreeSet<&str> {
            tools
                .iter()
                .zip(&held_out)
                .filter(|(_, h)| **h == s)
                .flat_map(|(t, _)| t.clone())
                .collect()
        };
        assert!(side(true).is_disjoint(&side(false)));
        let count = held_out.iter().filter(|h| **h).count();
        assert!((20..=30).contains(&count), "{count}");
    }
}
