//! `starling diff`: what differs between two runs.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling::run::{Manifest, ManifestStage};
use starling_cache::{ActionRecord, LocalStore, OutputRef, Store as _, diff};

use super::output::{self, Failure};
use super::session::Session;

/// Compare two runs: stages, what their keys are made of, outputs, and figures in JSON files
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The earlier run: its name, the beginning of it, or `-2` for the last but one
    #[arg(allow_negative_numbers = true)]
    old: String,
    /// The later run, likewise; `-1` is the last
    #[arg(default_value = "-1", allow_negative_numbers = true)]
    new: String,
    /// Compare figures of different numerics classes too
    #[arg(long)]
    mixed: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// JSON files larger than this hold rows, not figures.
const MOST_BYTES: u64 = 1 << 18;

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.existing_store()?;
        let (old, new) = (manifest(&store, &self.old)?, manifest(&store, &self.new)?);
        let mut stages = Vec::new();
        let mut classes = BTreeSet::new();
        for (name, pair) in pairs(&old, &new) {
            let value = match pair {
                (Some(_), None) => json!({"stage": name, "is": "gone"}),
                (None, Some(_)) => json!({"stage": name, "is": "new"}),
                (Some(a), Some(b)) => compare(&store, name, a, b, &mut classes)?,
                (None, None) => continue,
            };
            stages.push(value);
        }
        if !classes.is_empty() && !self.mixed {
            let classes: Vec<String> = classes.into_iter().collect();
            return Err(Failure::usage(format!(
                "the runs are of different numerics classes ({}), so that their figures differ by rounding too; \
                 `--mixed` compares them all the same",
                classes.join(" and ")
            )));
        }
        let value = json!({"old": old.run, "new": new.run, "stages": stages});
        if self.json {
            output::json(&value);
        } else {
            output::data(&text(&value));
        }
        Ok(exit::DONE)
    }
}

/// The manifest of a run by its name, the beginning of it, or its place from the end.
fn manifest(store: &LocalStore, name: &str) -> Result<Manifest<'static>, Failure> {
    let runs = store.runs()?;
    let back = name.strip_prefix('-').and_then(|n| n.parse::<usize>().ok());
    let found = match back {
        Some(back) if back > 0 => runs.len().checked_sub(back).map(|n| &runs[n]),
        _ => {
            let mut fitting = runs.iter().filter(|run| run.starts_with(name));
            match (fitting.next(), fitting.next()) {
                (Some(_), Some(_)) if !runs.iter().any(|run| run == name) => {
                    return Err(Failure::usage(format!("several runs begin with `{name}`")));
                }
                (first, _) => first,
            }
        }
    };
    let unknown = || {
        Failure::usage(format!(
            "there is no run `{name}`; `starling runs` lists them"
        ))
    };
    let run = found.ok_or_else(unknown)?;
    Manifest::read(store, run)?
        .ok_or_else(|| Failure::new(exit::CACHE, format!("run {run} has no readable manifest")))
}

/// A stage in the old run and in the new one.
type Pair<'m> = (Option<&'m ManifestStage<'m>>, Option<&'m ManifestStage<'m>>);

fn pairs<'m>(old: &'m Manifest<'_>, new: &'m Manifest<'_>) -> BTreeMap<&'m str, Pair<'m>> {
    let mut pairs: BTreeMap<&str, Pair<'m>> = BTreeMap::new();
    for stage in &old.stages {
        pairs.entry(&stage.name).or_default().0 = Some(stage);
    }
    for stage in &new.stages {
        pairs.entry(&stage.name).or_default().1 = Some(stage);
    }
    pairs
}

fn compare(
    store: &LocalStore,
    name: &str,
    old: &ManifestStage<'_>,
    new: &ManifestStage<'_>,
    classes: &mut BTreeSet<String>,
) -> Result<Value, Failure> {
    let (before, after) = (record(store, old)?, record(store, new)?);
    let mut fields = Vec::new();
    if let (Some(before), Some(after)) = (&before, &after) {
        for change in diff(&before.fields, &after.fields) {
            // Digests of inputs follow from stages that are listed themselves.
            if !change.path.starts_with("inputs.") {
                fields.push(json!(change));
            }
        }
        if before.numerics != after.numerics {
            classes.extend([before.numerics.clone(), after.numerics.clone()]);
        }
    }
    let mut outputs = serde_json::Map::new();
    let mut figures = Vec::new();
    let ports: BTreeSet<&String> = old.outputs.keys().chain(new.outputs.keys()).collect();
    for port in ports {
        let same = old.outputs.get(port) == new.outputs.get(port);
        outputs.insert(
            port.clone(),
            Value::from(if same { "same" } else { "differs" }),
        );
        if let (false, Some(a), Some(b)) = (same, old.outputs.get(port), new.outputs.get(port)) {
            figures.extend(changed_figures(store, port, a, b)?);
        }
    }
    // Done before and cached now is the same result.
    let is = if old.key == new.key && old.outputs == new.outputs {
        "same"
    } else {
        "changed"
    };
    Ok(json!({
        "stage": name,
        "is": is,
        "status": [old.status, new.status],
        "fields": fields,
        "outputs": outputs,
        "figures": figures,
    }))
}

