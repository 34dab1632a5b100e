//! GGUF files, read: weights dequantised to f32 under Hugging Face names, the tokenizer from vocabulary and merges.
//!
//! A `llama` file stores the rows of queries and keys with each rotary pair side by side; they are put back
//! into halves, as Hugging Face has them. `qwen2` and `qwen3` files need no such change.

mod file;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use self::file::{GgufFile, Value};
use super::Checkpoint;
use crate::config::{Architecture, ModelConfig, RopeScaling};
use crate::error::LmError;
use crate::kernels::rope::scaled_shares;
use crate::tokenizer::{self, QWEN2_WORDS, SpecialToken, TokenizerConfig, Vocabulary};
use crate::weights::{Weights, expected_shapes};

pub use self::write::{GgufPrecision, save_gguf};

/// GPT-2's words with every digit on its own, as SmolLM cuts them: digits are taken out first, so white space
/// before a digit ends its piece and stays whole.
const SMOLLM_WORDS: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+";

/// GPT-2's own words.
const GPT2_WORDS: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3's words: digits in threes.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Reads a GGUF file of a dense `llama`, `qwen2` or `qwen3` model.
///
/// # Errors
/// [`LmError::Io`] when the file cannot be opened, [`LmError::Config`] for a model or tokenizer that this crate does
/// not compute, [`LmError::Tensor`] naming file and tensor when weights are missing, damaged or of another shape.
pub fn load_gguf(path: &Path) -> Result<Checkpoint, LmError> {
    let mut file = GgufFile::open(path)?;
    let meta = Metadata { file: &file };
    let config = meta.config()?;
    let files = meta.tokenizer_files()?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in expected_shapes(&config) {
        let stored = stored_name(&name)
            .ok_or_else(|| file.damaged(&name, "has no name in GGUF".to_owned()))?;
        let values = file.values(&stored, &shape)?;
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        let heads = paired_heads(&config, &name);
        let tensor = if heads > 0 {
            halves(&tensor, heads)?
        } else {
            tensor
        };
        tensors.insert(name, tensor);
    }
    let weights = Weights(tensors);
    weights.check(&config)?;
    Ok(Checkpoint {
        files,
        config,
        weights,
    })
}

/// How many heads a matrix has whose rows are stored in pairs; 0 for others.
fn paired_heads(config: &ModelConfig, name: &str) -> usize {
    match config.architecture {
        Architecture::Llama if name.ends_with("q_proj.weight") => config.num_attention_heads,
        Architecture::Llama if name.ends_with("k_proj.weight") => config.num_key_value_heads,
        _ => 0,
    }
}

/// Puts the rows of each head, stored as pairs (x₀, y₀, x₁, y₁, …), back into halves (x₀, x₁, …, y₀, y₁, …).
fn halves(weight: &Tensor, heads: usize) -> Result<Tensor, LmError> {
    let (rows, width) = weight.dims2()?;
    let pairs = rows / heads / 2;
    let tensor = weight.reshape((heads, pairs, 2, width))?.transpose(1, 2)?;
    Ok(tensor.contiguous()?.reshape((rows, width))?)
}

/// The reverse of [`halves`].
fn pairs(weight: &Tensor, heads: usize) -> Result<Tensor, LmError> {
    let (rows, width) = weight.dims2()?;
    let half = rows / heads / 2;
    let tensor = weight.reshape((heads, 2, half, width))?.transpose(1, 2)?;
    Ok(tensor.contiguous()?.reshape((rows, width))?)
}

/// Keys of our own beside `rope_freqs.weight`, which tells only their product.
const SCALING_KEYS: [&str; 4] = [
    "starling.rope.factor",
    "starling.rope.low_freq_factor",
    "starling.rope.high_freq_factor",
    "starling.rope.original_context_length",
];

/// The scalings that Llama 3.1 and 3.2 were published with.
const PUBLISHED_SCALINGS: [RopeScaling; 2] = [published(8.0), published(32.0)];

const fn published(factor: f64) -> RopeScaling {
    RopeScaling {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    }
}

