//! Texts that end an answer, looked for in the bytes of its tokens.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;

/// Stop texts, and what each token of a tokenizer adds to a text.
#[derive(Clone, Debug)]
pub struct StopTexts {
    texts: Vec<Vec<u8>>,
    /// By id.
    tokens: Arc<[Box<[u8]>]>,
}

impl PartialEq for StopTexts {
    /// Equal texts over the same tokenizer.
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts && self.tokens == other.tokens
    }
}

impl StopTexts {
    /// Stop texts for the answers of a model with this tokenizer; none when there is no text but empty ones.
    pub fn new<T: AsRef<str>>(tokenizer: &Tokenizer, texts: &[T]) -> Option<Self> {
        let texts = texts.iter().map(|text| text.as_ref().as_bytes().to_vec());
        let texts: Vec<Vec<u8>> = texts.filter(|text| !text.is_empty()).collect();
        let ids = 0..tokenizer.vocab_size() as u32;
        (!texts.is_empty()).then(|| Self {
            texts,
            tokens: ids.map(|id| tokenizer.bytes_of(id).into()).collect(),
        })
    }

    /// Adds a token to the end of a text of which `tail` is kept; whether a stop text is complete now.
    pub(crate) fn push(&self, token: u32, tail: &mut Vec<u8>) -> bool {
        let Some(bytes) = self.tokens.get(token as usize) else {
            return false;
        };
        tail.extend_from_slice(bytes);
        let complete = |text: &Vec<u8>| {
            // only what ends in the new bytes is new
            let from = tail.len().saturating_sub(bytes.len() + text.len() - 1);
            tail[from..].windows(text.len()).any(|part| part == text)
        };
        let found = self.texts.iter().any(complete);
        let longest = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let passed = tail.len().saturating_sub(longest);
        tail.drain(..passed);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_across_tokens_and_within_one() {
        let tokens = ["a", "ab", "b!", "xx\n\nyy", ""];
        let tokens = tokens.iter().map(|token| Box::from(token.as_bytes()));
        let stop = StopTexts {
            texts: vec![b"abb!".to_vec(), b"\n\n".to_vec()],
            tokens: tokens.collect(),
        };
        let ends = |ids: &[u32]| {
            let mut tail = Vec::new();
            ids.iter().position(|&id| stop.push(id, &mut tail))
        };
        assert_eq!(ends(&[0, 1, 2]), Some(2));
        assert_eq!(ends(&[0, 2, 1, 4, 2]), Some(4));
        assert_eq!(ends(&[0, 3]), Some(1));
        assert_eq!(ends(&[1, 1, 99, 4]), None);
        assert_eq!(ends(&[0; 1000]), None);
    }
}
