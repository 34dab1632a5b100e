//! Bytes that rot, records that vanish, disks that refuse: a correct result or a clear error.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use starling::report::RunEvent;
use starling_cache::{ActionRecord, Store as _};

use crate::space::{Ran, Space};

const PIPELINE: &str = r#"
[stage.text]
kind = "toy-write"
text = "hello"

[stage.slow]
kind = "toy-slow"
inputs.rows = "text.rows"
count = 20

[stage.table]
kind = "toy-concat"
inputs.parts.a = "slow.rows"
"#;

fn record(space: &Space, stage: &str) -> ActionRecord {
    let store = space.store("s");
    let keys = store.actions().unwrap();
    let mut records = keys
        .iter()
        .map(|key| store.action(key).unwrap().expect("whole"));
    records
        .find(|record| record.stage == stage)
        .expect("it ran")
}

/// The file that holds the bytes of a stage's output.
fn blob(space: &Space, stage: &str, port: &str) -> PathBuf {
    let store = space.store("s");
    let output = record(space, stage).outputs[port];
    let digest = if output.tree {
        let manifest = store.manifest(&output.digest).unwrap();
        manifest.files().next().expect("a file").1
    } else {
        output.digest
    };
    store.blob_path(&digest).expect("a local store")
}

/// Writes into a file that the store keeps read-only.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[0] ^= 1;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, bytes).unwrap();
}

fn notices(ran: &Ran) -> Vec<&str> {
    let texts = ran.events.iter().filter_map(|event| match event {
        RunEvent::Notice { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

#[test]
fn a_flipped_input_is_made_again_before_it_is_read() {
    let space = Space::new(PIPELINE);
    let whole = space.complete("s");
    let digests = space.digests("s");
    flip(&blob(&space, "slow", "rows"));
    // The table is to run again, and only it reads the damaged bytes.
    assert!(
        space
            .store("s")
            .remove_action(&record(&space, "table").key)
            .unwrap()
    );
    let ran = space.complete("s");
    assert_eq!(
        ran.started(),
        ["table", "slow", "table"],
        "{:#?}",
        ran.events
    );
    let said = notices(&ran).join("\n");
    assert!(said.contains("`slow` runs again"), "{said}");
    assert_eq!(ran.stdout, whole.stdout);
    assert_eq!(space.digests("s"), digests);
}

#[test]
fn damage_goes_upstream_as_far_as_it_must() {
    let space = Space::new(PIPELINE);
    let whole = space.complete("s");
    let digests = space.digests("s");
    flip(&blob(&space, "text", "rows"));
    flip(&blob(&space, "slow", "rows"));
    assert!(
        space
            .store("s")
            .remove_action(&record(&space, "table").key)
            .unwrap()
    );
    let ran = space.complete("s");
    assert_eq!(ran.started(), ["table", "slow", "text", "slow", "table"]);
    assert_eq!(ran.stdout, whole.stdout);
    assert_eq!(space.digests("s"), digests);
}

#[test]
fn a_flipped_table_is_made_again_before_it_is_shown() {
    let space = Space::new(PIPELINE);
    let whole = space.complete("s");
    flip(&blob(&space, "table", "joined"));
    let ran = space.complete("s");
    assert_eq!(ran.started(), ["table"]);
    assert_eq!(ran.stdout, whole.stdout);
    assert_eq!(space.complete("s").started(), [""; 0]);
}

#[test]
fn a_blob_or_a_record_that_is_gone_is_a_miss() {
    let space = Space::new(PIPELINE);
    let whole = space.complete("s");
    fs::remove_file(blob(&space, "slow", "curve")).unwrap();
    let ran = space.complete("s");
    assert_eq!(
        ran.started(),
        ["slow"],
        "its output is the same, so the table stays"
    );
    for record in fs::read_dir(space.store_path("s").join("actions")).unwrap() {
        flip(&record.unwrap().path());
    }
    let ran = space.complete("s");
    assert_eq!(ran.started(), ["text", "slow", "table"]);
    assert_eq!(ran.stdout, whole.stdout);
}

#[test]
fn a_flipped_snapshot_is_not_resumed_from() {
    let pipeline = PIPELINE.replace("count = 20", "count = 300\npause = 5");
    let space = Space::new(&pipeline);
    let unbroken = space.complete("s");
    let mut run = space.start("t", &[]);
    let second = |e: &RunEvent| {
        matches!(
            e,
            RunEvent::Stage {
                what: starling_contract::Event::Snapshot { progress: 20.. },
                ..
            }
        )
    };
    run.until(second);
    run.kill();
    let store = space.store("t");
    let key = record(&space, "slow").key;
    let newest = store.snapshots(&key).unwrap().remove(0);
    let manifest = store.manifest(&newest.output.digest).unwrap();
    let file = manifest.files().next().expect("a file").1;
    flip(&store.blob_path(&file).expect("local"));
    let ran = space.complete("t");
    let from = ran.events.iter().find_map(|event| match event {
        RunEvent::Stage {
            what: starling_contract::Event::Resumed { progress },
            ..
        } => Some(*progress),
        _ => None,
    });
    assert!(
        from.is_none_or(|at| at < newest.label.progress),
        "resumed from {from:?}"
    );
    assert_eq!(ran.stdout, unbroken.stdout);
    assert_eq!(space.digests("t"), space.digests("s"));
}

/// What another machine would have left: the same output under another numerics class.
#[test]
fn results_of_two_classes_are_not_put_side_by_side_unasked() {
    let space = Space::new(&PIPELINE.replace(
        "inputs.parts.a = \"slow.rows\"",
        "inputs.parts.a = \"slow.rows\"\ninputs.parts.b = \"text.rows\"",
    ));
    let whole = space.complete("s");
    let store = space.store("s");
    let mut other = record(&space, "slow");
    assert!(store.remove_action(&other.key).unwrap());
    other.numerics = "cuda sm_90 1".to_owned();
    store.create_action(&other.key, &other).unwrap();
    assert!(store.remove_action(&record(&space, "table").key).unwrap());
    let ran = space.run("s", &[]);
    assert_eq!(ran.code, 4);
    let words = &ran.failure("table").message;
    assert!(words.contains("`cuda sm_90 1` (a)"), "{words}");
    let mixed = space.run("s", &["--mixed"]);
    assert_eq!((mixed.code, mixed.stdout), (0, whole.stdout));
}
