//! One stage → its action: the fields of its key, and what the store holds for it.

use std::path::PathBuf;

use rayon::prelude::*;
use serde_json::Value;
use starling_cache::{
    ActionKey, ActionRecord, CacheError, KeyFields, KeyInput, Memo, OutputRef, Store,
};
use starling_contract::{External, Kind};

use crate::Registry;
use crate::pipeline::{Keep, Mistake, Pipeline, PipelineStage, Span};

/// What can be said about a stage now.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// Its key is known and what it reads is there.
    Action(Box<ResolvedAction>),
    /// The store has all of its outputs, and it is to keep them.
    Cached(Box<ActionRecord>),
    /// It reads stages that have no outputs yet, numbered as in the pipeline.
    Waits(Vec<usize>),
    /// Its key is known by pinned digests, nothing is cached, and files are not there yet.
    Missing(Box<MissingAction>),
}

/// A stage with everything that decides its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedAction {
    /// What its key is made of.
    pub fields: KeyFields,
    /// The key.
    pub key: ActionKey,
    /// By which its snapshots are found; see [`line()`].
    pub line: ActionKey,
    /// What it reads from other stages, in the pipeline's order.
    pub inputs: Vec<ResolvedInput>,
    /// What it reads from outside the store; a file that is not there (and not needed) is left out.
    pub externals: Vec<ResolvedExternal>,
    /// What it produced before, whose bytes may be gone because the stage keeps digests only.
    pub cached: Option<ActionRecord>,
}

/// An input with its artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedInput {
    /// The port that reads.
    pub port: String,
    /// The name under a port that takes several.
    pub name: Option<String>,
    /// The artifact.
    pub artifact: OutputRef,
}

/// A file outside the store with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedExternal {
    /// The parameter that names it.
    pub param: String,
    /// Where it is, from the working folder.
    pub path: PathBuf,
    /// Its content.
    pub output: OutputRef,
}

/// A stage that cannot run before somebody fetches files.
#[derive(Debug, Clone, PartialEq)]
pub struct MissingAction {
    /// What its key is made of.
    pub fields: KeyFields,
    /// The key.
    pub key: ActionKey,
    /// The files; at least one.
    pub missing: Vec<MissingExternal>,
}

impl MissingAction {
    /// The missing files as mistakes with their places, for those who cannot go on without them.
    #[must_use]
    pub fn mistakes(&self, stage: &PipelineStage) -> Vec<Mistake> {
        let mistake = |file: &MissingExternal| Mistake::MissingFile {
            stage: stage.name.clone(),
            path: file.path.display().to_string(),
            fetch: file.fetch.clone(),
            span: file.span.clone(),
        };
        self.missing.iter().map(mistake).collect()
    }
}

/// A pinned file that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingExternal {
    /// The parameter that names it.
    pub param: String,
    /// Where it should be, from the working folder.
    pub path: PathBuf,
    /// How to get it, in the author's words.
    pub fetch: Option<String>,
    /// Where it is written.
    pub span: Span,
}

/// Why a stage could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The pipeline asks for something that is not so; to be shown with its place.
    #[error("{}", joined(.0))]
    Mistakes(Vec<Mistake>),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] CacheError),
}

