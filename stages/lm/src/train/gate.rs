//! Proof that every trainable tensor learns: no gradient is missing, infinite or cut off.

use crate::config::ModelConfig;
use crate::decoder::Gradients;
use crate::error::LmError;
use crate::kernels::Real;
use crate::rng::SplitMix64;
use crate::weights::{Weights, expected_shapes};

use super::target::{LossTarget, Sequence};
use super::trainer::{TrainConfig, Trainer};

const CANNOT_LEARN: &str = "has a gradient of 0 throughout: it cannot learn";

/// Checks that every tensor of a configuration has a gradient of its size with finite numbers only.
///
/// # Errors
/// [`LmError::Tensor`] naming the first that has none, [`LmError::NotFinite`] naming the first that is not finite.
pub fn gradient_gate<T: Real>(
    gradients: &Gradients<T>,
    config: &ModelConfig,
) -> Result<(), LmError> {
    for (name, shape) in expected_shapes(config) {
        let count: usize = shape.iter().product();
        let Some(values) = gradients.get(&name).filter(|values| values.len() == count) else {
            return Err(LmError::tensor(name, "has no gradient"));
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let value = values[at];
            return Err(LmError::NotFinite(format!(
                "tensor `{name}` has a gradient of {value} at {at}"
            )));
        }
    }
    Ok(())
}

/// Checks that every gradient there is, is a finite number.
///
/// # Errors
/// [`LmError::NotFinite`] naming the first tensor with one that is not.
pub fn finite_gate<T: Real>(gradients: &Gradients<T>) -> Result<(), LmError> {
    for entry in gradients.layout().entries() {
        let values = &gradients.values[entry.range.clone()];
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (name, value) = (&entry.name, values[at]);
            return Err(LmError::NotFinite(format!(
                "tensor `{name}` has a gradient of {value} at {at}"
            )));
        }
    }
    Ok(())
}

/// Checks in addition that no tensor's gradient is 0 throughout.
///
/// # Errors
/// [`LmError::Tensor`] naming the first that fails.
pub fn nonzero_gate<T: Real>(
    gradients: &Gradients<T>,
    config: &ModelConfig,
) -> Result<(), LmError> {
    gradient_gate(gradients, config)?;
    for name in expected_shapes(config).into_keys() {
        let values = gradients.get(&name).unwrap_or_default();
        if values.iter().all(|&value| value == T::ZERO) {
            return Err(LmError::tensor(name, CANNOT_LEARN));
        }
    }
    Ok(())
}

/// A few random tokens, each but the first with a cross-entropy.
pub(crate) fn random_sequence(config: &ModelConfig) -> Sequence {
    let mut rng = SplitMix64::new(0);
    let len = config.max_position_embeddings.min(16);
    let ids = (0..len)
        .map(|_| rng.below(config.vocab_size as u64) as u32)
        .collect();
    let loss = LossTarget::CrossEntropy {
        positions: (1..len as u32).collect(),
        weights: Vec::new(),
    };
    Sequence { ids, loss }
}

/// Runs one cross-entropy gradient over random tokens and demands that it reaches every tensor that `settings` train.
///
/// # Errors
/// [`LmError::Tensor`] naming the first tensor that it does not reach.
pub fn probe(
    config: &ModelConfig,
    weights: &Weights,
    settings: TrainConfig,
) -> Result<(), LmError> {
    let settings = TrainConfig {
        threads: 1,
        ..settings
    };
    let mut trainer = Trainer::<f32>::new(config, weights, settings)?;
    if settings.lora.is_some() {
        // a fresh adapter gives A no gradient: half of it is 0
        let moved = trainer.trained().iter().map(|value| value + 0.01);
        let moved: Vec<f32> = moved.collect();
        trainer.set_trained(&moved)?;
    }
    trainer.gradients(&[random_sequence(config)])?;
    let gradients = trainer.last_gradients();
    if settings.lora.is_none() {
        return nonzero_gate(gradients, config);
    }
    finite_gate(gradients)?;
    let zero = gradients.layout().entries().iter().find(|entry| {
        let values = &gradients.values[entry.range.clone()];
        values.iter().all(|value| *value == 0.0)
    });
    match zero {
        None => Ok(()),
        Some(entry) => Err(LmError::tensor(&entry.name, CANNOT_LEARN)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Architecture;
    use crate::decoder::{Layout, LoraConfig, Targets};
    use crate::train::Schedule;
    use crate::weights::tests::tiny;

    fn settings() -> TrainConfig {
        TrainConfig::new(Schedule::constant(0.0))
    }

    #[test]
    fn fresh_models_pass() {
        for architecture in [
            Architecture::Qwen3,
            Architecture::Qwen2,
            Architecture::Llama,
        ] {
            let config = tiny(architecture);
            let weights = Weights::init(&config, 1).unwrap();
            probe(&config, &weights, settings()).unwrap();
            let lora = LoraConfig {
                rank: 2,
                alpha: 4.0,
                targets: Targets::ALL,
                seed: 0,
            };
            let settings = TrainConfig {
                lora: Some(lora),
                ..settings()
            };
            probe(&config, &weights, settings).unwrap();
        }
    }

    #[test]
    fn infinite_zero_and_absent_gradients_are_named() {
        let config = tiny(Architecture::Qwen3);
        let layout = Arc::new(Layout::new(&config).unwrap());
        let mut gradients = Gradients::<f32>::zeros(&layout);
        gradients.values.fill(1.0);
        nonzero_gate(&gradients, &config).unwrap();
        let name = "model.layers.1.self_attn.k_norm.weight";
        let entry = layout
            .entries()
            .iter()
            .find(|entry| entry.name == name)
            .unwrap();

        gradients.values[entry.range.clone()].fill(0.0);
        gradient_gate(&gradients, &config).unwrap();
        let error = nonzero_gate(&gradients, &config).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");

        gradients.values[entry.range.start] = f32::NAN;
        let error = gradient_gate(&gradients, &config).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");

        let deeper = ModelConfig {
            num_hidden_layers: 3,
            ..config
        };
        let error = gradient_gate(&Gradients::<f32>::zeros(&layout), &deeper).unwrap_err();
        assert!(error.to_string().contains("model.layers.2"), "{error}");
    }

    #[test]
    fn a_tensor_behind_a_zero_matrix_is_found() {
        let config = tiny(Architecture::Llama);
        let mut weights = Weights::init(&config, 1).unwrap();
        let name = "model.layers.0.mlp.down_proj.weight";
        let zeros = weights.get(name).unwrap().zeros_like().unwrap();
        weights.0.insert(name.to_owned(), zeros);
        let error = probe(&config, &weights, settings())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("model.layers.0.mlp.") && error.contains("learn"),
            "{error}"
        );
    }
}
