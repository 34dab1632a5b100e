//! Byte-level BPE tokenizers: loaded from Hugging Face files, trained, used.
//!
//! Only byte-level tokenizers are read (GPT-2, Llama 3, Qwen, SmolLM): every text has ids and every id its own bytes.
//! Encoding recognises special tokens in the text and adds none of its own; a chat template writes them.

mod bytes;
mod error;
mod save;
mod stream;
mod train;

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::DecoderWrapper;

pub use self::error::TokenizerError;
pub use self::save::TokenizerConfig;
pub use self::stream::StreamDecoder;
pub use self::train::{CHAT_TOKENS, SpecialToken, TrainOptions, train};
pub(crate) use self::train::{QWEN2_WORDS, Vocabulary, assemble};

/// File name of a tokenizer inside a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// A byte-level BPE tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Added tokens by id; `true` for those that decoding may skip.
    added: BTreeMap<u32, bool>,
}

impl Tokenizer {
    /// Reads the `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// [`TokenizerError::Io`] when the file cannot be read, [`TokenizerError::Format`] when it is no byte-level tokenizer.
    pub fn from_folder(folder: &Path) -> Result<Self, TokenizerError> {
        let path = folder.join(TOKENIZER_FILE);
        let bytes = std::fs::read(&path).map_err(|source| TokenizerError::Io {
            path: path.clone(),
            source,
        })?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            TokenizerError::Format { reason } => {
                TokenizerError::format(format!("{}: {reason}", path.display()))
            }
            other => other,
        })
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Format`] when they are no byte-level tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(TokenizerError::format)?;
        let byte_level = matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        if !byte_level {
            return Err(TokenizerError::format(
                "its decoder is not `ByteLevel`; only byte-level tokenizers can be used",
            ));
        }
        let added = inner.get_added_tokens_decoder();
        Ok(Self {
            added: added
                .into_iter()
                .map(|(id, token)| (id, token.special))
                .collect(),
            inner,
        })
    }

    /// The text of a `tokenizer.json`: equal tokenizers give equal bytes.
    ///
    /// # Errors
    /// [`TokenizerError::Format`] when the library cannot write it.
    pub fn to_json(&self) -> Result<String, TokenizerError> {
        let mut text = self.inner.to_string(true).map_err(TokenizerError::format)?;
        text.push('\n');
        Ok(text)
    }

    /// The ids of a text, special tokens in it recognised, none added.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding =
            self.inner
                .encode_fast(text, false)
                .map_err(|error| TokenizerError::Encode {
                    reason: error.to_string(),
                })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids. Ids outside the vocabulary give nothing; bytes that are no text become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            if skip_special && self.is_special(id) {
                continue;
            }
            if let Some(token) = self.id_to_token(id) {
                bytes.extend(bytes::of_token(&token));
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A decoder for ids that come one by one.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, skip_special)
    }

    /// The id of a token, written as in the vocabulary (`Ġthe`, `<|im_end|>`).
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token as written in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The bytes that a token adds to a text; none for an id outside the vocabulary.
    pub fn bytes_of(&self, id: u32) -> Vec<u8> {
        let token = self.id_to_token(id);
        token.map_or_else(Vec::new, |token| bytes::of_token(&token))
    }

    /// Whether decoding may skip this id.
    pub fn is_special(&self, id: u32) -> bool {
        self.added.get(&id).copied().unwrap_or(false)
    }

    /// The tokens added to the BPE vocabulary, special or not, by id.
    pub fn added_tokens(&self) -> BTreeMap<u32, String> {
        let name = |id: u32| self.id_to_token(id).map(|token| (id, token));
        self.added.keys().copied().filter_map(name).collect()
    }

    /// One more than the largest id: the least `vocab_size` of a model for this tokenizer.
    pub fn vocab_size(&self) -> usize {
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }
}

#[cfg(test)]
mod tests;
