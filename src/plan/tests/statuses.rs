//! Change one thing, expect these statuses.

use std::fs;

use starling_cache::Store as _;

use super::{CHAIN, Space};
use crate::plan::{PlanError, Status, json};

#[test]
fn at_first_only_what_reads_nothing_is_ready() {
    insta::assert_snapshot!(Space::new().table(CHAIN), @r#"
             Ready  letters  01754b    first of its kind
           Blocked  train              waits for letters
           Blocked  score              waits for letters, train
           Blocked  table              waits for score
        4 stages: 1 ready, 3 blocked
    "#);
}

#[test]
fn afterwards_everything_is_cached() {
    let space = Space::new();
    assert_eq!(space.run(CHAIN), ["letters", "train", "score", "table"]);
    assert!(space.run(CHAIN).is_empty());
    insta::assert_snapshot!(space.table(CHAIN), @r#"
            Cached  letters  01754b
            Cached  train    4213aa
            Cached  score    9ee80e
            Cached  table    fa2aa9
        4 stages: 4 cached
    "#);
}

#[test]
fn a_parameter_reruns_its_stage_and_what_follows() {
    let space = Space::new();
    space.run(CHAIN);
    let changed = CHAIN.replace("updates = 10", "updates = 20");
    insta::assert_snapshot!(space.table(&changed), @r#"
            Cached  letters  01754b
             Ready  train    64749f    updates 10 → 20   p.toml:9:11
           Blocked  score              waits for train
           Blocked  table              waits for score
        4 stages: 1 cached, 1 ready, 2 blocked
    "#);
    assert_eq!(space.run(&changed), ["train", "score", "table"]);
    assert!(
        space.run(CHAIN).is_empty(),
        "the old results are still there"
    );
}

#[test]
fn neutral_things_rerun_nothing() {
    let space = Space::new();
    space.run(CHAIN);
    let text = CHAIN
        .replace(
            "count = 2",
            "count = 2\nlog-every = 7\nthreads = 3\ntime-limit = '1h'",
        )
        .replace("updates = 10", "updates = 10\ndevice = 'cuda'\nlr = 0.0")
        .replace("[stage.letters]", "# moved\n\n[stage.characters]")
        .replace("letters.rows", "characters.rows");
    assert_eq!(space.run(&format!("[run]\nthreads = 5\n{text}")), [""; 0]);
}

#[test]
fn equal_bytes_cut_off_early() {
    let space = Space::new();
    space.run(CHAIN);
    // Two lines of `abc`, written another way: the rows are the same, the report is not.
    let text = CHAIN.replace("text = 'abc'\ncount = 2", "text = \"abc\\nabc\"\ncount = 1");
    assert_eq!(space.run(&text), ["letters"]);
}

#[test]
fn the_name_under_a_port_counts() {
    let space = Space::new();
    space.run(CHAIN);
    let text = CHAIN.replace("inputs.arms.one", "inputs.arms.two");
    assert_eq!(space.run(&text), ["table"]);
}

#[test]
fn lost_bytes_are_a_miss() {
    let space = Space::new();
    space.run(CHAIN);
    let pipeline = space.pipeline(CHAIN);
    let before = space.try_plan(&pipeline).expect("a plan");
    let Status::Cached(record) = &before.stages[1].status else {
        panic!("cached")
    };
    let blob = space
        .store
        .blob_path(&record.outputs["curve"].digest)
        .expect("local");
    fs::remove_file(blob).expect("removed");
    insta::assert_snapshot!(space.table(CHAIN), @r#"
            Cached  letters  01754b
             Ready  train    4213aa    its outputs are damaged or gone
           Blocked  score              waits for train
           Blocked  table              waits for score
        4 stages: 1 cached, 1 ready, 2 blocked
    "#);
    assert_eq!(space.run(CHAIN), ["train"], "the same bytes again");
}

const FILE: &str = "[stage.corpus]\nkind = 'file'\npath = 'corpus'\n";

#[test]
fn a_file_counts_by_its_bytes() {
    let space = Space::new();
    let path = space.folder.path().join("corpus");
    fs::write(&path, "one").expect("written");
    assert_eq!(space.run(FILE), ["corpus"]);
    fs::rename(&path, space.folder.path().join("moved")).expect("moved");
    let moved = FILE.replace("'corpus'", "'moved'");
    assert!(space.run(&moved).is_empty());
    fs::write(space.folder.path().join("moved"), "two").expect("written");
    insta::assert_snapshot!(space.table(&moved), @r#"
             Ready  corpus  7ed71c    bytes of path 7692c3 → 3fc4cc   p.toml:3:8
        1 stage: 1 ready
    "#);
    assert_eq!(space.run(&moved), ["corpus"]);
}

fn pinned(content: &str) -> String {
    format!(
        "{FILE}sha256 = '{}'\n",
        starling_cache::Digest::of(content.as_bytes())
    )
}

#[test]
fn a_pinned_file_may_come_later() {
    let space = Space::new();
    let text = pinned("one");
    insta::assert_snapshot!(space.table(&text), @r#"
           Missing  corpus  69002d    [folder]/corpus is not there; to get it: write it by hand
        1 stage: 1 missing
    "#);
    fs::write(space.folder.path().join("corpus"), "one").expect("written");
    insta::assert_snapshot!(space.table(&text), @r#"
             Ready  corpus  69002d    first of its kind
        1 stage: 1 ready
    "#);
    space.run(&text);
    fs::remove_file(space.folder.path().join("corpus")).expect("removed");
    insta::assert_snapshot!(space.table(&text), @r#"
            Cached  corpus  69002d
        1 stage: 1 cached
    "#);
}

#[test]
fn another_file_than_the_pinned_one_is_a_mistake() {
    let space = Space::new();
    fs::write(space.folder.path().join("corpus"), "two").expect("written");
    let pipeline = space.pipeline(&pinned("one"));
    let Err(PlanError::Mistakes(mistakes)) = space.try_plan(&pipeline) else {
        panic!("a mistake")
    };
    insta::assert_snapshot!(space.redact(&mistakes.render(false)), @r#"
        Error: pipeline::wrong_digest
          × stage `corpus`: [folder]/corpus has another digest than the pinned one
           ╭─[p.toml:4:10]
         4 │ sha256 = '7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed'
           ·          ─────────────────────────────────┬────────────────────────────────
           ·                                           ╰── found 3fc4ccfe7458
           ╰────
          help: fetch the file again, or pin what is there: "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"

        error: 1 mistake; nothing was run
    "#);
}

#[test]
fn json_says_the_same() {
    let space = Space::new();
    space.run(CHAIN);
    let pipeline = space.pipeline(&CHAIN.replace("updates = 10", "updates = 20"));
    let plan = space.try_plan(&pipeline).expect("a plan");
    let value = json(&pipeline, &plan);
    assert_eq!(value["stages"][1]["status"], "ready");
    assert_eq!(
        value["stages"][1]["why"]["changes"][0]["what"]["param"],
        "updates"
    );
    assert_eq!(value["stages"][1]["why"]["changes"][0]["old"], "10");
    assert_eq!(
        value["stages"][1]["why"]["changes"][0]["place"],
        "p.toml:9:11"
    );
    assert_eq!(value["stages"][2]["waits"], serde_json::json!(["train"]));
}