fn joined(mistakes: &[Mistake]) -> String {
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Resolution {
    /// What the store has of the stage.
    #[must_use]
    pub const fn record(&self) -> Option<&ActionRecord> {
        match self {
            Self::Cached(record) => Some(record),
            Self::Action(action) => action.cached.as_ref(),
            Self::Waits(_) | Self::Missing(_) => None,
        }
    }
}

/// The records known so far, by the stage's number.
pub type Records<'a> = &'a dyn Fn(usize) -> Option<&'a ActionRecord>;

/// Resolves the stage numbered `stage`, given the records of the stages before it.
///
/// Files outside the store are read (or remembered by `memo`; `now_unix` is the present in seconds
/// since 1970); the store is asked for the record and never written.
///
/// # Errors
/// [`ResolveError::Mistakes`] for files that are not what was pinned, cannot be read, or have gone
/// since the pipeline was checked; [`ResolveError::Store`] when the store cannot be read.
pub fn resolve(
    pipeline: &Pipeline,
    stage: usize,
    registry: &Registry,
    records: Records<'_>,
    store: &dyn Store,
    memo: &mut Memo,
    now_unix: f64,
) -> Result<Resolution, ResolveError> {
    let this = &pipeline.stages[stage];
    let kind = known_kind(registry, this)?;
    // Files come first: a wrong one is better known before the stages that this one waits for have run.
    let found = externals(pipeline, this, kind, memo, now_unix)?;
    with_files(this, kind, found, records, store)
}

/// Stages of one depth that are worth sharing among cores.
const MANY: usize = 128;

/// Resolves every stage, given what the store has of those before it, as [`resolve`] does one.
///
/// Stages that are equally deep in the graph do not read each other, so they are looked at on all cores.
pub fn resolve_all(
    pipeline: &Pipeline,
    registry: &Registry,
    store: &dyn Store,
    memo: &mut Memo,
    now_unix: f64,
) -> Vec<Result<Resolution, ResolveError>> {
    let mut all: Vec<Option<Result<Resolution, ResolveError>>> = Vec::new();
    all.resize_with(pipeline.stages.len(), || None);
    for level in levels(pipeline) {
        let record = |n: usize| all[n].as_ref()?.as_ref().ok()?.record();
        let (mut here, apart): (Vec<usize>, Vec<usize>) = level.into_iter().partition(|&n| {
            let reads_files = !pipeline.stages[n].externals.is_empty();
            reads_files || registry.get(&pipeline.stages[n].kind).is_none()
        });
        let without_files = |n: usize| {
            let this = &pipeline.stages[n];
            let kind = known_kind(registry, this)?;
            with_files(this, kind, Vec::new(), &record, store)
        };
        let mut found: Vec<(usize, Result<Resolution, ResolveError>)> = if apart.len() < MANY {
            here.extend(apart);
            Vec::with_capacity(here.len())
        } else {
            let one = |n| (n, without_files(n));
            apart.into_par_iter().with_min_len(16).map(one).collect()
        };
        found.extend(here.into_iter().map(|n| {
            let one = resolve(pipeline, n, registry, &record, store, memo, now_unix);
            (n, one)
        }));
        for (n, resolution) in found {
            all[n] = Some(resolution);
        }
    }
    all.into_iter().flatten().collect()
}

/// The stages by their depth: those that read nothing, those that read only these, and so on.
fn levels(pipeline: &Pipeline) -> Vec<Vec<usize>> {
    let mut depth: Vec<usize> = Vec::with_capacity(pipeline.stages.len());
    let mut levels: Vec<Vec<usize>> = Vec::new();
    for (number, stage) in pipeline.stages.iter().enumerate() {
        let below = stage.inputs.iter().map(|i| depth[i.stage] + 1).max();
        let below = below.unwrap_or(0);
        depth.push(below);
        if levels.len() == below {
            levels.push(Vec::new());
        }
        levels[below].push(number);
    }
    levels
}

/// Resolves a stage whose files outside the store have been looked at.
fn with_files(
    this: &PipelineStage,
    kind: &dyn Kind,
    found: Vec<Found>,
    records: Records<'_>,
    store: &dyn Store,
) -> Result<Resolution, ResolveError> {
    let waits = waits(this, records);
    if !waits.is_empty() {
        return Ok(Resolution::Waits(waits));
    }
    let inputs = inputs(this, records);
    let key_inputs = inputs.iter().map(|i| KeyInput {
        port: i.port.clone(),
        name: i.name.clone(),
        digest: i.artifact.digest,
    });
    let params = key_params(&this.params, kind, &found);
    let fields = KeyFields::new(kind.name(), kind.version(), params, key_inputs.collect());
    let key = fields.action_key();
    let has_all = |record: &ActionRecord| {
        let mut writes = this.writes.iter();
        writes.all(|&output| record.outputs.contains_key(output))
    };
    let retires = this.keep == Keep::Digest;
    let (fields, cached) = match store.cached(&key, fields)? {
        Ok(record) if !has_all(&record) => (record.fields, None),
        Ok(record) if retires => (record.fields.clone(), Some(record)),
        Ok(record) => return Ok(Resolution::Cached(Box::new(record))),
        Err(fields) if retires => (fields, store.retired(&key)?.filter(has_all)),
        Err(fields) => (fields, None),
    };
    let missing: Vec<MissingExternal> = found.iter().filter_map(|f| f.missing.clone()).collect();
    if cached.is_none() && !missing.is_empty() {
        return Ok(Resolution::Missing(Box::new(MissingAction {
            fields,
            key,
            missing,
        })));
    }
    Ok(Resolution::Action(Box::new(ResolvedAction {
        line: line(&fields, kind.stops()),
        fields,
        key,
        inputs,
        externals: found.into_iter().filter_map(|f| f.present).collect(),
        cached,
    })))
}

/// By which the snapshots of an action are found: its key without the parameters that say where it stops, which
/// are the kind's [`starling_contract::Stage::STOPS`].
#[must_use]
pub fn line(fields: &KeyFields, stops: &[&str]) -> ActionKey {
    if stops.is_empty() {
        fields.action_key()
    } else {
        fields.without(stops).action_key()
    }
}

/// The stages that `stage` reads and that have no record, each once.
fn waits(stage: &PipelineStage, records: Records<'_>) -> Vec<usize> {
    let mut waits: Vec<usize> = stage
        .inputs
        .iter()
        .filter(|i| records(i.stage).is_none())
        .map(|i| i.stage)
        .collect();
    waits.sort_unstable();
    waits.dedup();
    waits
}

/// What is known of a key while inputs are missing, for explanations: their digests are left out.
pub(super) fn partial_fields(
    pipeline: &Pipeline,
    stage: usize,
    registry: &Registry,
    records: Records<'_>,
    memo: &mut Memo,
    now_unix: f64,
) -> Result<KeyFields, ResolveError> {
    let this = &pipeline.stages[stage];
    let kind = known_kind(registry, this)?;
    let found = externals(pipeline, this, kind, memo, now_unix)?;
    let known = inputs(this, records).into_iter().map(|i| KeyInput {
        port: i.port,
        name: i.name,
        digest: i.artifact.digest,
    });
    let params = key_params(&this.params, kind, &found);
    Ok(KeyFields::new(
        kind.name(),
        kind.version(),
        params,
        known.collect(),
    ))
}

fn known_kind<'r>(
    registry: &'r Registry,
    stage: &PipelineStage,
) -> Result<&'r dyn Kind, ResolveError> {
    registry.get(&stage.kind).ok_or_else(|| {
        mistakes(vec![Mistake::UnknownKind {
            stage: stage.name.clone(),
            kind: stage.kind.clone(),
            near: None,
            span: stage.span.clone(),
        }])
    })
}

