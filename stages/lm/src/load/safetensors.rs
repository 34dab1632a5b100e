//! Weights as `model.safetensors`, whole or in shards with an index.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View};
use serde_json::{Value, json};

use super::files;
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::weights::{Weights, expected_shapes};

const WHOLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";

/// How values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to nearest even; a value that does not fit is an error.
    F16,
    /// Rounded to nearest even.
    Bf16,
}

impl Precision {
    /// The name in `torch_dtype`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Values as the bytes that are written; none when one does not fit.
    pub(super) fn encode(self, values: &[f32]) -> Option<Vec<u8>> {
        Some(match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => {
                let fits = |v: &f32| !v.is_finite() || f16::from_f32(*v).is_finite();
                if !values.iter().all(fits) {
                    return None;
                }
                let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes());
                bytes.collect()
            }
            Self::Bf16 => values
                .iter()
                .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                .collect(),
        })
    }
}

/// How weights are written.
#[derive(Clone, Copy, Debug)]
pub struct SaveOptions {
    /// How values are stored.
    pub precision: Precision,
    /// Weights that need more bytes than this are cut into shards of at most this size, or of one tensor.
    pub shard_bytes: usize,
}

impl Default for SaveOptions {
    /// `f32`, in shards of 4 GB.
    fn default() -> Self {
        Self {
            precision: Precision::F32,
            shard_bytes: 4_000_000_000,
        }
    }
}

/// What is wrong with a file that cannot be read: the first tensor that it is cut in, where that is the fault.
fn damaged(path: &Path, bytes: &[u8], error: &SafeTensorError) -> LmError {
    let size = bytes.len() as u64;
    let header = bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    let begin = header.and_then(|length| length.checked_add(8));
    let whole = begin.filter(|begin| *begin <= size);
    let tensors = whole.and_then(|begin| {
        let text = bytes.get(8..usize::try_from(begin).ok()?)?;
        serde_json::from_slice::<BTreeMap<String, Value>>(text).ok()
    });
    let ends = tensors.iter().flatten().filter_map(|(name, about)| {
        let end = about.get("data_offsets")?.get(1)?.as_u64()?;
        Some((end.checked_add(begin?)?, name))
    });
    match ends.filter(|(end, _)| *end > size).min() {
        Some((end, name)) => LmError::Tensor {
            file: Some(path.to_owned()),
            name: name.clone(),
            reason: format!("ends at byte {end}, and the file has {size}: it is cut"),
        },
        None => LmError::Io {
            path: path.to_owned(),
            source: std::io::Error::new(
                ErrorKind::InvalidData,
                format!("{error}: not a whole safetensors file of {size} bytes"),
            ),
        },
    }
}

/// Reads the weights of a folder and checks them against the configuration. Tensors that others make redundant (a
/// tied head, RoPE tables) are left out.
pub(super) fn load(folder: &Path, config: &ModelConfig) -> Result<Weights, LmError> {
    let shapes = expected_shapes(config);
    let mut tensors = BTreeMap::new();
    let mut sources: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in weight_files(folder)? {
        let bytes = std::fs::read(&path).map_err(LmError::io(&path))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|error| damaged(&path, &bytes, &error))?;
        for (name, view) in file.iter() {
            if is_redundant(name, config) {
                continue;
            }
            let fail = |reason: String| LmError::Tensor {
                file: Some(path.clone()),
                name: name.to_owned(),
                reason,
            };
            match shapes.get(name) {
                None => return Err(fail("is not part of this configuration".into())),
                Some(shape) if shape != view.shape() => {
                    let found = view.shape();
                    return Err(fail(format!("has shape {found:?}, expected {shape:?}")));
                }
                Some(_) => {}
            }
            let values =
                values(&view).ok_or_else(|| fail(format!("has dtype {:?}", view.dtype())))?;
            let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)?;
            if let Some(other) = sources.insert(name.to_owned(), path.clone()) {
                return Err(fail(format!("is also in {}", other.display())));
            }
            tensors.insert(name.to_owned(), tensor);
        }
    }
    if let Some(name) = shapes.keys().find(|&name| !tensors.contains_key(name)) {
        return Err(LmError::Tensor {
            file: Some(folder.to_owned()),
            name: name.clone(),
            reason: "is missing".into(),
        });
    }
    Ok(Weights(tensors))
}

