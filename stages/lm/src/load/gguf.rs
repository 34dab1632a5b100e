//! GGUF files: weights dequantised to f32 under Hugging Face names, the tokenizer from vocabulary and merges.
//!
//! A `llama` file stores the rows of queries and keys with each rotary pair side by side; they are put back
//! into halves, as Hugging Face has them. `qwen2` and `qwen3` files need no such change.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};

use super::Checkpoint;
use crate::config::{Architecture, ModelConfig};
use crate::error::LmError;
use crate::tokenizer::{self, QWEN2_WORDS, SpecialToken, TokenizerConfig, Vocabulary};
use crate::weights::{Weights, expected_shapes};

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
    let file = File::open(path).map_err(LmError::io(path))?;
    let mut reader = BufReader::new(file);
    let wrong = |reason: String| LmError::Config(format!("{}: {reason}", path.display()));
    let content = Content::read(&mut reader).map_err(|e| wrong(format!("not a GGUF file: {e}")))?;
    let meta = Metadata {
        content: &content,
        path,
    };
    let config = meta.config()?;
    let mut tensors = BTreeMap::new();
    for (name, shape) in expected_shapes(&config) {
        let damaged =
            |reason: String| LmError::tensor(format!("{}: {name}", path.display()), reason);
        let stored = stored_name(&name).ok_or_else(|| damaged("has no name in GGUF".into()))?;
        let tensor = content
            .tensor(&mut reader, &stored, &Device::Cpu)
            .and_then(|t| t.dequantize(&Device::Cpu))
            .map_err(|e| damaged(format!("`{stored}`: {e}")))?;
        if tensor.dims() != shape {
            return Err(damaged(format!(
                "`{stored}` is {:?}, not {shape:?}",
                tensor.dims()
            )));
        }
        let heads = match config.architecture {
            Architecture::Llama if name.ends_with("q_proj.weight") => config.num_attention_heads,
            Architecture::Llama if name.ends_with("k_proj.weight") => config.num_key_value_heads,
            _ => 0,
        };
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
        files: meta.tokenizer_files()?,
        config,
        weights,
    })
}

/// Puts the rows of each head, stored as pairs (x₀, y₀, x₁, y₁, …), back into halves (x₀, x₁, …, y₀, y₁, …).
fn halves(weight: &Tensor, heads: usize) -> Result<Tensor, LmError> {
    let (rows, width) = weight.dims2()?;
    let pairs = rows / heads / 2;
    let tensor = weight.reshape((heads, pairs, 2, width))?.transpose(1, 2)?;
    Ok(tensor.contiguous()?.reshape((rows, width))?)
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

/// The key-value part of a file.
struct Metadata<'a> {
    content: &'a Content,
    path: &'a Path,
}

impl Metadata<'_> {
    fn wrong(&self, reason: impl std::fmt::Display) -> LmError {
        LmError::Config(format!("{}: {reason}", self.path.display()))
    }

    fn get(&self, key: &str) -> Result<&Value, LmError> {
        self.content
            .metadata
            .get(key)
            .ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    fn text(&self, key: &str) -> Result<&str, LmError> {
        match self.get(key)? {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(format!("`{key}` is not a text"))),
        }
    }

    fn count(&self, key: &str) -> Result<usize, LmError> {
        let value = self.get(key)?;
        let number = value.to_u64().or_else(|_| value.to_u32().map(u64::from));
        let number = number.or_else(|_| {
            value
                .to_i32()
                .and_then(|n| u64::try_from(n).map_err(candle_core::Error::wrap))
        });
        number
            .ok()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| self.wrong(format!("`{key}` is not a count")))
    }

    fn real(&self, key: &str) -> Result<f64, LmError> {
        let value = self.get(key)?;
        let number = value.to_f32().map(f64::from).or_else(|_| value.to_f64());
        number.map_err(|_| self.wrong(format!("`{key}` is not a number")))
    }

    fn list(&self, key: &str) -> Result<&[Value], LmError> {
        match self.get(key)? {
            Value::Array(values) => Ok(values),
            _ => Err(self.wrong(format!("`{key}` is not a list"))),
        }
    }

    fn texts(&self, key: &str) -> Result<Vec<String>, LmError> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let texts: Option<Vec<String>> = self.list(key)?.iter().map(text).collect();
        texts.ok_or_else(|| self.wrong(format!("`{key}` is not a list of texts")))
    }

    fn id(&self, key: &str) -> Option<u32> {
        self.count(key).ok().and_then(|n| u32::try_from(n).ok())
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
        if self
            .content
            .metadata
            .contains_key(&format!("{family}.rope.scaling.type"))
            || self.content.tensor_infos.contains_key("rope_freqs.weight")
        {
            return Err(self.wrong(
                "scaled rotary positions in GGUF are not read; use the Hugging Face folder",
            ));
        }
        let config = ModelConfig {
            architecture,
            vocab_size: self.list("tokenizer.ggml.tokens")?.len(),
            hidden_size: hidden,
            intermediate_size: count("feed_forward_length")?,
            num_hidden_layers: count("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: count("attention.head_count_kv").unwrap_or(heads),
            head_dim: count("attention.key_length").unwrap_or(hidden / heads.max(1)),
            rms_norm_eps: real("attention.layer_norm_rms_epsilon")?,
            rope_theta: real("rope.freq_base").unwrap_or(10_000.0),
            rope_scaling: None,
            tie_word_embeddings: !self.content.tensor_infos.contains_key("output.weight"),
            max_position_embeddings: count("context_length")?,
            attention_bias: architecture == Architecture::Qwen2,
            bos_token_id: self.id("tokenizer.ggml.bos_token_id"),
            eos_token_ids: self.id("tokenizer.ggml.eos_token_id").into_iter().collect(),
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
        let kinds = self.list("tokenizer.ggml.token_type").unwrap_or_default();
        // 3: control, 4: defined by the user.
        let special: Vec<SpecialToken<'_>> = tokens
            .iter()
            .zip(kinds)
            .filter_map(|(token, kind)| match kind.to_i32().ok()? {
                3 => Some(SpecialToken::control(token)),
                4 => Some(SpecialToken::visible(token)),
                _ => None,
            })
            .collect();
        let named = |key: &str| self.id(key).and_then(|id| tokens.get(id as usize)).cloned();
        let config = TokenizerConfig {
            eos_token: named("tokenizer.ggml.eos_token_id"),
            pad_token: named("tokenizer.ggml.padding_token_id"),
            model_max_length: None,
            chat_template: self.text("tokenizer.chat_template").ok().map(str::to_owned),
        };
        let vocabulary = Vocabulary {
            tokens: tokens.clone(),
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
