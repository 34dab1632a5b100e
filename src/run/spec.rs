//! The spec of an action: all that a worker needs besides the store.
//!
//! It is a blob of canonical JSON (keys in order, no spaces), so that equal actions have equal specs.
//! Invariant: running a spec twice gives the same outputs; nothing in it says who runs it, when or where.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use starling_cache::{ActionKey, CacheError, Digest, KeyFields, OutputRef, Store};

/// The form of specs that this program writes and reads.
const FORMAT: u32 = 1;

/// Why a spec could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CacheError),
    /// The blob is no spec.
    #[error("blob {digest} is not the spec of an action: {source}")]
    Form {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The spec was written by another release.
    #[error(
        "spec {digest} has format {found}, this program reads {FORMAT}; use the release that wrote it"
    )]
    Format {
        /// The blob.
        digest: Digest,
        /// Its format.
        found: u32,
    },
    /// The spec cannot be written, for example for a path that is not Unicode.
    #[error("the spec of stage `{stage}` cannot be written: {source}")]
    Write {
        /// The stage.
        stage: String,
        /// Why not.
        source: serde_json::Error,
    },
}

/// An action, ready to run on any machine that reaches the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ActionSpec {
    /// The form of this spec.
    pub format: u32,
    /// The stage's name, for messages.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// The resolved parameters, neutral ones included.
    pub params: Value,
    /// What the action key is made of.
    pub fields: KeyFields,
    /// The inputs.
    pub inputs: Vec<SpecInput>,
    /// Files outside the store.
    pub externals: Vec<SpecExternal>,
    /// The output ports; the worker publishes all of them or fails.
    pub outputs: Vec<String>,
    /// Threads that the stage may use.
    pub threads: usize,
    /// `cpu` or `cuda`.
    pub device: String,
    /// How long an attempt may take, in seconds.
    pub time_limit: Option<f64>,
    /// How long the stage has to stop once it was asked to, in seconds.
    pub grace: f64,
}

/// An input of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SpecInput {
    /// The port it enters through.
    pub port: String,
    /// Its name, where the port takes several.
    pub name: Option<String>,
    /// The artifact.
    pub artifact: OutputRef,
}

/// A file or folder outside the store that an action reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SpecExternal {
    /// The parameter that names it.
    pub param: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it must hold.
    pub artifact: OutputRef,
}

impl ActionSpec {
    /// The form that new specs have.
    pub const FORMAT: u32 = FORMAT;

    /// The action's key.
    #[must_use]
    pub fn key(&self) -> ActionKey {
        self.fields.action_key()
    }

    /// Stores the spec as a blob.
    ///
    /// # Errors
    /// [`SpecError::Write`] and [`SpecError::Store`].
    pub fn publish(&self, store: &dyn Store) -> Result<Digest, SpecError> {
        let bytes = serde_json::to_value(self)
            .and_then(|value| serde_json::to_vec(&in_order(value)))
            .map_err(|source| SpecError::Write {
                stage: self.stage.clone(),
                source,
            })?;
        Ok(store.put_bytes(&bytes)?)
    }

    /// Reads a spec.
    ///
    /// # Errors
    /// [`SpecError`] for a blob that is missing, damaged, no spec, or of another format.
    pub fn read(store: &dyn Store, digest: &Digest) -> Result<Self, SpecError> {
        /// Only the format, so that a spec of the future is recognised whatever else it holds.
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let bytes = store.read(digest)?;
        let form = |source| SpecError::Form {
            digest: *digest,
            source,
        };
        let header: Header = serde_json::from_slice(&bytes).map_err(form)?;
        if header.format != FORMAT {
            return Err(SpecError::Format {
                digest: *digest,
                found: header.format,
            });
        }
        serde_json::from_slice(&bytes).map_err(form)
    }
}

/// The value with the keys of every map in order.
///
/// Whether a map keeps its order of insertion depends on a feature of `serde_json` that any crate may
/// switch on.
fn in_order(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            entries.into_iter().map(|(k, v)| (k, in_order(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(in_order).collect(),
        leaf => leaf,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_come_out_in_order() {
        let value: Value =
            serde_json::from_str(r#"{"b":[{"d":1,"c":2}],"a":{"z":0,"y":1}}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&in_order(value)).unwrap(),
            r#"{"a":{"y":1,"z":0},"b":[{"c":2,"d":1}]}"#
        );
    }

    #[test]
    fn a_spec_survives_json() {
        let spec = ActionSpec {
            format: FORMAT,
            stage: "a".into(),
            kind: "k".into(),
            version: 2,
            params: json!({"n": 3}),
            fields: KeyFields::new("k", 2, json!({"n": 3}), vec![]),
            inputs: vec![],
            externals: vec![SpecExternal {
                param: "path".into(),
                path: "/x y".into(),
                artifact: OutputRef {
                    digest: Digest::of(b"1"),
                    tree: false,
                    bytes: 1,
                },
            }],
            outputs: vec!["out".into()],
            threads: 2,
            device: "cpu".into(),
            time_limit: Some(0.5),
            grace: 10.0,
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ActionSpec>(&text).unwrap(), spec);
    }
}
