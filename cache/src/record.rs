//! Records: what an action produced, and what a record file looks like.
//!
//! A record file holds two JSON values, a line each: the record, and the digest of the record's line as a string. A
//! file that was cut short, mixed up or edited does not match and counts as damaged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ActionKey, Digest, KeyFields};

/// An artifact in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRef {
    /// Digest of the file's bytes, or of the manifest of a tree.
    pub digest: Digest,
    /// Whether it is a folder.
    pub tree: bool,
    /// Size of the file, or of all files of the tree together.
    pub bytes: u64,
}

/// What an action produced, and how. Created once, never replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionRecord {
    /// The action.
    pub key: ActionKey,
    /// The kind of the stage.
    pub kind: String,
    /// The kind's version.
    pub version: u32,
    /// The stage's name when it ran first.
    pub stage: String,
    /// Digest of the spec that the worker was given, a blob.
    pub spec: Digest,
    /// What the key is made of.
    pub fields: KeyFields,
    /// The artifacts by output port.
    pub outputs: BTreeMap<String, OutputRef>,
    /// The numerics class: device kind, instruction set, kernel version. Not in the key; bytes of two classes may
    /// differ within tolerances.
    pub numerics: String,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// When it started, seconds since 1970.
    pub started_unix: f64,
    /// How long it took.
    pub seconds: f64,
    /// The most memory it held.
    pub max_rss_bytes: u64,
    /// The threads it was given.
    pub threads: u32,
}

impl ActionRecord {
    /// The outputs whose bytes differ, by port. Times, memory and threads differ from run to run and do not count.
    #[must_use]
    pub fn differing_outputs(&self, other: &Self) -> Vec<String> {
        let ports = self.outputs.keys().chain(other.outputs.keys());
        let mut ports: Vec<_> = ports
            .filter(|&port| self.outputs.get(port) != other.outputs.get(port))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports.into_iter().cloned().collect()
    }
}

/// What is said of a snapshot besides its files.
///
/// Actions that differ only in where they stop go the same way, so they share their snapshots: these are found by the
/// *line*, the key of the action without the parameters that say where it stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotLabel {
    /// The line; the action's own key where nothing says where to stop.
    pub line: ActionKey,
    /// The action that saved it.
    pub action: ActionKey,
    /// Units of work done when it was saved.
    pub progress: u64,
    /// The numerics class that it may be resumed in.
    pub numerics: String,
    /// Whether it stays when its action is finished, so that others of the line go on from it.
    pub lasts: bool,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRecord {
    /// What it is.
    pub label: SnapshotLabel,
    /// Its files.
    pub output: OutputRef,
}

/// Writes a value as the two lines of a record file.
pub(crate) fn seal<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    let digest = Digest::of(&bytes);
    bytes.extend(format!("\n\"{digest}\"\n").bytes());
    Ok(bytes)
}

/// Reads the two lines of a record file, or says how they are damaged.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (Some(value), Some(digest), Some([]), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err("it is cut short".to_owned());
    };
    if digest != format!("\"{}\"", Digest::of(value)).as_bytes() {
        return Err("its digest does not match".to_owned());
    }
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A record of a made-up action with one output.
    pub(crate) fn record(name: &str, spec: Digest, output: OutputRef) -> ActionRecord {
        let fields = KeyFields::new("sft", 1, json!({"name": name}), vec![]);
        ActionRecord {
            key: fields.action_key(),
            kind: "sft".into(),
            version: 1,
            stage: name.into(),
            spec,
            fields,
            outputs: BTreeMap::from([("student".into(), output)]),
            numerics: "cpu avx2 1".into(),
            attempt: 1,
            started_unix: 1.75e9,
            seconds: 2.5,
            max_rss_bytes: 1 << 20,
            threads: 2,
        }
    }

    fn any_record() -> ActionRecord {
        let output = OutputRef {
            digest: Digest::of(b"w"),
            tree: false,
            bytes: 1,
        };
        record("teacher", Digest::of(b"spec"), output)
    }

    #[test]
    fn a_record_file_is_two_json_lines() {
        let bytes = seal(&any_record()).unwrap();
        assert_eq!(unseal::<ActionRecord>(&bytes).unwrap(), any_record());
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            serde_json::from_str::<serde_json::Value>(lines[0])
                .unwrap()
                .is_object()
        );
        assert!(serde_json::from_str::<String>(lines[1]).is_ok());
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = seal(&any_record()).unwrap();
        for length in 0..bytes.len() {
            assert!(
                unseal::<ActionRecord>(&bytes[..length]).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn only_outputs_are_compared() {
        let mut other = any_record();
        other.seconds = 9.0;
        other.threads = 1;
        assert!(any_record().differing_outputs(&other).is_empty());
        let extra = OutputRef {
            digest: Digest::of(b"v"),
            tree: true,
            bytes: 1,
        };
        other.outputs.insert("student".into(), extra);
        other.outputs.insert("curve".into(), extra);
        assert_eq!(any_record().differing_outputs(&other), ["curve", "student"]);
        assert_eq!(other.differing_outputs(&any_record()), ["curve", "student"]);
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = seal(&any_record()).unwrap();
            *at.get_mut(&mut bytes) ^= 1_u8 << bit;
            prop_assert!(unseal::<ActionRecord>(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_only_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(unseal::<ActionRecord>(&bytes).is_err());
        }
    }
}
