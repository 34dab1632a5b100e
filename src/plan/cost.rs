//! What a plan will cost: time and disk of the stages that would run, from what was recorded before.
//!
//! A stage is estimated by the records of its kind whose parameters differ least (the median of up to
//! three). Where they differ in a parameter that the kind declares its work to be proportional to (updates,
//! samples), the time is scaled by the ratio. Times are those of the threads and devices of then, added up
//! as if one stage ran after another. A kind without a record is unknown, and said to be.

use serde::Serialize;
use serde_json::Value;
use starling_cache::{ActionKey, ActionRecord};

use super::{History, Plan, Status};
use crate::Registry;
use crate::pipeline::Pipeline;
use crate::report::size;

/// What a stage will probably cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// Bytes of its outputs.
    pub bytes: u64,
    /// A record that this is taken from.
    pub from: ActionKey,
    /// By how much the time of that record was multiplied.
    pub scaled: f64,
}

/// What a plan will probably cost.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// Stages that would run, those of one key counted once.
    pub stages: usize,
    /// Those of them that were estimated.
    pub known: usize,
    /// Seconds of the known ones, one after another.
    pub seconds: f64,
    /// Bytes of outputs of the known ones.
    pub bytes: u64,
    /// Kinds of the others, each once.
    pub unknown_kinds: Vec<String>,
    /// For each stage of the plan its estimate.
    #[serde(skip)]
    pub estimates: Vec<Option<Estimate>>,
}

/// Estimates what the stages that are not cached will cost.
pub(super) fn cost(
    pipeline: &Pipeline,
    plan: &Plan,
    registry: &Registry,
    history: &History,
) -> Cost {
    let mut cost = Cost::default();
    for (stage, planned) in pipeline.stages.iter().zip(&plan.stages) {
        if matches!(planned.status, Status::Cached(_)) || planned.same_as.is_some() {
            cost.estimates.push(None);
            continue;
        }
        cost.stages += 1;
        let work = registry.get(&stage.kind).map_or(&[][..], |k| k.work());
        let alike = history.alike(&stage.name, &planned.fields);
        let estimate = estimate(&alike, &planned.fields.params, work);
        match &estimate {
            Some(estimate) => {
                cost.known += 1;
                cost.seconds += estimate.seconds;
                cost.bytes += estimate.bytes;
            }
            None if cost.unknown_kinds.contains(&stage.kind) => {}
            None => cost.unknown_kinds.push(stage.kind.clone()),
        }
        cost.estimates.push(estimate);
    }
    cost
}

fn estimate(alike: &[&ActionRecord], params: &Value, work: &[&str]) -> Option<Estimate> {
    let mut found: Vec<Estimate> = alike
        .iter()
        .map(|record| {
            let scaled = ratio(&record.fields.params, params, work);
            Estimate {
                seconds: record.seconds * scaled,
                bytes: record.outputs.values().map(|o| o.bytes).sum(),
                from: record.key,
                scaled,
            }
        })
        .collect();
    found.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let middle = found.len().checked_sub(1)? / 2;
    found.into_iter().nth(middle)
}

/// How many times the work of `old` the parameters `new` are.
fn ratio(old: &Value, new: &Value, work: &[&str]) -> f64 {
    work.iter()
        .filter_map(|param| {
            let number = |v: &Value| v.get(param)?.as_f64().filter(|n| *n > 0.0);
            Some(number(new)? / number(old)?)
        })
        .product()
}

impl Cost {
    /// `about 12 min and 3.2 GB to go, by the nearest earlier results; nothing is known of 4 stages (rl)`.
    #[must_use]
    pub fn text(&self) -> String {
        let stages = |n: usize| format!("{n} stage{}", if n == 1 { "" } else { "s" });
        let unknown = self.stages - self.known;
        let kinds = self.unknown_kinds.join(", ");
        if self.known == 0 {
            return format!(
                "what {} will cost is unknown: nothing of kind {kinds} has run with this store",
                stages(unknown)
            );
        }
        let mut text = format!(
            "to go: about {} of computing and {} of disk, by earlier results of the same kinds",
            crate::report::duration(self.seconds),
            size(self.bytes)
        );
        if unknown > 0 {
            text.push_str(&format!(
                "; without {}, of which nothing is known ({kinds})",
                stages(unknown)
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn work_scales_time() {
        let (old, new) = (
            json!({"updates": 10, "batch": 4}),
            json!({"updates": 30, "batch": 2}),
        );
        assert!((ratio(&old, &new, &["updates", "batch"]) - 1.5).abs() < 1e-12);
        assert!((ratio(&old, &new, &[]) - 1.0).abs() < 1e-12);
        // What is absent or nothing says nothing.
        assert!((ratio(&old, &json!({"updates": 0}), &["updates", "batch"]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_unknown_is_said() {
        let mut cost = Cost {
            stages: 3,
            unknown_kinds: vec!["rl".into(), "table".into()],
            ..Cost::default()
        };
        assert_eq!(
            cost.text(),
            "what 3 stages will cost is unknown: nothing of kind rl, table has run with this store"
        );
        cost.known = 2;
        cost.seconds = 75.0;
        cost.bytes = 1_500_000;
        cost.unknown_kinds.pop();
        assert_eq!(
            cost.text(),
            "to go: about 1 min 15 s of computing and 1.5 MB of disk, by earlier results of the same kinds; \
             without 1 stage, of which nothing is known (rl)"
        );
    }
}
