//! stdout for data, stderr for the story, and failures with their exit codes.

use std::io::{IsTerminal as _, Write as _};

use starling::exit;
use starling::lock::LockError;
use starling::pipeline::{LoadError, Mistakes};
use starling::plan::PlanError;
use starling_cache::CacheError;

/// Writes data to stdout; a reader that went away is no failure.
pub(crate) fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed_pipe = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a value to stdout as JSON.
pub(crate) fn json(value: &serde_json::Value) {
    data(&format!("{value:#}\n"));
}

/// Writes a line of the story to stderr.
pub(crate) fn story(line: &str) {
    let mut out = std::io::stderr().lock();
    let _closed_pipe = writeln!(out, "{line}");
}

/// Whether stderr is a terminal that may be drawn on.
pub(crate) fn is_terminal() -> bool {
    std::io::stderr().is_terminal() && variable("TERM").is_none_or(|term| term != "dumb")
}

/// Whether stderr takes colour; see <https://no-color.org>.
pub(crate) fn color() -> bool {
    is_terminal() && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A variable of the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the command, where the environment is read"
)]
pub(crate) fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// Why a command stops: what to say, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub(crate) fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(exit::USAGE, text)
    }

    /// What it says.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Says what is wrong and gives the exit code.
    pub(crate) fn show(self) -> u8 {
        if self.text.starts_with("Error: ") {
            story(self.text.trim_end());
        } else {
            story(&format!("error: {}", self.text));
        }
        self.code
    }
}

impl From<Box<Mistakes>> for Failure {
    fn from(mistakes: Box<Mistakes>) -> Self {
        Self::new(exit::PIPELINE, mistakes.render(color()))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Mistakes(mistakes) => mistakes.into(),
            other => Self::new(exit::PIPELINE, other.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = match &error {
            LockError::Stage { .. } => exit::STAGE,
            LockError::Io { .. } | LockError::Content { .. } => exit::PIPELINE,
        };
        // Its text has its causes in it already.
        Self::new(code, error.to_string())
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::new(exit::CACHE, chain(&error))
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Mistakes(mistakes) => mistakes.into(),
            PlanError::Store(error) => error.into(),
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors tell their cause themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
