//! Proof that every trainable tensor learns: no gradient is missing, infinite or cut off.

use crate::config::ModelConfig;
use crate::decoder::Gradients;
use crate::error::LmError;
use crate::kernels::Real;
use crate::weights::expected_shapes;

pub(super) const CANNOT_LEARN: &str = "has a gradient of 0 throughout: it cannot learn";

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Architecture;
    use crate::decoder::Layout;
    use crate::weights::tests::tiny;

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
}
