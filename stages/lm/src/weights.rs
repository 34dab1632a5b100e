//! The weights of a decoder, under their Hugging Face names.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::config::ModelConfig;
use crate::error::LmError;
use crate::rng::SplitMix64;

/// Standard deviation of fresh matrices.
const INIT_STD: f64 = 0.02;

/// Tensors by name (`model.layers.0.self_attn.q_proj.weight`, ...), `f32` on the CPU unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Weights(pub BTreeMap<String, Tensor>);

impl Weights {
    /// Fresh weights: matrices normal with deviation 0.02, norms 1, biases 0; equal for equal seeds.
    ///
    /// # Errors
    /// [`LmError::Config`] for sizes that do not fit.
    pub fn init(config: &ModelConfig, seed: u64) -> Result<Self, LmError> {
        config.check()?;
        let mut tensors = BTreeMap::new();
        for (index, (name, shape)) in expected_shapes(config).into_iter().enumerate() {
            let count = shape.iter().product();
            let values = if name.ends_with("norm.weight") {
                vec![1.0; count]
            } else if name.ends_with(".bias") {
                vec![0.0; count]
            } else {
                normals(stream_seed(seed, index as u64), count)
            };
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self(tensors))
    }

    /// The tensor of a name.
    ///
    /// # Errors
    /// [`LmError::Tensor`] when there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor, LmError> {
        self.0
            .get(name)
            .ok_or_else(|| LmError::tensor(name, "is missing"))
    }

    /// The values of a tensor as `f32`, in row-major order.
    ///
    /// # Errors
    /// [`LmError::Tensor`] when there is none.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, LmError> {
        Ok(self
            .get(name)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1()?)
    }

    /// Checks that every tensor is there with its shape, and that there are no others.
    ///
    /// # Errors
    /// [`LmError::Tensor`] for the first that is missing, of another shape, or not expected.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LmError> {
        config.check()?;
        let expected = expected_shapes(config);
        for (name, shape) in &expected {
            let tensor = self.get(name)?;
            if tensor.dims() != shape.as_slice() {
                let reason = format!("has shape {:?}, expected {shape:?}", tensor.dims());
                return Err(LmError::tensor(name, reason));
            }
        }
        for name in self.0.keys() {
            if !expected.contains_key(name) {
                return Err(LmError::tensor(name, "is not part of this configuration"));
            }
        }
        Ok(())
    }

    /// The model without the layers of these 0-based indexes; the rest keep their order and are renumbered.
    ///
    /// # Errors
    /// [`LmError::Config`] for an index past the end or when no layer would be left;
    /// [`LmError::Tensor`] when a tensor is missing.
    pub fn drop_layers(
        &self,
        config: &ModelConfig,
        layers: &[usize],
    ) -> Result<(ModelConfig, Self), LmError> {
        let count = config.num_hidden_layers;
        if let Some(layer) = layers.iter().find(|&&layer| layer >= count) {
            return Err(LmError::Config(format!(
                "layer {layer} cannot be dropped: there are {count}"
            )));
        }
        let kept: Vec<usize> = (0..count).filter(|layer| !layers.contains(layer)).collect();
        if kept.is_empty() {
            return Err(LmError::Config("every layer would be dropped".into()));
        }
        let mut config = config.clone();
        config.num_hidden_layers = kept.len();
        let mut tensors = BTreeMap::new();
        for name in expected_shapes(&config).into_keys() {
            let source = match layer_of(&name) {
                Some((layer, rest)) => format!("model.layers.{}.{rest}", kept[layer]),
                None => name.clone(),
            };
            tensors.insert(name, self.get(&source)?.clone());
        }
        Ok((config, Self(tensors)))
    }
}

/// The layer's index and the rest of the name, for tensors of a layer.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (index, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((index.parse().ok()?, rest))
}

