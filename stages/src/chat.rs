//! Chat templates by name, and the tokenizer and template of a folder.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::StageError;
use starling_lm::tokenizer::Tokenizer;
use starling_reward::CallFormat;
use starling_text::template::{ChatTemplate, QWEN3};

/// The token that ends a turn in ChatML.
pub(crate) const END: &str = "<|im_end|>";

/// The files that make a folder a tokenizer; what is not there is not copied.
pub(crate) const TOKENIZER_FILES: [&str; 3] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A chat template that comes with starling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Template {
    /// Qwen3's own.
    #[default]
    Qwen3,
    /// ChatML with bare tools and no instructions: for models so small that every token counts.
    Compact,
}

impl Template {
    /// Its Jinja text.
    pub(crate) fn source(self) -> &'static str {
        match self {
            Self::Qwen3 => QWEN3,
            Self::Compact => include_str!("compact.jinja"),
        }
    }

    /// Compiled.
    pub(crate) fn compile(self) -> Result<ChatTemplate, StageError> {
        ChatTemplate::from_source(self.source()).map_err(|e| StageError::failed(e.to_string()))
    }
}

/// How calls are written in training rows and in what is generated after them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Calls {
    /// A JSON object between `<tool_call>` tags for each call, as Qwen's template prints them.
    #[default]
    Hermes,
    /// One JSON list of objects.
    Json,
    /// One list of Python call expressions.
    Pythonic,
}

impl Calls {
    /// The format of the reward crate.
    pub(crate) fn format(self) -> CallFormat {
        match self {
            Self::Hermes => CallFormat::Hermes,
            Self::Json => CallFormat::Json,
            Self::Pythonic => CallFormat::Pythonic,
        }
    }

    /// The word in a row's `call_format`; rows in Hermes form have none.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            Self::Hermes => None,
            Self::Json => Some("json"),
            Self::Pythonic => Some("pythonic"),
        }
    }

    /// What a row says of itself.
    pub(crate) fn of(word: Option<&str>) -> Option<Self> {
        [Self::Hermes, Self::Json, Self::Pythonic]
            .into_iter()
            .find(|calls| word == calls.word() || (word, *calls) == (Some("hermes"), Self::Hermes))
    }
}

/// An error of the language-model crate as a stage's failure, with the causes that it does not tell itself.
pub(crate) fn lm(error: impl std::error::Error) -> StageError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(&format!(": {reason}"));
        }
        cause = error.source();
    }
    StageError::failed(text)
}

/// The tokenizer in `folder`.
pub(crate) fn tokenizer(folder: &Path) -> Result<Tokenizer, StageError> {
    Tokenizer::from_folder(folder).map_err(lm)
}

/// The chat template in `folder`.
pub(crate) fn template(folder: &Path) -> Result<ChatTemplate, StageError> {
    let path = folder.join("chat_template.jinja");
    let source = std::fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
    ChatTemplate::from_source(&source)
        .map_err(|e| StageError::failed(format!("{}: {e}", path.display())))
}

/// The tokenizer's files in `folder`, by name.
pub(crate) fn tokenizer_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, StageError> {
    let mut files = BTreeMap::new();
    for name in TOKENIZER_FILES {
        let path = folder.join(name);
        if path.exists() {
            let bytes = std::fs::read(&path).map_err(StageError::io("read", &path))?;
            files.insert(name.to_owned(), bytes);
        }
    }
    Ok(files)
}

/// Copies the tokenizer's files from one folder to another.
pub(crate) fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), StageError> {
    std::fs::create_dir_all(to).map_err(StageError::io("create", to))?;
    for (name, bytes) in tokenizer_files(from)? {
        let path = to.join(name);
        std::fs::write(&path, bytes).map_err(StageError::io("write", &path))?;
    }
    Ok(())
}
