//! The rollout artifact: answers as text, token ids, log-probabilities and a teacher's likeliest tokens.
//!
//! A folder: `rollouts.json` says what is there, then two files a shard, `rollouts-00000.jsonl` with a line
//! an answer (`id`, `seed`, `sample`, `inputs`, `targets`), readable as training rows, and
//! `tokens-00000.safetensors` with the numbers in the same order. A shard ends with the first prompt that
//! fills it, so its border depends on content only. Writing holds one shard in memory; reading leaves the
//! likeliest tokens, which are nearly all of the bytes, on disk.

mod shard;
mod topk;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::StageError;

use self::shard::{OpenShard, Shard};
pub(crate) use self::topk::{Codec, TopK};
use crate::rows::{read_json, write_json};

/// The file that says what is there.
pub(crate) const INDEX: &str = "rollouts.json";

/// Answer tokens that fill a shard: about 28 MB at `k` = 100.
const SHARD_TOKENS: usize = 1 << 16;

/// An answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rollout {
    /// Its own id, the seed's with a suffix.
    pub(crate) id: String,
    /// The id of the row it answers.
    pub(crate) seed: String,
    /// Its number among the samples of the prompt.
    pub(crate) sample: usize,
    /// The prompt's text.
    pub(crate) inputs: String,
    /// The answer's text, end token included.
    pub(crate) targets: String,
    /// Index of the prompt in [`Rollouts::prompts`]; a writer sets it.
    pub(crate) prompt: usize,
    /// Token ids.
    pub(crate) ids: Vec<u32>,
    /// Their log-probabilities.
    pub(crate) logprobs: Vec<f32>,
}

/// An answer with the likeliest tokens at each of its positions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    /// The answer.
    pub(crate) rollout: Rollout,
    /// The likeliest tokens.
    pub(crate) top: TopK,
}

/// A server that sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SampledBy {
    /// The model's name, as its server knows it.
    pub(crate) endpoint_model: String,
    /// Whether it would answer the same again; no server promises that.
    pub(crate) deterministic: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Index {
    k: usize,
    vocabulary: usize,
    prompts: usize,
    rollouts: usize,
    tokens: usize,
    /// SHA-256 of the numbers of each shard.
    shards: Vec<String>,
    /// Who sampled, where it was no checkpoint of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampled_by: Option<SampledBy>,
}

fn texts(folder: &Path, shard: usize) -> PathBuf {
    folder.join(format!("rollouts-{shard:05}.jsonl"))
}

fn numbers(folder: &Path, shard: usize) -> PathBuf {
    folder.join(format!("tokens-{shard:05}.safetensors"))
}

/// Writes an artifact, prompt by prompt.
pub(crate) struct Writer {
    folder: PathBuf,
    codec: Codec,
    index: Index,
    pending: Shard,
}

impl Writer {
    /// Makes `folder` for answers with `k` likeliest tokens out of `vocabulary` a position.
    pub(crate) fn create(folder: &Path, k: usize, vocabulary: usize) -> Result<Self, StageError> {
        std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
            codec: Codec::new(k, vocabulary),
            index: Index {
                k,
                vocabulary,
                prompts: 0,
                rollouts: 0,
                tokens: 0,
                shards: Vec::new(),
                sampled_by: None,
            },
            pending: Shard::default(),
        })
    }

    /// Goes on in `folder` from what [`Self::save`] left.
    pub(crate) fn resume(folder: &Path, saved: &Path) -> Result<Self, StageError> {
        let index: Index = read_json(&saved.join(INDEX))?;
        let mut writer = Self::create(folder, index.k, index.vocabulary)?;
        writer.index = index;
        let full = writer.index.shards.len();
        copy_shards(saved, folder, full)?;
        writer.pending = Shard::read(&texts(saved, full), &numbers(saved, full), writer.codec)?;
        Ok(writer)
    }

    /// Says who sampled, where it was no checkpoint of ours.
    pub(crate) fn sampled_by(&mut self, who: Option<SampledBy>) {
        self.index.sampled_by = who;
    }

    /// Answers so far.
    pub(crate) fn len(&self) -> usize {
        self.index.rollouts
    }

    /// Appends the answers of one prompt; a prompt without answers leaves no trace.
    pub(crate) fn push(&mut self, prompt: &[u32], answers: Vec<Answer>) -> Result<(), StageError> {
        if answers.is_empty() {
            return Ok(());
        }
        self.index.prompts += 1;
        self.index.rollouts += answers.len();
        self.index.tokens += answers.iter().map(|a| a.rollout.ids.len()).sum::<usize>();
        self.pending.push(prompt, answers, self.codec);
        if self.pending.tokens() >= SHARD_TOKENS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StageError> {
        let number = self.index.shards.len();
        let (texts, numbers) = (texts(&self.folder, number), numbers(&self.folder, number));
        let bytes = std::mem::take(&mut self.pending).write(&texts, &numbers, self.codec)?;
        self.index.shards.push(Digest::of(&bytes).to_string());
        Ok(())
    }

    /// Saves what is there into `folder`, for [`Self::resume`].
    pub(crate) fn save(&self, folder: &Path) -> Result<(), StageError> {
        let full = self.index.shards.len();
        copy_shards(&self.folder, folder, full)?;
        let _bytes =
            self.pending
                .write(&texts(folder, full), &numbers(folder, full), self.codec)?;
        write_json(&folder.join(INDEX), &self.index)
    }

    /// Completes the artifact.
    pub(crate) fn finish(mut self) -> Result<(), StageError> {
        if !self.pending.rollouts.is_empty() || self.index.shards.is_empty() {
            self.flush()?;
        }
        write_json(&self.folder.join(INDEX), &self.index)
    }
}

