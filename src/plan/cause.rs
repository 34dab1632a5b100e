//! Why a stage is not cached: typed, with old and new values and the place where the new one is written.

use serde::Serialize;
use starling_cache::{ActionKey, FieldChange};

use super::history::Nearest;
use crate::pipeline::{Pipeline, PipelineStage, Span};

/// The reason why the store has nothing to offer for a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(
    tag = "cause",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Cause {
    /// No stage of this kind ever ran with this store.
    First,
    /// It ran before, and what it made is damaged or gone.
    Lost,
    /// Fields of its key differ from those of the nearest record.
    Changed {
        /// The nearest record.
        nearest: ActionKey,
        /// The stage's name when that ran.
        stage: String,
        /// When that was, seconds since 1970.
        started_unix: f64,
        /// What differs; empty when only unknown inputs can differ.
        changes: Vec<Change>,
    },
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// What sort of field it is.
    pub what: Field,
    /// Its old value, JSON; none when it is new.
    pub old: Option<String>,
    /// Its new value, JSON; none when it is gone.
    pub new: Option<String>,
    /// Where the new value is written, `file:line:col`; of a default, where its stage is.
    pub place: String,
}

/// A field of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// The version of the kind: starling itself changed.
    Version,
    /// A parameter, by its dotted path.
    Param(String),
    /// The bytes of a file outside the store, by the parameter that names it.
    File(String),
    /// An input, by its dotted path.
    Input(String),
}

impl Field {
    /// Its name in a pipeline file.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Version => "version of the kind".to_owned(),
            Self::Param(path) => path.clone(),
            Self::File(param) => format!("bytes of {param}"),
            Self::Input(path) => format!("inputs.{path}"),
        }
    }
}

impl Change {
    /// `top-k 32 → 64`.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.what.name(), self.values())
    }

    /// `32 → 64`; digests in short form.
    #[must_use]
    pub fn values(&self) -> String {
        let digests = matches!(self.what, Field::Input(_) | Field::File(_));
        let show = |value: &Option<String>| match value {
            None => "absent".to_owned(),
            Some(text) if digests => text.trim_matches('"').chars().take(6).collect(),
            Some(text) => shortened(text),
        };
        format!("{} → {}", show(&self.old), show(&self.new))
    }
}

/// At most 60 characters of a value.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(59).chain(['…']).collect()
}

/// The cause when the nearest record is known.
pub(super) fn changed(pipeline: &Pipeline, stage: &PipelineStage, nearest: Nearest) -> Cause {
    let changes = nearest.changes.into_iter();
    Cause::Changed {
        nearest: nearest.record.key,
        stage: nearest.record.stage,
        started_unix: nearest.record.started_unix,
        changes: changes.map(|c| change(pipeline, stage, c)).collect(),
    }
}

fn change(pipeline: &Pipeline, stage: &PipelineStage, change: FieldChange) -> Change {
    let (what, span) = field(stage, &change.path);
    Change {
        what,
        old: change.old,
        new: change.new,
        place: pipeline.place(&span).to_string(),
    }
}

fn field(stage: &PipelineStage, path: &str) -> (Field, Span) {
    if let Some(param) = path.strip_prefix("params.") {
        let span = stage.param_span(param);
        // A file's parameter is a path in the pipeline and a digest in the key.
        let is_file = stage.externals.iter().any(|e| e == param);
        let field = if is_file { Field::File } else { Field::Param };
        return (field(param.to_owned()), span);
    }
    if let Some(input) = path.strip_prefix("inputs.") {
        let written = stage.inputs.iter().find(|i| i.path() == input);
        let span = written.map_or_else(|| stage.span.clone(), |i| i.span.clone());
        return (Field::Input(input.to_owned()), span);
    }
    if path == "params" {
        return (Field::Param("parameters".to_owned()), stage.span.clone());
    }
    (Field::Version, stage.span.clone())
}
