//! GGUF files, written: for llama.cpp, with tokenizer and chat template, and for [`load_gguf`](super::load_gguf).
//!
//! Matrices take the precision asked for; norms and biases stay f32, as llama.cpp wants them. What is written depends
//! on what is written alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use serde_json::Value as Json;

use super::super::safetensors::Precision;
use super::{
    GPT2_WORDS, LLAMA3_WORDS, SCALING_KEYS, SMOLLM_WORDS, paired_heads, pairs, stored_name,
};
use crate::config::{Architecture, ModelConfig};
use crate::error::LmError;
use crate::kernels::rope::scaled_shares;
use crate::load::Checkpoint;
use crate::tokenizer::{QWEN2_WORDS, TOKENIZER_FILE};
use crate::weights::expected_shapes;

const ALIGNMENT: u64 = 32;

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufPrecision {
    /// As they are.
    F32,
    /// Rounded to nearest even; a value that does not fit is an error.
    F16,
    /// Rounded to nearest even.
    Bf16,
    /// 8-bit integers with a factor for 32.
    Q8_0,
    /// Mostly 4-bit integers; more for the head and for half of the values and feed-forward outputs. Rows that are no
    /// multiple of 256 take the nearest type that can store them.
    Q4KM,
}

impl GgufPrecision {
    /// `general.file_type`.
    fn number(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 32,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
        }
    }

    /// The type of a tensor under its Hugging Face name.
    fn of(self, name: &str, shape: &[usize], config: &ModelConfig) -> GgmlDType {
        let [_, width] = shape else {
            return GgmlDType::F32;
        };
        let fits = |block: usize| width.is_multiple_of(block);
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Bf16 => GgmlDType::BF16,
            Self::Q8_0 if fits(32) => GgmlDType::Q8_0,
            Self::Q4KM if fits(256) && is_finer(name, config) => GgmlDType::Q6K,
            Self::Q4KM if fits(256) => GgmlDType::Q4K,
            Self::Q4KM if fits(32) && is_finer(name, config) => GgmlDType::Q8_0,
            Self::Q4KM if fits(32) => GgmlDType::Q5_0,
            Self::Q8_0 | Self::Q4KM => GgmlDType::F16,
        }
    }
}

/// Whether the mix of 4-bit files stores a matrix more finely: the head, and of some layers the values and the
/// feed-forward outputs (the first and last eighth, and every third between).
fn is_finer(name: &str, config: &ModelConfig) -> bool {
    if name == "lm_head.weight"
        || (name == "model.embed_tokens.weight" && config.tie_word_embeddings)
    {
        return true;
    }
    let layer = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'));
    let Some((Ok(layer), part)) = layer.map(|(layer, part)| (layer.parse::<usize>(), part)) else {
        return false;
    };
    let eighth = config.num_hidden_layers / 8;
    let chosen =
        layer < eighth || layer >= 7 * config.num_hidden_layers / 8 || (layer - eighth) % 3 == 2;
    chosen && matches!(part, "self_attn.v_proj.weight" | "mlp.down_proj.weight")
}

/// Writes a model as one GGUF file.
///
/// # Errors
/// [`LmError::Tensor`] for weights that do not fit the configuration or the precision, [`LmError::Config`] for a
/// tokenizer that GGUF cannot tell, [`LmError::Io`] when the file cannot be written.
pub fn save_gguf(
    checkpoint: &Checkpoint,
    path: &Path,
    precision: GgufPrecision,
) -> Result<(), LmError> {
    checkpoint.weights.check(&checkpoint.config)?;
    let keys = keys(checkpoint, path, precision)?;
    let plan = plan(&checkpoint.config, precision)?;
    let mut header = Vec::new();
    header.extend_from_slice(b"GGUF");
    header.extend_from_slice(&3_u32.to_le_bytes());
    header.extend_from_slice(&(plan.len() as u64).to_le_bytes());
    header.extend_from_slice(&(keys.len() as u64).to_le_bytes());
    for (key, value) in &keys {
        text(&mut header, key);
        value.write(&mut header);
    }
    let mut offset = 0_u64;
    for part in &plan {
        text(&mut header, &part.stored);
        header.extend_from_slice(&(part.shape.len() as u32).to_le_bytes());
        for size in part.shape.iter().rev() {
            header.extend_from_slice(&(*size as u64).to_le_bytes());
        }
        header.extend_from_slice(&part.dtype.to_number().to_le_bytes());
        header.extend_from_slice(&offset.to_le_bytes());
        offset += part.bytes().next_multiple_of(ALIGNMENT);
    }
    pad(&mut header);
    let file = File::create(path).map_err(LmError::io(path))?;
    let mut out = BufWriter::new(file);
    out.write_all(&header).map_err(LmError::io(path))?;
    for part in &plan {
        let mut bytes = part.encode(checkpoint, path)?;
        debug_assert_eq!(bytes.len() as u64, part.bytes());
        pad(&mut bytes);
        out.write_all(&bytes).map_err(LmError::io(path))?;
    }
    out.flush().map_err(LmError::io(path))
}

