//! What can go wrong in this crate.

use std::path::{Path, PathBuf};

/// An error of models, weights, training or generation.
#[derive(Debug, thiserror::Error)]
pub enum LmError {
    /// Two lengths or shapes that must agree do not.
    #[error("{what} has shape {found:?}, expected {expected}")]
    Shape {
        /// The value, as its caller names it.
        what: String,
        /// Its shape, or its length alone.
        found: Vec<usize>,
        /// What was wanted, in the letters of the function's documentation.
        expected: String,
    },
    /// A weight is absent, of another shape, or not readable.
    #[error("tensor `{name}`{}: {reason}", in_file(.file.as_deref()))]
    Tensor {
        /// The file it was read from, when it came from one.
        file: Option<PathBuf>,
        /// Its Hugging Face name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A model configuration or a setting that cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// A loss, a gradient or a log-probability is infinite or no number: training has come apart.
    #[error("{0}")]
    NotFinite(String),
    /// A device failed, or has not the memory that was asked for.
    #[error("device: {0}")]
    Device(String),
    /// A device that was asked for is not there.
    #[error("{0}")]
    NoDevice(String),
    /// An error inside candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LmError {
    /// A shape error.
    pub fn shape(what: impl Into<String>, found: &[usize], expected: impl Into<String>) -> Self {
        Self::Shape {
            what: what.into(),
            found: found.to_vec(),
            expected: expected.into(),
        }
    }

    /// An error about a weight that is in memory.
    pub fn tensor(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Tensor {
            file: None,
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// A file error, for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

fn in_file(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |path| format!(" of {}", path.display()))
}
