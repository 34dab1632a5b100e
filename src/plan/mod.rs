//! Plans: what the store already holds of a pipeline, what would run, and why.
//!
//! A stage's key needs the *digests* of what it reads, so a stage behind one that has not run is
//! blocked rather than ready: its inputs may turn out to be bytes that the store knows. Planning
//! writes nothing. Invariant: a plan names every stage once, in an order in which they can run.

mod cards;
mod cause;
mod cost;
pub mod graph;
mod history;
mod resolve;
mod same;
mod show;
#[cfg(test)]
mod tests;

use starling_cache::{ActionKey, ActionRecord, CacheError, KeyFields, Memo, Store};

use crate::Registry;
use crate::pipeline::{Mistakes, Pipeline};

pub use cards::{cards, unheeded};
pub use cause::{Cause, Change, Field};
pub use cost::{AtMost, Cost, Estimate};
pub use history::{History, Nearest};
pub use resolve::{
    MissingAction, MissingExternal, Records, Resolution, ResolveError, ResolvedAction,
    ResolvedExternal, ResolvedInput, line, resolve, resolve_all,
};
pub use show::{Counts, count, counts, json, table, why};

/// What would happen to each stage of a pipeline.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The stages, numbered as in the pipeline.
    pub stages: Vec<PlannedStage>,
    /// What those that are not cached will cost.
    pub cost: Cost,
}

/// What would happen to a stage.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its status.
    pub status: Status,
    /// Its key; none while inputs are unknown.
    pub key: Option<ActionKey>,
    /// What its key is made of, as far as that is known.
    pub fields: KeyFields,
    /// An earlier stage that is the same action, so that one of them runs and both have its outputs.
    pub same_as: Option<usize>,
}

/// The status of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// The store holds its outputs.
    Cached(Box<ActionRecord>),
    /// It can run at once.
    Ready(Cause),
    /// It waits for stages that run first.
    Blocked {
        /// Those stages, numbered as in the pipeline.
        waits: Vec<usize>,
        /// Why it is not cached, as far as that is known.
        cause: Cause,
    },
    /// It waits for files that somebody must fetch.
    Missing {
        /// The files.
        files: Vec<MissingExternal>,
        /// Why it is not cached.
        cause: Cause,
    },
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The pipeline asks for something that is not so.
    #[error(transparent)]
    Mistakes(#[from] Box<Mistakes>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] CacheError),
}

/// Plans a pipeline; every mistake about its files is reported at once.
///
/// `now_unix` is the present in seconds since 1970.
///
/// # Errors
/// [`PlanError`].
pub fn plan(
    pipeline: &Pipeline,
    registry: &Registry,
    store: &dyn Store,
    memo: &mut Memo,
    now_unix: f64,
) -> Result<Plan, PlanError> {
    let count = pipeline.stages.len();
    let mut records: Vec<Option<ActionRecord>> = vec![None; count];
    let mut resolutions = Vec::with_capacity(count);
    let mut wrong = Vec::new();
    let resolved = resolve_all(pipeline, registry, store, memo, now_unix);
    for (record, resolution) in records.iter_mut().zip(resolved) {
        match resolution {
            Ok(resolution) => {
                *record = resolution.record().cloned();
                resolutions.push(resolution);
            }
            Err(ResolveError::Store(error)) => return Err(error.into()),
            Err(ResolveError::Mistakes(list)) => {
                wrong.extend(list);
                resolutions.push(Resolution::Waits(Vec::new()));
            }
        }
    }
    let same = same::same(pipeline, &resolutions, registry);
    let mut explain = Explain {
        pipeline,
        registry,
        records: &records,
        same: &same,
        store,
        history: None,
    };
    let mut stages = Vec::with_capacity(count);
    for (stage, resolution) in resolutions.into_iter().enumerate() {
        match explain.stage(stage, resolution, memo, now_unix) {
            Ok(planned) => stages.push(planned),
            Err(ResolveError::Store(error)) => return Err(error.into()),
            Err(ResolveError::Mistakes(list)) => wrong.extend(list),
        }
    }
    if !wrong.is_empty() {
        return Err(Box::new(Mistakes::new(pipeline.sources.clone(), wrong)).into());
    }
    let history = explain.history.take();
    let mut plan = Plan {
        stages,
        cost: Cost::default(),
    };
    if let Some(history) = history {
        plan.cost = cost::cost(pipeline, &plan, registry, &history);
    }
    Ok(plan)
}

