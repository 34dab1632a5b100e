//! Writing a tokenizer as the files that Hugging Face libraries read.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{TOKENIZER_FILE, Tokenizer, TokenizerError};

/// The parts of `tokenizer_config.json` that the vocabulary does not tell.
#[derive(Clone, Debug, Default)]
pub struct TokenizerConfig {
    /// The token that ends an answer.
    pub eos_token: Option<String>,
    /// The token that fills batches.
    pub pad_token: Option<String>,
    /// The longest context, in tokens.
    pub model_max_length: Option<usize>,
    /// The Jinja text of the chat template, written to `chat_template.jinja`.
    pub chat_template: Option<String>,
}

#[derive(Serialize)]
struct ConfigFile<'a> {
    add_bos_token: bool,
    add_prefix_space: bool,
    added_tokens_decoder: BTreeMap<u32, AddedToken>,
    bos_token: Option<&'a str>,
    clean_up_tokenization_spaces: bool,
    eos_token: Option<&'a str>,
    errors: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_max_length: Option<usize>,
    pad_token: Option<&'a str>,
    split_special_tokens: bool,
    tokenizer_class: &'a str,
    unk_token: Option<&'a str>,
}

#[derive(Serialize)]
struct AddedToken {
    content: String,
    lstrip: bool,
    normalized: bool,
    rstrip: bool,
    single_word: bool,
    special: bool,
}

impl Tokenizer {
    /// The files of this tokenizer by name: `tokenizer.json`, `tokenizer_config.json` and, when the
    /// configuration has one, `chat_template.jinja`.
    ///
    /// # Errors
    /// [`TokenizerError::Format`] when a token named by the configuration is not in the vocabulary.
    pub fn files(
        &self,
        config: &TokenizerConfig,
    ) -> Result<BTreeMap<String, Vec<u8>>, TokenizerError> {
        for token in [&config.eos_token, &config.pad_token].into_iter().flatten() {
            if self.token_to_id(token).is_none() {
                return Err(TokenizerError::format(format!(
                    "`{token}` is not in the vocabulary"
                )));
            }
        }
        let mut files = BTreeMap::new();
        files.insert(TOKENIZER_FILE.to_owned(), self.to_json()?.into_bytes());
        let text = self.config_json(config)?;
        files.insert("tokenizer_config.json".to_owned(), text.into_bytes());
        if let Some(template) = &config.chat_template {
            let bytes = template.clone().into_bytes();
            files.insert("chat_template.jinja".to_owned(), bytes);
        }
        Ok(files)
    }

    /// Writes [`files`](Self::files) into a folder, which is made when absent.
    ///
    /// # Errors
    /// As [`files`](Self::files), and [`TokenizerError::Io`] when a file cannot be written.
    pub fn save(&self, folder: &Path, config: &TokenizerConfig) -> Result<(), TokenizerError> {
        let io = |path: &Path, source| TokenizerError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
        for (name, bytes) in self.files(config)? {
            let path = folder.join(name);
            std::fs::write(&path, bytes).map_err(|source| io(&path, source))?;
        }
        Ok(())
    }

    fn config_json(&self, config: &TokenizerConfig) -> Result<String, TokenizerError> {
        let added = self.added_tokens().into_iter().map(|(id, content)| {
            let token = AddedToken {
                content,
                lstrip: false,
                normalized: false,
                rstrip: false,
                single_word: false,
                special: self.is_special(id),
            };
            (id, token)
        });
        let file = ConfigFile {
            add_bos_token: false,
            add_prefix_space: false,
            added_tokens_decoder: added.collect(),
            bos_token: None,
            clean_up_tokenization_spaces: false,
            eos_token: config.eos_token.as_deref(),
            errors: "replace",
            model_max_length: config.model_max_length,
            pad_token: config.pad_token.as_deref(),
            split_special_tokens: false,
            tokenizer_class: "Qwen2Tokenizer",
            unk_token: None,
        };
        let mut text = serde_json::to_string_pretty(&file).map_err(TokenizerError::format)?;
        text.push('\n');
        Ok(text)
    }
}
