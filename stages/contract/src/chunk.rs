//! What a chunk of rows is, and a share of the chunks.

use starling_cache::Digest;

/// How a kind maps over its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    /// The input that the rows come from; empty where they come with the program.
    pub port: &'static str,
    /// Rows of a chunk; a change of it makes all chunks run again, and no other byte of the output different.
    pub rows: usize,
    /// What a row is, plural: `prompts`, `items`.
    pub unit: &'static str,
    /// Parameters that change no chunk: they choose rows, or matter only when chunks are gathered.
    pub neutral: &'static [&'static str],
}

/// A chunk, as the host knows it.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// How the kind maps.
    pub chunks: &'a Chunks,
    /// Digest of the chunk's rows.
    pub rows: Digest,
    /// Its number among the chunks of the stage, from 0; not in its key.
    pub number: usize,
}

/// A share of the chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// Whether chunk `number` of `count` belongs to this share: neighbours stay together.
    #[must_use]
    pub fn holds(self, number: usize, count: usize) -> bool {
        number * self.of / count.max(1) == self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_has_one_shard_and_neighbours_stay_together() {
        for count in 0..40 {
            for of in 1..20 {
                let owners: Vec<usize> = (0..count)
                    .map(|number| {
                        let holds = |n: &usize| Shard { number: *n, of }.holds(number, count);
                        let all: Vec<usize> = (0..of).filter(holds).collect();
                        assert_eq!(all.len(), 1, "chunk {number} of {count} in {of} shards");
                        all[0]
                    })
                    .collect();
                assert!(owners.is_sorted(), "{owners:?}");
            }
        }
    }
}
