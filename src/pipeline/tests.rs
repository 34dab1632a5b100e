//! Each file of `tests/pipelines/bad/` gives exactly the message beside it; those of `good/` give none.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Device, Mistakes, Pipeline, read};
use crate::Registry;
use crate::testing::registry;

/// Files of a folder of `tests/pipelines`, and the folder itself relative to the package.
fn files(folder: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pipelines")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

/// Reads a file the way the command does; its first lines may say `# --set …`.
fn read_file(path: &Path, registry: &Registry) -> Result<Pipeline, Mistakes> {
    let text = fs::read_to_string(path).expect("readable");
    let sets: Vec<String> = text
        .lines()
        .filter_map(|l| l.strip_prefix("# --set "))
        .map(str::to_owned)
        .collect();
    let name = path.file_name().expect("a file").to_string_lossy();
    read(&name, Path::new("tests/pipelines"), &text, &sets, registry)
}

#[test]
fn wrong_files_give_their_messages() {
    let registry = registry();
    let bless = option_env!("BLESS").is_some();
    let mut wrong = Vec::new();
    let files = files("bad");
    assert!(files.len() >= 25, "only {} wrong files", files.len());
    for file in files {
        let message = match read_file(&file, &registry) {
            Ok(_) => "no mistake was found\n".to_owned(),
            Err(mistakes) => mistakes.render(false),
        };
        let expected = file.with_extension("txt");
        if bless {
            fs::write(&expected, &message).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != message {
            wrong.push(format!("{}\n{message}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "unexpected messages:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_message_has_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines/bad");
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "txt") {
            assert!(path.with_extension("toml").exists(), "{}", path.display());
        }
    }
}

#[test]
fn right_files_give_none() {
    let registry = registry();
    let files = files("good");
    assert!(files.len() >= 3, "only {} right files", files.len());
    for file in files {
        if let Err(mistakes) = read_file(&file, &registry) {
            panic!("{}\n{}", file.display(), mistakes.render(false));
        }
    }
}

fn parse(text: &str, sets: &[&str]) -> Pipeline {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    match read("p.toml", Path::new("."), text, &sets, &registry()) {
        Ok(pipeline) => pipeline,
        Err(mistakes) => panic!("{}", mistakes.render(false)),
    }
}

const TWO: &str = "\
[run]
threads = 2
[stage.large]
kind = 'upper'
inputs.rows = 'small.rows'
device = 'cuda'
time-limit = '1m30s'
[stage.small]
kind = 'letters'
text = 'a'
tail.names = ['x', 'y']
threads = 1
";

#[test]
fn everything_written_arrives() {
    let pipeline = parse(TWO, &[]);
    assert_eq!(pipeline.settings.threads, Some(2));
    let names: Vec<&str> = pipeline.stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["small", "large"]);
    let [small, large] = &pipeline.stages[..] else {
        panic!("two stages")
    };
    assert_eq!(
        small.params,
        serde_json::json!({
            "text": "a", "count": 1, "log-every": 1,
            "tail": {"coefficient": 0.0, "names": ["x", "y"]},
        })
    );
    assert_eq!((small.threads, small.device), (Some(1), Device::Cpu));
    assert_eq!(large.device, Device::Cuda);
    assert_eq!(large.time_limit.map(|t| t.as_secs()), Some(90));
    assert_eq!(
        (large.inputs[0].stage, large.inputs[0].output.as_str()),
        (0, "rows")
    );
    assert_eq!(pipeline.place(&small.span).to_string(), "p.toml:8:1");
    let place = |path: &str| pipeline.place(&small.param_spans[path]).to_string();
    assert_eq!(place("text"), "p.toml:10:8");
    assert_eq!(place("tail.names[1]"), "p.toml:11:20");
    assert!(!small.param_spans.contains_key("count"));
    assert!(pipeline.is_read(0) && !pipeline.is_read(1));
}

#[test]
fn a_set_replaces_and_adds() {
    let sets = [
        "small.text=plain-word",
        "small.tail.coefficient = 0.5",
        "small.tail.names=[]",
    ];
    let pipeline = parse(TWO, &sets);
    let small = &pipeline.stages[0];
    assert_eq!(small.params["text"], "plain-word");
    assert_eq!(
        small.params["tail"],
        serde_json::json!({"coefficient": 0.5, "names": []})
    );
    assert_eq!(
        pipeline.place(&small.param_spans["text"]).to_string(),
        "--set:1:12"
    );
    let other = parse(TWO, &["small.text=\"t\"", "large.inputs.rows='small.rows'"]);
    assert_eq!(
        other.place(&other.stages[1].inputs[0].span).to_string(),
        "--set:1:19"
    );
}

proptest! {
    /// Whatever the text, there is an answer, and it can be shown.
    #[test]
    fn any_text_is_only_an_error(text in "\\PC{0,60}", set in "\\PC{0,20}") {
        if let Err(mistakes) = read("x", Path::new("."), &text, &[set], &registry()) {
            prop_assert!(mistakes.render(false).contains("nothing was run"));
        }
    }

    /// The same for texts that look like pipelines.
    #[test]
    fn any_near_pipeline_is_only_an_error(lines in prop::collection::vec(near_line(), 0..12)) {
        let text = lines.join("\n");
        if let Err(mistakes) = read("x", Path::new("."), &text, &[], &registry()) {
            prop_assert!(mistakes.render(false).contains("nothing was run"));
        }
    }
}

fn near_line() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "'letters'",
        "'upper'",
        "'table'",
        "1",
        "-1",
        "1e999",
        "nan",
        "[1, [2]]",
        "{a = 1}",
        "'a.rows'",
        "'b.rows'",
        "'a.'",
        "'.'",
        "''",
        "99999999999999999999999999",
        "1979-05-27",
        "",
        "'\u{e9}",
        "true",
        "\"\"\"",
    ]);
    let key = prop::sample::select(vec![
        "kind",
        "inputs.rows",
        "inputs.arms.a",
        "inputs",
        "text",
        "count",
        "threads",
        "tail",
        "device",
        "time-limit",
        "tail.coefficient",
        "a.b",
        "",
    ]);
    let header = prop::sample::select(vec![
        "[stage.a]",
        "[stage.b]",
        "[stage]",
        "[[stage]]",
        "[run]",
        "[stage.\"\u{e9} x\"]",
        "[stage.a",
        "[x]",
    ]);
    prop_oneof![
        3 => (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        1 => header.prop_map(str::to_owned),
    ]
}

#[test]
fn depth_and_size_are_no_problem() {
    let deep = format!(
        "[stage.a]\nkind = 'letters'\ntext = {}",
        "[".repeat(100_000)
    );
    let dotted = format!(
        "[stage.a]\nkind = 'letters'\n{} = 1",
        vec!["a"; 50_000].join(".")
    );
    let long = format!("[stage.a]\nkind = '{}'", "k".repeat(1_000_000));
    for text in [deep, dotted, long] {
        let mistakes = read("x", Path::new("."), &text, &[], &registry()).expect_err("wrong");
        assert!(!mistakes.render(false).is_empty());
    }
}

#[test]
fn an_order_is_found_for_any_graph() {
    // A thousand stages in reverse: each reads the one written after it.
    let mut text = String::new();
    for n in 0..1000 {
        text.push_str(&format!(
            "[stage.s{n}]\nkind = 'upper'\ninputs.rows = 's{}.rows'\n",
            n + 1
        ));
    }
    text.push_str("[stage.s1000]\nkind = 'letters'\ntext = 'a'\n");
    let pipeline = parse(&text, &[]);
    for (n, stage) in pipeline.stages.iter().enumerate() {
        assert!(stage.inputs.iter().all(|i| i.stage < n));
    }
    assert_eq!(pipeline.stages[0].name, "s1000");
}
