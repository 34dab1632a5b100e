//! Model initialisation: seeded random weights, or published ones brought into the house's format.
//!
//! | port        | way | artifact   | holds                                                        |
//! |-------------|-----|------------|--------------------------------------------------------------|
//! | `tokenizer` | in  | tokenizer  | for random weights: its vocabulary sizes the model           |
//! | `from`      | in  | raw        | for published weights: a Hugging Face folder or a GGUF file  |
//! | `model`     | out | checkpoint | configuration, f32 weights, tokenizer, chat template         |
//! | `tokenizer` | out | tokenizer  | the model's tokenizer alone, for preparing rows              |
//!
//! Exactly one of the inputs is given. A GGUF file's weights are dequantised; its tokenizer is built
//! from its vocabulary and merges.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};
use starling_lm::config::{Architecture, ModelConfig};
use starling_lm::load::{self, Checkpoint};
use starling_lm::weights::Weights;

use crate::chat::{self, Template, lm};
use crate::cost::Lineage;
use crate::model::Model;

/// The kind `model-init`.
pub(crate) struct ModelInit;

/// The decoder families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Family {
    /// Qwen3: normalised queries and keys.
    Qwen3,
    /// Qwen2: biased queries, keys and values.
    Qwen2,
    /// Llama, and SmolLM2.
    Llama,
}

/// The shape of a random model; with `from` only `chat-template` counts.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Params {
    /// Decoder family.
    architecture: Family,
    /// Layers.
    layers: usize,
    /// Width of the residual stream; a multiple of `heads`.
    hidden: usize,
    /// Width inside the feed-forward blocks; 0 means 8/3 of `hidden`, rounded up to a multiple of 16.
    intermediate: usize,
    /// Query heads.
    heads: usize,
    /// Key and value heads; divides `heads`.
    kv_heads: usize,
    /// Width of a head; 0 means `hidden / heads`.
    head_dim: usize,
    /// Whether the head is the embedding, which saves its parameters.
    tie_embeddings: bool,
    /// Base of the rotary positions.
    rope_theta: f64,
    /// Longest context in tokens.
    max_positions: usize,
    /// Seed of the weights.
    seed: u64,
    /// With `from`: the template to prompt the model with; none keeps the model's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template: Option<Template>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            architecture: Family::Qwen3,
            layers: 4,
            hidden: 128,
            intermediate: 0,
            heads: 4,
            kv_heads: 2,
            head_dim: 0,
            tie_embeddings: true,
            rope_theta: 10_000.0,
            max_positions: 1024,
            seed: 0,
            chat_template: None,
        }
    }
}

impl Stage for ModelInit {
    const KIND: &'static str = "model-init";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "makes seeded random weights, or brings in published ones";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::{Checkpoint, Raw, Tokenizer};
        const {
            Ports {
                inputs: &[
                    Input::optional(
                        "tokenizer",
                        Tokenizer,
                        "sizes the vocabulary of a random model",
                    ),
                    Input::optional("from", Raw, "a Hugging Face folder or a GGUF file"),
                ],
                outputs: &[
                    Output::new("model", Checkpoint, "configuration, f32 weights, tokenizer"),
                    Output::new("tokenizer", Tokenizer, "the model's tokenizer alone"),
                ],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut want = |param, good: bool, what: &str| {
            if !good {
                complaints.push(Complaint::new(param, what));
            }
        };
        want("layers", p.layers > 0, "must be at least 1");
        want("heads", p.heads > 0, "must be at least 1");
        want("hidden", p.hidden > 0, "must be at least 1");
        want(
            "kv-heads",
            p.kv_heads > 0 && p.heads.is_multiple_of(p.kv_heads.max(1)),
            "must divide `heads`",
        );
        let dim = if p.head_dim == 0 {
            p.hidden / p.heads.max(1)
        } else {
            p.head_dim
        };
        want(
            "head-dim",
            dim > 0 && dim.is_multiple_of(2),
            "must be even (0 means `hidden / heads`)",
        );
        complaints
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let (model, tokenizer) = (context.output("model"), context.output("tokenizer"));
        match (context.optional("tokenizer"), context.optional("from")) {
            (Some(from), None) => random(&p, from, &model)?,
            (None, Some(from)) => published(&p, from, &model)?,
            _ => {
                return Err(StageError::failed_try(
                    "`model-init` needs either `tokenizer` or `from`, not both and not neither",
                    "give `inputs.tokenizer` for random weights, `inputs.from` for published ones",
                ));
            }
        }
        chat::copy_tokenizer(&model, &tokenizer)
    }
}

fn random(p: &Params, from: &Path, to: &Path) -> Result<(), StageError> {
    let tokenizer = chat::tokenizer(from)?;
    let end = tokenizer
        .token_to_id(chat::END)
        .ok_or_else(|| StageError::input("tokenizer", format!("has no token `{}`", chat::END)))?;
    let config = ModelConfig {
        architecture: match p.architecture {
            Family::Qwen3 => Architecture::Qwen3,
            Family::Qwen2 => Architecture::Qwen2,
            Family::Llama => Architecture::Llama,
        },
        vocab_size: tokenizer.vocab_size(),
        hidden_size: p.hidden,
        intermediate_size: match p.intermediate {
            0 => (p.hidden * 8 / 3).next_multiple_of(16),
            given => given,
        },
        num_hidden_layers: p.layers,
        num_attention_heads: p.heads,
        num_key_value_heads: p.kv_heads,
        head_dim: if p.head_dim == 0 {
            p.hidden / p.heads
        } else {
            p.head_dim
        },
        rms_norm_eps: 1e-6,
        rope_theta: p.rope_theta,
        rope_scaling: None,
        tie_word_embeddings: p.tie_embeddings,
        max_position_embeddings: p.max_positions,
        attention_bias: p.architecture == Family::Qwen2,
        bos_token_id: None,
        eos_token_ids: vec![end],
    };
    config.check().map_err(lm)?;
    let weights = Weights::init(&config, p.seed).map_err(lm)?;
    save(
        Checkpoint {
            config,
            weights,
            files: chat::tokenizer_files(from)?,
        },
        to,
    )
}

fn save(checkpoint: Checkpoint, to: &Path) -> Result<(), StageError> {
    let model = Model {
        checkpoint,
        lineage: Lineage::default(),
        adapter: None,
    };
    let work = model.work(ModelInit::KIND, 0, 0, 0);
    model.save(to, work)
}

fn published(p: &Params, from: &Path, to: &Path) -> Result<(), StageError> {
    let mut checkpoint = if from.is_dir() {
        Checkpoint::load(from)
    } else {
        load::load_gguf(from)
    }
    .map_err(lm)?;
    if let Some(template) = p.chat_template {
        let bytes = template.source().as_bytes().to_vec();
        checkpoint
            .files
            .insert("chat_template.jinja".to_owned(), bytes);
    }
    save(checkpoint, to)
}