/// A tensor of the file.
struct Part {
    /// Its Hugging Face name; none for the table of scaled rotary positions.
    name: Option<String>,
    stored: String,
    shape: Vec<usize>,
    dtype: Dtype,
}

/// A tensor's type, which candle knows, and its number in the format.
#[derive(Clone, Copy)]
struct Dtype(GgmlDType);

impl Dtype {
    fn to_number(self) -> u32 {
        match self.0 {
            GgmlDType::F32 => 0,
            GgmlDType::F16 => 1,
            GgmlDType::Q5_0 => 6,
            GgmlDType::Q8_0 => 8,
            GgmlDType::Q4K => 12,
            GgmlDType::Q6K => 14,
            GgmlDType::BF16 => 30,
            other => unreachable!("{other:?} is never chosen"),
        }
    }
}

impl Part {
    fn bytes(&self) -> u64 {
        let count: usize = self.shape.iter().product();
        let dtype = self.dtype.0;
        (count / dtype.block_size() * dtype.type_size()) as u64
    }

    fn encode(&self, checkpoint: &Checkpoint, path: &Path) -> Result<Vec<u8>, LmError> {
        let config = &checkpoint.config;
        let fail = |reason: String| LmError::Tensor {
            file: Some(path.to_owned()),
            name: self.stored.clone(),
            reason,
        };
        let values = match &self.name {
            None => rope_factors(config),
            Some(name) => {
                let heads = paired_heads(config, name);
                if heads > 0 {
                    let turned = pairs(checkpoint.weights.get(name)?, heads)?;
                    turned.flatten_all()?.to_vec1()?
                } else {
                    checkpoint.weights.values(name)?
                }
            }
        };
        let plain = match self.dtype.0 {
            GgmlDType::F32 => Precision::F32,
            GgmlDType::F16 => Precision::F16,
            GgmlDType::BF16 => Precision::Bf16,
            dtype => {
                let tensor = Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?;
                let stored =
                    QTensor::quantize(&tensor, dtype).and_then(|t| Ok(t.data()?.into_owned()));
                return stored.map_err(|error| fail(error.to_string()));
            }
        };
        let too_large = || fail("has a value too large for f16; take bf16".to_owned());
        plain.encode(&values).ok_or_else(too_large)
    }
}

fn plan(config: &ModelConfig, precision: GgufPrecision) -> Result<Vec<Part>, LmError> {
    let mut plan = Vec::new();
    for (name, shape) in expected_shapes(config) {
        let stored =
            stored_name(&name).ok_or_else(|| LmError::tensor(&name, "has no name in GGUF"))?;
        plan.push(Part {
            dtype: Dtype(precision.of(&name, &shape, config)),
            name: Some(name),
            stored,
            shape,
        });
    }
    if config.rope_scaling.is_some() {
        plan.push(Part {
            name: None,
            stored: "rope_freqs.weight".to_owned(),
            shape: vec![config.head_dim / 2],
            dtype: Dtype(GgmlDType::F32),
        });
    }
    Ok(plan)
}

