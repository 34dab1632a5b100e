//! The rollout artifact: sampled answers as text, token ids, log-probabilities and the sampler's top-k.
//!
//! A folder of two files: `rollouts.jsonl`, a line a sample (`id`, `seed`, `sample`, `inputs`,
//! `targets`), readable as training rows; and `tokens.safetensors`, the numbers in the same order:
//!
//! | tensor          | shape        | type | holds                                                |
//! |-----------------|--------------|------|------------------------------------------------------|
//! | `prompt_lens`   | `[p]`        | u32  | tokens of each prompt                                |
//! | `prompt_ids`    | `[Σ prompts]`| u32  | prompts, one after another                           |
//! | `prompt_of`     | `[r]`        | u32  | the prompt of each sample                            |
//! | `lens`          | `[r]`        | u32  | sampled tokens of each, the end token included       |
//! | `ids`           | `[t]`        | u32  | sampled tokens, one sample after another             |
//! | `logprobs`      | `[t]`        | f32  | of the sampled tokens, nats, at temperature 1        |
//! | `topk_ids`      | `[t, k]`     | u32  | the sampler's likeliest tokens, likeliest first      |
//! | `topk_logprobs` | `[t, k]`     | f32  | their log-probabilities over the whole vocabulary    |

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use starling_contract::StageError;

use crate::rows::{RowWriter, object, string};

/// File of the texts.
pub(crate) const TEXTS: &str = "rollouts.jsonl";
/// File of the numbers.
pub(crate) const TOKENS: &str = "tokens.safetensors";

/// A sample.
#[derive(Debug, Clone, PartialEq)]
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
    /// Index of the prompt in [`Rollouts::prompts`].
    pub(crate) prompt: usize,
    /// Sampled token ids.
    pub(crate) ids: Vec<u32>,
    /// Their log-probabilities.
    pub(crate) logprobs: Vec<f32>,
    /// `k` ids a token, token after token.
    pub(crate) topk_ids: Vec<u32>,
    /// Likewise their log-probabilities.
    pub(crate) topk_logprobs: Vec<f32>,
}

/// A set of samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rollouts {
    /// Token ids of the prompts.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The samples, in the order of their prompts.
    pub(crate) rollouts: Vec<Rollout>,
    /// Listed tokens a position.
    pub(crate) k: usize,
}