fn copy_shards(from: &Path, to: &Path, count: usize) -> Result<(), StageError> {
    for shard in 0..count {
        for (from, to) in [
            (texts(from, shard), texts(to, shard)),
            (numbers(from, shard), numbers(to, shard)),
        ] {
            let _ = std::fs::copy(&from, &to).map_err(StageError::io("copy", &from))?;
        }
    }
    Ok(())
}

/// An artifact that is read.
pub(crate) struct Rollouts {
    /// Token ids of the prompts.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The answers, in the order of their prompts.
    pub(crate) rollouts: Vec<Rollout>,
    /// Listed tokens a position; 0: none.
    pub(crate) k: usize,
    shards: Vec<OpenShard>,
    /// Shard and first position within it of each answer.
    places: Vec<(usize, usize)>,
}

impl Rollouts {
    /// Opens the artifact in `folder`.
    ///
    /// # Errors
    /// [`StageError::Failed`] for a file that is damaged or does not belong to the others.
    pub(crate) fn read(folder: &Path) -> Result<Self, StageError> {
        let index: Index = read_json(&folder.join(INDEX))?;
        let codec = Codec::new(index.k, index.vocabulary);
        let mut all = Self {
            prompts: Vec::with_capacity(index.prompts),
            rollouts: Vec::with_capacity(index.rollouts),
            k: codec.k(),
            shards: Vec::with_capacity(index.shards.len()),
            places: Vec::with_capacity(index.rollouts),
        };
        for number in 0..index.shards.len() {
            let mut shard =
                OpenShard::open(&texts(folder, number), &numbers(folder, number), codec)?;
            let (before, mut at) = (all.prompts.len(), 0);
            all.prompts.append(&mut shard.prompts);
            for mut rollout in shard.rollouts.drain(..) {
                rollout.prompt += before;
                all.places.push((number, at));
                at += rollout.ids.len();
                all.rollouts.push(rollout);
            }
            all.shards.push(shard);
        }
        if all.rollouts.len() != index.rollouts {
            return Err(StageError::failed(format!(
                "{}: the shards hold {} answers, the index says {}",
                folder.display(),
                all.rollouts.len(),
                index.rollouts
            )));
        }
        Ok(all)
    }

