//! Stages that are one action under several names: one of them runs, and all have its outputs.
//!
//! A key needs the digests of inputs, which a blocked stage does not have. What it reads is identified
//! instead by what will make it, so that two branches that are written differently and mean the same are
//! seen as one before anything ran. (Two that only turn out to make the same bytes are not.)

use std::collections::BTreeMap;

use serde_json::{Value, json};
use starling_cache::{Digest, canonical};

use super::Resolution;
use crate::Registry;
use crate::pipeline::Pipeline;

/// For each stage the first one that is the same action, if there is one before it.
pub(super) fn same(
    pipeline: &Pipeline,
    resolutions: &[Resolution],
    registry: &Registry,
) -> Vec<Option<usize>> {
    let mut first: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut identities: Vec<Digest> = Vec::with_capacity(resolutions.len());
    let mut same = Vec::with_capacity(resolutions.len());
    for (number, resolution) in resolutions.iter().enumerate() {
        let identity = match resolution {
            Resolution::Action(action) => action.key.0,
            Resolution::Cached(record) => record.key.0,
            Resolution::Missing(action) => action.key.0,
            Resolution::Waits(_) => blocked(pipeline, number, &identities, registry),
        };
        identities.push(identity);
        let earlier = *first.entry(identity).or_insert(number);
        same.push((earlier != number).then_some(earlier));
    }
    same
}

fn blocked(
    pipeline: &Pipeline,
    number: usize,
    identities: &[Digest],
    registry: &Registry,
) -> Digest {
    let stage = &pipeline.stages[number];
    let neutral = registry.get(&stage.kind).map_or(&[][..], |k| k.neutral());
    let mut params = stage.params.clone();
    if let Some(map) = params.as_object_mut() {
        map.retain(|name, _| !neutral.contains(&name.as_str()));
    }
    // A relative path means a file of the folder that it is written in.
    let folders: Vec<String> = stage
        .externals
        .iter()
        .map(|param| pipeline.folder_of(stage, param).display().to_string())
        .collect();
    let inputs: Vec<Value> = stage
        .inputs
        .iter()
        .map(|i| json!([i.path(), identities[i.stage].to_string(), i.output]))
        .collect();
    canonical::digest(&json!(["blocked", stage.kind, params, folders, inputs]))
}
