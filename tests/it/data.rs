//! Preparing data, from outside: the published preparation against a hub on this machine, and the page for
//! newcomers.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use starling_stages::rows::{FileFormat, FileWriter};
use starling_text::json;

use crate::hub::{Fault, Hub};
use crate::space::Space;

const TOKEN: &str = "hf_secret_of_the_test";

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).expect("there"))
        .read_to_string(&mut text)
        .expect("text");
    text
}

fn raw(corpus: &str) -> String {
    golden(&format!("star/data/{corpus}_raw.jsonl.gz"))
}

/// The rows as a file of another format.
pub(crate) fn packed(lines: &str, format: FileFormat) -> Vec<u8> {
    let path = Path::new("memory");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = FileWriter::new(file.reopen().expect("open"), format, path).expect("a writer");
    for line in lines.lines() {
        writer
            .write(&json::parse(line).expect("JSON"))
            .expect("written");
    }
    let _ = writer.finish().expect("finished");
    fs::read(file.path()).expect("bytes")
}

/// The four corpora, each in the form its publishers chose, and a tokenizer.
fn hub() -> Hub {
    let hub = Hub::start();
    let toolmind = raw("toolmind");
    let half = toolmind.lines().count() / 2;
    let lines: Vec<&str> = toolmind.lines().collect();
    let part = |lines: &[&str]| (lines.join("\n") + "\n").into_bytes();
    hub.put(
        "datasets/Nanbeige/ToolMind",
        "README.md",
        b"two files of rows",
        false,
    );
    hub.put(
        "datasets/Nanbeige/ToolMind",
        "graph/a.jsonl",
        &part(&lines[..half]),
        true,
    );
    hub.put(
        "datasets/Nanbeige/ToolMind",
        "open/b.jsonl",
        &part(&lines[half..]),
        true,
    );
    let xlam = packed(&raw("xlam"), FileFormat::List);
    hub.put(
        "datasets/Salesforce/xlam-function-calling-60k",
        "xlam_function_calling_60k.json",
        &xlam,
        true,
    );
    let text_only = |line: &&str| {
        let row = json::parse(line).expect("JSON");
        row.get("tools").is_some() && row.get("conversations").is_some()
    };
    let toolace: Vec<String> = raw("toolace")
        .lines()
        .filter(|l| text_only(l))
        .map(str::to_owned)
        .collect();
    let toolace = packed(&toolace.join("\n"), FileFormat::Parquet);
    hub.put(
        "datasets/tryumanshow/ToolACE-Qwen-cleaned",
        "data/train.parquet",
        &toolace,
        true,
    );
    let hammer = packed(&raw("hammer"), FileFormat::List);
    hub.put(
        "datasets/MadeAgents/xlam-irrelevance-7.5k",
        "rows.json",
        &hammer,
        false,
    );
    let tokenizer = golden("qwen3-tokenizer/tokenizer.json.gz");
    hub.put(
        "models/Qwen/Qwen3-0.6B",
        "tokenizer.json",
        tokenizer.as_bytes(),
        true,
    );
    hub.put(
        "models/Qwen/Qwen3-0.6B",
        "tokenizer_config.json",
        b"{}",
        false,
    );
    hub.put(
        "models/Qwen/Qwen3-0.6B",
        "model.safetensors",
        b"not asked for",
        true,
    );
    hub.restrict(TOKEN);
    hub
}

/// Where the hub and the folders of downloads are, for a command in `space`.
pub(crate) fn environment(
    space: &Space,
    hub: &Hub,
    token: bool,
    offline: bool,
) -> Vec<(String, String)> {
    let folder = |name: &str| space.path(name).display().to_string();
    let mut variables = vec![
        ("HF_ENDPOINT".to_owned(), hub.address.clone()),
        ("HF_HOME".to_owned(), folder("hf")),
        ("XDG_CACHE_HOME".to_owned(), folder("cache")),
    ];
    if token {
        variables.push(("HF_TOKEN".to_owned(), TOKEN.to_owned()));
    }
    if offline {
        variables.push(("HF_HUB_OFFLINE".to_owned(), "1".to_owned()));
    }
    variables
}

