//! A checkpoint in memory, with what it cost so far.

use std::path::Path;

use starling_contract::StageError;
use starling_lm::config::ModelConfig;
use starling_lm::decoder::LoraConfig;
use starling_lm::load::{Checkpoint, SaveOptions, save_adapter};
use starling_lm::tokenizer::Tokenizer;
use starling_lm::weights::Weights;

use crate::chat::lm;
use crate::cost::{Lineage, Work};

/// The weights file of a checkpoint.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The folder inside a checkpoint that holds the adapter it was trained with.
const ADAPTER: &str = "adapter";

/// A model with everything needed to save it again.
pub(crate) struct Model {
    /// Configuration, weights, tokenizer files.
    pub(crate) checkpoint: Checkpoint,
    /// What it cost so far.
    pub(crate) lineage: Lineage,
    /// The adapter that it was trained with, which the weights have in them already.
    pub(crate) adapter: Option<(LoraConfig, Weights)>,
}

impl Model {
    /// Loads a checkpoint folder.
    pub(crate) fn load(folder: &Path) -> Result<Self, StageError> {
        let checkpoint = Checkpoint::load(folder).map_err(lm)?;
        Ok(Self {
            checkpoint,
            lineage: Lineage::read(folder)?,
            adapter: None,
        })
    }

    /// Saves a checkpoint folder, with the work that made it.
    pub(crate) fn save(self, folder: &Path, work: Work) -> Result<(), StageError> {
        self.save_with(folder, work, None)
    }

    /// The same, with the work that another model did for it.
    pub(crate) fn save_with(
        self,
        folder: &Path,
        work: Work,
        other: Option<Work>,
    ) -> Result<(), StageError> {
        self.checkpoint
            .save(folder, SaveOptions::default())
            .map_err(lm)?;
        if let Some((config, tensors)) = &self.adapter {
            save_adapter(&folder.join(ADAPTER), config, tensors).map_err(lm)?;
        }
        self.lineage.finish_with(folder, WEIGHTS, work, other)
    }

    /// Its shape.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.checkpoint.config
    }

    /// Its tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, StageError> {
        self.checkpoint.tokenizer().map_err(lm)
    }

    /// The tokens that end an answer.
    pub(crate) fn ends(&self) -> Vec<u32> {
        self.checkpoint.config.eos_token_ids.clone()
    }

    /// The work of a stage on this model; parameters count a tied head once.
    pub(crate) fn work(&self, kind: &str, trained: u64, generated: u64, read: u64) -> Work {
        Work {
            kind: kind.to_owned(),
            trained_tokens: trained,
            generated_tokens: generated,
            read_tokens: read,
            parameters: self.parameters(),
        }
    }

    /// Its parameters; a tied head counts once.
    pub(crate) fn parameters(&self) -> u64 {
        let weights = self.checkpoint.weights.0.values();
        weights.map(|t| t.elem_count() as u64).sum()
    }
}
