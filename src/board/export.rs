//! Curves of finished stages, from their artifacts.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use starling_cache::{ActionRecord, Store};
use starling_contract::{ArtifactType, Kind};

use super::live::begin;

/// Writes the curves of a stage's record into a folder; false when it has none that can be drawn.
///
/// A row's wall time is its share of the time that the stage took.
///
/// # Errors
/// What could not be read or written, with its path.
pub fn export(
    store: &dyn Store,
    kind: &dyn Kind,
    record: &ActionRecord,
    folder: &Path,
) -> Result<bool, (PathBuf, io::Error)> {
    let mut drawn = false;
    for port in kind.ports().outputs {
        let Some(output) = record.outputs.get(port.name) else {
            continue;
        };
        if port.artifact != ArtifactType::Curve || output.tree {
            continue;
        }
        let bytes = store
            .read(&output.digest)
            .map_err(|error| (folder.to_owned(), io::Error::other(error)))?;
        let rows = rows(&String::from_utf8_lossy(&bytes));
        if rows.is_empty() {
            continue;
        }
        let failed = |error| (folder.to_owned(), error);
        let mut file = begin(folder, record.started_unix).map_err(failed)?;
        for (number, (step, values)) in rows.iter().enumerate() {
            let share = (number + 1) as f64 / rows.len() as f64;
            let wall_time = record.started_unix + share * record.seconds;
            file.scalars(wall_time, *step, values)
                .map_err(|error| (folder.to_owned(), error))?;
        }
        drawn = true;
    }
    Ok(drawn)
}

/// The figures of each row that says which update it is.
fn rows(text: &str) -> Vec<(u64, Vec<(String, f64)>)> {
    let row = |line: &str| {
        let Ok(Value::Object(row)) = serde_json::from_str(line) else {
            return None;
        };
        let step = row.get("update")?.as_u64()?;
        let values = row.iter().filter(|(name, _)| *name != "update");
        let values = values.filter_map(|(name, value)| match value {
            Value::Bool(yes) => Some((name.clone(), f64::from(u8::from(*yes)))),
            value => Some((name.clone(), value.as_f64()?)),
        });
        Some((step, values.collect()))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_no_figures_are_left_out() {
        let text =
            "{\"update\":1,\"loss\":2.5,\"skipped\":true,\"note\":\"x\"}\n1 0a\n{\"loss\":1}\n";
        let expected = vec![("loss".to_owned(), 2.5), ("skipped".to_owned(), 1.0)];
        assert_eq!(rows(text), [(1, expected)]);
    }
}
