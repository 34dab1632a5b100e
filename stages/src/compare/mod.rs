//! Compare: every arm against one of them, on the same items, with what chance alone would do.
//!
//! | port         | way | artifact   | holds                                                        |
//! |--------------|-----|------------|--------------------------------------------------------------|
//! | `arms`       | in  | evaluation | two or more, named as a matrix names them: `ckd`, `ckd,seed=1` |
//! | `comparison` | out | table      | `table.md`, `table.json`: differences with paired intervals  |
//!
//! Evaluations by rows have exact calls, rewards and pass@k; those by a benchmark (`bfcl`, `acebench`) have entries
//! that are right or wrong, each of which counts the same here (their own weighted totals are in `table`).
//!
//! No difference is shown without its interval. Seeds of two arms are paired by name; a missing one is an
//! error, but an arm that has no seeds at all (a model that was only examined) is compared with every seed.
//! Right answers are compared by the exact McNemar test, p values are Holm's over all arms.

mod paired;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_text::json::Value;

use self::paired::{difference, holm, mcnemar};
use crate::evaluation::ITEMS;
use crate::rows;
use crate::statistics::pass_at_k;

/// The kind `compare`.
pub(crate) struct Compare;

/// What is compared with what.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// The arm that all others are compared with.
    against: String,
    /// A heading above the table.
    #[serde(default)]
    title: String,
    /// Seed of the bootstrap.
    #[serde(default)]
    seed: u64,
}

/// How the part of an arm's name begins that tells its seed.
const SEED: &str = "seed=";

/// What right answers are called where they are entries of a benchmark.
const RIGHT: &str = "entries right";

/// What an item tells of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    /// 1 for a right answer.
    exact: f64,
    /// None in a benchmark.
    reward: Option<f64>,
    /// pass@1, pass@n; none without samples.
    pass: Option<[f64; 2]>,
    samples: usize,
}

/// The evaluations of one arm, by seed, each by item.
type Arm = BTreeMap<String, BTreeMap<String, Item>>;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    arm: String,
    metric: String,
    ours: f64,
    theirs: f64,
    difference: f64,
    low: f64,
    high: f64,
    smallest_detectable: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcnemar_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holm_p: Option<f64>,
}

