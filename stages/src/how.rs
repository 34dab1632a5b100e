//! How a training kind computes its updates, whatever they learn: adapter, precision, memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{Complaint, StageError};
use starling_lm::decoder::{LoraConfig, Targets};
use starling_lm::kernels;
use starling_lm::train::TrainConfig;

use crate::chat::lm;

/// Trains low-rank matrices beside the weights in place of the weights; the saved model has them merged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Lora {
    /// Width of the low-rank matrices. Higher can learn more and takes more memory.
    pub(crate) rank: usize,
    /// Their product counts alpha / rank times.
    pub(crate) alpha: f64,
    /// Which matrices of every layer they move.
    pub(crate) targets: Vec<LoraTarget>,
}

/// A matrix of a layer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::enum_variant_names,
    reason = "adapters elsewhere name the matrices so"
)]
pub(crate) enum LoraTarget {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// The attention's output.
    OProj,
    /// The gate of the feed-forward part.
    GateProj,
    /// What the gate lets through.
    UpProj,
    /// The feed-forward part's output.
    DownProj,
}

impl LoraTarget {
    const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            targets: LoraTarget::ALL.to_vec(),
        }
    }
}

impl Lora {
    fn config(&self) -> Result<LoraConfig, StageError> {
        let names = self.targets.iter().map(|target| target.name());
        Ok(LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            targets: Targets::named(names).map_err(lm)?,
            seed: 0,
        })
    }
}

/// What products of matrices are computed in; weights, sums and the optimizer stay `f32`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// As the weights are.
    #[default]
    F32,
    /// Both sides of a product are rounded to bfloat16: about a third faster where the processor has AVX512-BF16.
    Bf16,
}

impl Precision {
    /// Whether it is the one that may go unsaid.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::F32
    }
}

/// How updates are computed, whatever they learn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How<'a> {
    /// An adapter in place of the weights.
    pub(crate) lora: Option<&'a Lora>,
    /// What products are computed in.
    pub(crate) precision: Precision,
    /// Compute layers twice instead of keeping their intermediates.
    pub(crate) recompute: bool,
}

impl How<'_> {
    /// The settings with these in them.
    ///
    /// # Errors
    /// [`StageError`] for an adapter that cannot be.
    pub(crate) fn apply(&self, config: TrainConfig) -> Result<TrainConfig, StageError> {
        Ok(TrainConfig {
            lora: self.lora.map(Lora::config).transpose()?,
            precision: self.products(),
            recompute: self.recompute,
            ..config
        })
    }

    /// The precision as the kernels know it; a reference that is compared with the trained model computes in it too.
    pub(crate) fn products(&self) -> kernels::Precision {
        match self.precision {
            Precision::F32 => kernels::Precision::F32,
            Precision::Bf16 => kernels::Precision::Bf16,
        }
    }

    /// Complaints under the parameter name `lora`.
    pub(crate) fn check(&self) -> Option<Complaint> {
        let lora = self.lora?;
        let complaint = |what: &str| Some(Complaint::new("lora", what));
        if lora.rank == 0 {
            return complaint("`rank` must be at least 1");
        }
        if !(lora.alpha > 0.0 && lora.alpha.is_finite()) {
            return complaint("`alpha` must be above 0");
        }
        if lora.targets.is_empty() {
            return complaint("`targets` must name a matrix");
        }
        None
    }
}
