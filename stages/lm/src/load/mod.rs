//! Models on disk: Hugging Face folders and GGUF files, read and written.
//!
//! Weights come out as `f32` on the CPU under Hugging Face names, checked against the configuration. What is written
//! depends on what is written alone: equal checkpoints give equal bytes.

mod files;
mod gguf;
mod peft;
mod safetensors;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::weights::Weights;

pub use self::files::COMPANIONS;
pub use self::gguf::{GgufPrecision, load_gguf, save_gguf};
pub use self::peft::save_adapter;
pub use self::safetensors::{Precision, SaveOptions};

const CONFIG_FILE: &str = "config.json";
const GENERATION_FILE: &str = "generation_config.json";

/// A model with everything that travels with it.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Sizes and constants. Its end tokens include those of `generation_config.json`.
    pub config: ModelConfig,
    /// The weights, complete for the configuration.
    pub weights: Weights,
    /// Tokenizer and template files by name, as bytes that are passed through.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Checkpoint {
    /// Reads a Hugging Face model folder, or a GGUF file.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`load_gguf`].
    pub fn open(path: &Path) -> Result<Self, LmError> {
        if path.is_dir() {
            Self::load(path)
        } else {
            load_gguf(path)
        }
    }

    /// Reads a Hugging Face model folder: `config.json`, `model.safetensors` or its shards, and the files of
    /// [`COMPANIONS`] that are there.
    ///
    /// # Errors
    /// [`LmError::Io`] for a file that cannot be read, [`LmError::Config`] for a model that this crate does not
    /// compute, [`LmError::Tensor`] with the file for weights that are damaged, missing or of another shape.
    pub fn load(folder: &Path) -> Result<Self, LmError> {
        let path = folder.join(CONFIG_FILE);
        let text = files::read_text(&path)?;
        let mut config = ModelConfig::from_json(&text).map_err(|error| match error {
            LmError::Config(reason) => LmError::Config(format!("{}: {reason}", path.display())),
            other => other,
        })?;
        let files = files::companions(folder)?;
        if let Some(bytes) = files.get(GENERATION_FILE) {
            for id in generation_ends(bytes, &folder.join(GENERATION_FILE))? {
                if !config.eos_token_ids.contains(&id) {
                    config.eos_token_ids.push(id);
                }
            }
        }
        let weights = safetensors::load(folder, &config)?;
        Ok(Self {
            config,
            weights,
            files,
        })
    }

    /// Writes a Hugging Face model folder, which is made when absent. A `generation_config.json` is made from the
    /// configuration when [`files`](Self::files) has none.
    ///
    /// # Errors
    /// [`LmError::Tensor`] when the weights do not fit the configuration, [`LmError::Io`] when a file cannot be written.
    pub fn save(&self, folder: &Path, options: SaveOptions) -> Result<(), LmError> {
        self.weights.check(&self.config)?;
        std::fs::create_dir_all(folder).map_err(LmError::io(folder))?;
        for (name, bytes) in &self.files {
            files::write(&folder.join(files::plain_name(name)?), bytes)?;
        }
        if !self.files.contains_key(GENERATION_FILE) {
            let text = generation_json(&self.config);
            files::write(&folder.join(GENERATION_FILE), text.as_bytes())?;
        }
        let text = config_json(&self.config, options.precision)?;
        files::write(&folder.join(CONFIG_FILE), text.as_bytes())?;
        safetensors::save(folder, &self.weights, options)
    }

    /// The tokenizer among the files.
    ///
    /// # Errors
    /// [`TokenizerError::Format`] when there is none or it cannot be used.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let bytes = self.files.get(crate::tokenizer::TOKENIZER_FILE);
        let bytes = bytes.ok_or_else(|| TokenizerError::Format {
            reason: "the model comes without a tokenizer.json".to_owned(),
        })?;
        Tokenizer::from_bytes(bytes)
    }

    /// The chat template, from `chat_template.jinja` or else from `tokenizer_config.json`.
    pub fn chat_template(&self) -> Option<String> {
        if let Some(bytes) = self.files.get("chat_template.jinja") {
            return String::from_utf8(bytes.clone()).ok();
        }
        let bytes = self.files.get("tokenizer_config.json")?;
        let config: Value = serde_json::from_slice(bytes).ok()?;
        let template = config.get("chat_template")?;
        template.as_str().map(str::to_owned)
    }
}

/// The end tokens that a `generation_config.json` lists.
fn generation_ends(bytes: &[u8], path: &Path) -> Result<Vec<u32>, LmError> {
    let wrong = |reason: &str| LmError::Config(format!("{}: {reason}", path.display()));
    let value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let listed = match value.get("eos_token_id") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
    };
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids: Option<Vec<u32>> = listed.iter().map(id).collect();
    ids.ok_or_else(|| wrong("`eos_token_id` is not a token or a list of tokens"))
}

fn generation_json(config: &ModelConfig) -> String {
    let mut value = json!({});
    if let Some(id) = config.bos_token_id {
        value["bos_token_id"] = id.into();
    }
    if !config.eos_token_ids.is_empty() {
        value["eos_token_id"] = config.eos_token_ids.as_slice().into();
    }
    format!("{value:#}\n")
}

/// The configuration with the dtype of the weights that are written beside it.
fn config_json(config: &ModelConfig, precision: Precision) -> Result<String, LmError> {
    let text = config.to_json();
    let mut value: Value =
        serde_json::from_str(&text).map_err(|error| LmError::Config(error.to_string()))?;
    value["torch_dtype"] = precision.name().into();
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests;