fn mistakes(list: Vec<Mistake>) -> ResolveError {
    ResolveError::Mistakes(list)
}

/// The inputs whose stages have records.
fn inputs(stage: &PipelineStage, records: Records<'_>) -> Vec<ResolvedInput> {
    let resolved = stage.inputs.iter().filter_map(|input| {
        let record = records(input.stage)?;
        Some(ResolvedInput {
            port: input.port.clone(),
            name: input.name.clone(),
            artifact: *record.outputs.get(&input.output)?,
        })
    });
    resolved.collect()
}

/// A file outside the store: what its key field says, and whether it is there.
struct Found {
    param: &'static str,
    digest: String,
    present: Option<ResolvedExternal>,
    missing: Option<MissingExternal>,
}

fn externals(
    pipeline: &Pipeline,
    stage: &PipelineStage,
    kind: &dyn Kind,
    memo: &mut Memo,
    now_unix: f64,
) -> Result<Vec<Found>, ResolveError> {
    if stage.externals.is_empty() {
        return Ok(Vec::new());
    }
    let declared = kind.externals(&stage.params).map_err(|error| {
        mistakes(vec![Mistake::Parameter {
            stage: stage.name.clone(),
            message: error.to_string(),
            help: error.hint().map(str::to_owned),
            span: stage.span.clone(),
        }])
    })?;
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for external in declared {
        match look(pipeline, stage, external, memo, now_unix) {
            Ok(one) => found.push(one),
            Err(mistake) => wrong.push(mistake),
        }
    }
    if wrong.is_empty() {
        Ok(found)
    } else {
        Err(mistakes(wrong))
    }
}

#[expect(
    clippy::result_large_err,
    reason = "a mistake ends the plan; its size is never paid twice"
)]
fn look(
    pipeline: &Pipeline,
    stage: &PipelineStage,
    external: External,
    memo: &mut Memo,
    now_unix: f64,
) -> Result<Found, Mistake> {
    let folder = pipeline.folder_of(stage, external.param);
    let path = folder.join(&external.path);
    let span = stage.param_span(external.param);
    let param = external.param;
    let there = path.try_exists();
    if let (Ok(false), Some(pin)) = (&there, external.pinned) {
        return Ok(Found {
            param,
            digest: pin.to_string(),
            present: None,
            missing: Some(MissingExternal {
                param: param.to_owned(),
                path,
                fetch: external.fetch,
                span,
            }),
        });
    }
    let stage_name = stage.name.clone();
    if matches!(there, Ok(false)) {
        return Err(Mistake::MissingFile {
            stage: stage_name,
            path: path.display().to_string(),
            fetch: external.fetch,
            span,
        });
    }
    let output = memo
        .digest_path(&path, now_unix)
        .map_err(|error| Mistake::UnreadableFile {
            stage: stage_name.clone(),
            message: with_source(&error),
            span,
        })?;
    match external.pinned {
        Some(pin) if pin != output.digest => Err(Mistake::WrongDigest {
            stage: stage_name,
            path: path.display().to_string(),
            found: output.digest.to_string(),
            span: pin_span(stage, &pin.to_string(), external.param),
        }),
        _ => Ok(Found {
            param,
            digest: output.digest.to_string(),
            present: Some(ResolvedExternal {
                param: param.to_owned(),
                path,
                output,
            }),
            missing: None,
        }),
    }
}

/// An error and its cause on one line.
fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Where a pin is written: the parameter with that value, for a kind may call it what it likes.
fn pin_span(stage: &PipelineStage, pin: &str, param: &str) -> Span {
    let written = stage.params.as_object().and_then(|params| {
        let (name, _) = params
            .iter()
            .find(|(_, value)| value.as_str() == Some(pin))?;
        stage.param_spans.get(name)
    });
    written.cloned().unwrap_or_else(|| stage.param_span(param))
}

/// The parameters as they enter the key: neutral ones left out, paths replaced by what they hold.
fn key_params(params: &Value, kind: &dyn Kind, found: &[Found]) -> Value {
    let mut params = params.clone();
    if let Some(map) = params.as_object_mut() {
        for neutral in kind.neutral() {
            map.remove(*neutral);
        }
        for external in found {
            map.insert(
                external.param.to_owned(),
                Value::from(external.digest.as_str()),
            );
        }
    }
    params
}
