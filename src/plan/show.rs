//! Plans and causes as people and programs read them.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json as value};
use starling_cache::ActionRecord;

use super::{Cause, MissingExternal, Plan, Status};
use crate::pipeline::Pipeline;

/// One line a stage: right-aligned status, name, short key, the reason; then a line that counts.
#[must_use]
pub fn table(pipeline: &Pipeline, plan: &Plan) -> String {
    let width = pipeline
        .stages
        .iter()
        .map(|s| s.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (stage, planned) in pipeline.stages.iter().zip(&plan.stages) {
        let key = planned.key.map(|k| k.short()).unwrap_or_default();
        let figure = match &planned.status {
            Status::Cached(_) => String::new(),
            Status::Ready(cause) => short_cause(cause),
            Status::Blocked { waits, .. } => format!("waits for {}", few(pipeline, waits)),
            Status::Missing { files, .. } => files.iter().map(file).collect::<Vec<_>>().join("; "),
        };
        let figure = match planned.same_as {
            Some(first) if !matches!(planned.status, Status::Cached(_)) => {
                format!("the same as {}", pipeline.stages[first].name)
            }
            _ => figure,
        };
        let line = format!(
            "{:>10}  {:width$}  {key:6}    {figure}",
            verb(&planned.status),
            stage.name
        );
        let _written = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// How many stages there are of each sort; those that are one action count once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Points of the matrix; 0 where there is none.
    pub points: usize,
    /// Stages by name.
    pub stages: usize,
    /// Stages by what they do.
    pub unique: usize,
    /// Of the unique ones, those whose outputs the store holds.
    pub cached: usize,
    /// Those that can run at once.
    pub ready: usize,
    /// Those that wait for others.
    pub blocked: usize,
    /// Those that wait for files.
    pub missing: usize,
}

/// Counts the stages of a plan.
#[must_use]
pub fn count(pipeline: &Pipeline, plan: &Plan) -> Counts {
    let mut counts = Counts {
        points: pipeline.points,
        stages: plan.stages.len(),
        ..Counts::default()
    };
    for planned in plan.stages.iter().filter(|s| s.same_as.is_none()) {
        counts.unique += 1;
        *match planned.status {
            Status::Cached(_) => &mut counts.cached,
            Status::Ready(_) => &mut counts.ready,
            Status::Blocked { .. } => &mut counts.blocked,
            Status::Missing { .. } => &mut counts.missing,
        } += 1;
    }
    counts
}

impl Counts {
    /// `27 points, 41 unique stages: 12 cached, 3 ready, 26 blocked`.
    #[must_use]
    pub fn text(&self) -> String {
        let sorts = [
            (self.cached, "cached"),
            (self.ready, "ready"),
            (self.blocked, "blocked"),
            (self.missing, "missing"),
        ];
        let parts: Vec<String> = sorts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let points = match self.points {
            0 => String::new(),
            n => format!("{n} point{}, ", plural(n)),
        };
        let unique = if self.points > 0 || self.unique < self.stages {
            "unique "
        } else {
            ""
        };
        format!(
            "{points}{} {unique}stage{}: {}",
            self.unique,
            plural(self.unique),
            parts.join(", ")
        )
    }
}

/// `25 stages: 20 cached, 2 ready, 3 blocked`; see [`Counts::text`].
#[must_use]
pub fn counts(pipeline: &Pipeline, plan: &Plan) -> String {
    count(pipeline, plan).text()
}

fn verb(status: &Status) -> &'static str {
    match status {
        Status::Cached(_) => "Cached",
        Status::Ready(_) => "Ready",
        Status::Blocked { .. } => "Blocked",
        Status::Missing { .. } => "Missing",
    }
}

fn names(pipeline: &Pipeline, stages: &[usize]) -> String {
    let names: Vec<&str> = stages
        .iter()
        .map(|&n| pipeline.stages[n].name.as_str())
        .collect();
    names.join(", ")
}

/// The first names, and how many more there are.
fn few(pipeline: &Pipeline, stages: &[usize]) -> String {
    const FEW: usize = 3;
    match stages.len().saturating_sub(FEW) {
        0 | 1 => names(pipeline, stages),
        more => format!("{} and {more} more", names(pipeline, &stages[..FEW])),
    }
}

fn file(file: &MissingExternal) -> String {
    let path = file.path.display();
    match &file.fetch {
        Some(fetch) => format!("{path} is not there; to get it: {fetch}"),
        None => format!("{path} is not there"),
    }
}

/// The first change with its place, and how many more there are.
fn short_cause(cause: &Cause) -> String {
    match cause {
        Cause::First => "first of its kind".to_owned(),
        Cause::Lost => "its outputs are damaged or gone".to_owned(),
        Cause::Changed { changes, .. } => match &changes[..] {
            [] => "what it reads may have changed".to_owned(),
            [one] => format!("{}   {}", one.text(), one.place),
            [one, rest @ ..] => format!("{}   {}   and {} more", one.text(), one.place, rest.len()),
        },
    }
}

/// Why a stage is or is not cached, every differing field with its old and new value and its place.
#[must_use]
pub fn why(pipeline: &Pipeline, plan: &Plan, stage: usize, other: Option<&Cause>) -> String {
    let name = &pipeline.stages[stage].name;
    let planned = &plan.stages[stage];
    let key = planned
        .key
        .map(|k| format!(" {}", k.short()))
        .unwrap_or_default();
    let mut text = String::new();
    let mut line = |l: String| {
        text.push_str(&l);
        text.push('\n');
    };
    match &planned.status {
        Status::Cached(record) => {
            line(format!("`{name}`{key} is cached: {}", made(record)));
            if let Some(cause) = other {
                explain(cause, &mut line);
            }
        }
        Status::Ready(cause) => {
            line(format!("`{name}`{key} is ready to run"));
            explain(cause, &mut line);
        }
        Status::Blocked { waits, cause } => {
            line(format!(
                "`{name}` is blocked: it waits for {}",
                names(pipeline, waits)
            ));
            explain(cause, &mut line);
            line(format!(
                "`starling why {}` says more about what it waits for",
                pipeline.stages[root(plan, stage)].name
            ));
        }
        Status::Missing { files, cause } => {
            line(format!("`{name}`{key} waits for files"));
            for missing in files {
                line(format!(
                    "  {}   {}",
                    file(missing),
                    pipeline.place(&missing.span)
                ));
            }
            explain(cause, &mut line);
        }
    }
    text
}

/// A stage that `stage` waits for in the end and that waits for none itself.
fn root(plan: &Plan, stage: usize) -> usize {
    let mut at = stage;
    while let Status::Blocked { waits, .. } = &plan.stages[at].status {
        match waits.first() {
            Some(&next) => at = next,
            None => break,
        }
    }
    at
}

fn made(record: &ActionRecord) -> String {
    format!(
        "attempt {} made it in {:.1} s on {} thread{} ({})",
        record.attempt,
        record.seconds,
        record.threads,
        if record.threads == 1 { "" } else { "s" },
        record.numerics
    )
}

fn explain(cause: &Cause, line: &mut impl FnMut(String)) {
    match cause {
        Cause::First => line("no stage of its kind has run with this store".to_owned()),
        Cause::Lost => {
            line("it ran before, and its record or an output is damaged or gone".to_owned());
        }
        Cause::Changed {
            nearest,
            stage,
            changes,
            ..
        } => {
            let n = changes.len();
            let fields = match n {
                0 => "no known field differs".to_owned(),
                1 => "1 field differs".to_owned(),
                _ => format!("{n} fields differ"),
            };
            line(format!(
                "{fields} from the nearest record {} (`{stage}`)",
                nearest.short()
            ));
            let width = changes
                .iter()
                .map(|c| c.what.name().chars().count())
                .max()
                .unwrap_or(0);
            for change in changes {
                line(format!(
                    "  {:width$}  {}   {}",
                    change.what.name(),
                    change.values(),
                    change.place
                ));
            }
        }
    }
}

/// The plan as one JSON value.
#[must_use]
pub fn json(pipeline: &Pipeline, plan: &Plan) -> Value {
    let estimates = plan.cost.estimates.iter().map(Option::as_ref);
    let estimates = estimates.chain(std::iter::repeat(None));
    let stages: Vec<Value> = pipeline
        .stages
        .iter()
        .zip(&plan.stages)
        .zip(estimates)
        .map(|((stage, planned), estimate)| {
            let reads = stage.inputs.iter().map(|input| {
                let writer = &pipeline.stages[input.stage].name;
                value!({"port": input.path(), "stage": writer, "output": input.output})
            });
            let mut object = value!({
                "stage": stage.name,
                "kind": stage.kind,
                "status": verb(&planned.status).to_lowercase(),
                "key": planned.key,
                "reads": reads.collect::<Vec<Value>>(),
                "place": pipeline.place(&stage.span).to_string(),
            });
            if !stage.point.is_empty() {
                object["base"] = value!(stage.base);
                object["point"] = value!(stage.point);
            }
            if let Some(most) = super::cards::most(pipeline, stage) {
                object["cards"] = value!(most);
            }
            if let Some(first) = planned.same_as {
                object["same-as"] = value!(pipeline.stages[first].name);
            }
            if let Some(estimate) = estimate {
                object["estimate"] = value!(estimate);
            }
            match &planned.status {
                Status::Cached(record) => object["outputs"] = value!(record.outputs),
                Status::Ready(cause) => object["why"] = value!(cause),
                Status::Blocked { waits, cause } => {
                    let names: Vec<&str> = waits
                        .iter()
                        .map(|&n| pipeline.stages[n].name.as_str())
                        .collect();
                    object["waits"] = value!(names);
                    object["why"] = value!(cause);
                }
                Status::Missing { files, cause } => {
                    let files: Vec<Value> = files
                        .iter()
                        .map(|f| value!({"param": f.param, "path": f.path, "fetch": f.fetch}))
                        .collect();
                    object["missing"] = value!(files);
                    object["why"] = value!(cause);
                }
            }
            object
        })
        .collect();
    let mut whole = value!({
        "pipeline": pipeline.file,
        "counts": count(pipeline, plan),
        "cost": plan.cost,
        "stages": stages,
    });
    if let Some(cards) = pipeline.settings.cards {
        whole["cards"] = value!(cards);
    }
    whole
}