/// What llama.cpp divides each turn by.
fn rope_factors(config: &ModelConfig) -> Vec<f32> {
    let scaling = config.rope_scaling.as_ref();
    let shares = scaling.map(|scaling| scaled_shares(config.rope_theta, config.head_dim, scaling));
    shares
        .into_iter()
        .flatten()
        .map(|share| (1.0 / share) as f32)
        .collect()
}

/// A value of the key-value part.
enum Value {
    U32(u32),
    F32(f32),
    F64(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let kind: u32 = match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::F64(_) => 12,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::I32s(_) => 9,
        };
        out.extend_from_slice(&kind.to_le_bytes());
        match self {
            Self::U32(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::F32(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::F64(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Bool(truth) => out.push(u8::from(*truth)),
            Self::Text(value) => text(out, value),
            Self::Texts(values) => {
                out.extend_from_slice(&8_u32.to_le_bytes());
                out.extend_from_slice(&(values.len() as u64).to_le_bytes());
                for value in values {
                    text(out, value);
                }
            }
            Self::I32s(values) => {
                out.extend_from_slice(&5_u32.to_le_bytes());
                out.extend_from_slice(&(values.len() as u64).to_le_bytes());
                for value in values {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn keys(
    checkpoint: &Checkpoint,
    path: &Path,
    precision: GgufPrecision,
) -> Result<Vec<(String, Value)>, LmError> {
    let config = &checkpoint.config;
    let family = config.architecture.model_type();
    let name = path
        .file_stem()
        .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let size = |value: usize| Value::U32(value as u32);
    let mut keys: Vec<(String, Value)> = vec![
        (
            "general.architecture".to_owned(),
            Value::Text(family.to_owned()),
        ),
        ("general.name".to_owned(), Value::Text(name)),
        (
            "general.file_type".to_owned(),
            Value::U32(precision.number()),
        ),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    let mut add = |key: &str, value: Value| keys.push((format!("{family}.{key}"), value));
    add("context_length", size(config.max_position_embeddings));
    add("embedding_length", size(config.hidden_size));
    add("block_count", size(config.num_hidden_layers));
    add("feed_forward_length", size(config.intermediate_size));
    add("attention.head_count", size(config.num_attention_heads));
    add("attention.head_count_kv", size(config.num_key_value_heads));
    add("attention.key_length", size(config.head_dim));
    add("attention.value_length", size(config.head_dim));
    add(
        "attention.layer_norm_rms_epsilon",
        Value::F32(config.rms_norm_eps as f32),
    );
    add("rope.freq_base", Value::F32(config.rope_theta as f32));
    if config.architecture == Architecture::Llama {
        add("rope.dimension_count", size(config.head_dim));
        add("vocab_size", size(config.vocab_size));
    }
    if let Some(scaling) = &config.rope_scaling {
        let [factor, low, high, context] = SCALING_KEYS.map(str::to_owned);
        keys.push((factor, Value::F64(scaling.factor)));
        keys.push((low, Value::F64(scaling.low_freq_factor)));
        keys.push((high, Value::F64(scaling.high_freq_factor)));
        keys.push((context, size(scaling.original_max_position_embeddings)));
    }
    keys.extend(tokenizer_keys(checkpoint)?);
    Ok(keys)
}

/// A tokenizer as GGUF tells it.
fn tokenizer_keys(checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, LmError> {
    let config = &checkpoint.config;
    let wrong = |reason: &str| LmError::Config(format!("{TOKENIZER_FILE}: {reason}"));
    let bytes = checkpoint.files.get(TOKENIZER_FILE);
    let bytes =
        bytes.ok_or_else(|| wrong("a GGUF file needs a tokenizer, and the model has none"))?;
    let file: Json = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
    let model = &file["model"];
    if model["type"] != "BPE" {
        return Err(wrong("only byte-level BPE can be written as GGUF"));
    }
    let words = words(&file["pre_tokenizer"]);
    let words = words.ok_or_else(|| wrong("GGUF has no name for how its words are cut"))?;
    // 1: normal, 3: control, 4: defined by the user, 5: a row of the embedding without a token
    let mut tokens: BTreeMap<usize, (String, i32)> = BTreeMap::new();
    let id = |value: &Json| value.as_u64().and_then(|id| usize::try_from(id).ok());
    for (token, value) in model["vocab"].as_object().into_iter().flatten() {
        let id = id(value).ok_or_else(|| wrong("a token's id is no number"))?;
        tokens.insert(id, (token.clone(), 1));
    }
    for added in file["added_tokens"].as_array().into_iter().flatten() {
        let (Some(id), Some(content)) = (id(&added["id"]), added["content"].as_str()) else {
            return Err(wrong("an added token lacks `id` or `content`"));
        };
        let kind = if added["special"] == true { 3 } else { 4 };
        tokens.insert(id, (content.to_owned(), kind));
    }
    if let Some((last, _)) = tokens.last_key_value()
        && *last >= config.vocab_size
    {
        return Err(wrong(&format!(
            "has the id {last}, the model only {} rows",
            config.vocab_size
        )));
    }
    let (mut texts, mut kinds) = (Vec::new(), Vec::new());
    for id in 0..config.vocab_size {
        let (text, kind) = tokens
            .remove(&id)
            .unwrap_or_else(|| (format!("[PAD{id}]"), 5));
        texts.push(text);
        kinds.push(kind);
    }
    let mut merges = Vec::new();
    for merge in model["merges"].as_array().into_iter().flatten() {
        merges.push(match merge {
            Json::String(both) => both.clone(),
            other => match (other[0].as_str(), other[1].as_str()) {
                (Some(a), Some(b)) => format!("{a} {b}"),
                _ => return Err(wrong("a merge is not two tokens")),
            },
        });
    }
    let mut keys = vec![
        ("tokenizer.ggml.model", Value::Text("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::Text(words.to_owned())),
        ("tokenizer.ggml.tokens", Value::Texts(texts)),
        ("tokenizer.ggml.token_type", Value::I32s(kinds)),
        ("tokenizer.ggml.merges", Value::Texts(merges)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
    ];
    let ids = [
        ("tokenizer.ggml.bos_token_id", config.bos_token_id),
        (
            "tokenizer.ggml.eos_token_id",
            config.eos_token_ids.first().copied(),
        ),
        (
            "tokenizer.ggml.eot_token_id",
            config.eos_token_ids.get(1).copied(),
        ),
    ];
    keys.extend(
        ids.into_iter()
            .filter_map(|(key, id)| Some((key, Value::U32(id?)))),
    );
    let pad = checkpoint
        .files
        .get("tokenizer_config.json")
        .and_then(|bytes| {
            let settings: Json = serde_json::from_slice(bytes).ok()?;
            let pad = settings["pad_token"].as_str()?.to_owned();
            checkpoint.tokenizer().ok()?.token_to_id(&pad)
        });
    keys.extend(pad.map(|id| ("tokenizer.ggml.padding_token_id", Value::U32(id))));
    keys.extend(
        checkpoint
            .chat_template()
            .map(|template| ("tokenizer.chat_template", Value::Text(template))),
    );
    Ok(keys
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

/// The name of how words are cut, by the patterns of the pre-tokenizer.
fn words(pre_tokenizer: &Json) -> Option<&'static str> {
    let parts = match pre_tokenizer["pretokenizers"].as_array() {
        Some(parts) => parts.as_slice(),
        None => std::slice::from_ref(pre_tokenizer),
    };
    let patterns: Vec<&str> = parts
        .iter()
        .filter_map(|part| part["pattern"]["Regex"].as_str())
        .collect();
    let digits = parts
        .iter()
        .any(|part| part["type"] == "Digits" && part["individual_digits"] == true);
    let plain = parts
        .iter()
        .any(|part| part["type"] == "ByteLevel" && part["use_regex"] != false);
    match patterns.as_slice() {
        [QWEN2_WORDS] => Some("qwen2"),
        [SMOLLM_WORDS] => Some("smollm"),
        [LLAMA3_WORDS] => Some("llama-bpe"),
        // the same, as Llama 3's own file spells it
        [one] if one.contains(r"\p{N}{1,3}") && one.starts_with("(?i:'s") => Some("llama-bpe"),
        [GPT2_WORDS] => Some("gpt-2"),
        [] if digits && plain => Some("smollm"),
        [] if plain => Some("gpt-2"),
        _ => None,
    }
}
