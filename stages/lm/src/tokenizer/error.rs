//! What can go wrong with tokenizers.

use std::path::PathBuf;

/// An error of loading, training or using a tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error("{}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text of a `tokenizer.json` cannot be used.
    #[error("tokenizer: {reason}")]
    Format {
        /// What is wrong with it.
        reason: String,
    },
    /// A text could not be encoded.
    #[error("encoding: {reason}")]
    Encode {
        /// What the library said.
        reason: String,
    },
    /// A setting of the trainer that cannot be met.
    #[error("tokenizer training: {reason}")]
    Train {
        /// What is wrong.
        reason: String,
    },
}

impl TokenizerError {
    pub(crate) fn format(reason: impl ToString) -> Self {
        Self::Format {
            reason: reason.to_string(),
        }
    }
}