#[test]
fn the_published_preparation_runs_from_four_raw_formats() {
    let (space, hub) = (Space::new(), hub());
    let pipeline =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/data-star.toml"));
    space.write("data.toml", &pipeline.expect("the pipeline"));
    let without = environment(&space, &hub, false, false);
    let plan = space.starling_with(&without, "plan data.toml");
    assert_eq!(plan.code, 0, "{}", plan.all());
    assert_eq!(hub.requests(), [], "a plan asks nobody");
    assert!(!space.path("starling.lock").exists());

    let refused = space.starling_with(&without, "run data.toml");
    assert_eq!(refused.code, 4, "{}", refused.all());
    assert!(
        refused
            .stderr
            .contains("ask for access at https://huggingface.co/"),
        "{}",
        refused.stderr
    );

    hub.fail("/storage/", &[Fault::Drop(100), Fault::Status(500, "")]);
    let with = environment(&space, &hub, true, false);
    let run = space.starling_with(&with, "run data.toml");
    assert_eq!(run.code, 0, "{}", run.all());
    let lock = fs::read_to_string(space.path("starling.lock")).expect("a lock");
    assert!(
        lock.contains("\"hub datasets/Nanbeige/ToolMind@main **/*.jsonl\""),
        "{lock}"
    );
    assert!(lock.contains(&"1".repeat(40)), "{lock}");
    assert!(!lock.contains("model.safetensors"), "{lock}");
    for text in [&lock, &run.stderr, &run.stdout] {
        assert!(!text.contains(TOKEN), "the token is told\n{text}");
    }
    assert!(
        !holds(&space.path("."), TOKEN.as_bytes()),
        "the token is stored"
    );

    let show = space.starling_with(&with, "show train-rows -p data.toml --json");
    let value: serde_json::Value = serde_json::from_str(&show.stdout).expect("JSON");
    let rows = fs::read_to_string(value["outputs"]["rows"]["path"].as_str().expect("a file"));
    let rows = rows.expect("readable");
    for start in ["toolmind_", "xlam_", "toolace-", "trace-"] {
        assert!(
            rows.contains(&format!("{{\"id\": \"{start}")),
            "no {start} in\n{rows}"
        );
    }
    let show = space.starling_with(&with, "show toolmind-rows -p data.toml --json");
    let value: serde_json::Value = serde_json::from_str(&show.stdout).expect("JSON");
    let report = fs::read_to_string(value["outputs"]["report"]["path"].as_str().expect("a file"));
    let report: serde_json::Value = serde_json::from_str(&report.expect("readable")).expect("JSON");
    assert_eq!(report["rows"], 20);
    let reasons = report["reasons"].as_object().expect("reasons");
    let named = reasons
        .values()
        .flat_map(|r| r["first"].as_array().expect("places"));
    let named: Vec<_> = named.collect();
    assert!(!named.is_empty());
    assert!(
        named
            .iter()
            .all(|place| place["file"].is_string() && place["line"].is_u64()),
        "{report:#}"
    );

    // The remote changes; the lock holds, and nobody is asked.
    hub.commit('2');
    hub.put(
        "datasets/MadeAgents/xlam-irrelevance-7.5k",
        "rows.json",
        b"[]",
        false,
    );
    drop(hub.requests());
    let again = space.starling_with(&environment(&space, &hub, false, true), "run data.toml");
    assert_eq!(again.code, 0, "{}", again.all());
    assert_eq!(hub.requests(), []);
    let plan = space.starling_with(&with, "plan data.toml");
    assert!(
        plan.stderr.contains("stages: ") && !plan.stderr.contains("ready"),
        "{}",
        plan.all()
    );

    let update = space.starling_with(&with, "fetch data.toml --update");
    assert_eq!(update.code, 0, "{}", update.all());
    assert!(update.stderr.contains("changed"), "{}", update.stderr);
    let plan = space.starling_with(&with, "plan data.toml");
    assert!(plan.stderr.contains("ready"), "{}", plan.all());
}

/// Whether a file below a folder holds these bytes.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|e| e.expect("an entry").path()).any(|path| {
        if path.is_dir() {
            return holds(&path, needle);
        }
        let bytes = fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

/// The blocks of a page: what follows the fence, and the text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for line in page.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((info.to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((info, text))) => open = Some((info, format!("{text}{line}\n"))),
            (None, None) => {}
        }
    }
    blocks
}

#[test]
fn the_page_on_your_data_does_what_it_says() {
    let space = Space::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/your-data.md");
    let page = fs::read_to_string(page).expect("the page");
    let (mut files, mut said) = (0, Vec::new());
    for (info, text) in blocks(&page) {
        if let Some((_, name)) = info.split_once("file=") {
            space.write(name, &text);
            files += 1;
        } else if info == "sh" {
            for line in text.lines() {
                let arguments = line.strip_prefix("starling ").expect("a command of ours");
                let one = space.starling(arguments);
                assert_eq!(one.code, 0, "{line}\n{}", one.all());
                said.push((line.to_owned(), one));
            }
        }
    }
    assert_eq!(files, 3);
    let of = |start: &str| {
        &said
            .iter()
            .find(|(line, _)| line.starts_with(start))
            .expect("run")
            .1
    };
    assert!(
        of("starling run").stderr.contains("5 of 6 rows kept"),
        "{}",
        of("starling run").stderr
    );
    let sample = of("starling inspect");
    assert!(
        sample.stdout.contains("tokens   give the text back"),
        "{}",
        sample.stdout
    );
    assert!(
        sample.stdout.contains("answer   no thought, then"),
        "{}",
        sample.stdout
    );
    let pythonic = &said.last().expect("the last command").1.stdout;
    assert!(pythonic.contains("calls as pythonic"), "{pythonic}");
    let scores = fs::read_to_string(space.path("scores.jsonl")).expect("scores");
    let rewards: Vec<f64> = scores
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|row| row["reward"].as_f64().expect("a reward"))
        .collect();
    assert_eq!(rewards, [1.0, 0.0, -1.0]);
    assert!(scores.contains("\"alignment\""), "{scores}");
}
