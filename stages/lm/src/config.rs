//! Shape and constants of a decoder, read from and written to a Hugging Face `config.json`.
//!
//! Reads the spellings of transformers 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`) and writes
//! the former, which both understand. Refuses what the decoder does not compute (sliding windows,
//! other activations, other RoPE scalings) rather than computing something else.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::LmError;

/// The family of a decoder: what differs between them is listed at each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// RMSNorm on each head's query and key; no biases unless `attention_bias`.
    Qwen3,
    /// Biases on query, key and value.
    Qwen2,
    /// Neither; optionally Llama 3's RoPE scaling.
    Llama,
}

impl Architecture {
    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Qwen2 => "qwen2",
            Self::Llama => "llama",
        }
    }

    /// The name in `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Llama => "LlamaForCausalLM",
        }
    }

    /// Whether queries and keys are normalised by head.
    pub fn has_qk_norm(self) -> bool {
        self == Self::Qwen3
    }
}

/// Llama 3's stretching of RoPE's low frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeScaling {
    /// By how much low frequencies are slowed.
    pub factor: f64,
    /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are slowed fully.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// The context length before the stretching.
    pub original_max_position_embeddings: usize,
}

/// Everything about a decoder except its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// RoPE's base.
    pub rope_theta: f64,
    /// RoPE's stretching, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The longest context.
    pub max_position_embeddings: usize,
    /// Whether query, key and value have biases (Qwen2: always).
    pub attention_bias: bool,
    /// The token that starts a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

impl ModelConfig {
    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together; that of the value heads is the same.
    pub fn key_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Width of queries, keys and values together, as one projection makes them.
    pub fn projected_size(&self) -> usize {
        self.query_size() + 2 * self.key_size()
    }

    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// [`LmError::Config`] naming the first field that does not fit.
    pub fn check(&self) -> Result<(), LmError> {
        // Far above every published model, and small enough that nothing sized by one of them alone is huge.
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 22),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 14),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 14),
            ("head_dim", self.head_dim, 1 << 14),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 28,
            ),
        ] {
            if value == 0 || value > most {
                return Err(LmError::Config(format!(
                    "`{name}` is {value}, not between 1 and {most}"
                )));
            }
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(LmError::Config(format!(
                "{} attention heads do not divide among {} key-value heads",
                self.num_attention_heads, self.num_key_value_heads
            )));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(LmError::Config(format!(
                "`head_dim` {} is odd",
                self.head_dim
            )));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.rope_theta) || !positive(self.rms_norm_eps) {
            return Err(LmError::Config(
                "`rope_theta` and `rms_norm_eps` must be positive".into(),
            ));
        }
        if let Some(scaling) = &self.rope_scaling
            && !(positive(scaling.factor)
                && positive(scaling.low_freq_factor)
                && scaling.high_freq_factor > scaling.low_freq_factor)
        {
            return Err(LmError::Config(format!(
                "RoPE scaling {scaling:?} cannot be computed"
            )));
        }
        if self.architecture == Architecture::Qwen2 && !self.attention_bias {
            return Err(LmError::Config("qwen2 has attention biases".into()));
        }
        Ok(())
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`LmError::Config`] for text that is not JSON or a model that this crate does not compute.
    pub fn from_json(text: &str) -> Result<Self, LmError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| LmError::Config(format!("not JSON: {error}")))?;
        Self::try_from(value)
    }

    /// The text of a `config.json`, with a final newline.
    pub fn to_json(&self) -> String {
        let mut text = format!("{:#}", Value::from(self.clone()));
        text.push('\n');
        text
    }
}

impl TryFrom<Value> for ModelConfig {
    type Error = LmError;

