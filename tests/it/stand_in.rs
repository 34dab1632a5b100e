//! The large pipelines from beginning to end, with tiny models in the place of the published ones: the same files, the
//! profile `stand-in`, and a hub on this machine that serves corpora in their publishers' forms.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use starling_stages::rows::FileFormat;

use crate::data::{environment, packed};
use crate::hub::Hub;
use crate::small::{MODEL, WORLD};
use crate::space::Space;

/// Enough rows for four corpora.
const ROWS: &str = "--set world.train-rows=400";

/// Two models that answer rows of the preparation: one well, one seldom, so that their answers differ.
const MODELS: &str = r#"
extends = "data-star.toml"

[stage.tokenizer]
chat-template = "compact"

[stage.toolmind-sample]
size = 40

[stage.train-rows]
think-format = "star"

[stage.able]
kind = "sft"
inputs.model = "init.model"
inputs.rows = "train-rows.rows"
updates = 260
batch = 16
optimizer.lr = 1e-2

[stage.weak]
like = "able"
updates = 110
"#;

/// What turns the published pipelines into small ones.
const STAND_IN: &str =
    "--profile stand-in --set vars.teacher=tiny/teacher --set vars.student=tiny/student";

/// The arms of the paper's table, and DPO.
const ARMS: [&str; 12] = [
    "base",
    "sft",
    "sft-think",
    "fkl",
    "toolrl",
    "luffy",
    "gkd",
    "ckd",
    "sim-rl",
    "sft-sim-rl",
    "ckd-sim-rl",
    "dpo",
];

/// A folder with the published pipelines, and a hub that knows no model yet.
struct Place {
    space: Space,
    hub: Hub,
    variables: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        let (space, hub) = (Space::new(), Hub::start());
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        for folder in ["", "fragments"] {
            for entry in fs::read_dir(published.join(folder)).expect("pipelines") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|e| e == "toml") {
                    let name = path.file_name().expect("a name").to_str().expect("text");
                    let text = fs::read_to_string(&path).expect("a pipeline");
                    space.write(&Path::new(folder).join(name).display().to_string(), &text);
                }
            }
        }
        space.write("world.toml", WORLD);
        space.write("models.toml", &format!("{MODELS}\n{MODEL}"));
        let variables = environment(&space, &hub, false, false);
        Self {
            space,
            hub,
            variables,
        }
    }

    /// The output of a command that succeeds.
    fn says(&self, arguments: &str) -> (String, String) {
        let said = self.space.starling_with(&self.variables, arguments);
        assert_eq!(said.code, 0, "{arguments}\n{}", said.all());
        (said.stdout, said.stderr)
    }

    fn outputs(&self, stage: &str, pipeline: &str) -> Value {
        let (shown, _) = self.says(&format!("show {stage} --json -p {pipeline}"));
        let mut shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown["outputs"].take()
    }

    /// The files of an output that is a folder, by name.
    fn files(&self, stage: &str, output: &str, pipeline: &str) -> BTreeMap<String, Vec<u8>> {
        let outputs = self.outputs(stage, pipeline);
        let files = outputs[output]["files"].as_array().expect("a folder");
        let of = |file: &Value| {
            let path = self.space.path(file["path"].as_str().expect("a path"));
            let name = file["file"].as_str().expect("a name").to_owned();
            (name, fs::read(path).expect("bytes"))
        };
        files.iter().map(of).collect()
    }

    /// Serves the files of an output as a model.
    fn serve(&self, repo: &str, files: &BTreeMap<String, Vec<u8>>) {
        for (name, bytes) in files {
            let large = name.ends_with(".safetensors");
            self.hub.put(&format!("models/{repo}"), name, bytes, large);
        }
    }
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// The world's rows as the four corpora, each in the form its publishers chose.
fn serve_corpora(hub: &Hub, rows: &[Value]) {
    let put = |repo: &str, path: &str, bytes: &[u8]| {
        hub.put(&format!("datasets/{repo}"), path, bytes, true);
    };
    let query = |row: &Value| row["messages"][0]["content"].clone();
    let calls = |row: &Value| row["messages"][1]["tool_calls"].clone();
    let part = |n: usize| rows.iter().skip(n).step_by(4);
    let calling = |n: usize| part(n).filter(move |row| calls(row).is_array());

    let toolmind: Vec<Value> = part(0)
        .map(|row| {
            let mut answer = row["messages"][1].clone();
            let said = answer["content"].as_str().unwrap_or_default();
            answer["content"] = json!(format!("<think>\nso\n</think>\n\n{said}"));
            json!({"conversations": [row["messages"][0], answer], "tools": row["tools"]})
        })
        .collect();
    put(
        "Nanbeige/ToolMind",
        "graph/a.jsonl",
        lines(&toolmind).as_bytes(),
    );

    let xlam: Vec<Value> = calling(1)
        .enumerate()
        .map(|(id, row)| {
            json!({"id": id, "query": query(row), "tools": row["tools"], "answers": calls(row)})
        })
        .collect();
    put(
        "Salesforce/xlam-function-calling-60k",
        "xlam_function_calling_60k.json",
        &packed(&lines(&xlam), FileFormat::List),
    );

    let toolace: Vec<Value> = calling(2)
        .map(|row| {
            let calls = calls(row);
            let written = |call: &Value| {
                let arguments = call["arguments"].to_string();
                json!({"type": "function", "function": {"name": call["name"], "arguments": arguments}})
            };
            let calls: Vec<Value> = calls.as_array().expect("calls").iter().map(written).collect();
            let answer = json!({"role": "assistant", "tool_calls": calls});
            json!({"tools": row["tools"], "conversations": [row["messages"][0], answer]})
        })
        .collect();
    put(
        "tryumanshow/ToolACE-Qwen-cleaned",
        "data/train.parquet",
        &packed(&lines(&toolace), FileFormat::Parquet),
    );

    let none = "None of the functions fit.";
    let hammer: Vec<Value> = part(3)
        .take(20)
        .map(|row| json!({"functions": row["tools"], "messages": [row["messages"][0]], "expected_output": none}))
        .collect();
    put(
        "MadeAgents/xlam-irrelevance-7.5k",
        "rows.json",
        &packed(&lines(&hammer), FileFormat::List),
    );
}

