//! What an artifact cost to make, counted in work and not in seconds, so that it is the same bytes on
//! every machine.
//!
//! A checkpoint or a set of rollouts carries the entries of everything that went into it; the union
//! over two inputs counts a shared ancestor once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use starling_cache::Digest;
use starling_contract::StageError;

use crate::rows::{read_json, write_json};

/// The file inside a checkpoint, a rollout set or an evaluation.
const FILE: &str = "lineage.json";

/// Work of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Work {
    /// The kind that did it.
    pub(crate) kind: String,
    /// Tokens that went forward and backward.
    pub(crate) trained_tokens: u64,
    /// Tokens that were sampled.
    pub(crate) generated_tokens: u64,
    /// Tokens that only went forward: prompts and scored texts.
    pub(crate) read_tokens: u64,
    /// Parameters of the model, embeddings counted once.
    pub(crate) parameters: u64,
}

impl Work {
    /// Floating-point operations, in units of 10¹²: 6 a parameter and trained token, 2 a parameter and
    /// token that only went forward.
    ///
    /// # Source
    /// Kaplan et al., 2020, section 2.1; attention's own part is left out, as there.
    pub(crate) fn tflop(&self) -> f64 {
        let forward = (self.generated_tokens + self.read_tokens) as f64 * 2.0;
        (self.trained_tokens as f64 * 6.0 + forward) * self.parameters as f64 / 1e12
    }
}

/// The work behind an artifact, by the digest of what each stage made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Lineage(BTreeMap<String, Work>);

impl Lineage {
    /// Reads what `folder` carries; a folder that starling did not make carries nothing.
    pub(crate) fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(FILE);
        if path.exists() {
            read_json(&path)
        } else {
            Ok(Self::default())
        }
    }

    /// Adds all of `other`.
    pub(crate) fn join(&mut self, other: &Self) {
        self.0
            .extend(other.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// Adds the work that made `file`, and writes the whole into `folder`.
    pub(crate) fn finish(self, folder: &Path, file: &str, work: Work) -> Result<(), StageError> {
        self.finish_with(folder, file, work, None)
    }

    /// The same, with the work that another model did for `file`.
    pub(crate) fn finish_with(
        mut self,
        folder: &Path,
        file: &str,
        work: Work,
        other: Option<Work>,
    ) -> Result<(), StageError> {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(StageError::io("read", &path))?;
        let digest = Digest::of(&bytes).to_string();
        if let Some(other) = other {
            self.0.insert(format!("{digest}, {}", other.kind), other);
        }
        self.0.insert(digest, work);
        self.write(folder)
    }

    /// Writes it as it is into `folder`.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), StageError> {
        write_json(&folder.join(FILE), self)
    }

    /// Each stage's part, in an order that depends on content only.
    pub(crate) fn works(&self) -> impl Iterator<Item = &Work> {
        self.0.values()
    }

    /// All of it, in units of 10¹² operations.
    pub(crate) fn tflop(&self) -> f64 {
        self.0.values().map(Work::tflop).sum()
    }

    /// Tokens that went forward and backward.
    pub(crate) fn trained_tokens(&self) -> u64 {
        self.0.values().map(|w| w.trained_tokens).sum()
    }

    /// Tokens that were sampled.
    pub(crate) fn generated_tokens(&self) -> u64 {
        self.0.values().map(|w| w.generated_tokens).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(tokens: u64) -> Work {
        Work {
            kind: "sft".to_owned(),
            trained_tokens: tokens,
            generated_tokens: 0,
            read_tokens: 0,
            parameters: 1_000_000,
        }
    }

    #[test]
    fn a_shared_ancestor_counts_once() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "a").expect("written");
        std::fs::write(folder.path().join("b"), "b").expect("written");
        Lineage::default()
            .finish(folder.path(), "a", work(1_000_000))
            .expect("written");
        let a = Lineage::read(folder.path()).expect("read");
        let mut b = a.clone();
        b.join(&a);
        b.finish(folder.path(), "b", work(2_000_000))
            .expect("written");
        let b = Lineage::read(folder.path()).expect("read");
        assert!((a.tflop() - 6.0).abs() < 1e-12);
        assert!((b.tflop() - 18.0).abs() < 1e-12);
    }
}
