//! What can be wrong with a pipeline, each with its place and what to do about it.

use super::Span;

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

/// Names in back quotes, with commas.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|n| format!("`{n}`")).collect();
    quoted.join(", ")
}
