//! What a plan says of cards: how many there are, and which stages have how many.

use crate::pipeline::{Device, Pipeline, PipelineStage};

/// The most cards that a stage has at once; none for one that computes elsewhere, or where nobody counts them.
#[must_use]
pub(super) fn most(pipeline: &Pipeline, stage: &PipelineStage) -> Option<usize> {
    let all = pipeline.settings.cards?;
    let on_cards = stage.device == Device::Cuda;
    on_cards.then(|| stage.shards.unwrap_or(1).min(all))
}

/// `8 cards: rollouts up to 8 at once, 5 stages one each`; nothing where the pipeline does not count them.
#[must_use]
pub fn cards(pipeline: &Pipeline) -> Option<String> {
    let all = pipeline.settings.cards?;
    let stages = || {
        pipeline
            .stages
            .iter()
            .filter_map(|s| Some((s, most(pipeline, s)?)))
    };
    let one = stages().filter(|(_, most)| *most == 1).count();
    let several = stages().filter(|(_, most)| *most > 1);
    let several = several.map(|(stage, most)| format!("{} up to {most} at once", stage.name));
    let rest = match one {
        0 => None,
        1 => Some("1 stage one".to_owned()),
        n => Some(format!("{n} stages one each")),
    };
    let mut parts: Vec<String> = several.chain(rest).collect();
    if parts.is_empty() {
        parts.push("no stage computes on `cuda`".to_owned());
    }
    let plural = if all == 1 { "" } else { "s" };
    Some(format!("{all} card{plural}: {}", parts.join(", ")))
}

/// That the profile wants `cuda` and nothing computes there, as with a program that was built without it.
#[must_use]
pub fn unheeded(pipeline: &Pipeline) -> Option<String> {
    let on_cards = |s: &PipelineStage| s.device == Device::Cuda;
    let unheeded =
        pipeline.settings.device == Some(Device::Cuda) && !pipeline.stages.iter().any(on_cards);
    unheeded.then(|| {
        "the profile asks for `cuda` and no stage can compute there, so all compute on the processor; \
         scripts/cuda-build.sh builds a program that can"
            .to_owned()
    })
}
