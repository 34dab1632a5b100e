//! Many sequences in one batch, without padding, and behind one copy of what they begin with.

use std::ops::Range;

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::kernels::attention::Segment;

/// Sequences one after another, without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedBatch {
    /// Tokens of all sequences.
    pub ids: Vec<u32>,
    /// Tokens of each.
    pub lens: Vec<usize>,
    /// For each the sequence that it goes on from, an earlier one that starts afresh; none for one that does. May be
    /// shorter than `lens`: the rest start afresh.
    pub after: Vec<Option<usize>>,
}

impl PackedBatch {
    /// Packs sequences.
    pub fn new<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self::default();
        for ids in sequences {
            batch.push(ids, None);
        }
        batch
    }

    fn push(&mut self, ids: &[u32], after: Option<usize>) -> usize {
        self.ids.extend_from_slice(ids);
        self.lens.push(ids.len());
        self.after.push(after);
        self.lens.len() - 1
    }

    /// The segments of its tokens.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::with_capacity(self.lens.len());
        let mut start = 0;
        for (at, &len) in self.lens.iter().enumerate() {
            let after = self.after.get(at).copied().flatten();
            let before = after.map_or_else(Segment::default, |before| segments[before]);
            segments.push(Segment {
                start,
                len,
                before: before.start,
                before_len: before.len,
            });
            start += len;
        }
        segments
    }

    /// The position of each token within its sequence.
    pub fn positions(&self) -> Vec<usize> {
        let segments = self.segments().into_iter();
        segments
            .flat_map(|one| one.before_len..one.before_len + one.len)
            .collect()
    }

    /// Checks that a model can read it.
    ///
    /// # Errors
    /// [`LmError::Shape`] for lengths that do not add up, a sequence that is too long or goes on from one that it
    /// cannot, or an id outside the vocabulary.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LmError> {
        let total = self
            .lens
            .iter()
            .try_fold(0_usize, |sum, &len| sum.checked_add(len));
        if total != Some(self.ids.len()) {
            return Err(LmError::shape(
                "ids",
                &[self.ids.len()],
                "[the sum of the lengths]",
            ));
        }
        let fits = |(at, after): (usize, &Option<usize>)| {
            after.is_none_or(|before| before < at && self.after[before].is_none())
        };
        if self.after.len() > self.lens.len() || !self.after.iter().enumerate().all(fits) {
            return Err(LmError::shape(
                "after",
                &[self.after.len()],
                "earlier sequences that start afresh",
            ));
        }
        let segments = self.segments();
        let longest = segments.iter().map(|one| one.before_len + one.len).max();
        let limit = config.max_position_embeddings;
        if let Some(longest) = longest.filter(|longest| *longest > limit) {
            return Err(LmError::shape(
                "a sequence",
                &[longest],
                format!("at most [{limit}]"),
            ));
        }
        if let Some(id) = self
            .ids
            .iter()
            .find(|&&id| id as usize >= config.vocab_size)
        {
            let reason = format!("an id below vocab_size {}", config.vocab_size);
            return Err(LmError::shape("token id", &[*id as usize], reason));
        }
        Ok(())
    }
}

/// Shared beginnings shorter than this are not worth their own segment.
const LEAST_SHARED: usize = 16;

/// Sequences next to each other, and how many tokens they all begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) sequences: Range<usize>,
    /// 0 when the group is one sequence.
    pub(crate) shared: usize,
    /// Tokens that are computed.
    pub(crate) tokens: usize,
}

/// Cuts sequences into groups of neighbours that begin alike.
///
/// A sequence joins the group before it when that saves more tokens than the group loses by a shorter beginning, and
/// while the tokens that each has of its own add up to at most `limit`. Depends on the tokens and `limit` alone; a group
/// on its own is cut as it was.
pub(crate) fn groups(sequences: &[&[u32]], limit: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (at, ids) in sequences.iter().enumerate() {
        if let Some(group) = groups.last_mut() {
            let count = group.sequences.len();
            let first = sequences[group.sequences.start];
            let alone = count == 1;
            let before = if alone { first.len() } else { group.shared };
            let alike = first[..before].iter().zip(*ids);
            let shared = alike.take_while(|(a, b)| a == b).count();
            let tokens = if alone {
                before + ids.len() - shared
            } else {
                group.tokens + ids.len() + count * (before - shared) - before
            };
            if limit > 0
                && shared >= LEAST_SHARED
                && (alone || count * shared > (count - 1) * before)
                && tokens - shared <= limit
            {
                group.sequences.end = at + 1;
                group.shared = shared;
                group.tokens = tokens;
                continue;
            }
        }
        groups.push(Group {
            sequences: at..at + 1,
            shared: 0,
            tokens: ids.len(),
        });
    }
    groups
}