/// Writes the weights, with an index when they need more than one file.
pub(super) fn save(folder: &Path, weights: &Weights, options: SaveOptions) -> Result<(), LmError> {
    let shards = shards(weights, options);
    if let [whole] = shards.as_slice() {
        return save_file(&folder.join(WHOLE_FILE), weights, whole, options.precision);
    }
    let mut places = BTreeMap::new();
    let mut total = 0;
    for (index, names) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        save_file(&folder.join(&file), weights, names, options.precision)?;
        for name in names {
            total += weights.get(name)?.elem_count() * options.precision.size();
            places.insert(name.clone(), file.clone());
        }
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": places});
    files::write(&folder.join(INDEX_FILE), format!("{index:#}\n").as_bytes())
}

/// Writes tensors as `f32` into one file.
pub(super) fn save_whole(path: &Path, weights: &Weights) -> Result<(), LmError> {
    let names: Vec<String> = weights.0.keys().cloned().collect();
    save_file(path, weights, &names, Precision::F32)
}

/// The files that hold the weights: the whole file, or those of the index.
fn weight_files(folder: &Path) -> Result<BTreeSet<PathBuf>, LmError> {
    let whole = folder.join(WHOLE_FILE);
    let index = folder.join(INDEX_FILE);
    if whole.exists() || !index.exists() {
        return Ok(BTreeSet::from([whole]));
    }
    let wrong = |reason: String| LmError::Config(format!("{}: {reason}", index.display()));
    let value: Value = serde_json::from_str(&files::read_text(&index)?)
        .map_err(|error| wrong(error.to_string()))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| wrong("`weight_map` is missing".into()))?;
    let mut paths = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().unwrap_or_default();
        let name = files::plain_name(name).map_err(|error| wrong(format!("{tensor}: {error}")))?;
        paths.insert(folder.join(name));
    }
    Ok(paths)
}

fn is_redundant(name: &str, config: &ModelConfig) -> bool {
    (name == "lm_head.weight" && config.tie_word_embeddings)
        || name.ends_with("rotary_emb.inv_freq")
}

/// The values as `f32`; none for dtypes that are not floating-point numbers.
fn values(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    let pairs = || data.as_chunks::<2>().0.iter();
    Some(match view.dtype() {
        Dtype::F32 => data
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect(),
        Dtype::F64 => data
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from_le_bytes(b) as f32)
            .collect(),
        Dtype::BF16 => pairs().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
        Dtype::F16 => pairs().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

/// Names by shard, in order.
fn shards(weights: &Weights, options: SaveOptions) -> Vec<Vec<String>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in &weights.0 {
        let size = tensor.elem_count() * options.precision.size();
        if filled > 0 && filled + size > options.shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += size;
        if let Some(shard) = shards.last_mut() {
            shard.push(name.clone());
        }
    }
    shards
}

/// A tensor as the bytes that are written.
struct Stored {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn save_file(
    path: &Path,
    weights: &Weights,
    names: &[String],
    precision: Precision,
) -> Result<(), LmError> {
    let mut tensors = Vec::new();
    for name in names {
        let values = weights.values(name)?;
        let too_large = || LmError::Tensor {
            file: Some(path.to_owned()),
            name: name.clone(),
            reason: "has a value too large for float16; take bfloat16".into(),
        };
        let bytes = precision.encode(&values).ok_or_else(too_large)?;
        let stored = Stored {
            shape: weights.get(name)?.dims().to_vec(),
            dtype: precision.dtype(),
            bytes,
        };
        tensors.push((name, stored));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())];
    let bytes = safetensors::serialize(tensors, Some(metadata.into()))
        .map_err(|error| LmError::Config(format!("{}: {error}", path.display())))?;
    files::write(path, &bytes)
}
