//! One gradient over random tokens, to see that it reaches everything that is trained.

use super::gate::{CANNOT_LEARN, finite_gate, nonzero_gate};
use super::target::{LossTarget, Sequence};
use super::trainer::{TrainConfig, Trainer};
use crate::config::ModelConfig;
use crate::error::LmError;
use crate::rng::SplitMix64;
use crate::weights::Weights;

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
    use super::*;
    use crate::config::Architecture;
    use crate::decoder::{LoraConfig, Targets};
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