    fn try_from(value: Value) -> Result<Self, LmError> {
        let fields = Fields(&value);
        let architecture = fields.architecture()?;
        fields.refuse_unknown_arithmetic()?;
        let hidden_size = fields.size("hidden_size")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        let head_dim = match fields.optional_size("head_dim")? {
            Some(size) => size,
            None => hidden_size.checked_div(num_attention_heads).unwrap_or(0),
        };
        let config = Self {
            architecture,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: fields
                .optional_size("num_key_value_heads")?
                .unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: fields.rope_theta()?,
            rope_scaling: fields.rope_scaling()?,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            max_position_embeddings: fields
                .optional_size("max_position_embeddings")?
                .unwrap_or(2048),
            attention_bias: architecture == Architecture::Qwen2
                || fields.flag("attention_bias")?.unwrap_or(false),
            bos_token_id: fields.ids("bos_token_id")?.first().copied(),
            eos_token_ids: fields.ids("eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }
}

impl From<ModelConfig> for Value {
    fn from(config: ModelConfig) -> Self {
        let mut value = serde_json::json!({
            "architectures": [config.architecture.class_name()],
            "attention_bias": config.attention_bias,
            "attention_dropout": 0.0,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "hidden_size": config.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": config.intermediate_size,
            "max_position_embeddings": config.max_position_embeddings,
            "model_type": config.architecture.model_type(),
            "num_attention_heads": config.num_attention_heads,
            "num_hidden_layers": config.num_hidden_layers,
            "num_key_value_heads": config.num_key_value_heads,
            "rms_norm_eps": config.rms_norm_eps,
            "rope_scaling": config.rope_scaling.as_ref().map(|scaling| serde_json::json!({
                "factor": scaling.factor,
                "high_freq_factor": scaling.high_freq_factor,
                "low_freq_factor": scaling.low_freq_factor,
                "original_max_position_embeddings": scaling.original_max_position_embeddings,
                "rope_type": "llama3",
            })),
            "rope_theta": config.rope_theta,
            "tie_word_embeddings": config.tie_word_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "vocab_size": config.vocab_size,
        });
        value["bos_token_id"] = config.bos_token_id.into();
        value["eos_token_id"] = match config.eos_token_ids.as_slice() {
            [] => Self::Null,
            [one] => (*one).into(),
            many => many.into(),
        };
        value
    }
}

/// Typed access to the fields of a `config.json`.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn wrong(name: &str, value: &Value) -> LmError {
        LmError::Config(format!("`{name}` cannot be {value}"))
    }

    fn architecture(&self) -> Result<Architecture, LmError> {
        let class = self.get("architectures").and_then(|list| list.get(0));
        let name = class
            .or_else(|| self.get("model_type"))
            .and_then(Value::as_str);
        let known = [
            Architecture::Qwen3,
            Architecture::Qwen2,
            Architecture::Llama,
        ];
        known
            .into_iter()
            .find(|one| name == Some(one.class_name()) || name == Some(one.model_type()))
            .ok_or_else(|| {
                let known = "Qwen3ForCausalLM, Qwen2ForCausalLM, LlamaForCausalLM";
                LmError::Config(match name {
                    Some(name) => format!("architecture `{name}` is none of {known}"),
                    None => {
                        format!("neither `architectures` nor `model_type` names one of {known}")
                    }
                })
            })
    }

    fn optional_size(&self, name: &str) -> Result<Option<usize>, LmError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| Self::wrong(name, value))
    }

    fn size(&self, name: &str) -> Result<usize, LmError> {
        self.optional_size(name)?
            .ok_or_else(|| LmError::Config(format!("`{name}` is missing")))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, LmError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_f64()
            .map(Some)
            .ok_or_else(|| Self::wrong(name, value))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, LmError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| Self::wrong(name, value))
    }

    /// Token ids: one, a list, or none.
    fn ids(&self, name: &str) -> Result<Vec<u32>, LmError> {
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| one(value).ok_or_else(|| Self::wrong(name, value)))
                .collect(),
            Some(value) => Ok(vec![one(value).ok_or_else(|| Self::wrong(name, value))?]),
        }
    }

    /// The table that holds RoPE's settings: transformers 5's, else 4's.
    fn rope_table(&self) -> Option<Fields<'_>> {
        self.get("rope_parameters")
            .or_else(|| self.get("rope_scaling"))
            .map(Fields)
    }

    fn rope_theta(&self) -> Result<f64, LmError> {
        if let Some(theta) = self.number("rope_theta")? {
            return Ok(theta);
        }
        let theta = self
            .rope_table()
            .map(|table| table.number("rope_theta"))
            .transpose()?;
        Ok(theta.flatten().unwrap_or(10_000.0))
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>, LmError> {
        let Some(table) = self.rope_table() else {
            return Ok(None);
        };
        let kind = table.get("rope_type").or_else(|| table.get("type"));
        match kind.map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("default") => return Ok(None),
            Some("llama3") => {}
            Some(other) => {
                return Err(LmError::Config(format!(
                    "RoPE type `{other}` is not supported"
                )));
            }
        }
        let number = |name: &str| {
            table
                .number(name)?
                .ok_or_else(|| LmError::Config(format!("RoPE scaling lacks `{name}`")))
        };
        Ok(Some(RopeScaling {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position_embeddings: table.size("original_max_position_embeddings")?,
        }))
    }

    fn refuse_unknown_arithmetic(&self) -> Result<(), LmError> {
        if let Some(activation) = self.get("hidden_act")
            && activation.as_str() != Some("silu")
        {
            return Err(Self::wrong("hidden_act", activation));
        }
        for name in ["use_sliding_window", "mlp_bias"] {
            if self.flag(name)? == Some(true) {
                return Err(LmError::Config(format!("`{name}` is not supported")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN3: &str = r#"{"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"bos_token_id":151643,
        "eos_token_id":151645,"head_dim":128,"hidden_act":"silu","hidden_size":1024,"intermediate_size":3072,
        "max_position_embeddings":40960,"model_type":"qwen3","num_attention_heads":16,"num_hidden_layers":28,
        "num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":1000000,
        "tie_word_embeddings":true,"torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":151936}"#;

    #[test]
    fn reads_the_older_spelling() {
        let config = ModelConfig::from_json(QWEN3).unwrap();
        assert_eq!(config.architecture, Architecture::Qwen3);
        assert_eq!((config.query_size(), config.key_size()), (2048, 1024));
        assert_eq!(config.eos_token_ids, [151_645]);
        assert!((config.rope_theta - 1e6).abs() < 1e-9);
    }

    #[test]
    fn reads_the_newer_spelling() {
        let text = r#"{"model_type":"llama","vocab_size":128256,"hidden_size":2048,"intermediate_size":8192,
            "num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"rms_norm_eps":1e-5,
            "eos_token_id":[1,2],"rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3","factor":32.0,
            "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}}"#;
        let config = ModelConfig::from_json(text).unwrap();
        assert_eq!(config.head_dim, 64);
        assert_eq!(config.eos_token_ids, [1, 2]);
        assert!((config.rope_theta - 5e5).abs() < 1e-9);
        assert!((config.rope_scaling.unwrap().factor - 32.0).abs() < 1e-9);
    }

    #[test]
    fn survives_being_written_and_read() {
        let config = ModelConfig::from_json(QWEN3).unwrap();
        assert_eq!(ModelConfig::from_json(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn refuses_what_it_would_compute_wrongly() {
        for (from, to, word) in [
            (
                r#""hidden_act":"silu""#,
                r#""hidden_act":"gelu""#,
                "hidden_act",
            ),
            (
                r#""use_sliding_window":false"#,
                r#""use_sliding_window":true"#,
                "use_sliding_window",
            ),
            (r#""head_dim":128"#, r#""head_dim":127"#, "odd"),
            (
                r#""num_key_value_heads":8"#,
                r#""num_key_value_heads":7"#,
                "divide",
            ),
            (r#""vocab_size":151936"#, r#""vocab_size":-1"#, "vocab_size"),
            (
                r#""rope_scaling":null"#,
                r#""rope_scaling":{"rope_type":"yarn"}"#,
                "yarn",
            ),
            ("Qwen3ForCausalLM", "GPT2LMHeadModel", "GPT2"),
        ] {
            let error = ModelConfig::from_json(&QWEN3.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(ModelConfig::from_json("[").is_err());
        assert!(ModelConfig::from_json("[]").is_err());
    }
}