impl Stage for Compare {
    const KIND: &'static str = "compare";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "compares arms on the same items, with paired intervals";
    const COMPARES: bool = true;
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Evaluation, Table};
        const {
            Ports {
                inputs: &[Input::many(
                    "arms",
                    Evaluation,
                    "evaluations, named `ARM` or `ARM,seed=N`",
                )],
                outputs: &[
                    Output::new("comparison", Table, "`table.md` and `table.json`")
                        .displayed("table.md"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        if p.against.split(',').any(|part| part.starts_with(SEED)) {
            return vec![Complaint::new(
                "against",
                "is an arm's name, without its seed",
            )];
        }
        Vec::new()
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut arms: BTreeMap<String, Arm> = BTreeMap::new();
        for (name, folder) in context.many("arms") {
            let (seed, arm): (Vec<&str>, Vec<&str>) =
                name.split(',').partition(|part| part.starts_with(SEED));
            let items = read(&folder.join(ITEMS))?;
            let arm = arms.entry(arm.join(",")).or_default();
            arm.insert(seed.concat(), items);
        }
        let Some(theirs) = arms.remove(&p.against) else {
            return Err(StageError::failed_try(
                format!("`against` names `{}`, which is not an arm", p.against),
                "name one of `inputs.arms`, without its seed",
            ));
        };
        let mut compared: Vec<Row> = Vec::new();
        for (name, ours) in &arms {
            let (ours, theirs) = (seeded(ours, &theirs), seeded(&theirs, ours));
            paired(name, &ours, &p.against, &theirs)?;
            compared.extend(rows_of(name, &ours, &theirs, p.seed));
        }
        adjust(&mut compared);
        let items = theirs.values().next().map_or(0, BTreeMap::len);
        let seeds = arms.values().chain([&theirs]).map(BTreeMap::len).max();
        let folder = context.output("comparison");
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        rows::write_json(&folder.join("table.json"), &compared)?;
        let path = folder.join("table.md");
        let text = markdown(&p, &compared, items, seeds.unwrap_or(1));
        std::fs::write(&path, text).map_err(StageError::io("write", &path))
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Item>, StageError> {
    let wrong = |what: &str| StageError::failed(format!("{}: {what}", path.display()));
    rows::read_all(path)?
        .iter()
        .map(|row| {
            let number = |key: &str| match rows::field(row, key) {
                Some(Value::Bool(b)) => Ok(f64::from(u8::from(*b))),
                Some(value) => value
                    .as_f64()
                    .ok_or_else(|| wrong(&format!("`{key}` is no number"))),
                None => Err(wrong(&format!("an item has no `{key}`"))),
            };
            let id = rows::text(row, "id").ok_or_else(|| wrong("an item has no `id`"))?;
            if rows::field(row, "valid").is_some() {
                let item = Item {
                    exact: number("valid")?,
                    reward: None,
                    pass: None,
                    samples: 0,
                };
                return Ok((id.to_owned(), item));
            }
            let count = |key: &str| {
                let value = number(key)?;
                let whole =
                    value.fract().abs() <= 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
                whole
                    .then_some(value as usize)
                    .ok_or_else(|| wrong(&format!("`{key}` is no count")))
            };
            let (samples, right) = (count("samples")?, count("samples_right")?);
            if right > samples {
                return Err(wrong("more samples are right than there are"));
            }
            let item = Item {
                exact: number("exact")?,
                reward: Some(number("reward")?),
                pass: (samples > 0).then(|| [1, samples].map(|k| pass_at_k(samples, right, k))),
                samples,
            };
            Ok((id.to_owned(), item))
        })
        .collect()
}

/// An arm without seeds stands for itself beside every seed of the other.
fn seeded(arm: &Arm, other: &Arm) -> Arm {
    match arm.get("") {
        Some(items) if arm.len() == 1 => other
            .keys()
            .map(|seed| (seed.clone(), items.clone()))
            .collect(),
        _ => arm.clone(),
    }
}

/// Both arms must have the same seeds and the same items.
fn paired(name: &str, ours: &Arm, against: &str, theirs: &Arm) -> Result<(), StageError> {
    let wrong =
        |what: String| StageError::input("arms", format!("`{name}` and `{against}`: {what}"));
    if !ours.keys().eq(theirs.keys()) {
        let list = |arm: &Arm| {
            arm.keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        return Err(wrong(format!(
            "seeds differ ({} and {}), and pairs need the same",
            list(ours),
            list(theirs)
        )));
    }
    let all = || ours.values().chain(theirs.values());
    let first = all().next();
    for items in all() {
        if first.is_some_and(|f| !f.keys().eq(items.keys())) {
            return Err(wrong("were examined on other items".to_owned()));
        }
        let first_item = |items: &BTreeMap<String, Item>| items.values().next().copied();
        let samples = |items| first_item(items).map(|i| i.samples);
        let by_reward = |items| first_item(items).map(|i| i.reward.is_some());
        if first.map(by_reward) != Some(by_reward(items)) {
            return Err(wrong("were examined in other ways".to_owned()));
        }
        if first.map(samples) != Some(samples(items)) {
            return Err(wrong("took other numbers of samples".to_owned()));
        }
    }
    Ok(())
}

fn rows_of(name: &str, ours: &Arm, theirs: &Arm, seed: u64) -> Vec<Row> {
    let values = |arm: &Arm, of: &dyn Fn(&Item) -> f64| -> Vec<Vec<f64>> {
        arm.values()
            .map(|items| items.values().map(of).collect())
            .collect()
    };
    let mean = |rows: &[Vec<f64>]| {
        let n: usize = rows.iter().map(Vec::len).sum();
        rows.iter().flatten().sum::<f64>() / n.max(1) as f64
    };
    let row = |metric: String, of: &dyn Fn(&Item) -> f64, p: Option<f64>| {
        let (a, b) = (values(ours, of), values(theirs, of));
        let found = difference(&a, &b, seed);
        Row {
            arm: name.to_owned(),
            metric,
            ours: mean(&a),
            theirs: mean(&b),
            difference: found.value,
            low: found.low,
            high: found.high,
            smallest_detectable: found.detectable,
            mcnemar_p: p,
            holm_p: None,
        }
    };
    let (mut only_ours, mut only_theirs) = (0, 0);
    for (a, b) in ours.values().zip(theirs.values()) {
        for (a, b) in a.values().zip(b.values()) {
            only_ours += usize::from(a.exact > b.exact);
            only_theirs += usize::from(a.exact < b.exact);
        }
    }
    let p = mcnemar(only_ours, only_theirs);
    let first = ours.values().next().and_then(|items| items.values().next());
    let mut all = Vec::new();
    if first.is_some_and(|i| i.reward.is_none()) {
        all.push(row(RIGHT.to_owned(), &|i| i.exact, Some(p)));
    } else {
        all.push(row("exact".to_owned(), &|i| i.exact, Some(p)));
        all.push(row("reward".to_owned(), &|i| i.reward.unwrap_or(0.0), None));
    }
    if let Some(samples) = first.map(|i| i.samples).filter(|s| *s > 0) {
        for (at, k) in [1, samples].into_iter().enumerate() {
            let of = move |i: &Item| i.pass.map_or(0.0, |p| p[at]);
            all.push(row(format!("pass@{k}"), &of, None));
        }
        all.dedup_by(|a, b| a.metric == b.metric);
    }
    all
}

/// Holm over all arms, for the metric that has p values.
fn adjust(rows: &mut [Row]) {
    let ps: Vec<f64> = rows.iter().filter_map(|r| r.mcnemar_p).collect();
    let tested = rows.iter_mut().filter(|r| r.mcnemar_p.is_some());
    for (row, p) in tested.zip(holm(&ps)) {
        row.holm_p = Some(p);
    }
}

fn markdown(p: &Params, rows: &[Row], items: usize, seeds: usize) -> String {
    let mut text = String::new();
    if !p.title.is_empty() {
        let _ = writeln!(text, "{}\n", p.title);
    }
    let _ = writeln!(
        text,
        "| arm | metric | arm | {} | difference [95 %] | detectable | p (McNemar) | p (Holm) |",
        p.against
    );
    let _ = writeln!(text, "|-----|--------|----:|----:|----:|----:|----:|----:|");
    for r in rows {
        let percent = r.metric != "reward";
        let scale = if percent { 100.0 } else { 1.0 };
        let digits = if percent { 1 } else { 3 };
        let number = |x: f64| format!("{:.digits$}", scale * x);
        let signed = |x: f64| format!("{:+.digits$}", scale * x);
        let chance = |p: Option<f64>| p.map_or("-".to_owned(), |p| format!("{p:.4}"));
        let unit = if percent { ", %" } else { "" };
        let _ = writeln!(
            text,
            "| {} | {}{unit} | {} | {} | {} [{}, {}] | {} | {} | {} |",
            r.arm,
            r.metric,
            number(r.ours),
            number(r.theirs),
            signed(r.difference),
            signed(r.low),
            signed(r.high),
            number(r.smallest_detectable),
            chance(r.mcnemar_p),
            chance(r.holm_p),
        );
    }
    let _ = writeln!(
        text,
        "\n{items} items, {seeds} {}; intervals from a paired bootstrap over items{}; `detectable` is found four times in five at the 5 % level; McNemar's test counts every pair of item{}.",
        if seeds == 1 { "seed" } else { "seeds" },
        if seeds == 1 { "" } else { " and seeds" },
        if seeds == 1 { "" } else { " and seed" },
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, lines: &[String]) -> BTreeMap<String, Item> {
        let path = folder.join(name);
        std::fs::write(&path, lines.join("\n") + "\n").expect("written");
        read(&path).expect("items")
    }

    #[test]
    fn counts_that_are_none_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("items.jsonl");
        for (samples, right, what) in [
            ("4", "5", "more samples are right than there are"),
            ("-1", "0", "`samples` is no count"),
            ("1e300", "0", "`samples` is no count"),
            ("2", "0.5", "`samples_right` is no count"),
        ] {
            let line = format!(
                r#"{{"id": "e", "exact": true, "reward": 1.0, "samples": {samples}, "samples_right": {right}}}"#
            );
            std::fs::write(&path, line + "\n").expect("written");
            let error = read(&path).expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn entries_of_a_benchmark_are_compared_by_right_and_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let entry = |n: usize, valid: bool| format!(r#"{{"id": "e{n}", "valid": {valid}}}"#);
        let arm = |name: &str, right: usize| {
            let lines: Vec<String> = (0..10).map(|n| entry(n, n < right)).collect();
            let items = file(folder.path(), name, &lines);
            Arm::from([(String::new(), items)])
        };
        let (ours, theirs) = (arm("ours.jsonl", 7), arm("theirs.jsonl", 2));
        paired("ours", &ours, "theirs", &theirs).expect("the same entries");
        let rows = rows_of("ours", &ours, &theirs, 0);
        let [row] = &rows[..] else {
            panic!("no rewards and no samples: {}", rows.len())
        };
        assert_eq!(row.metric, RIGHT);
        assert!((row.difference - 0.5).abs() < 1e-12);
        assert!(row.low > 0.1 && row.high < 0.9);
        // 5 entries, all one way: 2 / 2⁵.
        assert_eq!(row.mcnemar_p, Some(mcnemar(5, 0)));

        let by_reward: Vec<String> = (0..10)
            .map(|n| {
                format!(
                    r#"{{"id": "e{n}", "exact": true, "reward": 1.0, "samples": 0, "samples_right": 0}}"#
                )
            })
            .collect();
        let other = file(folder.path(), "other.jsonl", &by_reward);
        let other = Arm::from([(String::new(), other)]);
        let error = paired("other", &other, "theirs", &theirs).expect_err("unlike");
        assert!(error.to_string().contains("in other ways"), "{error}");
    }
}
