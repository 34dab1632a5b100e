//! Tokens as a server names them, made ids of our tokenizer.
//!
//! Servers tell texts, sometimes bytes, rarely ids. A text stands for the one token with these bytes; where there is
//! none, or the tokens do not add up to the answer, nothing is guessed: the answer has no log-probabilities.

use std::collections::BTreeMap;

use starling_lm::tokenizer::Tokenizer;

use crate::endpoint::wire::{Likely, Token};
use crate::rollouts::TopK;

/// The log-probability of a token that only fills a list up: as good as none.
const NOTHING: f32 = -65_504.0;

/// The tokens of a vocabulary by their bytes.
pub(super) struct Names {
    by_bytes: BTreeMap<Vec<u8>, u32>,
    vocabulary: usize,
}

/// The tokens of an answer, without its end, as ids.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Aligned {
    pub(super) ids: Vec<u32>,
    pub(super) logprobs: Vec<f32>,
    /// `[tokens, k]`.
    pub(super) top: TopK,
}

impl Names {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let vocabulary = tokenizer.vocab_size();
        let mut by_bytes = BTreeMap::new();
        // From the end, so that of two tokens with the same bytes the first one stays.
        for id in (0..vocabulary as u32).rev() {
            let bytes = tokenizer.bytes_of(id);
            if !bytes.is_empty() {
                by_bytes.insert(bytes, id);
            }
        }
        Self {
            by_bytes,
            vocabulary,
        }
    }

    fn id(&self, id: Option<u32>, bytes: Option<&Vec<u8>>, text: &str) -> Option<u32> {
        // A server's id is of its own tokenizer; bytes and texts mean the same everywhere.
        let named = match bytes {
            Some(bytes) => self.by_bytes.get(bytes),
            None => self.by_bytes.get(text.as_bytes()),
        };
        named
            .copied()
            .or_else(|| id.filter(|id| text.is_empty() && (*id as usize) < self.vocabulary))
    }

    /// The tokens as ids with `k` likeliest ones each; none when they are not the text.
    pub(super) fn align(
        &self,
        tokenizer: &Tokenizer,
        tokens: &[Token],
        text: &str,
        k: usize,
    ) -> Option<Aligned> {
        let mut aligned = Aligned::default();
        let mut bytes = Vec::new();
        for token in tokens {
            let id = self.id(token.id, token.bytes.as_ref(), &token.text)?;
            bytes.extend(tokenizer.bytes_of(id));
            aligned.ids.push(id);
            aligned.logprobs.push(token.logprob as f32);
            self.list(&token.top, k, &mut aligned.top);
        }
        (bytes == text.as_bytes()).then_some(aligned)
    }

    /// Appends the `k` likeliest tokens of a position. What has no id of ours is left out; a list that is too short
    /// is filled up with tokens of no mass.
    fn list(&self, likely: &[Likely], k: usize, top: &mut TopK) {
        self.fill(self.found(likely), k, top);
    }

    fn found(&self, likely: &[Likely]) -> BTreeMap<u32, f32> {
        let mut found: BTreeMap<u32, f32> = BTreeMap::new();
        for one in likely {
            if let Some(id) = self.id(one.id, one.bytes.as_ref(), &one.text) {
                let logprob = found.entry(id).or_insert(NOTHING);
                *logprob = logprob.max(one.logprob as f32);
            }
        }
        found
    }

    /// Whether a token stands for nothing but the end `id`: it is that text, or, as llama.cpp's server tells special
    /// tokens, no text at all with that id.
    pub(super) fn ends(&self, token: &Token, id: u32) -> bool {
        let nothing = token.text.is_empty() && token.bytes.as_ref().is_none_or(Vec::is_empty);
        if nothing {
            return token.id == Some(id);
        }
        self.id(None, token.bytes.as_ref(), &token.text) == Some(id)
    }

    /// Appends the position of the end `id`. Where it is not among what the server lists there, only the token is known:
    /// it alone is listed with all of the mass, which is what one sample says of a distribution.
    pub(super) fn end(&self, id: u32, likely: &[Likely], k: usize, top: &mut TopK) {
        let mut found = self.found(likely);
        if !found.contains_key(&id) {
            found = BTreeMap::from([(id, 0.0)]);
        }
        self.fill(found, k, top);
    }

    fn fill(&self, found: BTreeMap<u32, f32>, k: usize, top: &mut TopK) {
        let k = k.min(self.vocabulary);
        let mut listed: Vec<(u32, f32)> = found.iter().map(|(id, lp)| (*id, *lp)).collect();
        listed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        listed.truncate(k);
        let strangers = (0..self.vocabulary as u32).filter(|id| !found.contains_key(id));
        let missing = k - listed.len();
        listed.extend(strangers.take(missing).map(|id| (id, NOTHING)));
        top.ids.extend(listed.iter().map(|(id, _)| *id));
        top.logprobs.extend(listed.iter().map(|(_, lp)| *lp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SmallWorld;

    fn token(text: &str, top: &[(&str, f64)]) -> Token {
        let likely = |(text, logprob): &(&str, f64)| Likely {
            text: (*text).to_owned(),
            logprob: *logprob,
            id: None,
            bytes: None,
        };
        Token {
            text: text.to_owned(),
            logprob: -0.5,
            id: None,
            bytes: None,
            top: top.iter().map(likely).collect(),
        }
    }

    #[test]
    fn texts_become_ids_or_nothing_does() {
        let small = SmallWorld::new();
        let tokenizer = small.tokenizer();
        let names = Names::new(&tokenizer);
        let id = |text: &str| tokenizer.encode(text).expect("ids")[0];
        let tokens = [
            token("a", &[("b", -2.0), ("a", -0.5), ("no such", -1.0)]),
            token("c", &[]),
        ];
        let aligned = names.align(&tokenizer, &tokens, "ac", 3).expect("aligned");
        assert_eq!(aligned.ids, [id("a"), id("c")]);
        assert_eq!(aligned.logprobs, [-0.5, -0.5]);
        // The two that have ids, likeliest first, then one of no mass; then three of no mass.
        assert_eq!(aligned.top.ids[..2], [id("a"), id("b")]);
        assert_eq!(aligned.top.logprobs[..3], [-0.5, -2.0, NOTHING]);
        assert_eq!(aligned.top.logprobs[3..], [NOTHING; 3]);
        for row in aligned.top.ids.chunks(3) {
            assert!(
                row[0] != row[1] && row[1] != row[2] && row[0] != row[2],
                "{row:?}"
            );
        }
        assert_eq!(names.align(&tokenizer, &tokens, "ab", 3), None);
        assert_eq!(
            names.align(&tokenizer, &[token("no such", &[])], "no such", 0),
            None
        );
        let whole = Token {
            bytes: Some(b"a".to_vec()),
            ..token("?", &[])
        };
        assert_eq!(
            names
                .align(&tokenizer, &[whole], "a", 0)
                .expect("by bytes")
                .ids,
            [id("a")]
        );
        let mut end = TopK::default();
        names.end(7, &[], 2, &mut end);
        assert_eq!((end.ids, end.logprobs), (vec![7, 0], vec![0.0, NOTHING]));
    }

    #[test]
    fn the_end_is_known_by_its_text_or_by_its_id_alone() {
        let small = SmallWorld::new();
        let tokenizer = small.tokenizer();
        let names = Names::new(&tokenizer);
        let end = tokenizer
            .token_to_id(crate::chat::END)
            .expect("an end token");
        let bare = |id| Token {
            id,
            bytes: Some(Vec::new()),
            ..token("", &[])
        };
        assert!(names.ends(&token(crate::chat::END, &[]), end));
        assert!(names.ends(&bare(Some(end)), end));
        assert!(!names.ends(&bare(Some(end - 1)), end) && !names.ends(&bare(None), end));
        assert!(!names.ends(&token("a", &[]), end));

        let likely = |text: &str, id, logprob| Likely {
            text: text.to_owned(),
            logprob,
            id: Some(id),
            bytes: Some(text.as_bytes().to_vec()),
        };
        let a = tokenizer.encode("a").expect("ids")[0];
        let mut top = TopK::default();
        // The id of a token with a text is the server's own affair.
        names.end(
            end,
            &[likely("", end, -0.5), likely("a", 0, -1.5)],
            2,
            &mut top,
        );
        assert_eq!((top.ids, top.logprobs), (vec![end, a], vec![-0.5, -1.5]));
    }
}