/// How a cached stage differs from the nearest *other* record; none for a stage that is not cached.
///
/// # Errors
/// [`CacheError`] when the store cannot be read.
pub fn other(
    pipeline: &Pipeline,
    plan: &Plan,
    stage: usize,
    store: &dyn Store,
) -> Result<Option<Cause>, CacheError> {
    let planned = &plan.stages[stage];
    if !matches!(planned.status, Status::Cached(_)) {
        return Ok(None);
    }
    let this = &pipeline.stages[stage];
    let nearest = History::load(store)?.nearest(&this.name, &planned.fields, |_| false);
    Ok(nearest.map(|n| cause::changed(pipeline, this, n)))
}

/// Turns resolutions into statuses with causes; reads the history once, when something is not cached.
struct Explain<'a> {
    pipeline: &'a Pipeline,
    registry: &'a Registry,
    records: &'a [Option<ActionRecord>],
    same: &'a [Option<usize>],
    store: &'a dyn Store,
    history: Option<History>,
}

impl Explain<'_> {
    fn stage(
        &mut self,
        stage: usize,
        resolution: Resolution,
        memo: &mut Memo,
        now_unix: f64,
    ) -> Result<PlannedStage, ResolveError> {
        match resolution {
            Resolution::Cached(record) => Ok(PlannedStage {
                key: Some(record.key),
                fields: record.fields.clone(),
                status: Status::Cached(record),
                same_as: self.same[stage],
            }),
            Resolution::Action(action) => {
                let status = match action.cached {
                    Some(record) => Status::Cached(Box::new(record)),
                    None => Status::Ready(self.cause(stage, &action.fields, Some(action.key))?),
                };
                Ok(PlannedStage {
                    status,
                    key: Some(action.key),
                    fields: action.fields,
                    same_as: self.same[stage],
                })
            }
            Resolution::Missing(action) => Ok(PlannedStage {
                status: Status::Missing {
                    cause: self.cause(stage, &action.fields, Some(action.key))?,
                    files: action.missing,
                },
                key: Some(action.key),
                fields: action.fields,
                same_as: self.same[stage],
            }),
            Resolution::Waits(waits) => {
                let fields = resolve::partial_fields(
                    self.pipeline,
                    stage,
                    self.registry,
                    &|n| self.records[n].as_ref(),
                    memo,
                    now_unix,
                )?;
                let cause = self.cause(stage, &fields, None)?;
                Ok(PlannedStage {
                    status: Status::Blocked { waits, cause },
                    key: None,
                    fields,
                    same_as: self.same[stage],
                })
            }
        }
    }

    /// Why there is no record; without a `key`, inputs of stages without records are unknown.
    fn cause(
        &mut self,
        stage: usize,
        fields: &KeyFields,
        key: Option<ActionKey>,
    ) -> Result<Cause, CacheError> {
        let history = match self.history.take() {
            Some(history) => history,
            None => History::load(self.store)?,
        };
        let history = self.history.insert(history);
        if key.is_some_and(|key| history.had(&key)) {
            return Ok(Cause::Lost);
        }
        let this = &self.pipeline.stages[stage];
        let unknown: Vec<String> = this
            .inputs
            .iter()
            .filter(|i| self.records[i.stage].is_none())
            .map(|i| format!("inputs.{}", i.path()))
            .collect();
        let nearest = history.nearest(&this.name, fields, |path| {
            key.is_none() && unknown.iter().any(|u| u == path)
        });
        Ok(nearest.map_or(Cause::First, |n| cause::changed(self.pipeline, this, n)))
    }
}
