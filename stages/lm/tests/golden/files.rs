//! Reads golden sets and compares numbers with them.

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::golden;

/// Relative distance allowed to results computed in `f64`.
pub(crate) const EXACT: f64 = 1e-9;
/// The same for a computation in `f32`.
pub(crate) const SHORT: f64 = 1e-4;

/// The rows of every `SET_*.jsonl.gz` of a folder.
pub(crate) fn rows(area: &str, set: &str) -> Vec<Value> {
    let lines = golden::lines(area, set);
    let rows = lines.iter().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

/// A tensor of a case.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Golden {
    /// The rows along the last dimension.
    pub(crate) fn rows(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(*self.shape.last().unwrap())
    }
}

/// One safetensors file: its tensors, its configuration, and its row of the manifest.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Value,
    pub(crate) expected: Value,
    bytes: Vec<u8>,
}

impl Case {
    pub(crate) fn tensor(&self, name: &str) -> Golden {
        self.find(name)
            .unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Golden> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).ok()?;
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F64 => data
                .as_chunks()
                .0
                .iter()
                .map(|word| f64::from_le_bytes(*word))
                .collect(),
            Dtype::F32 => data
                .as_chunks()
                .0
                .iter()
                .map(|word| f64::from(f32::from_le_bytes(*word)))
                .collect(),
            Dtype::I64 => data
                .as_chunks()
                .0
                .iter()
                .map(|word| i64::from_le_bytes(*word) as f64)
                .collect(),
            other => panic!("{} {name} is {other:?}", self.name),
        };
        Some(Golden {
            shape: view.shape().to_vec(),
            values,
        })
    }

    pub(crate) fn number(&self, field: &str) -> f64 {
        self.config[field]
            .as_f64()
            .unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        self.config[field]
            .as_bool()
            .unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.config[field]
            .as_str()
            .unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }
}

/// Every safetensors file of a folder whose name begins so.
pub(crate) fn cases(area: &str, prefix: &str) -> Vec<Case> {
    let mut manifest: Vec<Value> = Vec::new();
    for path in golden::files(area, |name| {
        name.starts_with("manifest") && name.ends_with(".json")
    }) {
        manifest
            .extend(serde_json::from_slice::<Vec<Value>>(&std::fs::read(path).unwrap()).unwrap());
    }
    let paths = golden::files(area, |name| {
        name.starts_with(prefix) && name.ends_with(".safetensors")
    });
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap();
            let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
            let config = header.metadata().as_ref().unwrap()["config"].as_str();
            // A row of its own, or that of the case whose name the file's goes on from.
            let rows = manifest
                .iter()
                .filter_map(|row| Some((row["case"].as_str()?, row)));
            let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
            let goes_on = |case: &str| name.strip_prefix(case).is_some_and(|rest| !digit(rest));
            let alike = rows.filter(|(case, _)| goes_on(case));
            let expected = alike.max_by_key(|(case, _)| case.len()).map(|(_, row)| row);
            Case {
                config: serde_json::from_str(config).unwrap(),
                expected: expected.cloned().unwrap_or(Value::Null),
                name,
                bytes,
            }
        })
        .collect()
}

/// Says how many cases a set had; none is a failure.
#[expect(
    clippy::print_stdout,
    reason = "a golden test tells how many cases it saw"
)]
pub(crate) fn count(set: &str, cases: usize) {
    println!("golden star {set}: {cases} cases");
    assert!(cases > 0, "the set {set} is empty");
}

/// Compares values, with distances relative to the largest expected one.
pub(crate) fn compare(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    let slack = tolerance * largest.max(1e-6);
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= slack,
            "{what} at {at}: {found}, expected {expected}"
        );
    }
}
