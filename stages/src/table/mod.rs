//! Table: sets evaluations side by side, a row an arm, with intervals and the work behind each.
//!
//! | port    | way | artifact   | holds                                        |
//! |---------|-----|------------|----------------------------------------------|
//! | `arms`  | in  | evaluation | one or more, under the names the rows get     |
//! | `table` | out | table      | `table.md`, `table.json`, `table.csv`        |

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{ArtifactType, Input, Output, Ports, Stage, StageContext, StageError};

use crate::cost::Lineage;
use crate::evaluation::{Evaluation, Metric};

/// The kind `table`.
pub(crate) struct Table;

/// How to show it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Order of the rows; arms that are not named follow in the order of their names.
    #[serde(default)]
    order: Vec<String>,
    /// A heading above the table.
    #[serde(default)]
    title: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    arm: String,
    items: usize,
    metrics: Vec<Metric>,
    trained_tokens: u64,
    generated_tokens: u64,
    tflop: f64,
}

impl Stage for Table {
    const KIND: &'static str = "table";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "sets evaluations side by side, a row an arm, with intervals";
    const COMPARES: bool = true;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Evaluation, Table};
        const {
            Ports {
                inputs: &[Input::many(
                    "arms",
                    Evaluation,
                    "evaluations, under the names that their rows get",
                )],
                outputs: &[
                    Output::new("table", Table, "`table.md`, `table.json` and `table.csv`")
                        .displayed("table.md"),
                ],
            }
        }
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut rows = Vec::new();
        for (arm, folder) in context.many("arms") {
            let evaluation = Evaluation::read(folder)?;
            let lineage = Lineage::read(folder)?;
            rows.push(Row {
                arm: arm.to_owned(),
                items: evaluation.items,
                metrics: evaluation.metrics,
                trained_tokens: lineage.trained_tokens(),
                generated_tokens: lineage.generated_tokens(),
                tflop: lineage.tflop(),
            });
        }
        let unknown: Vec<&String> = p
            .order
            .iter()
            .filter(|name| !rows.iter().any(|r| r.arm == **name))
            .collect();
        if let Some(name) = unknown.first() {
            return Err(StageError::failed_try(
                format!("`order` names `{name}`, which is not an arm"),
                "name arms as in `inputs.arms.NAME`",
            ));
        }
        let place = |arm: &str| {
            p.order
                .iter()
                .position(|o| o == arm)
                .unwrap_or(p.order.len())
        };
        rows.sort_by_key(|r| place(&r.arm));
        let columns = same_columns(&rows)?;
        let folder = context.output("table");
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        crate::rows::write_json(&folder.join("table.json"), &rows)?;
        for (name, text) in [
            ("table.md", markdown(&p.title, &columns, &rows)),
            ("table.csv", csv(&columns, &rows)),
        ] {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(StageError::io("write", &path))?;
        }
        Ok(())
    }
}

/// The headings, which must be the same for all arms.
fn same_columns(rows: &[Row]) -> Result<Vec<String>, StageError> {
    let names = |r: &Row| r.metrics.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    let Some(first) = rows.first() else {
        return Err(StageError::input("arms", "no arm given"));
    };
    let columns = names(first);
    for row in rows {
        if names(row) != columns || row.items != first.items {
            return Err(StageError::input(
                "arms",
                format!(
                    "`{}` and `{}` were evaluated differently ({} and {} items; {} and {})",
                    first.arm,
                    row.arm,
                    first.items,
                    row.items,
                    columns.join(", "),
                    names(row).join(", ")
                ),
            ));
        }
    }
    Ok(columns)
}

fn cell(metric: &Metric) -> String {
    let e = metric.estimate;
    if metric.percent {
        format!(
            "{:.1} [{:.1}, {:.1}]",
            100.0 * e.value,
            100.0 * e.low,
            100.0 * e.high
        )
    } else {
        format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high)
    }
}

fn markdown(title: &str, columns: &[String], rows: &[Row]) -> String {
    let mut table: Vec<Vec<String>> = Vec::new();
    let mut head = vec!["arm".to_owned()];
    head.extend(columns.iter().zip(&rows[0].metrics).map(|(name, m)| {
        if m.percent {
            format!("{name}, %")
        } else {
            name.clone()
        }
    }));
    head.push("work, TFLOP".to_owned());
    table.push(head);
    for row in rows {
        let mut cells = vec![row.arm.clone()];
        cells.extend(row.metrics.iter().map(cell));
        cells.push(format!("{:.2}", row.tflop));
        table.push(cells);
    }
    let widths: Vec<usize> = (0..table[0].len())
        .map(|c| {
            table
                .iter()
                .map(|r| r[c].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    if !title.is_empty() {
        let _ = writeln!(text, "{title}\n");
    }
    for (i, row) in table.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(c, (s, w))| {
                if c == 0 {
                    format!("{s:<w$}")
                } else {
                    format!("{s:>w$}")
                }
            })
            .collect();
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if i == 0 {
            let rule: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(c, w)| {
                    if c == 0 {
                        "-".repeat(w + 2)
                    } else {
                        "-".repeat(w + 1) + ":"
                    }
                })
                .collect();
            let _ = writeln!(text, "|{}|", rule.join("|"));
        }
    }
    let _ = writeln!(
        text,
        "\n{} items an arm; brackets are 95 % intervals; work counts everything behind the arm.",
        rows[0].items
    );
    text
}

fn csv(columns: &[String], rows: &[Row]) -> String {
    let quote = |s: &str| {
        if s.contains([',', '"', '\n']) {
            format!("\"{}\"", s.replace('"', "\"\""))
        } else {
            s.to_owned()
        }
    };
    let mut text = String::from("arm,items");
    for name in columns {
        let name = quote(name);
        let _ = write!(text, ",{name},{name} low,{name} high");
    }
    text.push_str(",trained_tokens,generated_tokens,tflop\n");
    for row in rows {
        let _ = write!(text, "{},{}", quote(&row.arm), row.items);
        for m in &row.metrics {
            let _ = write!(
                text,
                ",{},{},{}",
                m.estimate.value, m.estimate.low, m.estimate.high
            );
        }
        let _ = writeln!(
            text,
            ",{},{},{}",
            row.trained_tokens, row.generated_tokens, row.tflop
        );
    }
    text
}
