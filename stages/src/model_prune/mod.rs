//! Pruning: leaves whole layers of a model out.
//!
//! | port    | way | artifact   | holds                                   |
//! |---------|-----|------------|-----------------------------------------|
//! | `model` | in  | checkpoint | the model to cut                        |
//! | `model` | out | checkpoint | the same network without those layers   |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use starling_contract::{
    ArtifactType, Complaint, Input, Output, Ports, Stage, StageContext, StageError,
};

use crate::chat::lm;
use crate::model::Model;

/// The kind `model-prune`.
pub(crate) struct ModelPrune;

/// What to leave out.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Params {
    /// Layers to leave out, counted from 0. Middle layers cost least.
    drop_layers: Vec<usize>,
}

impl Stage for ModelPrune {
    const KIND: &'static str = "model-prune";
    /// 1: first.
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "leaves whole layers of a model out";
    type Params = Params;

    fn ports() -> Ports {
        use ArtifactType::Checkpoint;
        const {
            Ports {
                inputs: &[Input::required("model", Checkpoint, "the model to cut")],
                outputs: &[Output::new(
                    "model",
                    Checkpoint,
                    "the network without those layers",
                )],
            }
        }
    }

    fn check(p: &Params) -> Vec<Complaint> {
        if p.drop_layers.is_empty() {
            return vec![Complaint::new(
                "drop-layers",
                "must name at least one layer",
            )];
        }
        Vec::new()
    }

    fn run(p: Params, context: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut model = Model::load(context.input("model")?)?;
        let layers = model.config().num_hidden_layers;
        if let Some(layer) = p.drop_layers.iter().find(|l| **l >= layers) {
            return Err(StageError::failed_try(
                format!("`drop-layers` names layer {layer}, the model has {layers}"),
                format!("name layers from 0 to {}", layers - 1),
            ));
        }
        let (config, weights) = model
            .checkpoint
            .weights
            .drop_layers(model.config(), &p.drop_layers)
            .map_err(lm)?;
        (model.checkpoint.config, model.checkpoint.weights) = (config, weights);
        let work = model.work(Self::KIND, 0, 0, 0);
        model.save(&context.output("model"), work)
    }
}
