//! Mapping over rows in chunks, each an action with a record of its own.
//!
//! A kind that treats its rows one by one declares [`Chunks`] and calls [`StageContext::map_chunks`]. Rows are cut
//! into chunks of a fixed number; the result of each is kept in the store as soon as it is made, under a key of its
//! own: the stage's fields, with the digest of the chunk's rows in the place of the digest of all rows. So what was
//! half done goes on where it was, one changed row makes one chunk run again, and several processes share the work.
//!
//! Invariant, for the author to keep: a chunk's result depends on its rows, the other inputs and the parameters
//! alone, never on its place among the chunks; and what is gathered depends on the chunks' results alone.

use std::path::{Path, PathBuf};

use starling_cache::{Digest, Digester};

use crate::chunk::{Chunk, Chunks};
use crate::context::StageContext;
use crate::error::StageError;

/// Writes the result of a chunk into an empty folder.
pub type Write<'a> = &'a dyn Fn(&Path) -> Result<(), StageError>;

/// Keeps the result of a chunk, given by its place among those that were missing.
pub type Keep<'a> = dyn FnMut(usize, Write<'_>) -> Result<(), StageError> + 'a;

impl StageContext<'_> {
    /// The results of all chunks of `rows`, in order, as folders to read.
    ///
    /// `identity` gives all of a row that its result depends on; `work` writes the result of some rows into an empty
    /// folder. Between two chunks the wish to stop is looked at; what is done by then is kept.
    ///
    /// # Errors
    /// Those of `work` and of the store, [`StageError::Interrupted`], and [`StageError::ShardDone`] in a process that
    /// does only a share: `run` passes them on.
    pub fn map_chunks<R>(
        &self,
        chunks: &Chunks,
        rows: &[R],
        identity: impl Fn(&R) -> Vec<u8>,
        work: impl Fn(&[R], &Path) -> Result<(), StageError>,
    ) -> Result<Vec<PathBuf>, StageError> {
        let shard = self.host.shard();
        let count = rows.len().div_ceil(chunks.rows.max(1));
        let mine = |number: usize| shard.is_none_or(|shard| shard.holds(number, count));
        let total: usize = rows
            .chunks(chunks.rows.max(1))
            .enumerate()
            .filter(|(number, _)| mine(*number))
            .map(|(_, rows)| rows.len())
            .sum();
        let (mut results, mut done, mut found) = (Vec::with_capacity(count), 0, 0);
        for (number, part) in rows.chunks(chunks.rows.max(1)).enumerate() {
            if !mine(number) {
                continue;
            }
            let chunk = Chunk {
                chunks,
                rows: digest(part, &identity),
                number,
            };
            done += part.len();
            if let Some(folder) = self.host.chunk(&chunk)? {
                results.push(folder);
                found += 1;
                continue;
            }
            if self.interrupted() {
                return Err(StageError::Interrupted);
            }
            results.push(self.make(&chunk, part, &work)?);
            let before = match found {
                0 => String::new(),
                1 => "1 chunk was there".to_owned(),
                n => format!("{n} chunks were there"),
            };
            self.progress(done as u64, total as u64, chunks.unit, before);
        }
        if shard.is_some() {
            return Err(StageError::ShardDone);
        }
        Ok(results)
    }

    /// The same for work that is better done out of order, such as asking a server many things at once.
    ///
    /// `work` gets the chunks that have no result yet and keeps each as soon as it has one, in any order; what it kept
    /// stays when it fails later. It looks at the wish to stop itself.
    ///
    /// # Errors
    /// As [`Self::map_chunks`], and [`StageError::Failed`] when `work` ends well without having kept every chunk.
    pub fn map_chunks_unordered<'r, R>(
        &self,
        chunks: &Chunks,
        rows: &'r [R],
        identity: impl Fn(&R) -> Vec<u8>,
        work: impl FnOnce(&[&'r [R]], &mut Keep<'_>) -> Result<(), StageError>,
    ) -> Result<Vec<PathBuf>, StageError> {
        let shard = self.host.shard();
        let count = rows.len().div_ceil(chunks.rows.max(1));
        let parts = rows.chunks(chunks.rows.max(1)).enumerate();
        let mine: Vec<(usize, &'r [R])> = parts
            .filter(|(number, _)| shard.is_none_or(|shard| shard.holds(*number, count)))
            .collect();
        let of = |number: usize, part: &[R]| Chunk {
            chunks,
            rows: digest(part, &identity),
            number,
        };
        let mut results: Vec<Option<PathBuf>> = Vec::with_capacity(mine.len());
        for (number, part) in &mine {
            results.push(self.host.chunk(&of(*number, part))?);
        }
        let missing: Vec<usize> = (0..mine.len()).filter(|i| results[*i].is_none()).collect();
        let parts: Vec<&'r [R]> = missing.iter().map(|i| mine[*i].1).collect();
        let total: usize = mine.iter().map(|(_, part)| part.len()).sum();
        let mut done = total - parts.iter().map(|part| part.len()).sum::<usize>();
        if done > 0 {
            self.progress(done as u64, total as u64, chunks.unit, "were there");
        }
        if !missing.is_empty() {
            let mut keep = |at: usize, write: Write<'_>| {
                let (number, part) = mine[missing[at]];
                let made = self.make(&of(number, part), part, &|_, folder| write(folder))?;
                results[missing[at]] = Some(made);
                done += part.len();
                self.progress(done as u64, total as u64, chunks.unit, String::new());
                Ok(())
            };
            work(&parts, &mut keep)?;
        }
        if shard.is_some() {
            return Err(StageError::ShardDone);
        }
        let all: Option<Vec<PathBuf>> = results.into_iter().collect();
        all.ok_or_else(|| StageError::failed(format!("some {} have no result", chunks.unit)))
    }

    fn make<R>(
        &self,
        chunk: &Chunk<'_>,
        rows: &[R],
        work: &impl Fn(&[R], &Path) -> Result<(), StageError>,
    ) -> Result<PathBuf, StageError> {
        let folder = self.scratch.join(format!("chunk-{}", chunk.number));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(StageError::io("remove", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(StageError::io("create", &folder))?;
        work(rows, &folder)?;
        let kept = self.host.put_chunk(chunk, &folder)?;
        if kept != folder && folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(StageError::io("remove", &folder))?;
        }
        Ok(kept)
    }
}

/// The digest of some rows: each with its length first, so that no two lists of rows are the same bytes.
fn digest<R>(rows: &[R], identity: impl Fn(&R) -> Vec<u8>) -> Digest {
    let mut digester = Digester::new();
    for row in rows {
        let bytes = identity(row);
        digester.update(&(bytes.len() as u64).to_be_bytes());
        digester.update(&bytes);
    }
    digester.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_between_rows_are_in_the_digest() {
        let of = |rows: &[&str]| digest(rows, |row| row.as_bytes().to_vec());
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
