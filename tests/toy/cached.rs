//! Runs that have nothing to do, or little.

use starling::report::RunEvent;
use starling::run::{Manifest, StageStatus};
use starling_cache::Store as _;

use crate::space::Space;

const PIPELINE: &str = r#"
[stage.text]
kind = "toy-write"
text = "hello"

[stage.short]
kind = "toy-slow"
inputs.rows = "text.rows"
count = 3

[stage.same]
kind = "toy-slow"
inputs.rows = "text.rows"
count = 3

[stage.table]
kind = "toy-concat"
inputs.parts.a = "short.rows"
inputs.parts.b = "same.rows"
"#;

#[test]
fn what_is_cached_is_shown_and_not_run() {
    let space = Space::new(PIPELINE);
    let first = space.complete("s");
    assert_eq!(
        first.started(),
        ["text", "short", "table"],
        "equal stages are one action"
    );
    assert!(first.stdout.starts_with("a: "), "{}", first.stdout);
    assert_eq!(first.stdout.lines().count(), 2);
    let second = space.complete("s");
    assert_eq!(second.started(), [""; 0]);
    assert_eq!(second.stdout, first.stdout);
    let cached = second
        .events
        .iter()
        .filter(|e| matches!(e, RunEvent::Cached { .. }));
    assert_eq!(cached.count(), 4);
}

#[test]
fn a_neutral_parameter_runs_nothing_and_another_only_what_follows() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    let neutral = space.run("s", &["--set", "short.snapshot-every=2", "--threads", "1"]);
    assert_eq!((neutral.code, neutral.started()), (0, vec![]));
    let changed = space.run("s", &["--set", "short.count=4"]);
    assert_eq!(
        (changed.code, changed.started()),
        (0, vec!["short", "table"])
    );
}

#[test]
fn equal_outputs_cut_the_run_short() {
    let space = Space::new(
        &PIPELINE
            .replace("\"hello\"", "\"h\"")
            .replace("count = 3", "count = 0"),
    );
    // The state of a count of zero is made of the seed and the text; equal texts from another stage
    // change the key of `text` alone.
    space.complete("s");
    let renamed = PIPELINE
        .replace("\"hello\"", "\"h\"")
        .replace("count = 3", "count = 0");
    space.write(
        &renamed
            .replace("stage.text", "stage.words")
            .replace("text.rows", "words.rows"),
    );
    assert_eq!(
        space.complete("s").started(),
        [""; 0],
        "names are not in keys"
    );
}

#[test]
fn a_run_leaves_its_manifest() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    let manifest = Manifest::newest(&space.store("s"))
        .unwrap()
        .expect("written");
    assert_eq!(manifest.pipeline, "p.toml");
    assert_eq!(manifest.code, Some(0));
    assert!(
        manifest
            .stages
            .iter()
            .all(|s| s.status == StageStatus::Done)
    );
    assert!(
        manifest
            .stages
            .iter()
            .all(|s| !s.outputs.is_empty() && s.attempt == Some(1))
    );
    space.complete("s");
    let manifest = Manifest::newest(&space.store("s"))
        .unwrap()
        .expect("written");
    assert!(
        manifest
            .stages
            .iter()
            .all(|s| s.status == StageStatus::Cached)
    );
}

#[test]
fn the_manifest_holds_the_resolved_pipeline() {
    let space = Space::new(
        "[run]\nthreads = 2\nmemory = \"2GB\"\n[stage.slow]\nkind = \"toy-slow\"\ncount = 3\npause = 1\n\
         memory = \"1GB\"\ntime-limit = \"1m\"\n[stage.all]\nkind = \"toy-concat\"\ninputs.parts.mine = \"slow.rows\"\n",
    );
    let ran = space.run("s", &["--set", "slow.count=4"]);
    assert_eq!(ran.code, 0);
    let manifest = Manifest::newest(&space.store("s"))
        .unwrap()
        .expect("written");
    assert_eq!(manifest.memory, 2_000_000_000);
    assert!(manifest.machine.cores > 0 && !manifest.machine.system.is_empty());
    let [slow, all] = &manifest.stages[..] else {
        panic!("{:?}", manifest.stages)
    };
    // As it ran: with the change and with defaults.
    assert_eq!(slow.params["count"], 4);
    assert!(slow.params.get("seed").is_some(), "{}", slow.params);
    assert_eq!(slow.resources.memory, Some(1_000_000_000));
    assert_eq!(slow.resources.time_limit, Some(60.0));
    assert_eq!(
        (&slow.resources.device[..], slow.resources.threads),
        ("cpu", 2)
    );
    assert_eq!(slow.attempts, [1]);
    let [input] = &all.inputs[..] else {
        panic!("{:?}", all.inputs)
    };
    assert_eq!(
        (
            &input.port[..],
            input.name.as_deref(),
            &input.stage[..],
            &input.output[..]
        ),
        ("parts", Some("mine"), "slow", "rows")
    );
    space.run("s", &[]);
    let cached = Manifest::newest(&space.store("s"))
        .unwrap()
        .expect("written");
    assert_ne!(cached.run, manifest.run);
    assert!(cached.stages[1].attempts.is_empty() || cached.stages[1].status == StageStatus::Done);
}

/// A clock that was ahead when a run began, and is right again: later runs are the newest all the same, for `diff -1`
/// and `gc --keep-runs` go by their order.
#[test]
fn a_run_after_the_clock_was_set_back_is_the_newest() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    let store = space.store("s");
    let before = store.runs().unwrap().pop().expect("a run");
    let ahead = "2999-01-01T00-00-00.000Z-1";
    let runs = space.store_path("s").join("runs");
    std::fs::rename(runs.join(before), runs.join(ahead)).unwrap();
    space.complete("s");
    space.complete("s");
    let names = store.runs().unwrap();
    assert_eq!(names.len(), 3);
    assert_eq!(names[0], ahead);
    assert!(
        names[1].starts_with("2999-01-01T00-00-00.001Z"),
        "{names:?}"
    );
    assert!(names[2] > names[1]);
}

#[test]
fn nothing_stays_behind_in_scratch() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    assert_eq!(
        space.scratch_folders("s"),
        [""; 0].map(std::path::PathBuf::from)
    );
}

#[test]
fn a_stage_may_keep_its_digest_only_and_is_made_again_when_needed() {
    use starling_cache::{CollectOptions, Keep, Store as _, collect};

    let lean = PIPELINE.replace("[stage.same]", "[stage.lean]\nkind = \"toy-slow\"\ninputs.rows = \"text.rows\"\ncount = 7\nkeep = \"digest\"\n\n[stage.after]\nkind = \"toy-slow\"\ninputs.rows = \"lean.rows\"\ncount = 2\n\n[stage.same]");
    let space = Space::new(&lean);
    space.complete("s");
    let collected = collect(
        &space.store("s"),
        &CollectOptions {
            keep: Keep::All,
            keep_snapshots: true,
            dry_run: false,
            now_unix: 1e11,
            grace_seconds: 0.0,
        },
    )
    .unwrap();
    assert!(collected.freed > 0);
    let store = space.store("s");
    let keys = store.actions().unwrap();
    assert!(keys.iter().all(|key| {
        store
            .action(key)
            .unwrap()
            .is_some_and(|r| r.stage != "lean")
    }));
    // Nothing asks for its bytes; what it wrote is still known.
    assert_eq!(space.complete("s").started(), [""; 0]);
    // Something does: it is made again, and only it.
    let changed = space.run("s", &["--set", "after.count=3"]);
    assert_eq!(
        (changed.code, changed.started()),
        (0, vec!["lean", "after"])
    );
}
