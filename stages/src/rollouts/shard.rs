//! One shard of a rollout artifact: its numbers as a safetensors file, its texts as JSON lines.
//!
//! | tensor        | shape         | type | holds                                                   |
//! |---------------|---------------|------|---------------------------------------------------------|
//! | `prompt_lens` | `[p]`         | u32  | tokens of each prompt                                    |
//! | `prompt_ids`  | `[Σ prompts]` | u32  | prompts, one after another                               |
//! | `prompt_of`   | `[r]`         | u32  | the prompt of each answer, within the shard              |
//! | `lens`        | `[r]`         | u32  | tokens of each answer, the end token included            |
//! | `ids`         | `[t]`         | u32  | answers, one after another                               |
//! | `logprobs`    | `[t]`         | f32  | of their tokens, nats, at temperature 1; NaN: not told   |
//! | `top`         | `[t, bytes]`  | u8   | the teacher's likeliest tokens; see [`super::topk`]      |

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use starling_contract::StageError;
use starling_text::json::Value;

use super::topk::{Codec, TopK};
use super::{Answer, Rollout};
use crate::rows::{self, RowWriter, object, string};

/// A shard in memory, with the likeliest tokens as bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shard {
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) rollouts: Vec<Rollout>,
    pub(super) top: Vec<u8>,
}

impl Shard {
    /// Takes the answers of one prompt.
    pub(super) fn push(&mut self, prompt: &[u32], answers: Vec<Answer>, codec: Codec) {
        let number = self.prompts.len();
        self.prompts.push(prompt.to_vec());
        for answer in answers {
            codec.encode(&answer.top, &mut self.top);
            self.rollouts.push(Rollout {
                prompt: number,
                ..answer.rollout
            });
        }
    }

    /// Tokens of all answers.
    pub(super) fn tokens(&self) -> usize {
        self.rollouts.iter().map(|r| r.ids.len()).sum()
    }

    /// Writes both files and returns the bytes of the numbers.
    pub(super) fn write(
        &self,
        texts: &Path,
        numbers: &Path,
        codec: Codec,
    ) -> Result<Vec<u8>, StageError> {
        let mut lines = RowWriter::create(texts)?;
        for r in &self.rollouts {
            lines.write(&object([
                ("id", string(r.id.as_str())),
                ("seed", string(r.seed.as_str())),
                ("sample", Value::Int(r.sample as i64)),
                ("inputs", string(r.inputs.as_str())),
                ("targets", string(r.targets.as_str())),
            ]))?;
        }
        let _ = lines.finish()?;
        let bytes = self.tensors(numbers, codec)?;
        std::fs::write(numbers, &bytes).map_err(StageError::io("write", numbers))?;
        Ok(bytes)
    }

    fn tensors(&self, path: &Path, codec: Codec) -> Result<Vec<u8>, StageError> {
        let words = |values: &mut dyn Iterator<Item = u32>| -> Vec<u8> {
            values.flat_map(u32::to_le_bytes).collect()
        };
        let all = &self.rollouts;
        let ids = words(&mut all.iter().flat_map(|r| r.ids.iter().copied()));
        let logprobs = all.iter().flat_map(|r| r.logprobs.iter().copied());
        let flat = |name, bytes: Vec<u8>, dtype| (name, dtype, vec![bytes.len() / 4], bytes);
        let parts: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = vec![
            flat(
                "prompt_lens",
                words(&mut self.prompts.iter().map(|x| x.len() as u32)),
                Dtype::U32,
            ),
            flat(
                "prompt_ids",
                words(&mut self.prompts.iter().flatten().copied()),
                Dtype::U32,
            ),
            flat(
                "prompt_of",
                words(&mut all.iter().map(|r| r.prompt as u32)),
                Dtype::U32,
            ),
            flat(
                "lens",
                words(&mut all.iter().map(|r| r.ids.len() as u32)),
                Dtype::U32,
            ),
            flat("ids", ids, Dtype::U32),
            flat(
                "logprobs",
                logprobs.flat_map(f32::to_le_bytes).collect(),
                Dtype::F32,
            ),
        ];
        let shape = vec![self.tokens(), codec.row_bytes()];
        let mut views = Vec::with_capacity(parts.len() + 1);
        let wrong = |name: &str, e: &dyn std::fmt::Display| {
            StageError::failed(format!("{}: tensor `{name}`: {e}", path.display()))
        };
        for (name, dtype, shape, bytes) in &parts {
            let view =
                TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| wrong(name, &e))?;
            views.push((*name, view));
        }
        let top = TensorView::new(Dtype::U8, shape, &self.top).map_err(|e| wrong("top", &e))?;
        views.push(("top", top));
        safetensors::serialize(views, None).map_err(|e| wrong("all", &e))
    }

    /// Reads both files back whole.
    pub(super) fn read(texts: &Path, numbers: &Path, codec: Codec) -> Result<Self, StageError> {
        let open = OpenShard::open(texts, numbers, codec)?;
        let top = open.tokens.bytes("top", 0, None)?;
        Ok(Self {
            prompts: open.prompts,
            rollouts: open.rollouts,
            top,
        })
    }
}

/// A shard whose likeliest tokens stay on disk.
pub(super) struct OpenShard {
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) rollouts: Vec<Rollout>,
    tokens: TensorFile,
    codec: Codec,
}

