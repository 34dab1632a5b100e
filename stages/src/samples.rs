//! The artifact of everything that a policy answered in training, and what it earned.
//!
//! A folder: `samples.json` says what is there, `samples-00000.jsonl` and its followers hold a line an answer
//! ([`Sample`]), in the order of updates, groups and samples. A shard ends with the first update that fills it, so its
//! border depends on content only. Writing holds no more than the shard that is open; reading goes line by line.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use starling_contract::StageError;

use crate::rows::{read_json, write_json};

/// The file that says what is there.
pub(crate) const INDEX: &str = "samples.json";

/// Answers that fill a shard.
const SHARD_ROWS: usize = 1 << 13;

/// An answer of a policy in training.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    /// The update that it was sampled for, from 1 as in the curve; after a roll-back the same numbers come again.
    pub(crate) update: u64,
    /// How often training was rolled back before.
    pub(crate) roll_backs: u64,
    /// Its group among those of the update, from 0, rounds that replace groups included.
    pub(crate) group: usize,
    /// Its number within the group, from 0.
    pub(crate) sample: usize,
    /// The id of the row whose prompt it answers.
    pub(crate) id: String,
    /// What was answered, end token included.
    pub(crate) answer: String,
    /// Its tokens.
    pub(crate) tokens: usize,
    /// Whether it ended by itself.
    pub(crate) finished: bool,
    /// Whether a teacher wrote it (a trace).
    pub(crate) foreign: bool,
    /// What it earned in all.
    pub(crate) reward: f64,
    /// What that is made of.
    pub(crate) parts: Parts,
    /// The rule that cost it everything, if one did.
    pub(crate) failed: Option<String>,
    /// Mean of its tokens' advantages; none where its group does not teach.
    pub(crate) advantage: Option<f64>,
    /// Whether the update learned from it.
    pub(crate) accepted: bool,
    /// Why its group was left out: `equal-rewards` or `out-of-bounds`.
    pub(crate) filtered: Option<String>,
    /// Mean log-probability of its tokens when it was sampled, nats; none for a trace.
    pub(crate) logprob: Option<f64>,
    /// Mean entropy of the distributions that its tokens were drawn from, nats; none for a trace.
    pub(crate) entropy: Option<f64>,
    /// Mean over the update of what the sampler and the trainer think of a token, nats: rounding, when all is well.
    pub(crate) sampler_gap: Option<f64>,
}

/// What a reward is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parts {
    /// The format's part: -1 or 1, with `toolrl` 0 or 1.
    pub(crate) format: f64,
    /// The answer's part: in [0, 1], with `toolrl` in [-3, 3].
    pub(crate) answer: f64,
    /// What it lost for its length.
    pub(crate) overlong: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Index {
    answers: usize,
    updates: u64,
    shards: Vec<Shard>,
}

/// A file of answers, and which updates it covers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Shard {
    file: String,
    answers: usize,
    first_update: u64,
    last_update: u64,
}

/// Writes the artifact, update by update.
pub(crate) struct Log {
    folder: PathBuf,
    index: Index,
    /// The shard that is written to.
    open: File,
}

fn name(shard: usize) -> String {
    format!("samples-{shard:05}.jsonl")
}

fn create(path: &Path) -> Result<File, StageError> {
    File::create(path).map_err(StageError::io("create", path))
}

