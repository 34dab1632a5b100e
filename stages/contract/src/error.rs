//! Why a stage stopped.

use std::path::{Path, PathBuf};

/// The ways in which a stage can end without its outputs.
///
/// Messages say what happened in the user's words, lower case, without a full stop; `hint` says what
/// to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// An input artifact is not what the stage needs.
    #[error("input `{port}`: {message}")]
    Input {
        /// The port it came through.
        port: String,
        /// What is wrong, with file and line where it has one.
        message: String,
    },
    /// The stage did its work and the work failed.
    #[error("{message}")]
    Failed {
        /// What happened, with the numbers.
        message: String,
        /// What to try.
        hint: Option<String>,
    },
    /// Something outside failed that may work a little later: a server that is busy, a network that is down. The
    /// engine tries again after a while, a few times.
    #[error("{message}")]
    Transient {
        /// What happened.
        message: String,
        /// Seconds to wait at least, where the other side said so.
        after: Option<f64>,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb, for example `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The device that was asked for is not there.
    #[error("device unavailable: {0}")]
    Device(String),
    /// The engine asked the stage to stop; what it had reached is in a snapshot if the kind keeps any.
    #[error("interrupted")]
    Interrupted,
    /// This process has done its share of the chunks; another gathers them. See [`crate::StageContext::map_chunks`].
    #[error("this shard is done; another process gathers the chunks")]
    ShardDone,
}

impl StageError {
    /// A failure without a hint.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            hint: None,
        }
    }

    /// A failure that may be gone when it is tried again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient {
            message: message.into(),
            after: None,
        }
    }

    /// A failure with what to try next.
    pub fn failed_try(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// An unusable input.
    pub fn input(port: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input {
            port: port.into(),
            message: message.into(),
        }
    }

    /// Wraps a system error with the verb and the path, for `map_err`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// What to try, if the error knows.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Failed { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}
