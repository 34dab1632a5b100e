//! `starling lm info`: what a model is, and the memory that it takes.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling_lm::cuda::Precision;
use starling_lm::memory::{DeviceMemory, TrainingMemory};

use super::open;
use crate::cli::output::{self, Failure};

/// Tell what a model is, having read all of it
///
/// Every tensor is checked against the configuration, so a model that this prints is whole.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A Hugging Face folder or a GGUF file
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let checkpoint = open(&self.model)?;
        let config = &checkpoint.config;
        let parameters: usize = checkpoint.weights.0.values().map(|t| t.elem_count()).sum();
        let tokenizer = checkpoint.tokenizer();
        let mut rows: Vec<(&str, Value)> = vec![
            ("architecture", config.architecture.class_name().into()),
            ("parameters", parameters.into()),
            ("layers", config.num_hidden_layers.into()),
            ("hidden", config.hidden_size.into()),
            ("intermediate", config.intermediate_size.into()),
            ("heads", config.num_attention_heads.into()),
            ("key-value heads", config.num_key_value_heads.into()),
            ("head width", config.head_dim.into()),
            ("vocabulary", config.vocab_size.into()),
            ("head tied", config.tie_word_embeddings.into()),
            ("context", config.max_position_embeddings.into()),
            ("rope theta", config.rope_theta.into()),
            (
                "rope scaling",
                config.rope_scaling.as_ref().map_or(Value::Null, |scaling| {
                    json!(format!("llama3, factor {}", scaling.factor))
                }),
            ),
            ("end tokens", config.eos_token_ids.as_slice().into()),
            (
                "tokenizer",
                match &tokenizer {
                    Ok(tokenizer) => format!("{} tokens", tokenizer.vocab_size()).into(),
                    Err(error) => format!("none: {error}").into(),
                },
            ),
            ("chat template", checkpoint.chat_template().is_some().into()),
        ];
        let cache = 2 * 4 * config.num_hidden_layers * config.key_size();
        rows.push(("weights, f32 bytes", (4 * parameters).into()));
        rows.push(("keys and values, bytes a token", cache.into()));
        for (name, recompute) in [
            ("training, bytes", false),
            ("training with recompute, bytes", true),
        ] {
            let memory = TrainingMemory::new(config, 1024, 1024, 1, recompute);
            rows.push((name, memory.total().into()));
        }
        let training = DeviceMemory::training(config, Precision::Bf16, 8192, false);
        rows.push((
            "training on cuda, 8192 tokens at once, bytes",
            training.total().into(),
        ));
        let sampling = DeviceMemory::generation(config, Precision::Bf16, 32, 2048);
        rows.push((
            "generation on cuda, 32 of 2048 tokens, bytes",
            sampling.total().into(),
        ));
        if self.json {
            let object = rows
                .into_iter()
                .map(|(name, value)| (name.replace(' ', "-"), value));
            output::json(&Value::Object(object.collect()));
        } else {
            let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            for (name, value) in rows {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                output::data(&format!("{name:width$}  {value}\n"));
            }
        }
        Ok(exit::DONE)
    }
}
