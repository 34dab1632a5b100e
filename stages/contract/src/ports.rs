//! Named inputs and outputs of a kind, and files that it reads from outside the store.

use std::path::PathBuf;

use starling_cache::Digest;

/// What an artifact holds; an edge of the pipeline joins equal types only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArtifactType {
    /// Bytes as they came: a file or a folder of any format.
    Raw,
    /// Conversation rows, JSON lines: `{id, messages, tools}`.
    Rows,
    /// Training rows, JSON lines: `{id, inputs, targets}`.
    TrainRows,
    /// A tokenizer folder: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`.
    Tokenizer,
    /// A model folder in Hugging Face's layout, with its tokenizer.
    Checkpoint,
    /// Sampled conversations with token ids, log-probabilities and the sampler's top-k.
    Rollouts,
    /// Every answer of a policy in training, with what it earned.
    Samples,
    /// Rows of an evaluation: one line an item and sample, and the totals.
    Evaluation,
    /// A row an update, JSON lines.
    Curve,
    /// Counted reasons of what was dropped or changed, JSON.
    Report,
    /// A table of arms: Markdown, JSON and CSV.
    Table,
    /// Of an input only: whatever the output holds that it is joined to.
    Any,
}

impl ArtifactType {
    /// The word used in messages and documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Rows => "rows",
            Self::TrainRows => "train-rows",
            Self::Tokenizer => "tokenizer",
            Self::Checkpoint => "checkpoint",
            Self::Rollouts => "rollouts",
            Self::Samples => "samples",
            Self::Evaluation => "evaluation",
            Self::Curve => "curve",
            Self::Report => "report",
            Self::Table => "table",
            Self::Any => "any",
        }
    }

    /// Whether an input of this type takes an output of type `found`.
    #[must_use]
    pub fn takes(self, found: Self) -> bool {
        self == Self::Any || self == found
    }
}

/// Whether and how often an input must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Exactly once: `inputs.student = "init.model"`.
    Required,
    /// At most once.
    Optional,
    /// One or more, each under a name of the author's choosing that the stage sees:
    /// `inputs.arms.sft = "eval_sft.evaluation"`.
    Many,
    /// As `Many`, or none at all.
    AnyNumber,
}

impl Need {
    /// Whether each input is given under a name.
    #[must_use]
    pub fn is_named(self) -> bool {
        matches!(self, Self::Many | Self::AnyNumber)
    }
}

/// A named input of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// Its name in `inputs.NAME`.
    pub name: &'static str,
    /// What it must hold.
    pub artifact: ArtifactType,
    /// How often it must be given.
    pub need: Need,
    /// One sentence for `starling stages show`.
    pub about: &'static str,
}

impl Input {
    /// An input that must be given exactly once.
    #[must_use]
    pub const fn required(name: &'static str, artifact: ArtifactType, about: &'static str) -> Self {
        Self {
            name,
            artifact,
            need: Need::Required,
            about,
        }
    }

    /// An input that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, artifact: ArtifactType, about: &'static str) -> Self {
        Self {
            name,
            artifact,
            need: Need::Optional,
            about,
        }
    }

    /// An input that takes one or more, each under a name.
    #[must_use]
    pub const fn many(name: &'static str, artifact: ArtifactType, about: &'static str) -> Self {
        Self {
            name,
            artifact,
            need: Need::Many,
            about,
        }
    }
}

/// A named output of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Its name in `stage.NAME`.
    pub name: &'static str,
    /// What it holds.
    pub artifact: ArtifactType,
    /// One sentence for `starling stages show`.
    pub about: &'static str,
    /// A file inside the artifact that `starling run` prints on stdout when nothing reads the stage.
    pub display: Option<&'static str>,
}

impl Output {
    /// An output that is not printed.
    #[must_use]
    pub const fn new(name: &'static str, artifact: ArtifactType, about: &'static str) -> Self {
        Self {
            name,
            artifact,
            about,
            display: None,
        }
    }

    /// The same output, whose file `file` is printed at the end of a run.
    #[must_use]
    pub const fn displayed(self, file: &'static str) -> Self {
        Self {
            display: Some(file),
            ..self
        }
    }
}

/// The inputs and outputs of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Inputs, in the order in which help shows them.
    pub inputs: &'static [Input],
    /// Outputs, likewise.
    pub outputs: &'static [Output],
}

/// A file or folder outside the store that a stage reads: its bytes are in the key, its place is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The parameter that names it; left out of the key.
    pub param: &'static str,
    /// The path as written, relative to the pipeline's folder.
    pub path: PathBuf,
    /// The digest that the author pinned.
    pub pinned: Option<Digest>,
    /// How to get it when it is not there, in the author's words.
    pub fetch: Option<String>,
}
