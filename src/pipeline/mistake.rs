//! What can be wrong with a pipeline, each with its place and what to do about it.

use std::fmt;

use super::{Sources, Span};

/// A mistake in a pipeline; its text is the message, without place or help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// The text is not TOML.
    #[error("{message}")]
    Syntax {
        /// The reader's words.
        message: String,
        /// Where it stumbled.
        span: Span,
    },
    /// A name at the top or in `[run]` that means nothing.
    #[error("unknown {what} `{name}`")]
    UnknownKey {
        /// `table` or `setting`.
        what: &'static str,
        /// The name.
        name: String,
        /// The known names.
        known: &'static [&'static str],
        /// Where it is written.
        span: Span,
    },
    /// A setting has a value that it cannot have.
    #[error("{place}: {name} must be {expected}, not {found}")]
    BadSetting {
        /// The stage or table it belongs to.
        place: String,
        /// The setting.
        name: String,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
        /// Where the value is written.
        span: Span,
    },
    /// There is nothing to run.
    #[error("the pipeline has no stages")]
    NoStages {
        /// The start of the file.
        span: Span,
    },
    /// A stage's name cannot be referred to.
    #[error("`{name}` cannot be the name of a stage")]
    BadStageName {
        /// The name.
        name: String,
        /// Where it is written.
        span: Span,
    },
    /// A stage does not say what it is.
    #[error("stage `{stage}` has no kind")]
    MissingKind {
        /// The stage.
        stage: String,
        /// Its `[stage.NAME]`.
        span: Span,
    },
    /// No kind has this name.
    #[error("stage `{stage}` is of kind `{kind}`, which does not exist")]
    UnknownKind {
        /// The stage.
        stage: String,
        /// The kind's name.
        kind: String,
        /// The name that was probably meant.
        near: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A parameter is unknown, missing, or has a value that its kind refuses.
    #[error("stage `{stage}`: {message}")]
    Parameter {
        /// The stage.
        stage: String,
        /// The kind's words.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A stage is given an input that its kind does not have.
    #[error("stage `{stage}`: kind `{kind}` has no input `{port}`")]
    UnknownPort {
        /// The stage.
        stage: String,
        /// Its kind.
        kind: String,
        /// The input's name.
        port: String,
        /// The name that was probably meant.
        near: Option<String>,
        /// The inputs that the kind has.
        known: Vec<String>,
        /// Where it is written.
        span: Span,
    },
    /// An input is not written the way its port needs it.
    #[error("stage `{stage}`: input `{port}` {message}")]
    InputShape {
        /// The stage.
        stage: String,
        /// The port.
        port: String,
        /// What is wrong.
        message: String,
        /// The right way.
        help: String,
        /// Where it is written.
        span: Span,
    },
    /// A stage reads what no stage writes.
    #[error("stage `{stage}` reads `{reference}`, which no stage writes")]
    UnknownInput {
        /// The stage that reads.
        stage: String,
        /// What it wants to read.
        reference: String,
        /// What exactly is missing.
        label: &'static str,
        /// What to do.
        help: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A stage is not given what it needs.
    #[error("stage `{stage}` lacks its input `{port}` ({artifact})")]
    MissingInput {
        /// The stage.
        stage: String,
        /// The port.
        port: String,
        /// What it must hold.
        artifact: &'static str,
        /// What to write.
        help: String,
        /// Its `[stage.NAME]`.
        span: Span,
    },
    /// An edge joins two types of artifact.
    #[error("stage `{stage}`: input `{port}` takes `{wanted}`, but `{reference}` holds `{found}`")]
    WrongArtifact {
        /// The stage that reads.
        stage: String,
        /// Its port.
        port: String,
        /// What the port takes.
        wanted: &'static str,
        /// The output.
        reference: String,
        /// What the output holds.
        found: &'static str,
        /// Outputs that would fit.
        help: Option<String>,
        /// Where the edge is written.
        span: Span,
    },
    /// Stages wait for each other.
    #[error("stages read each other in a circle: {}", circle(stages))]
    Cycle {
        /// The stages, each reading the one before it; the first reads the last.
        stages: Vec<String>,
        /// Where each of them reads the one before it.
        spans: Vec<Span>,
    },
    /// A `--set` names a stage that the file does not have.
    #[error("`--set` names the stage `{stage}`, which does not exist")]
    SetUnknownStage {
        /// The name.
        stage: String,
        /// The name that was probably meant.
        near: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A `--set` is not of the form `stage.param=value`.
    #[error("`--set` takes `STAGE.PARAM=VALUE`{}", because(message))]
    SetSyntax {
        /// Details, or empty.
        message: String,
        /// The text.
        span: Span,
    },
    /// Something mentions a variable that is not there.
    #[error("{place} mentions the variable `{name}`, which does not exist")]
    UnknownVariable {
        /// What mentions it.
        place: String,
        /// Its name.
        name: String,
        /// The name that was probably meant.
        near: Option<String>,
        /// Where it is mentioned.
        span: Span,
    },
    /// No stage mentions a variable.
    #[error("no stage mentions the variable `{name}`")]
    UnusedVariable {
        /// Its name.
        name: String,
        /// Where it is written.
        span: Span,
    },
    /// Variables mention each other.
    #[error("variables mention each other in a circle: {}", circle(names))]
    VariableCycle {
        /// The variables, each mentioning the next; the last mentions the first.
        names: Vec<String>,
        /// Where each of them is written.
        spans: Vec<Span>,
    },
    /// A variable is wrong in another way.
    #[error("{message}")]
    Variable {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where.
        span: Span,
    },
    /// A file that is included or extended is wrong as such.
    #[error("{message}")]
    Files {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where it is named.
        span: Span,
    },
    /// Two files that belong together have something of one name.
    #[error("{what} `{name}` is in two files that belong together")]
    Clash {
        /// `stage`, `variable` or `profile`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The place of the first, `file:line:col`.
        first: String,
        /// Where the second is.
        span: Span,
    },
    /// A profile is wrong.
    #[error("{message}")]
    Profile {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where.
        span: Span,
    },
    /// The matrix is wrong.
    #[error("{message}")]
    Matrix {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where.
        span: Span,
    },
    /// An input chooses points of the matrix that it cannot have.
    #[error("stage `{stage}` reads `{reference}`: {message}")]
    Selection {
        /// The stage that reads.
        stage: String,
        /// What it reads.
        reference: String,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A stage cannot be like the one that it names.
    #[error("stage `{stage}`: {message}")]
    Like {
        /// The stage.
        stage: String,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A file outside the store is not there.
    #[error("stage `{stage}`: there is no {path}")]
    MissingFile {
        /// The stage.
        stage: String,
        /// The path, from the working folder.
        path: String,
        /// How to get it.
        fetch: Option<String>,
        /// Where it is written.
        span: Span,
    },
    /// A file outside the store cannot be read.
    #[error("stage `{stage}`: {message}")]
    UnreadableFile {
        /// The stage.
        stage: String,
        /// What the system said, with the path.
        message: String,
        /// Where it is written.
        span: Span,
    },
    /// A file outside the store is not the one that was pinned.
    #[error("stage `{stage}`: {path} has another digest than the pinned one")]
    WrongDigest {
        /// The stage.
        stage: String,
        /// The path, from the working folder.
        path: String,
        /// The file's digest.
        found: String,
        /// Where the pin is written.
        span: Span,
    },
}

fn circle(stages: &[String]) -> String {
    let mut text = String::new();
    for stage in stages.iter().chain(stages.first()) {
        if !text.is_empty() {
            text.push_str(" → ");
        }
        text.push('`');
        text.push_str(stage);
        text.push('`');
    }
    text
}

fn because(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(": {message}")
    }
}

fn did_you_mean(near: Option<&String>) -> Option<String> {
    near.map(|near| format!("did you mean `{near}`?"))
}

/// Names in back quotes, with commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}

impl Mistake {
    /// A stable name of this sort of mistake.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "pipeline::syntax",
            Self::UnknownKey { .. } => "pipeline::unknown_key",
            Self::BadSetting { .. } => "pipeline::bad_setting",
            Self::NoStages { .. } => "pipeline::no_stages",
            Self::BadStageName { .. } => "pipeline::bad_stage_name",
            Self::MissingKind { .. } => "pipeline::missing_kind",
            Self::UnknownKind { .. } => "pipeline::unknown_kind",
            Self::Parameter { .. } => "pipeline::parameter",
            Self::UnknownPort { .. } => "pipeline::unknown_port",
            Self::InputShape { .. } => "pipeline::input_shape",
            Self::UnknownInput { .. } => "pipeline::unknown_input",
            Self::MissingInput { .. } => "pipeline::missing_input",
            Self::WrongArtifact { .. } => "pipeline::wrong_artifact",
            Self::Cycle { .. } => "pipeline::cycle",
            Self::SetUnknownStage { .. } => "pipeline::set_unknown_stage",
            Self::SetSyntax { .. } => "pipeline::set_syntax",
            Self::UnknownVariable { .. } => "pipeline::unknown_variable",
            Self::UnusedVariable { .. } => "pipeline::unused_variable",
            Self::VariableCycle { .. } => "pipeline::variable_cycle",
            Self::Variable { .. } => "pipeline::variable",
            Self::Files { .. } => "pipeline::files",
            Self::Clash { .. } => "pipeline::clash",
            Self::Profile { .. } => "pipeline::profile",
            Self::Matrix { .. } => "pipeline::matrix",
            Self::Selection { .. } => "pipeline::selection",
            Self::Like { .. } => "pipeline::like",
            Self::MissingFile { .. } => "pipeline::missing_file",
            Self::UnreadableFile { .. } => "pipeline::unreadable_file",
            Self::WrongDigest { .. } => "pipeline::wrong_digest",
        }
    }

    /// Where it is; the first place of several.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Syntax { span, .. }
            | Self::UnknownKey { span, .. }
            | Self::BadSetting { span, .. }
            | Self::NoStages { span }
            | Self::BadStageName { span, .. }
            | Self::MissingKind { span, .. }
            | Self::UnknownKind { span, .. }
            | Self::Parameter { span, .. }
            | Self::UnknownPort { span, .. }
            | Self::InputShape { span, .. }
            | Self::UnknownInput { span, .. }
            | Self::MissingInput { span, .. }
            | Self::WrongArtifact { span, .. }
            | Self::SetUnknownStage { span, .. }
            | Self::SetSyntax { span, .. }
            | Self::UnknownVariable { span, .. }
            | Self::UnusedVariable { span, .. }
            | Self::Variable { span, .. }
            | Self::Files { span, .. }
            | Self::Clash { span, .. }
            | Self::Profile { span, .. }
            | Self::Matrix { span, .. }
            | Self::Selection { span, .. }
            | Self::Like { span, .. }
            | Self::MissingFile { span, .. }
            | Self::UnreadableFile { span, .. }
            | Self::WrongDigest { span, .. } => span.clone(),
            Self::Cycle { spans, .. } | Self::VariableCycle { spans, .. } => {
                spans.first().cloned().unwrap_or_default()
            }
        }
    }

    /// The places to underline, each with a word or none.
    #[must_use]
    pub fn labels(&self) -> Vec<(Span, Option<String>)> {
        let label = match self {
            Self::UnknownKind { .. } => Some("no such kind".to_owned()),
            Self::UnknownPort { .. } => Some("no such input".to_owned()),
            Self::UnknownInput { label, .. } => Some((*label).to_owned()),
            Self::SetUnknownStage { .. } => Some("no such stage".to_owned()),
            Self::WrongArtifact { found, .. } => Some(format!("`{found}`")),
            Self::UnknownVariable { .. } => Some("no such variable".to_owned()),
            Self::UnusedVariable { .. } => Some("of no effect".to_owned()),
            Self::MissingFile { .. } => Some("not there".to_owned()),
            Self::WrongDigest { found, .. } => Some(format!("found {}", &found[..12])),
            Self::Cycle { stages, spans } => {
                let before = stages.iter().cycle().skip(stages.len() - 1);
                let words = stages.iter().zip(before).map(|(stage, read)| {
                    if stage == read {
                        format!("`{stage}` reads itself")
                    } else {
                        format!("`{stage}` reads `{read}`")
                    }
                });
                return spans.iter().cloned().zip(words.map(Some)).collect();
            }
            Self::VariableCycle { names, spans } => {
                let next = names.iter().cycle().skip(1);
                let words = names
                    .iter()
                    .zip(next)
                    .map(|(a, b)| format!("`{a}` mentions `{b}`"));
                return spans.iter().cloned().zip(words.map(Some)).collect();
            }
            _ => None,
        };
        vec![(self.span(), label)]
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownKey { name, known, .. } => {
                crate::suggest::nearest(name, known.iter().copied())
                    .map(|near| format!("did you mean `{near}`?"))
                    .or_else(|| Some(format!("known here: {}", list(known.iter().copied()))))
            }
            Self::NoStages { .. } => Some(
                "a stage begins with `[stage.NAME]`; `starling stages` lists the kinds".to_owned(),
            ),
            Self::BadStageName { name, .. } if name == "vars" => {
                Some("`vars` stands for the variables in `--set`, arms and axes".to_owned())
            }
            Self::BadStageName { .. } => {
                Some("use 1 to 64 letters, digits, `-` and `_`, a letter first".to_owned())
            }
            Self::MissingKind { .. } => {
                Some("add `kind = \"…\"`; `starling stages` lists the kinds".to_owned())
            }
            Self::UnknownKind { near, .. } => did_you_mean(near.as_ref())
                .or_else(|| Some("`starling stages` lists the kinds".to_owned())),
            Self::UnknownVariable { near, place, .. } if place == "`--set`" => {
                did_you_mean(near.as_ref()).or_else(|| Some("begin it in `[vars]`".to_owned()))
            }
            Self::UnknownVariable { near, name, .. } => did_you_mean(near.as_ref()).or_else(|| {
                Some(format!(
                    "give it a value in `[vars]`; `$${{{name}}}` is the text `${{{name}}}`"
                ))
            }),
            Self::UnusedVariable { name, .. } => Some(format!(
                "mention it as \"${{{name}}}\" where it belongs, or remove it"
            )),
            Self::VariableCycle { .. } => Some("one of them needs a value of its own".to_owned()),
            Self::Clash { first, .. } => Some(format!(
                "the first is at {first}; rename one, or use `extends` to change what another file has"
            )),
            Self::Parameter { help, .. }
            | Self::Variable { help, .. }
            | Self::Files { help, .. }
            | Self::Profile { help, .. }
            | Self::Matrix { help, .. }
            | Self::Selection { help, .. }
            | Self::Like { help, .. }
            | Self::UnknownInput { help, .. }
            | Self::WrongArtifact { help, .. } => help.clone(),
            Self::UnknownPort {
                near, known, kind, ..
            } => did_you_mean(near.as_ref()).or_else(|| {
                Some(if known.is_empty() {
                    format!("kind `{kind}` has no inputs")
                } else {
                    format!("its inputs: {}", list(known.iter().map(String::as_str)))
                })
            }),
            Self::InputShape { help, .. } | Self::MissingInput { help, .. } => Some(help.clone()),
            Self::SetUnknownStage { near, .. } => did_you_mean(near.as_ref()),
            Self::SetSyntax { .. } => {
                Some("for example `--set distill.lr=1e-4`, the value as in TOML".to_owned())
            }
            Self::Cycle { .. } => Some("one of these inputs must come from elsewhere".to_owned()),
            Self::MissingFile { fetch, .. } => Some(match fetch {
                Some(fetch) => format!("to get it: {fetch}"),
                None => "paths are relative to the pipeline's folder".to_owned(),
            }),
            Self::WrongDigest { found, .. } => Some(format!(
                "fetch the file again, or pin what is there: \"{found}\""
            )),
            Self::Syntax { .. } | Self::BadSetting { .. } | Self::UnreadableFile { .. } => None,
        }
    }

    /// Whether the mistake is within one stage, whatever the rest of the file says.
    pub(crate) fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Syntax { .. }
                | Self::UnknownKey { .. }
                | Self::BadSetting { .. }
                | Self::BadStageName { .. }
                | Self::UnknownKind { .. }
                | Self::Parameter { .. }
                | Self::UnknownPort { .. }
                | Self::InputShape { .. }
                | Self::SetSyntax { .. }
                | Self::MissingFile { .. }
        )
    }

    /// The stage that it is in, with its point.
    fn stage(&self) -> Option<&str> {
        match self {
            Self::BadSetting { place, .. } | Self::UnknownVariable { place, .. } => {
                place.strip_prefix("stage `")?.strip_suffix('`')
            }
            Self::MissingKind { stage, .. }
            | Self::UnknownKind { stage, .. }
            | Self::Parameter { stage, .. }
            | Self::UnknownPort { stage, .. }
            | Self::InputShape { stage, .. }
            | Self::UnknownInput { stage, .. }
            | Self::MissingInput { stage, .. }
            | Self::WrongArtifact { stage, .. }
            | Self::Selection { stage, .. }
            | Self::Like { stage, .. }
            | Self::MissingFile { stage, .. }
            | Self::UnreadableFile { stage, .. }
            | Self::WrongDigest { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// Whether it is the same mistake as another, in a stage that another point made of the same text.
    fn repeats(&self, other: &Self) -> bool {
        let base = |m: &Self| {
            m.stage()
                .map(|s| s.split('@').next().unwrap_or(s).to_owned())
        };
        self == other
            || (self.code() == other.code()
                && self.span() == other.span()
                && base(self).is_some()
                && base(self) == base(other)
                && self.stage() != other.stage())
    }
}

/// Every mistake of a pipeline, in the order of their places, with the texts they are in.
#[derive(Debug, Clone)]
pub struct Mistakes {
    /// The texts.
    pub sources: Sources,
    /// The mistakes; at least one.
    pub list: Vec<Mistake>,
}

impl Mistakes {
    /// Puts mistakes in order.
    #[must_use]
    pub fn new(sources: Sources, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|m| (m.span().start, m.span().end));
        // What a wrong selection seems to read is no news.
        let selections: Vec<Span> = (list.iter())
            .filter(|m| matches!(m, Mistake::Selection { .. }))
            .map(Mistake::span)
            .collect();
        list.retain(|m| {
            !matches!(m, Mistake::UnknownInput { .. }) || !selections.contains(&m.span())
        });
        let mut kept: Vec<Mistake> = Vec::with_capacity(list.len());
        for mistake in list {
            let span = mistake.span();
            let here = kept.iter().rev().take_while(|m| m.span() == span);
            if !here.into_iter().any(|m| mistake.repeats(m)) {
                kept.push(mistake);
            }
        }
        Self {
            sources,
            list: kept,
        }
    }

    /// How they are shown; see the private module `render`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        super::render::mistakes(self, color)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: {mistake}", self.sources.place(&mistake.span()))?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}
