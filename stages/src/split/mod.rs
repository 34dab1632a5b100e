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
//! test row occurs in any training row, and no row is lost. Rows are read twice; of each only its group is held.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_text::json::{self, Value};

use crate::flow::flow_rows;
use crate::random::Random;
use crate::rows::{self, Chunk, RowReader, RowWriter};

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
        let path = context.input("rows")?;
        let mut groups = Groups::default();
        let names = |_, chunk: Chunk| {
            let each = chunk.values();
            let each = each.map(|row| Ok(tool_names(&row?.1)));
            each.collect::<Result<Vec<_>, StageError>>()
        };
        flow_rows(context, RowReader::open(path)?, names, |each| {
            each.iter().for_each(|names| groups.add(names, p.by));
            Ok(())
        })?;
        let (group_of, sizes) = groups.finish();
        let (rows, largest) = (group_of.len(), sizes.iter().copied().max().unwrap_or(0));
        let held_out = hold_out(&sizes, rows, p.test, p.seed);
        let is_test = |row: usize| held_out[group_of[row]];
        let count = (0..rows).filter(|row| is_test(*row)).count();
        if count == 0 || count == rows {
            return Err(StageError::failed_try(
                format!(
                    "the {rows} rows form {} groups that share tools, the largest of {largest} rows: no \
                     split leaves rows on both sides",
                    sizes.len(),
                ),
                "set `by = \"row\"`, or bring more rows",
            ));
        }
        let mut train = RowWriter::create(&context.output("train"))?;
        let mut test = RowWriter::create(&context.output("test"))?;
        let mut seen: [BTreeSet<String>; 2] = Default::default();
        let texts = |first: usize, chunk: Chunk| {
            let mut sides: [Side; 2] = Default::default();
            for (number, row) in (first..).zip(chunk.values()) {
                let (_, row) = row?;
                let side = &mut sides[usize::from(is_test(number))];
                side.rows += 1;
                json::dump(&mut side.text, &row);
                side.text.push('\n');
                side.tools.extend(tool_names(&row));
            }
            Ok(sides)
        };
        flow_rows(context, RowReader::open(path)?, texts, |sides| {
            let [learnt, held] = &sides;
            train.lines(&learnt.text, learnt.rows)?;
            test.lines(&held.text, held.rows)?;
            seen.iter_mut()
                .zip(sides)
                .for_each(|(seen, side)| seen.extend(side.tools));
            Ok(())
        })?;
        let report = Report {
            train_rows: train.finish()?,
            test_rows: test.finish()?,
            train_tools: seen[0].len(),
            test_tools: seen[1].len(),
            shared_tools: seen[0].intersection(&seen[1]).count(),
            groups: sizes.len(),
            largest_group: largest,
        };
        context.info(format!(
            "{} rows to learn from, {} held out, {} tools in both",
            report.train_rows, report.test_rows, report.shared_tools
        ));
        rows::write_json(&context.output("report"), &report)
    }
}

/// Rows of a chunk that go to one side.
#[derive(Default)]
struct Side {
    text: String,
    rows: usize,
    tools: BTreeSet<String>,
}

fn tool_names(row: &Value) -> BTreeSet<String> {
    rows::list(row, "tools")
        .iter()
        .map(|t| rows::field(t, "function").unwrap_or(t))
        .filter_map(|t| rows::text(t, "name"))
        .map(str::to_owned)
        .collect()
}

/// Rows that share a tool name, directly or through other rows. Of a row only its group is held.
#[derive(Default)]
struct Groups {
    /// For each row an earlier row of its group, or itself when it is the first.
    parent: Vec<usize>,
    first_with: BTreeMap<String, usize>,
}

impl Groups {
    /// Adds the next row; by row it is a group of its own.
    fn add(&mut self, names: &BTreeSet<String>, by: By) {
        let row = self.parent.len();
        self.parent.push(row);
        if by == By::Row {
            return;
        }
        for name in names {
            match self.first_with.get(name) {
                None => {
                    self.first_with.insert(name.clone(), row);
                }
                Some(&first) => {
                    let (a, b) = (self.root(row), self.root(first));
                    self.parent[a.max(b)] = a.min(b);
                }
            }
        }
    }

    fn root(&mut self, mut row: usize) -> usize {
        while self.parent[row] != row {
            self.parent[row] = self.parent[self.parent[row]];
            row = self.parent[row];
        }
        row
    }

    /// The group of each row, and the sizes of the groups, in the order of their first rows.
    fn finish(mut self) -> (Vec<usize>, Vec<usize>) {
        let mut sizes: Vec<usize> = Vec::new();
        let mut group_of = Vec::with_capacity(self.parent.len());
        for row in 0..self.parent.len() {
            let root = self.root(row);
            // The root is the first row of its group, so it has its number already.
            let group = if root == row {
                sizes.push(0);
                sizes.len() - 1
            } else {
                group_of[root]
            };
            sizes[group] += 1;
            group_of.push(group);
        }
        (group_of, sizes)
    }
}

/// Marks groups as held out, in a seeded order, as long as they fit into the wished share.
fn hold_out(sizes: &[usize], rows: usize, share: f64, seed: u64) -> Vec<bool> {
    let wanted = (share * rows as f64).round() as usize;
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    Random::new(seed, "split").shuffle(&mut order);
    let mut held_out = vec![false; sizes.len()];
    let mut taken = 0;
    for group in order {
        if taken + sizes[group] <= wanted {
            taken += sizes[group];
            held_out[group] = true;
        }
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(tools: &[BTreeSet<String>]) -> (Vec<usize>, Vec<usize>) {
        let mut groups = Groups::default();
        tools.iter().for_each(|names| groups.add(names, By::Tools));
        groups.finish()
    }

    #[test]
    fn rows_that_share_tools_through_others_stay_together() {
        let tools: Vec<BTreeSet<String>> = [
            &["a", "b"][..],
            &["c"],
            &["b", "d"],
            &["d"],
            &["e"],
            &["c", "e"],
        ]
        .iter()
        .map(|t| t.iter().map(|name| (*name).to_owned()).collect())
        .collect();
        assert_eq!(groups(&tools), (vec![0, 1, 0, 0, 1, 1], vec![3, 3]));
        assert_eq!(groups(&tools[..5]), (vec![0, 1, 0, 0, 2], vec![3, 1, 1]));
    }

    #[test]
    fn held_out_tools_are_never_trained_on() {
        let mut random = Random::new(3, "rows");
        let names: Vec<String> = (0..400).map(|i| format!("t{i}")).collect();
        let tools: Vec<BTreeSet<String>> = (0..150)
            .map(|_| (0..2).map(|_| random.pick(&names).clone()).collect())
            .collect();
        let (group_of, sizes) = groups(&tools);
        let held_out = hold_out(&sizes, tools.len(), 0.2, 5);
        let side = |s: bool| -> BTreeSet<String> {
            tools
                .iter()
                .zip(&group_of)
                .filter(|(_, group)| held_out[**group] == s)
                .flat_map(|(t, _)| t.clone())
                .collect()
        };
        assert!(side(true).is_disjoint(&side(false)));
        let count = group_of.iter().filter(|group| held_out[**group]).count();
        assert!((20..=30).contains(&count), "{count}");
    }
}
