//! Adapters in the layout of the PEFT library: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde_json::json;

use super::{files, safetensors};
use crate::decoder::LoraConfig;
use crate::error::LmError;
use crate::weights::Weights;

/// Writes an adapter's tensors, `...q_proj.lora_A.weight` `[r, in]` and `...lora_B.weight` `[out, r]`, into a folder, which
/// is made when absent.
///
/// # Errors
/// [`LmError::Io`] when a file cannot be written.
pub fn save_adapter(folder: &Path, config: &LoraConfig, tensors: &Weights) -> Result<(), LmError> {
    std::fs::create_dir_all(folder).map_err(LmError::io(folder))?;
    let targets: Vec<&str> = config.targets.iter().map(|target| target.name).collect();
    // the fields without which the library does not know what the tensors are
    let value = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_rslora": false,
        "use_dora": false,
        "inference_mode": true,
    });
    let text = format!("{value:#}\n");
    files::write(&folder.join("adapter_config.json"), text.as_bytes())?;
    let named = tensors
        .0
        .iter()
        .map(|(name, tensor)| (format!("base_model.model.{name}"), tensor.clone()));
    let named = Weights(named.collect());
    safetensors::save_whole(&folder.join("adapter_model.safetensors"), &named)
}
