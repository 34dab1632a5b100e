//! The schema in the repository is that of the kinds, and every pipeline conforms to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::space::Space;

#[path = "../support/conforms.rs"]
mod conforms;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn schema() -> Value {
    let said = Space::new().starling("schema");
    assert_eq!(said.code, 0, "{}", said.all());
    serde_json::from_str(&said.stdout).expect("JSON")
}

#[test]
fn the_file_is_fresh() {
    let said = Space::new().starling("schema");
    let file = fs::read_to_string(package().join("pipelines/schema.json")).unwrap_or_default();
    assert!(
        said.stdout == file,
        "pipelines/schema.json is stale; write it again with `cargo run -- schema > pipelines/schema.json`"
    );
}

/// The TOML files of a folder.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_pipeline_conforms() {
    let schema = schema();
    let mut all = files(package().join("pipelines"));
    all.push(package().join("src/cli/new.toml"));
    for entry in fs::read_dir(package().join("stages/src")).expect("the folder") {
        let example = entry.expect("readable").path().join("example.toml");
        all.extend(example.exists().then_some(example));
    }
    assert!(all.len() >= 3, "{all:?}");
    for file in &all {
        let text = fs::read_to_string(file).expect("readable");
        let document: toml::Value = toml::from_str(&text).expect("TOML");
        let document = serde_json::to_value(document).expect("JSON");
        let problems = conforms::problems(&schema, &document);
        assert_eq!(problems, [] as [&str; 0], "{}", file.display());
    }
    // Those of the folder name the schema, so that editors find it.
    for file in files(package().join("pipelines")) {
        let text = fs::read_to_string(&file).expect("readable");
        assert!(
            text.starts_with("#:schema ./schema.json\n"),
            "{}",
            file.display()
        );
    }
}

#[test]
fn a_typo_does_not_conform() {
    let schema = schema();
    for wrong in [
        "[stage.a]\nkind = 'sft'\nupdats = 3",
        "[stage.a]\nkind = 'sft'\nupdates = 'three'",
        "[stage.a]\nkind = 'sft'\noptimizer.lrr = 1e-3",
        "[stage.a]\nkind = 'stf'",
        "[stage.a]\nkind = 'sft'\ninputs.modle = 'b.model'",
        "[matrix]\nseed = [1]",
    ] {
        let document: toml::Value = toml::from_str(wrong).expect("TOML");
        let document = serde_json::to_value(document).expect("JSON");
        assert!(
            !conforms::problems(&schema, &document).is_empty(),
            "{wrong}"
        );
    }
}
