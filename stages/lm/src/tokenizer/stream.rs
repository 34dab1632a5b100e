//! Decoding token by token, for text that is shown while it is made.

use super::{Tokenizer, bytes};

/// Turns tokens into text as they come, holding back an unfinished character.
///
/// The pieces joined, with [`finish`](Self::finish), equal [`Tokenizer::decode`] of all the ids.
#[derive(Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    held: Vec<u8>,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            held: Vec::new(),
        }
    }

    /// Takes the next token and gives the text that it completes, often empty. Unknown ids give nothing.
    pub fn push(&mut self, id: u32) -> String {
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        if let Some(token) = self.tokenizer.id_to_token(id) {
            self.held.extend(bytes::of_token(&token));
        }
        self.take(false)
    }

    /// Gives what was held back; bytes that are no text become U+FFFD.
    pub fn finish(mut self) -> String {
        self.take(true)
    }

    /// Whole characters, and U+FFFD for bytes that can no longer become one, are taken from the front.
    fn take(&mut self, all: bool) -> String {
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let may_grow =
                done + invalid.len() == self.held.len() && is_unfinished_character(invalid);
            if !invalid.is_empty() && (all || !may_grow) {
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid.len();
            }
        }
        self.held.drain(..done);
        text
    }
}

/// Whether more bytes could make this a character.
fn is_unfinished_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
