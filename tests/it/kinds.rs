//! The kinds that the command has.

use std::fs;
use std::path::Path;

use crate::space::Space;

#[test]
fn every_kind_is_listed_and_shown() {
    let space = Space::new();
    let list = space.starling("stages");
    assert_eq!(list.code, 0, "{}", list.all());
    for line in list.stdout.lines() {
        let (kind, about) = line.split_once("  ").expect("a name and a sentence");
        assert!(!about.trim().is_empty(), "{line}");
        let shown = space.starling(&format!("stages show {kind}"));
        assert_eq!(shown.code, 0, "{}", shown.all());
        assert!(
            shown.stdout.starts_with(&format!("{kind} (version ")),
            "{}",
            shown.stdout
        );
        assert!(shown.stdout.contains("\noutputs\n"), "{}", shown.stdout);
        let json = space.starling(&format!("stages show {kind} --json"));
        let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
        assert_eq!(value["kind"], kind);
    }
    assert!(list.stdout.lines().count() >= 12, "{}", list.stdout);
    assert!(
        !space.path(".starling").exists(),
        "a question leaves nothing behind"
    );
}

#[test]
fn a_wrong_kind_gets_a_suggestion() {
    let said = Space::new().starling("stages show distil");
    assert_eq!(said.code, 2);
    assert_eq!(
        said.stderr,
        "error: there is no kind `distil`; did you mean `distill`?\n"
    );
}

/// Every pipeline of the repository can be planned; files that must be fetched are pinned.
#[test]
fn every_pipeline_can_be_planned() {
    let space = Space::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut planned = 0;
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "toml") {
            let said = space.starling(&format!("plan {}", path.display()));
            assert_eq!(said.code, 0, "{}", said.all());
            planned += 1;
        }
    }
    assert!(planned > 0);
    let built_in = space.starling("plan");
    assert_eq!(built_in.code, 0, "{}", built_in.all());
}

/// The example of every kind that has one, beside its code.
#[test]
fn every_example_is_a_right_pipeline() {
    let space = Space::new();
    let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/src");
    for entry in fs::read_dir(stages).expect("the folder") {
        let example = entry.expect("readable").path().join("example.toml");
        if example.exists() {
            let said = space.starling(&format!("plan {}", example.display()));
            assert_eq!(said.code, 0, "{}", said.all());
        }
    }
}
