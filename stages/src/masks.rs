//! Which tokens of an answer are learned.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::StageError;
use starling_lm::tokenizer::Tokenizer;

/// Which tokens of an answer are learned; the prompt never is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mask {
    /// All.
    #[default]
    All,
    /// Up to and including the last `</think>`.
    Think,
    /// What follows it.
    Answer,
    /// `think` for the even places of a batch, `answer` for the odd ones.
    Alter,
}

/// A mask with the token that it looks for.
pub(crate) struct Masks {
    mask: Mask,
    think_end: u32,
}

impl Masks {
    /// # Errors
    /// [`StageError::Failed`] when the mask needs `</think>` and the tokenizer has no such token.
    pub(crate) fn new(mask: Mask, tokenizer: &Tokenizer) -> Result<Self, StageError> {
        let think_end = tokenizer.token_to_id("</think>");
        if mask != Mask::All && think_end.is_none() {
            return Err(StageError::failed_try(
                "`mask` splits answers at `</think>`, which is no token of this tokenizer",
                "set `mask = \"all\"`",
            ));
        }
        Ok(Self {
            mask,
            think_end: think_end.unwrap_or(u32::MAX),
        })
    }

    /// The learned tokens of the answer at a place of its batch; none when it has no end of thinking and
    /// the mask needs one.
    pub(crate) fn range(&self, answer: &[u32], place: usize) -> Option<Range<usize>> {
        let split = || {
            let last = answer.iter().rposition(|id| *id == self.think_end);
            last.map(|at| at + 1)
        };
        Some(match (self.mask, place.is_multiple_of(2)) {
            (Mask::All, _) => 0..answer.len(),
            (Mask::Think, _) | (Mask::Alter, true) => 0..split()?,
            (Mask::Answer, _) | (Mask::Alter, false) => split()?..answer.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_split_at_the_last_end_of_thinking() {
        let masks = |mask| Masks { mask, think_end: 9 };
        let answer = [1, 9, 2, 9, 3, 4];
        let cases = [
            (Mask::All, 0, Some(0..6)),
            (Mask::Think, 1, Some(0..4)),
            (Mask::Answer, 0, Some(4..6)),
            (Mask::Alter, 2, Some(0..4)),
            (Mask::Alter, 3, Some(4..6)),
        ];
        for (mask, place, range) in cases {
            assert_eq!(masks(mask).range(&answer, place), range);
        }
        assert_eq!(masks(Mask::Think).range(&[1, 2], 0), None);
        assert_eq!(masks(Mask::All).range(&[1, 2], 0), Some(0..2));
    }
}
