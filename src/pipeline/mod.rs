//! Pipelines: from the text of a TOML file to a checked graph of stages.
//!
//! Reading goes in passes (syntax, files, profile, matrix, variables, stages, parameters, edges, cycles),
//! each over everything that the one before could make sense of, so that all mistakes are reported together
//! and before any slow work starts. `docs/pipelines.md` is the language as authors see it. What wins over
//! what, weakest first: the file that is extended, the pipeline, the profile, the point of the matrix,
//! `--set`.
//!
//! Invariant: a [`Pipeline`] that exists is right as far as its text alone can tell; its stages are in
//! topological order.

mod advice;
mod draft;
mod edges;
mod files;
mod like;
mod matrix;
mod mistake;
mod mistakes;
mod order;
mod overrides;
mod profiles;
mod read;
mod render;
mod settings;
mod sources;
mod tables;
#[cfg(test)]
mod tests;
mod vars;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use mistake::Mistake;
pub use mistakes::Mistakes;
pub use read::{LoadError, load, read};
pub use settings::parse_size;
pub use sources::{Place, Source, Sources};

/// Bytes of the texts that a pipeline was read from, as [`Sources`] numbers them.
pub type Span = Range<usize>;

/// A checked pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The file as the user named it, for messages.
    pub file: String,
    /// The folder that relative paths of the file start from.
    pub folder: PathBuf,
    /// The file's text and the `--set` arguments.
    pub sources: Sources,
    /// The stages; each comes after all those that it reads.
    pub stages: Vec<PipelineStage>,
    /// What `[run]` says.
    pub settings: RunSettings,
    /// The points of its matrix; 0 where it has none.
    pub points: usize,
}

/// How to run a pipeline; none of it changes a byte of any output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// CPU threads that all running stages share; the machine's cores when absent.
    pub threads: Option<usize>,
    /// Memory that all running stages share, in bytes; the machine's when absent.
    pub memory: Option<u64>,
    /// NVIDIA devices that all running stages share, each process with one of its own; when absent one stage at a
    /// time computes on them.
    pub cards: Option<usize>,
    /// Where the profile would have stages compute.
    pub device: Option<Device>,
}

/// A checked stage.
#[derive(Debug, Clone)]
pub struct PipelineStage {
    /// `NAME` of `[stage.NAME]`, and `@POINT` where points of the matrix tell several of it apart.
    pub name: String,
    /// `NAME` alone.
    pub base: String,
    /// `POINT` alone; empty where there is one of it.
    pub point: String,
    /// Its kind, which the registry knows.
    pub kind: String,
    /// The resolved parameters, defaults filled in.
    pub params: serde_json::Value,
    /// What it reads: ports in the kind's order, named inputs of one port in name order.
    pub inputs: Vec<PipelineInput>,
    /// Threads it may use; the whole budget when absent.
    pub threads: Option<usize>,
    /// Memory that it may need, in bytes.
    pub memory: Option<u64>,
    /// Where it computes.
    pub device: Device,
    /// How long an attempt may take.
    pub time_limit: Option<Duration>,
    /// Into how many processes the chunks of its rows are grouped; one when absent.
    pub shards: Option<usize>,
    /// What stays of its outputs once everything that reads them is done.
    pub keep: Keep,
    /// Its `[stage.NAME]`.
    pub span: Span,
    /// Where each parameter is written, by dotted path (`tail.names[0]`); defaults are absent.
    pub param_spans: BTreeMap<String, Span>,
    /// The parameters that name files outside the store.
    pub externals: Vec<String>,
    /// The outputs that it writes with these parameters.
    pub writes: Vec<&'static str>,
}

impl PipelineStage {
    /// Where the parameter at a dotted path is written: it, or what it is in, or else the stage.
    #[must_use]
    pub fn param_span(&self, path: &str) -> Span {
        let mut path = path;
        loop {
            if let Some(span) = self.param_spans.get(path) {
                return span.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.span.clone(),
            }
        }
    }
}

/// An input of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineInput {
    /// The port that reads.
    pub port: String,
    /// The name under a port that takes several.
    pub name: Option<String>,
    /// The stage that writes, as an index of [`Pipeline::stages`].
    pub stage: usize,
    /// The output of that stage.
    pub output: String,
    /// Where the edge is written.
    pub span: Span,
}

impl PipelineInput {
    /// `port`, or `port.name`; as in keys.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::new();
        push_segment(&mut path, &self.port);
        if let Some(name) = &self.name {
            push_segment(&mut path, name);
        }
        path
    }
}

/// What stays of a stage's outputs once everything that reads them is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// All of them.
    #[default]
    All,
    /// Their digests and how to make them; the bytes go, and are made again when something asks for them.
    Digest,
}

/// Where a stage computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl Device {
    /// The word used in pipelines and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

impl Pipeline {
    /// The index of the stage called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.stages.iter().position(|s| s.name == name)
    }

    /// Whether any stage reads `stage`.
    #[must_use]
    pub fn is_read(&self, stage: usize) -> bool {
        self.stages
            .iter()
            .any(|s| s.inputs.iter().any(|i| i.stage == stage))
    }

    /// The folder that a relative path in a parameter of a stage starts from: that of the file in which the
    /// parameter is written.
    #[must_use]
    pub fn folder_of(&self, stage: &PipelineStage, param: &str) -> &Path {
        self.sources.folder(&stage.param_span(param))
    }

    /// The place of `span`, for messages.
    #[must_use]
    pub fn place(&self, span: &Span) -> Place {
        self.sources.place(span)
    }
}

/// Appends a name to a dotted path, quoted as in TOML where it is not a bare word; as in keys.
fn push_segment(path: &mut String, segment: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !segment.is_empty() && segment.chars().all(bare) {
        path.push_str(segment);
    } else {
        path.push_str(&serde_json::Value::from(segment).to_string());
    }
}