impl OpenShard {
    /// Reads everything but the likeliest tokens.
    pub(super) fn open(texts: &Path, numbers: &Path, codec: Codec) -> Result<Self, StageError> {
        let tokens = TensorFile::open(numbers)?;
        let bad = |what: &str| StageError::failed(format!("{}: {what}", numbers.display()));
        let prompt_ids = tokens.words("prompt_ids")?;
        let prompt_lens = tokens.words("prompt_lens")?;
        let prompt_total: usize = prompt_lens.iter().map(|l| *l as usize).sum();
        let mut rest = prompt_ids.iter().copied();
        let prompts: Vec<Vec<u32>> = prompt_lens
            .into_iter()
            .map(|len| rest.by_ref().take(len as usize).collect())
            .collect();
        let (prompt_of, lens) = (tokens.words("prompt_of")?, tokens.words("lens")?);
        let ids = tokens.words("ids")?;
        let logprobs = tokens.words("logprobs")?;
        let rows = rows::read_all(texts)?;
        let total: usize = lens.iter().map(|l| *l as usize).sum();
        if rows.len() != lens.len()
            || prompt_of.len() != lens.len()
            || prompt_total != prompt_ids.len()
            || total != ids.len()
            || logprobs.len() != total
            || tokens.len("top")? != total * codec.row_bytes()
            || prompt_of.iter().any(|p| *p as usize >= prompts.len())
        {
            return Err(bad("texts and tokens do not belong together"));
        }
        let mut rollouts = Vec::with_capacity(rows.len());
        let mut at = 0;
        for ((row, len), prompt) in rows.iter().zip(&lens).zip(&prompt_of) {
            let text = |name: &str| {
                rows::text(row, name)
                    .map(str::to_owned)
                    .ok_or_else(|| bad(&format!("a row has no text `{name}`")))
            };
            let span = at..at + *len as usize;
            let sample = rows::field(row, "sample").and_then(Value::as_i64);
            rollouts.push(Rollout {
                id: text("id")?,
                seed: text("seed")?,
                sample: sample.unwrap_or(0) as usize,
                inputs: text("inputs")?,
                targets: text("targets")?,
                prompt: *prompt as usize,
                ids: ids[span.clone()].to_vec(),
                logprobs: logprobs[span.clone()]
                    .iter()
                    .copied()
                    .map(f32::from_bits)
                    .collect(),
            });
            at = span.end;
        }
        Ok(Self {
            prompts,
            rollouts,
            tokens,
            codec,
        })
    }

    /// The likeliest tokens at `len` positions from the shard's position `first` on.
    pub(super) fn top(&self, first: usize, len: usize) -> Result<TopK, StageError> {
        let row = self.codec.row_bytes();
        let bytes = self.tokens.bytes("top", first * row, Some(len * row))?;
        Ok(self.codec.decode(&bytes))
    }
}

/// A safetensors file of which parts are read when they are needed.
struct TensorFile {
    file: File,
    path: PathBuf,
    header: BTreeMap<String, Place>,
    base: u64,
}

/// Where a tensor lies; its type and shape follow from its name.
#[derive(Deserialize)]
struct Place {
    data_offsets: (usize, usize),
}

/// No header of ours comes near this; a damaged length is not believed.
const LONGEST_HEADER: u64 = 1 << 20;

impl TensorFile {
    fn open(path: &Path) -> Result<Self, StageError> {
        let bad = |what: String| StageError::failed(format!("{}: {what}", path.display()));
        let mut file = File::open(path).map_err(StageError::io("open", path))?;
        let size = file.metadata().map_err(StageError::io("read", path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(StageError::io("read", path))?;
        let header = u64::from_le_bytes(length);
        if header > LONGEST_HEADER.min(size.saturating_sub(8)) {
            return Err(bad("is cut short or damaged".to_owned()));
        }
        let mut bytes = vec![0; 8 + header as usize];
        file.read_exact_at(&mut bytes, 0)
            .map_err(StageError::io("read", path))?;
        let places: BTreeMap<String, Place> =
            serde_json::from_slice(&bytes[8..]).map_err(|e| bad(format!("damaged header: {e}")))?;
        let spans = || places.values().map(|place| place.data_offsets);
        let end = spans().map(|(_, end)| end).max().unwrap_or(0);
        if (end as u64).checked_add(8 + header) != Some(size)
            || spans().any(|(start, end)| start > end)
        {
            return Err(bad("is cut short or damaged".to_owned()));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            header: places,
            base: 8 + header,
        })
    }

    fn span(&self, name: &str) -> Result<(usize, usize), StageError> {
        self.header
            .get(name)
            .map(|place| place.data_offsets)
            .ok_or_else(|| {
                StageError::failed(format!("{}: no tensor `{name}`", self.path.display()))
            })
    }

    /// Bytes of a tensor.
    fn len(&self, name: &str) -> Result<usize, StageError> {
        self.span(name).map(|(start, end)| end - start)
    }

    /// `len` bytes of a tensor from its byte `first` on, or all that follow.
    fn bytes(&self, name: &str, first: usize, len: Option<usize>) -> Result<Vec<u8>, StageError> {
        let (start, end) = self.span(name)?;
        let most = (end - start).saturating_sub(first);
        let len = len.unwrap_or(most);
        if len > most {
            return Err(StageError::failed(format!(
                "{}: tensor `{name}` is shorter than the texts say",
                self.path.display()
            )));
        }
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, self.base + (start + first) as u64)
            .map_err(StageError::io("read", &self.path))?;
        Ok(bytes)
    }

    fn words(&self, name: &str) -> Result<Vec<u32>, StageError> {
        let bytes = self.bytes(name, 0, None)?;
        let words = bytes.chunks_exact(4);
        Ok(words
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    }
}