impl Log {
    /// Makes `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self, StageError> {
        std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            open: create(&folder.join(name(0)))?,
            index: Index::default(),
        })
    }

    /// Goes back to what [`Self::save`] left.
    pub(crate) fn resume(&mut self, saved: &Path) -> Result<(), StageError> {
        self.index = read_json(&saved.join(INDEX))?;
        let shards = &self.index.shards;
        for shard in shards {
            let (from, to) = (saved.join(&shard.file), self.folder.join(&shard.file));
            let _bytes = std::fs::copy(&from, &to).map_err(StageError::io("copy", &from))?;
        }
        let path = match shards.last() {
            Some(last) if last.answers < SHARD_ROWS => self.folder.join(&last.file),
            _ => self.folder.join(name(shards.len())),
        };
        self.open = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(StageError::io("open", &path))?;
        Ok(())
    }

    /// Appends what was answered for an update.
    pub(crate) fn push(&mut self, update: u64, samples: &[Sample]) -> Result<(), StageError> {
        self.index.updates = update;
        if samples.is_empty() {
            return Ok(());
        }
        let shards = self.index.shards.len();
        let is_full = |shard: &Shard| shard.answers >= SHARD_ROWS;
        if self.index.shards.last().is_none_or(is_full) {
            let file = name(shards);
            self.open = create(&self.folder.join(&file))?;
            self.index.shards.push(Shard {
                file,
                first_update: update,
                ..Shard::default()
            });
        }
        let mut text = String::new();
        for sample in samples {
            let line = serde_json::to_string(sample)
                .map_err(|e| StageError::failed(format!("an answer cannot be written: {e}")))?;
            text.push_str(&line);
            text.push('\n');
        }
        let path = self.folder.join(name(self.index.shards.len() - 1));
        self.open
            .write_all(text.as_bytes())
            .map_err(StageError::io("write", &path))?;
        self.index.answers += samples.len();
        if let Some(shard) = self.index.shards.last_mut() {
            shard.answers += samples.len();
            shard.first_update = shard.first_update.min(update);
            shard.last_update = shard.last_update.max(update);
        }
        Ok(())
    }

    /// Saves what is there into `folder`, for [`Self::resume`]. The store keeps equal files once.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), StageError> {
        for shard in &self.index.shards {
            let (from, to) = (self.folder.join(&shard.file), folder.join(&shard.file));
            let _bytes = std::fs::copy(&from, &to).map_err(StageError::io("copy", &from))?;
        }
        write_json(&folder.join(INDEX), &self.index)
    }

    /// Completes the artifact.
    pub(crate) fn finish(self) -> Result<(), StageError> {
        write_json(&self.folder.join(INDEX), &self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(update: u64, count: usize) -> Vec<Sample> {
        let sample = |number| Sample {
            update,
            sample: number,
            reward: update as f64 / 7.0,
            answer: format!("{update} {number}\n"),
            ..Sample::default()
        };
        (0..count).map(sample).collect()
    }

    fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let mut files: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, std::fs::read(&path).expect("bytes"))
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_is_logged_is_the_same_after_a_stop_anywhere() {
        let updates = [of(1, 3), of(2, 0), of(3, SHARD_ROWS), of(4, 2), of(5, 1)];
        let numbered = || {
            updates
                .iter()
                .enumerate()
                .map(|(i, samples)| (i as u64 + 1, samples))
        };
        let unbroken = tempfile::tempdir().expect("a folder");
        let mut log = Log::create(unbroken.path()).expect("made");
        for (update, samples) in numbered() {
            log.push(update, samples).expect("pushed");
        }
        log.finish().expect("finished");
        let index: Index = read_json(&unbroken.path().join(INDEX)).expect("the index");
        assert_eq!((index.answers, index.updates), (SHARD_ROWS + 6, 5));
        let spans: Vec<_> = index
            .shards
            .iter()
            .map(|s| (s.answers, s.first_update, s.last_update))
            .collect();
        assert_eq!(spans, [(SHARD_ROWS + 3, 1, 3), (3, 4, 5)]);
        let text = std::fs::read_to_string(unbroken.path().join(name(1))).expect("text");
        let last: Sample =
            serde_json::from_str(text.lines().last().expect("a line")).expect("a row");
        assert_eq!(last, of(5, 1)[0]);

        for stop in 0..=updates.len() {
            let (first, saved, second) = (
                tempfile::tempdir(),
                tempfile::tempdir(),
                tempfile::tempdir(),
            );
            let (first, saved, second) = (
                first.expect("a folder"),
                saved.expect("a folder"),
                second.expect("a folder"),
            );
            let mut log = Log::create(first.path()).expect("made");
            for (update, samples) in numbered().take(stop) {
                log.push(update, samples).expect("pushed");
            }
            log.save(saved.path()).expect("saved");
            let mut log = Log::create(second.path()).expect("made");
            log.resume(saved.path()).expect("resumed");
            for (update, samples) in numbered().skip(stop) {
                log.push(update, samples).expect("pushed");
            }
            log.finish().expect("finished");
            assert!(
                bytes(second.path()) == bytes(unbroken.path()),
                "after {stop} updates"
            );
        }
    }
}
