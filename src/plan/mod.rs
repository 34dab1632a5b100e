//! Stand-in until the engine's plan is merged.
use std::path::PathBuf;

use starling_cache::{ActionKey, ActionRecord, KeyFields, KeyInput, Memo, OutputRef, Store};

use crate::Registry;
use crate::pipeline::Pipeline;

/// How a stage resolves.
pub enum Resolution {
    /// It is an action.
    Action(ResolvedAction),
    /// It waits for stages.
    Waits(Vec<usize>),
    /// Files are missing.
    Missing(Vec<String>),
}

/// An action.
pub struct ResolvedAction {
    /// Fields.
    pub fields: KeyFields,
    /// Key.
    pub key: ActionKey,
    /// Externals.
    pub externals: Vec<ResolvedExternal>,
    /// Record.
    pub cached: Option<ActionRecord>,
}

/// An external file.
pub struct ResolvedExternal {
    /// Param.
    pub param: String,
    /// Path.
    pub path: PathBuf,
    /// Content.
    pub output: OutputRef,
}

/// Resolves a stage.
pub fn resolve(
    pipeline: &Pipeline,
    index: usize,
    registry: &Registry,
    records: &dyn Fn(usize) -> Option<ActionRecord>,
    store: &dyn Store,
    memo: &mut Memo,
) -> Resolution {
    let _ = memo;
    let stage = &pipeline.stages[index];
    let kind = registry.get(&stage.kind).unwrap();
    let mut params = stage.params.clone();
    for n in kind.neutral() {
        params.as_object_mut().unwrap().remove(*n);
    }
    let mut inputs = vec![];
    for i in &stage.inputs {
        let Some(r) = records(i.stage) else {
            return Resolution::Waits(vec![i.stage]);
        };
        inputs.push(KeyInput {
            port: i.port.clone(),
            name: i.name.clone(),
            digest: r.outputs[&i.output].digest,
        });
    }
    let fields = KeyFields::new(&*stage.kind, kind.version(), params, inputs);
    let key = fields.action_key();
    let cached = store.action(&key).unwrap();
    Resolution::Action(ResolvedAction {
        fields,
        key,
        externals: vec![],
        cached,
    })
}