impl Rollouts {
    /// Writes the artifact into `folder`, which is made.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), StageError> {
        std::fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        let mut texts = RowWriter::create(&folder.join(TEXTS))?;
        for r in &self.rollouts {
            texts.write(&object([
                ("id", string(r.id.as_str())),
                ("seed", string(r.seed.as_str())),
                ("sample", starling_text::json::Value::Int(r.sample as i64)),
                ("inputs", string(r.inputs.as_str())),
                ("targets", string(r.targets.as_str())),
            ]))?;
        }
        let _ = texts.finish()?;
        let words = |values: &mut dyn Iterator<Item = u32>| -> Vec<u8> {
            values.flat_map(u32::to_le_bytes).collect()
        };
        let floats = |values: &mut dyn Iterator<Item = f32>| -> Vec<u8> {
            values.flat_map(f32::to_le_bytes).collect()
        };
        let tokens: usize = self.rollouts.iter().map(|r| r.ids.len()).sum();
        let prompt_tokens: usize = self.prompts.iter().map(Vec::len).sum();
        let (p, n, k) = (self.prompts.len(), self.rollouts.len(), self.k);
        let all = &self.rollouts;
        let parts: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = vec![
            (
                "prompt_lens",
                Dtype::U32,
                vec![p],
                words(&mut self.prompts.iter().map(|x| x.len() as u32)),
            ),
            (
                "prompt_ids",
                Dtype::U32,
                vec![prompt_tokens],
                words(&mut self.prompts.iter().flatten().copied()),
            ),
            (
                "prompt_of",
                Dtype::U32,
                vec![n],
                words(&mut all.iter().map(|r| r.prompt as u32)),
            ),
            (
                "lens",
                Dtype::U32,
                vec![n],
                words(&mut all.iter().map(|r| r.ids.len() as u32)),
            ),
            (
                "ids",
                Dtype::U32,
                vec![tokens],
                words(&mut all.iter().flat_map(|r| r.ids.iter().copied())),
            ),
            (
                "logprobs",
                Dtype::F32,
                vec![tokens],
                floats(&mut all.iter().flat_map(|r| r.logprobs.iter().copied())),
            ),
            (
                "topk_ids",
                Dtype::U32,
                vec![tokens, k],
                words(&mut all.iter().flat_map(|r| r.topk_ids.iter().copied())),
            ),
            (
                "topk_logprobs",
                Dtype::F32,
                vec![tokens, k],
                floats(&mut all.iter().flat_map(|r| r.topk_logprobs.iter().copied())),
            ),
        ];
        let mut views = Vec::with_capacity(parts.len());
        for (name, dtype, shape, bytes) in &parts {
            let view = TensorView::new(*dtype, shape.clone(), bytes)
                .map_err(|e| StageError::failed(format!("tensor `{name}`: {e}")))?;
            views.push((*name, view));
        }
        let path = folder.join(TOKENS);
        let bytes = safetensors::serialize(views, None)
            .map_err(|e| StageError::failed(format!("cannot write {}: {e}", path.display())))?;
        std::fs::write(&path, bytes).map_err(StageError::io("write", &path))
    }

    /// Reads the artifact in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(TOKENS);
        let bytes = std::fs::read(&path).map_err(StageError::io("read", &path))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| StageError::failed(format!("{}: {e}", path.display())))?;
        let bad = |what: &str| StageError::failed(format!("{}: {what}", path.display()));
        let words = |name: &str| -> Result<Vec<u32>, StageError> {
            let view = file
                .tensor(name)
                .map_err(|e| bad(&format!("`{name}`: {e}")))?;
            Ok(view
                .data()
                .chunks_exact(4)
                .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect())
        };
        let floats = |name: &str| -> Result<Vec<f32>, StageError> {
            Ok(words(name)?.into_iter().map(f32::from_bits).collect())
        };
        let mut rest = words("prompt_ids")?.into_iter();
        let prompts: Vec<Vec<u32>> = words("prompt_lens")?
            .into_iter()
            .map(|len| rest.by_ref().take(len as usize).collect())
            .collect();
        let (prompt_of, lens) = (words("prompt_of")?, words("lens")?);
        let (ids, logprobs) = (words("ids")?, floats("logprobs")?);
        let (topk_ids, topk_logprobs) = (words("topk_ids")?, floats("topk_logprobs")?);
        let k = if ids.is_empty() {
            0
        } else {
            topk_ids.len() / ids.len()
        };
        let texts = crate::rows::read_all(&folder.join(TEXTS))?;
        let total: usize = lens.iter().map(|l| *l as usize).sum();
        if texts.len() != lens.len()
            || prompt_of.len() != lens.len()
            || total != ids.len()
            || logprobs.len() != total
            || topk_ids.len() != total * k
            || topk_logprobs.len() != topk_ids.len()
            || prompt_of.iter().any(|p| *p as usize >= prompts.len())
        {
            return Err(bad("texts and tokens do not belong together"));
        }
        let mut rollouts = Vec::with_capacity(texts.len());
        let mut at = 0;
        for ((row, len), prompt) in texts.iter().zip(&lens).zip(&prompt_of) {
            let text = |name: &str| {
                crate::rows::text(row, name)
                    .map(str::to_owned)
                    .ok_or_else(|| bad(&format!("a row has no text `{name}`")))
            };
            let span = at..at + *len as usize;
            rollouts.push(Rollout {
                id: text("id")?,
                seed: text("seed")?,
                sample: crate::rows::field(row, "sample")
                    .and_then(|v| v.as_i64())
                    .unwrap_or(0) as usize,
                inputs: text("inputs")?,
                targets: text("targets")?,
                prompt: *prompt as usize,
                ids: ids[span.clone()].to_vec(),
                logprobs: logprobs[span.clone()].to_vec(),
                topk_ids: topk_ids[span.start * k..span.end * k].to_vec(),
                topk_logprobs: topk_logprobs[span.start * k..span.end * k].to_vec(),
            });
            at = span.end;
        }
        Ok(Self {
            prompts,
            rollouts,
            k,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let rollout = |i: usize, ids: &[u32]| Rollout {
            id: format!("a#{i}"),
            seed: "a".to_owned(),
            sample: i,
            inputs: "p".to_owned(),
            targets: "t\n\"".to_owned(),
            prompt: i,
            ids: ids.to_vec(),
            logprobs: ids.iter().map(|x| -(*x as f32)).collect(),
            topk_ids: ids.iter().flat_map(|x| [*x, x + 1]).collect(),
            topk_logprobs: ids.iter().flat_map(|x| [-(*x as f32), -9.0]).collect(),
        };
        let set = Rollouts {
            prompts: vec![vec![1, 2, 3], vec![4]],
            rollouts: vec![rollout(0, &[5, 6]), rollout(1, &[7])],
            k: 2,
        };
        let folder = tempfile::tempdir().expect("a folder");
        set.write(folder.path()).expect("written");
        assert_eq!(Rollouts::read(folder.path()).expect("read"), set);
        let again = tempfile::tempdir().expect("a folder");
        set.write(again.path()).expect("written");
        let bytes = |f: &Path| std::fs::read(f.join(TOKENS)).expect("bytes");
        assert_eq!(bytes(folder.path()), bytes(again.path()));
    }
}