fn record(store: &LocalStore, stage: &ManifestStage<'_>) -> Result<Option<ActionRecord>, Failure> {
    let found = stage.key.map(|key| store.action(&key)).transpose()?;
    Ok(found.flatten())
}

/// The numbers that differ between the JSON files of two outputs.
fn changed_figures(
    store: &LocalStore,
    port: &str,
    old: &OutputRef,
    new: &OutputRef,
) -> Result<Vec<Value>, Failure> {
    let (old, new) = (figures(store, old)?, figures(store, new)?);
    let changed = new.iter().filter_map(|(path, after)| {
        let before = old.get(path)?;
        let differs = before.to_bits() != after.to_bits();
        differs.then(|| json!({"figure": format!("{port}.{path}"), "old": before, "new": after}))
    });
    Ok(changed.collect())
}

fn figures(store: &LocalStore, output: &OutputRef) -> Result<BTreeMap<String, f64>, Failure> {
    let mut files = Vec::new();
    if output.tree {
        match store.manifest(&output.digest) {
            Ok(manifest) => {
                let json = manifest
                    .files()
                    .filter(|(path, ..)| path.ends_with(".json"));
                files.extend(json.map(|(path, digest, bytes)| (path.to_owned(), digest, bytes)));
            }
            Err(error) if error.is_lost_blob() => {}
            Err(error) => return Err(error.into()),
        }
    } else {
        files.push((String::new(), output.digest, output.bytes));
    }
    let mut found = BTreeMap::new();
    for (path, digest, bytes) in files {
        if bytes > MOST_BYTES {
            continue;
        }
        let Ok(content) = store.read(&digest) else {
            continue;
        };
        if let Ok(value) = serde_json::from_slice::<Value>(&content) {
            flatten(&path, &value, &mut found);
        }
    }
    Ok(found)
}

/// `path = number` for every number of a value; entries of a list that have a `name` go by it.
fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, f64>) {
    let join = |part: &str| {
        if path.is_empty() {
            part.to_owned()
        } else {
            format!("{path}.{part}")
        }
    };
    match value {
        Value::Number(number) => {
            found.extend(number.as_f64().map(|number| (path.to_owned(), number)));
        }
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flatten(&join(key), value, found)),
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                let name = value["name"].as_str().map(str::to_owned);
                flatten(
                    &join(&name.unwrap_or_else(|| number.to_string())),
                    value,
                    found,
                );
            }
        }
        _ => {}
    }
}

fn text(value: &Value) -> String {
    let word = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let mut lines = vec![format!("{} → {}", word(&value["old"]), word(&value["new"]))];
    let mut same = 0;
    for stage in value["stages"].as_array().into_iter().flatten() {
        if stage["is"] == "same" {
            same += 1;
            continue;
        }
        let status = match (&stage["status"][0], &stage["status"][1]) {
            (a, b) if a == b || a.is_null() => String::new(),
            (a, b) => format!("  {} → {}", word(a), word(b)),
        };
        lines.push(format!(
            "{:>9}  {}{status}",
            word(&stage["is"]),
            word(&stage["stage"])
        ));
        for field in stage["fields"].as_array().into_iter().flatten() {
            let path = word(&field["path"]);
            let path = path.strip_prefix("params.").unwrap_or(&path);
            lines.push(format!(
                "{:11}{path}  {} → {}",
                "",
                word(&field["old"]),
                word(&field["new"])
            ));
        }
        for figure in stage["figures"].as_array().into_iter().flatten() {
            lines.push(format!(
                "{:11}{}  {} → {}",
                "",
                word(&figure["figure"]),
                figure["old"],
                figure["new"]
            ));
        }
    }
    lines.push(format!("{same:>9}  stages are the same"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_paths() {
        let value =
            json!({"a": {"b": 1, "c": "x"}, "metrics": [{"name": "exact", "value": 0.5}, 7]});
        let mut found = BTreeMap::new();
        flatten("m.json", &value, &mut found);
        let expected = [
            ("m.json.a.b", 1.0),
            ("m.json.metrics.1", 7.0),
            ("m.json.metrics.exact.value", 0.5),
        ];
        assert_eq!(
            found,
            expected
                .map(|(k, v)| (k.to_owned(), v))
                .into_iter()
                .collect()
        );
    }
}