/// Name and shape of every tensor of a configuration.
///
/// # Shapes
/// Matrices are `[out, in]`, as in the files.
pub fn expected_shapes(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let (h, i, v) = (
        config.hidden_size,
        config.intermediate_size,
        config.vocab_size,
    );
    let (q, k, d) = (config.query_size(), config.key_size(), config.head_dim);
    let mut shapes = BTreeMap::new();
    shapes.insert("model.embed_tokens.weight".to_owned(), vec![v, h]);
    shapes.insert("model.norm.weight".to_owned(), vec![h]);
    if !config.tie_word_embeddings {
        shapes.insert("lm_head.weight".to_owned(), vec![v, h]);
    }
    for layer in 0..config.num_hidden_layers {
        let mut add = |rest: &str, shape: Vec<usize>| {
            shapes.insert(format!("model.layers.{layer}.{rest}"), shape);
        };
        add("input_layernorm.weight", vec![h]);
        add("post_attention_layernorm.weight", vec![h]);
        add("self_attn.q_proj.weight", vec![q, h]);
        add("self_attn.k_proj.weight", vec![k, h]);
        add("self_attn.v_proj.weight", vec![k, h]);
        add("self_attn.o_proj.weight", vec![h, q]);
        add("mlp.gate_proj.weight", vec![i, h]);
        add("mlp.up_proj.weight", vec![i, h]);
        add("mlp.down_proj.weight", vec![h, i]);
        if config.architecture.has_qk_norm() {
            add("self_attn.q_norm.weight", vec![d]);
            add("self_attn.k_norm.weight", vec![d]);
        }
        if config.attention_bias {
            add("self_attn.q_proj.bias", vec![q]);
            add("self_attn.k_proj.bias", vec![k]);
            add("self_attn.v_proj.bias", vec![k]);
        }
    }
    shapes
}

/// A seed of its own for each tensor, so that streams do not overlap.
fn stream_seed(seed: u64, index: u64) -> u64 {
    SplitMix64::new(seed ^ SplitMix64::new(index).next_u64()).next_u64()
}

fn normals(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = SplitMix64::new(seed);
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let (a, b) = rng.normal_pair();
        values.push((a * INIT_STD) as f32);
        values.push((b * INIT_STD) as f32);
    }
    values.truncate(count);
    values
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Architecture;

    /// A decoder of two small layers.
    pub(crate) fn tiny(architecture: Architecture) -> ModelConfig {
        ModelConfig {
            architecture,
            vocab_size: 29,
            hidden_size: 12,
            intermediate_size: 20,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_scaling: None,
            tie_word_embeddings: architecture != Architecture::Llama,
            max_position_embeddings: 128,
            attention_bias: architecture == Architecture::Qwen2,
            bos_token_id: None,
            eos_token_ids: vec![1],
        }
    }

    #[test]
    fn equal_seeds_give_equal_weights() {
        let config = tiny(Architecture::Qwen3);
        let name = "model.layers.1.mlp.up_proj.weight";
        let values = |seed| Weights::init(&config, seed).unwrap().values(name).unwrap();
        assert_eq!(values(3), values(3));
        assert_ne!(values(3), values(4));
        Weights::init(&config, 3).unwrap().check(&config).unwrap();
    }

    #[test]
    fn a_missing_wrong_or_extra_tensor_is_named() {
        let config = tiny(Architecture::Qwen2);
        let weights = Weights::init(&config, 0).unwrap();
        let name = "model.layers.1.self_attn.k_proj.bias";
        let check = |weights: &Weights| weights.check(&config).unwrap_err().to_string();

        let mut missing = weights.clone();
        missing.0.remove(name);
        assert_eq!(check(&missing), format!("tensor `{name}`: is missing"));

        let mut wrong = weights.clone();
        let tensor = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        wrong.0.insert(name.to_owned(), tensor.clone());
        assert_eq!(
            check(&wrong),
            format!("tensor `{name}`: has shape [3], expected [12]")
        );

        let mut extra = weights.clone();
        extra.0.insert("lm_head.weight".to_owned(), tensor);
        assert!(check(&extra).contains("lm_head.weight"));
    }

    #[test]
    fn dropped_layers_leave_the_others_in_order() {
        let config = ModelConfig {
            num_hidden_layers: 4,
            ..tiny(Architecture::Llama)
        };
        let weights = Weights::init(&config, 5).unwrap();
        let (pruned_config, pruned) = weights.drop_layers(&config, &[0, 2]).unwrap();
        pruned.check(&pruned_config).unwrap();
        assert_eq!(pruned_config.num_hidden_layers, 2);
        for (new, old) in [(0, 1), (1, 3)] {
            let name = |layer| format!("model.layers.{layer}.mlp.down_proj.weight");
            assert_eq!(
                pruned.values(&name(new)).unwrap(),
                weights.values(&name(old)).unwrap()
            );
        }
        assert!(weights.drop_layers(&config, &[4]).is_err());
        assert!(weights.drop_layers(&config, &[0, 1, 2, 3]).is_err());
    }
}
