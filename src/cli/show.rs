//! `starling show`: a stage, its parameters, inputs and artifacts.

use clap::Args;
use serde_json::{Value, json};
use starling::exit;
use starling::pipeline::Pipeline;
use starling::plan::{PlannedStage, Status};
use starling::report::{duration, size};
use starling::run::{clock, compare::promise};
use starling_cache::{ActionRecord, LocalStore, OutputRef, Store as _};

use super::output::{self, Failure};
use super::session::{About, Session, stage};

/// Show a stage: parameters, inputs, how its result was made, and where its files are
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The stage
    stage: String,
    #[command(flatten)]
    about: About,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self, session: &Session) -> Result<u8, Failure> {
        let store = session.readable_store()?;
        let pipeline = session.about(&self.about, &store)?;
        let number = stage(&pipeline, &self.stage)?;
        let planned = session.plan(&pipeline, &store)?;
        let mut value = describe(&pipeline, number, &planned.stages[number], &store)?;
        let about = &pipeline.stages[number];
        if let Some(kind) = session.registry.get(&about.kind) {
            value["promises"] = Value::from(promise(kind.determinism(&about.params)));
        }
        if self.json {
            output::json(&value);
        } else {
            output::data(&text(&value));
        }
        Ok(exit::DONE)
    }
}

/// Everything known of a stage.
fn describe(
    pipeline: &Pipeline,
    number: usize,
    planned: &PlannedStage,
    store: &LocalStore,
) -> Result<Value, Failure> {
    let stage = &pipeline.stages[number];
    let inputs = stage.inputs.iter().map(|input| {
        let from = format!("{}.{}", pipeline.stages[input.stage].name, input.output);
        (input.path(), Value::from(from))
    });
    let mut value = json!({
        "stage": stage.name,
        "kind": stage.kind,
        "version": planned.fields.version,
        "place": pipeline.place(&stage.span).to_string(),
        "key": planned.key,
        "params": stage.params,
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
    });
    if let Status::Cached(record) = &planned.status {
        let mut outputs = serde_json::Map::new();
        for (port, output) in &record.outputs {
            outputs.insert(port.clone(), artifact(output, store)?);
        }
        value["outputs"] = Value::Object(outputs);
        value["made"] = made(record, store);
    }
    Ok(value)
}

fn artifact(output: &OutputRef, store: &LocalStore) -> Result<Value, Failure> {
    let path = |digest: &starling_cache::Digest| store.blob_path(digest);
    let mut value = json!({"digest": output.digest, "bytes": output.bytes});
    if output.tree {
        let manifest = store.manifest(&output.digest)?;
        let files = manifest.files().map(|(name, digest, bytes)| {
            json!({"file": name, "digest": digest, "bytes": bytes, "path": path(&digest)})
        });
        value["files"] = files.collect();
    } else {
        value["path"] = json!(path(&output.digest));
    }
    Ok(value)
}

/// Where a result comes from.
fn made(record: &ActionRecord, store: &LocalStore) -> Value {
    json!({
        "by": record.stage,
        "started": clock::stamp(record.started_unix),
        "seconds": record.seconds,
        "attempt": record.attempt,
        "threads": record.threads,
        "max-rss-bytes": record.max_rss_bytes,
        "numerics": record.numerics,
        "spec": record.spec,
        "log": store.attempt_log(&record.key, record.attempt),
    })
}

/// The same for people.
fn text(value: &Value) -> String {
    let word = |key: &str| value[key].as_str().unwrap_or("-").to_owned();
    let mut lines = vec![
        format!("stage    {}   {}", word("stage"), word("place")),
        format!("kind     {} (version {})", word("kind"), value["version"]),
        format!("key      {}", word("key")),
        format!("promises {}", word("promises")),
    ];
    lines.push("params".to_owned());
    flat("", &value["params"], &mut lines);
    if value["inputs"].as_object().is_some_and(|i| !i.is_empty()) {
        lines.push("inputs".to_owned());
        flat("", &value["inputs"], &mut lines);
    }
    match value["outputs"].as_object() {
        Some(outputs) => {
            lines.push("outputs".to_owned());
            for (port, output) in outputs {
                output_lines(port, output, &mut lines);
            }
            made_lines(&value["made"], &mut lines);
        }
        None => lines.push("outputs  none yet; `starling why` says why".to_owned()),
    }
    lines.join("\n") + "\n"
}

fn output_lines(port: &str, output: &Value, lines: &mut Vec<String>) {
    let shown = |v: &Value| {
        let digest = v["digest"].as_str().unwrap_or_default();
        let bytes = size(v["bytes"].as_u64().unwrap_or_default());
        format!("{}  {bytes:>9}", digest.get(..12).unwrap_or(digest))
    };
    let path = |v: &Value| v["path"].as_str().unwrap_or_default().to_owned();
    lines.push(
        format!("  {port}   {}   {}", shown(output), path(output))
            .trim_end()
            .to_owned(),
    );
    for file in output["files"].as_array().into_iter().flatten() {
        let name = file["file"].as_str().unwrap_or_default();
        lines.push(format!("    {name}   {}   {}", shown(file), path(file)));
    }
}

fn made_lines(made: &Value, lines: &mut Vec<String>) {
    let text = |key: &str| made[key].as_str().unwrap_or("-").to_owned();
    lines.push(format!(
        "made     {} by stage `{}`, attempt {}, in {} on {} threads, {} of memory, {}",
        text("started"),
        text("by"),
        made["attempt"],
        duration(made["seconds"].as_f64().unwrap_or(f64::NAN)),
        made["threads"],
        size(made["max-rss-bytes"].as_u64().unwrap_or_default()),
        text("numerics"),
    ));
    lines.push(format!("log      {}", text("log")));
}

/// `path = value` for every leaf.
fn flat(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                let dot = if path.is_empty() { "" } else { "." };
                flat(&format!("{path}{dot}{key}"), inner, lines);
            }
        }
        _ if path.is_empty() => {}
        leaf => lines.push(format!("  {path} = {leaf}")),
    }
}
