//! What a plan will cost: time and disk of the stages that would run, from what was recorded before.
//!
//! A stage is estimated by the records of its kind whose parameters differ least (the median of up to
//! three). Where they differ in a parameter that the kind declares its work to be proportional to (updates,
//! samples), the time is scaled by the ratio; a stage that stops before its horizon counts up to where it stops. Times are those of the threads and devices of then, added up
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

/// Outputs from so many bytes on are told before anything is known of their kind.
const WORTH_SAYING: u64 = 1_000_000_000;

/// What a stage of a kind that never ran can take at most.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AtMost {
    /// The stage.
    pub stage: String,
    /// Bytes of its outputs.
    pub bytes: u64,
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
    /// Those of the others whose outputs can be large, by their parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at_most: Vec<AtMost>,
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
        let work = registry
            .get(&stage.kind)
            .map_or_else(Work::default, |k| Work {
                params: k.work(),
                stop: k.stops().first().copied(),
            });
        let most = registry
            .get(&stage.kind)
            .and_then(|k| k.most_bytes(&planned.fields.params));
        let alike = history.alike(&stage.name, &planned.fields);
        let estimate = estimate(&alike, &planned.fields.params, work);
        match &estimate {
            Some(estimate) => {
                cost.known += 1;
                cost.seconds += estimate.seconds;
                cost.bytes += estimate.bytes;
            }
            None => {
                if !cost.unknown_kinds.contains(&stage.kind) {
                    cost.unknown_kinds.push(stage.kind.clone());
                }
                cost.at_most
                    .extend(
                        most.filter(|bytes| *bytes >= WORTH_SAYING)
                            .map(|bytes| AtMost {
                                stage: stage.name.clone(),
                                bytes,
                            }),
                    );
            }
        }
        cost.estimates.push(estimate);
    }
    cost
}

/// What a kind says of its time.
#[derive(Debug, Clone, Copy, Default)]
struct Work {
    /// Parameters that it is proportional to.
    params: &'static [&'static str],
    /// The parameter that may end it before the first of these is reached.
    stop: Option<&'static str>,
}

impl Work {
    /// The value of the parameter number `n`, where it says something.
    fn amount(self, n: usize, params: &Value) -> Option<f64> {
        let number = |name| params.get(name)?.as_f64().filter(|n| *n > 0.0);
        let whole = number(self.params[n])?;
        let stop = self.stop.filter(|_| n == 0).and_then(number);
        Some(stop.map_or(whole, |stop| stop.min(whole)))
    }
}

fn estimate(alike: &[&ActionRecord], params: &Value, work: Work) -> Option<Estimate> {
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
fn ratio(old: &Value, new: &Value, work: Work) -> f64 {
    (0..work.params.len())
        .filter_map(|n| Some(work.amount(n, new)? / work.amount(n, old)?))
        .product()
}

impl Cost {
    /// `about 12 min and 3.2 GB to go, by the nearest earlier results; nothing is known of 4 stages (rl)`.
    #[must_use]
    pub fn text(&self) -> String {
        let stages = |n: usize| format!("{n} stage{}", if n == 1 { "" } else { "s" });
        let unknown = self.stages - self.known;
        let kinds = self.unknown_kinds.join(", ");
        let large: String = self
            .at_most
            .iter()
            .map(|most| {
                format!(
                    "\n`{}` may take up to {} of disk",
                    most.stage,
                    size(most.bytes)
                )
            })
            .collect();
        if self.known == 0 {
            return format!(
                "what {} will cost is unknown: nothing of kind {kinds} has run with this store{large}",
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
        text.push_str(&large);
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
        let work = Work {
            params: &["updates", "batch"],
            stop: Some("stop-after"),
        };
        let is = |old: &Value, new: &Value, work, right: f64| {
            let found = ratio(old, new, work);
            assert!((found - right).abs() < 1e-12, "{found} for {old} and {new}");
        };
        is(&old, &new, work, 1.5);
        is(&old, &new, Work::default(), 1.0);
        // What is absent or nothing says nothing.
        is(&old, &json!({"updates": 0}), work, 1.0);
        // What stops early costs what it did until there, the record as well as the stage.
        let stopped = json!({"updates": 30, "batch": 2, "stop-after": 15});
        is(&old, &stopped, work, 0.75);
        is(&stopped, &new, work, 2.0);
        is(
            &old,
            &json!({"updates": 30, "batch": 2, "stop-after": null}),
            work,
            1.5,
        );
        is(
            &old,
            &json!({"updates": 30, "batch": 2, "stop-after": 99}),
            work,
            1.5,
        );
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
        cost.at_most.push(AtMost {
            stage: "rollouts".into(),
            bytes: 134_000_000_000,
        });
        assert!(
            cost.text()
                .ends_with("with this store\n`rollouts` may take up to 134.0 GB of disk"),
            "{}",
            cost.text()
        );
        cost.at_most.clear();
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