/// Everything that the published pipelines fetch, tiny.
fn place() -> Place {
    let place = Place::new();
    let world = format!("world.toml {ROWS}");
    place.says(&format!("run {world}"));
    let path = place.outputs("world", &world)["train"]["path"].clone();
    let rows = fs::read_to_string(place.space.path(path.as_str().expect("a path")));
    let rows: Vec<Value> = rows
        .expect("rows")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    serve_corpora(&place.hub, &rows);
    let tokenizer = place.files("tokenizer", "tokenizer", &world);
    place.serve("Qwen/Qwen3-0.6B", &tokenizer);
    place.says("run models.toml");
    for (stage, repo) in [("able", "tiny/teacher"), ("weak", "tiny/student")] {
        place.serve(repo, &place.files(stage, "model", "models.toml"));
    }
    place
}

#[test]
fn the_large_pipelines_run_from_beginning_to_end() {
    let place = place();
    for pipeline in ["star-0.6b", "star-1.7b", "star-4b", "baselines-0.6b"] {
        let file = format!("{pipeline}.toml");
        place.says(&format!("run {file} {STAND_IN}"));
        let (plan, _) = place.says(&format!("plan {file} {STAND_IN} --json"));
        let plan: Value = serde_json::from_str(&plan).expect("JSON");
        let stages = plan["stages"].as_array().expect("stages");
        assert!(stages.len() >= 30, "{pipeline}: {}", stages.len());
        for stage in stages {
            assert_eq!(stage["status"], "cached", "{pipeline}: {stage}");
        }
        let files = place.files("export", "model", &format!("{file} {STAND_IN}"));
        let card = String::from_utf8(files["README.md"].clone()).expect("text");
        let name = match pipeline {
            "star-1.7b" => "# STAR-1.7B\n",
            "star-4b" => "# STAR-4B\n",
            _ => "# STAR-0.6B\n",
        };
        assert!(card.contains(name), "{card}");
        for part in [
            "starling run pipelines/star-",
            "## Figures",
            "| Overall (v3) |",
            "| star | entries right, %",
        ] {
            assert!(card.contains(part), "{part} is missing in\n{card}");
        }
    }

    // Pairs were found where teacher and student answered differently, and training saw them.
    let baselines = format!("baselines-0.6b.toml {STAND_IN}");
    let pairs = place.outputs("dpo", &baselines)["pairs"]["path"].clone();
    let pairs = fs::read_to_string(place.space.path(pairs.as_str().expect("a path")));
    assert!(pairs.expect("pairs").lines().count() >= 4);

    // Every row of the paper's table, and every difference with its interval.
    for benchmark in ["bfcl", "acebench"] {
        let table = place.files(&format!("{benchmark}-table"), "table", &baselines);
        let table: Vec<Value> = serde_json::from_slice(&table["table.json"]).expect("JSON");
        let arms: Vec<&str> = table
            .iter()
            .map(|row| row["arm"].as_str().expect("a name"))
            .collect();
        assert_eq!(arms, ARMS, "{benchmark}");
        let stage = format!("{benchmark}-comparison");
        let differences = place.files(&stage, "comparison", &baselines);
        let differences: Vec<Value> =
            serde_json::from_slice(&differences["table.json"]).expect("JSON");
        assert_eq!(differences.len(), ARMS.len() - 1, "{benchmark}");
        for row in &differences {
            let number = |name: &str| row[name].as_f64().expect("a number");
            assert!(
                number("low") <= number("difference") && number("difference") <= number("high"),
                "{row}"
            );
            assert!(row["holm-p"].is_number(), "{row}");
        }
    }
}