/// The GGUF name of a tensor with this Hugging Face name.
fn stored_name(name: &str) -> Option<String> {
    let fixed = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(fixed) = fixed {
        return Some(fixed.to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

/// Keys of the tokens that end a text and a turn.
const ENDS: [&str; 2] = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];

/// The key-value part of a file.
struct Metadata<'a> {
    file: &'a GgufFile,
}

impl Metadata<'_> {
    fn wrong(&self, reason: impl std::fmt::Display) -> LmError {
        self.file.wrong(reason)
    }

    fn get(&self, key: &str) -> Result<&Value, LmError> {
        self.file
            .metadata
            .get(key)
            .ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    fn text(&self, key: &str) -> Result<&str, LmError> {
        match self.get(key)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong(format!("`{key}` is not a text"))),
        }
    }

    fn count(&self, key: &str) -> Result<usize, LmError> {
        match self.get(key)? {
            Value::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        }
        .ok_or_else(|| self.wrong(format!("`{key}` is not a count")))
    }

    fn real(&self, key: &str) -> Result<f64, LmError> {
        match self.get(key)? {
            Value::Real(number) => Ok(*number),
            _ => Err(self.wrong(format!("`{key}` is not a number"))),
        }
    }

    fn texts(&self, key: &str) -> Result<&[String], LmError> {
        match self.get(key)? {
            Value::Texts(texts) => Ok(texts),
            Value::Integers(none) if none.is_empty() => Ok(&[]),
            _ => Err(self.wrong(format!("`{key}` is not a list of texts"))),
        }
    }

    fn id(&self, key: &str) -> Option<u32> {
        self.count(key).ok().and_then(|n| u32::try_from(n).ok())
    }

    /// Llama 3's stretching: by our own keys, else by comparing its table with the published ones.
    fn scaling(&self, theta: f64, dim: usize) -> Result<Option<RopeScaling>, LmError> {
        const TABLE: &str = "rope_freqs.weight";
        if !self.file.tensors.contains_key(TABLE) {
            return Ok(None);
        }
        let [factor, low, high, context] = SCALING_KEYS;
        if self.file.metadata.contains_key(factor) {
            return Ok(Some(RopeScaling {
                factor: self.real(factor)?,
                low_freq_factor: self.real(low)?,
                high_freq_factor: self.real(high)?,
                original_max_position_embeddings: self.count(context)?,
            }));
        }
        let table = self.file.reopened()?.values(TABLE, &[dim / 2])?;
        let fits = |scaling: &RopeScaling| {
            let shares = scaled_shares(theta, dim, scaling);
            let near = |(a, b): (&f32, f64)| (f64::from(*a) - 1.0 / b).abs() < 1e-3 / b;
            table.iter().zip(shares).all(near)
        };
        let found = PUBLISHED_SCALINGS.into_iter().find(fits);
        let unknown = || {
            self.wrong("its scaling of rotary positions is none that is known; use the Hugging Face folder")
        };
        found.map(Some).ok_or_else(unknown)
    }

    fn config(&self) -> Result<ModelConfig, LmError> {
        let family = self.text("general.architecture")?.to_owned();
        let architecture = match family.as_str() {
            "llama" => Architecture::Llama,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            other => {
                return Err(self.wrong(format!(
                    "architecture `{other}` is not computed here; llama, qwen2 and qwen3 are"
                )));
            }
        };
        let count = |key: &str| self.count(&format!("{family}.{key}"));
        let real = |key: &str| self.real(&format!("{family}.{key}"));
        let heads = count("attention.head_count")?;
        let hidden = count("embedding_length")?;
        let scaling = format!("{family}.rope.scaling.type");
        if let Some(kind) = self.file.metadata.get(&scaling)
            && *kind != Value::Text("none".to_owned())
        {
            return Err(self.wrong(format!(
                "`{scaling}` is {kind:?}; such scaled rotary positions are not computed here"
            )));
        }
        let head_dim = match count("attention.key_length") {
            Ok(width) => width,
            Err(_) => hidden / heads.max(1),
        };
        let rope_theta = real("rope.freq_base").unwrap_or(10_000.0);
        let config = ModelConfig {
            architecture,
            vocab_size: self.texts("tokenizer.ggml.tokens")?.len(),
            hidden_size: hidden,
            intermediate_size: count("feed_forward_length")?,
            num_hidden_layers: count("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: count("attention.head_count_kv").unwrap_or(heads),
            head_dim,
            rms_norm_eps: real("attention.layer_norm_rms_epsilon")?,
            rope_theta,
            rope_scaling: self.scaling(rope_theta, head_dim)?,
            tie_word_embeddings: !self.file.tensors.contains_key("output.weight"),
            max_position_embeddings: count("context_length")?,
            attention_bias: self.file.tensors.contains_key("blk.0.attn_q.bias")
                || architecture == Architecture::Qwen2,
            bos_token_id: self.id("tokenizer.ggml.bos_token_id"),
            eos_token_ids: ENDS.iter().filter_map(|key| self.id(key)).collect(),
        };
        config.check()?;
        Ok(config)
    }

    fn tokenizer_files(&self) -> Result<BTreeMap<String, Vec<u8>>, LmError> {
        let model = self.text("tokenizer.ggml.model")?;
        if model != "gpt2" {
            return Err(self.wrong(format!("tokenizer `{model}` is not byte-level BPE")));
        }
        let (words, compose) = match self.text("tokenizer.ggml.pre").unwrap_or("gpt2") {
            "smollm" => (SMOLLM_WORDS, false),
            "qwen2" => (QWEN2_WORDS, true),
            "llama-bpe" | "llama3" => (LLAMA3_WORDS, false),
            "gpt2" | "gpt-2" | "default" => (GPT2_WORDS, false),
            other => return Err(self.wrong(format!("pre-tokenizer `{other}` is not known"))),
        };
        let tokens = self.texts("tokenizer.ggml.tokens")?;
        let merges: Option<Vec<(String, String)>> = self
            .texts("tokenizer.ggml.merges")?
            .iter()
            .map(|merge| {
                merge
                    .split_once(' ')
                    .map(|(a, b)| (a.to_owned(), b.to_owned()))
            })
            .collect();
        let merges = merges.ok_or_else(|| self.wrong("a merge is not two tokens"))?;
        let kinds = match self.get("tokenizer.ggml.token_type") {
            Ok(Value::Integers(kinds)) => kinds.as_slice(),
            _ => &[],
        };
        // 3: control, 4: defined by the user, 5: a row of the embedding without a token.
        let special: Vec<SpecialToken<'_>> = tokens
            .iter()
            .zip(kinds)
            .filter_map(|(token, kind)| match kind {
                3 => Some(SpecialToken::control(token)),
                4 => Some(SpecialToken::visible(token)),
                _ => None,
            })
            .collect();
        let unused = |at: &usize| kinds.get(*at) == Some(&5);
        let used = (0..tokens.len()).rev().find(|at| !unused(at));
        let tokens = &tokens[..used.map_or(0, |last| last + 1)];
        let named = |key: &str| self.id(key).and_then(|id| tokens.get(id as usize)).cloned();
        let config = TokenizerConfig {
            eos_token: named("tokenizer.ggml.eos_token_id"),
            pad_token: named("tokenizer.ggml.padding_token_id"),
            model_max_length: None,
            chat_template: self.text("tokenizer.chat_template").ok().map(str::to_owned),
        };
        let vocabulary = Vocabulary {
            tokens: tokens.to_vec(),
            merges,
        };
        let tokenizer = tokenizer::assemble(&vocabulary, &special, words, compose)
            .map_err(|e| self.wrong(e))?;
        tokenizer.files(&config).map_err(|e| self.wrong(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_halves() {
        // One head of four rows: (x0, y0, x1, y1) -> (x0, x1, y0, y1).
        let stored = Tensor::from_vec(vec![0f32, 10.0, 1.0, 11.0], (4, 1), &Device::Cpu).unwrap();
        let rows = halves(&stored, 1)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(rows, [0.0, 1.0, 10.0, 11.0]);
    }

    #[test]
    fn every_tensor_of_a_model_has_a_stored_name() {
        for name in [
            "model.layers.3.self_attn.q_norm.weight",
            "model.layers.0.self_attn.k_proj.bias",
        ] {
            assert!(stored_name(name).is_some(), "{name}");
        }
        assert_eq!(
            stored_name("model.layers.12.mlp.gate_proj.weight").as_deref(),
            Some("blk.12.ffn_gate.weight")
        );
        assert_eq!(stored_name("model.layers.x"), None);
    }

    #[test]
    fn a_file_that_is_no_gguf_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        for bytes in [
            &b""[..],
            b"GGUF",
            b"GGUF\x03\0\0\0\xff\xff\xff\xff",
            b"something else",
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = load_gguf(&path).unwrap_err().to_string();
            assert!(error.contains("model.gguf"), "{error}");
        }
    }
}
