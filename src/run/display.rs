//! What a run shows at its end: results of stages that nothing reads.

use starling_cache::{ActionRecord, CacheError, OutputRef, Store};
use starling_contract::Kind;

/// A result to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Display {
    /// The stage.
    pub stage: String,
    /// Its output.
    pub output: String,
    /// The text.
    pub text: String,
}

/// Reads what `kind` declares as shown of its outputs.
pub(crate) fn of_stage(
    store: &dyn Store,
    stage: &str,
    kind: &dyn Kind,
    record: &ActionRecord,
) -> Result<Vec<Display>, CacheError> {
    let mut shown = Vec::new();
    for output in kind.ports().outputs {
        let (Some(file), Some(artifact)) = (output.display, record.outputs.get(output.name)) else {
            continue;
        };
        if let Some(bytes) = read(store, artifact, file)? {
            shown.push(Display {
                stage: stage.to_owned(),
                output: output.name.to_owned(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }
    Ok(shown)
}

/// A file of an artifact; the artifact itself when it is one file.
fn read(
    store: &dyn Store,
    artifact: &OutputRef,
    file: &str,
) -> Result<Option<Vec<u8>>, CacheError> {
    if !artifact.tree {
        return store.read(&artifact.digest).map(Some);
    }
    let manifest = store.manifest(&artifact.digest)?;
    let digest = manifest
        .files()
        .find(|(path, _, _)| *path == file)
        .map(|(_, d, _)| d);
    digest.map(|digest| store.read(&digest)).transpose()
}