    /// The likeliest tokens at each position of an answer, `[tokens, k]`.
    ///
    /// # Errors
    /// [`StageError::Io`] when they cannot be read.
    pub(crate) fn top(&self, rollout: usize) -> Result<TopK, StageError> {
        let (shard, first) = self.places[rollout];
        self.shards[shard].top(first, self.rollouts[rollout].ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(i: usize, ids: &[u32]) -> Answer {
        Answer {
            rollout: Rollout {
                id: format!("a#{i}"),
                seed: "a".to_owned(),
                sample: i,
                inputs: "p".to_owned(),
                targets: "t\n\"".to_owned(),
                prompt: 0,
                ids: ids.to_vec(),
                logprobs: ids.iter().map(|x| -(*x as f32)).collect(),
            },
            top: TopK {
                ids: ids.iter().flat_map(|x| [*x, x + 1]).collect(),
                logprobs: ids.iter().flat_map(|x| [-(*x as f32), -9.0]).collect(),
            },
        }
    }

    fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .map(|p| {
                let name = p
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, std::fs::read(&p).expect("bytes"))
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_is_written_is_read_also_over_shards_and_after_a_stop() {
        let long: Vec<u32> = (0..40_000).map(|i| i % 600).collect();
        let prompts: [(&[u32], Vec<Answer>); 4] = [
            (&[1, 2, 3], vec![answer(0, &long), answer(1, &[5, 6])]),
            (&[4], vec![answer(0, &long)]),
            (&[9, 9], Vec::new()),
            (&[7, 8], vec![answer(2, &[7])]),
        ];
        let unbroken = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(unbroken.path(), 2, 700).expect("made");
        for (prompt, answers) in &prompts {
            writer.push(prompt, answers.clone()).expect("pushed");
        }
        writer.finish().expect("finished");

        let set = Rollouts::read(unbroken.path()).expect("read");
        assert_eq!(set.shards.len(), 2, "the long answers fill a shard");
        assert_eq!(set.prompts, [vec![1, 2, 3], vec![4], vec![7, 8]]);
        let expected: Vec<&Answer> = prompts.iter().flat_map(|(_, a)| a).collect();
        assert_eq!(set.rollouts.len(), expected.len());
        for (at, want) in expected.into_iter().enumerate() {
            let got = &set.rollouts[at];
            assert_eq!(
                (&got.ids, &got.logprobs),
                (&want.rollout.ids, &want.rollout.logprobs)
            );
            assert_eq!(got.targets, want.rollout.targets);
            let top = set.top(at).expect("read");
            assert_eq!(top.ids, want.top.ids);
            assert_eq!(
                top.logprobs, want.top.logprobs,
                "small whole numbers are exact"
            );
        }
        assert_eq!(set.rollouts[3].prompt, 2);

        for stop in 0..prompts.len() {
            let (first, saved) = (tempfile::tempdir(), tempfile::tempdir());
            let (first, saved) = (first.expect("a folder"), saved.expect("a folder"));
            let mut writer = Writer::create(first.path(), 2, 700).expect("made");
            for (prompt, answers) in &prompts[..stop] {
                writer.push(prompt, answers.clone()).expect("pushed");
            }
            writer.save(saved.path()).expect("saved");
            let second = tempfile::tempdir().expect("a folder");
            let mut writer = Writer::resume(second.path(), saved.path()).expect("resumed");
            for (prompt, answers) in &prompts[stop..] {
                writer.push(prompt, answers.clone()).expect("pushed");
            }
            writer.finish().expect("finished");
            assert!(
                bytes(second.path()) == bytes(unbroken.path()),
                "after {stop} prompts"
            );
        }
    }

    #[test]
    fn damage_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::create(folder.path(), 2, 700).expect("made");
        writer
            .push(&[1], vec![answer(0, &[5, 6, 7])])
            .expect("pushed");
        writer.finish().expect("finished");
        let path = numbers(folder.path(), 0);
        let whole = std::fs::read(&path).expect("bytes");
        assert!(Rollouts::read(folder.path()).is_ok(), "whole");
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).expect("written");
            let error = Rollouts::read(folder.path()).err().expect("cut short");
            assert!(error.to_string().contains("tokens-00000"), "{error}");
        }
        // Lengths that are not those of what follows, of prompts as of answers.
        let header = u64::from_le_bytes(*whole.first_chunk().expect("a length")) as usize;
        let places: serde_json::Value =
            serde_json::from_slice(&whole[8..8 + header]).expect("a header");
        for name in ["prompt_lens", "lens"] {
            let start = places[name]["data_offsets"][0].as_u64().expect("a place");
            for other in [0, 2, u32::MAX] {
                let mut damaged = whole.clone();
                damaged[8 + header + start as usize..][..4].copy_from_slice(&other.to_le_bytes());
                std::fs::write(&path, &damaged).expect("written");
                let error = Rollouts::read(folder.path()).err().expect(name).to_string();
                assert!(error.contains("do not belong together"), "{error}");
            }
        }
    }
}