/// A batch, and where each token of each sequence went.
#[derive(Clone, Debug)]
pub struct Packing {
    /// The batch.
    pub batch: PackedBatch,
    places: Vec<Place>,
}

/// Where a sequence went: its beginning, then the rest.
#[derive(Clone, Copy, Debug)]
struct Place {
    shared_start: usize,
    shared: usize,
    start: usize,
}

impl Packing {
    /// Packs each sequence on its own.
    pub fn apart(sequences: &[&[u32]]) -> Self {
        Self::sharing(sequences, 0)
    }

    /// Packs neighbours that begin alike behind one copy of that, as long as what they have of their own adds up to at
    /// most `limit` tokens.
    pub fn sharing(sequences: &[&[u32]], limit: usize) -> Self {
        let mut packing = Self {
            batch: PackedBatch::default(),
            places: Vec::with_capacity(sequences.len()),
        };
        for group in groups(sequences, limit) {
            let shared = group.shared;
            let members = &sequences[group.sequences];
            let shared_start = packing.batch.ids.len();
            let before = (shared > 0).then(|| packing.batch.push(&members[0][..shared], None));
            for ids in members {
                packing.places.push(Place {
                    shared_start,
                    shared,
                    start: packing.batch.ids.len(),
                });
                packing.batch.push(&ids[shared..], before);
            }
        }
        packing
    }

    /// The token of the batch that is this token of this sequence.
    pub fn token(&self, sequence: usize, position: usize) -> usize {
        let place = self.places[sequence];
        match position.checked_sub(place.shared) {
            Some(own) => place.start + own,
            None => place.shared_start + position,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prompt: u32, len: usize, answer: u32, own: usize) -> Vec<u32> {
        let prompt = (0..len as u32).map(|at| prompt * 1000 + at);
        prompt
            .chain((0..own as u32).map(|at| 500_000 + answer * 100 + at))
            .collect()
    }

    #[test]
    fn tokens_are_found_where_they_were_put() {
        let texts = [
            text(1, 40, 1, 5),
            text(1, 40, 2, 3),
            text(1, 40, 3, 0),
            text(2, 30, 4, 2),
            text(3, 30, 5, 2),
            text(3, 30, 6, 9),
        ];
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for (limit, saved) in [(0, 0), (4, 40), (8, 80), (1000, 110)] {
            let packing = Packing::sharing(&texts, limit);
            let (batch, positions) = (&packing.batch, packing.batch.positions());
            for (sequence, ids) in texts.iter().enumerate() {
                for (position, &id) in ids.iter().enumerate() {
                    let token = packing.token(sequence, position);
                    assert_eq!(batch.ids[token], id);
                    assert_eq!(positions[token], position);
                }
            }
            let groups = groups(&texts, limit);
            let tokens: usize = groups.iter().map(|group| group.tokens).sum();
            assert_eq!(tokens, batch.ids.len(), "{limit}");
            let all: usize = texts.iter().map(|ids| ids.len()).sum();
            assert_eq!(batch.ids.len(), all - saved, "{limit}");
        }
    }

    #[test]
    fn a_much_shorter_beginning_ends_a_group() {
        let mut texts: Vec<Vec<u32>> = (0..8).map(|answer| text(1, 300, answer, 10)).collect();
        let mut other = text(1, 200, 0, 0);
        other.extend(900_000..900_100);
        texts.push(other);
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let found = groups(&texts, 10_000);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].sequences.clone(), found[0].shared, found[0].tokens),
            (0..8, 300, 380)
        );
    }
}
