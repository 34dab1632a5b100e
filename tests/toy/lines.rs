//! Stages that go the same way and stop at different places: the one goes on from where the other stopped.

use std::fs;

use starling::report::RunEvent;
use starling::run::numerics;
use starling_cache::{CollectOptions, Keep, Store as _, collect, verify};
use starling_contract::Event;

use crate::space::{Ran, Space, wait_until_dead, workers};

/// Counts to 60 in steps of some milliseconds.
const PIPELINE: &str = "[stage.slow]\nkind = \"toy-slow\"\ncount = 60\npause = 4\n";

/// Where a stage went on from, and how far it came.
fn way(ran: &Ran, name: &str) -> (Option<u64>, Vec<u64>) {
    let (mut from, mut steps) = (None, Vec::new());
    for event in &ran.events {
        match event {
            RunEvent::Stage { stage, what } if stage == name => match what {
                Event::Resumed { progress } => from = Some(*progress),
                Event::Progress { done, .. } => steps.push(*done),
                _ => {}
            },
            _ => {}
        }
    }
    (from, steps)
}

fn run(space: &Space, store: &str, sets: &[&str]) -> Ran {
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let ran = space.run(store, &sets);
    assert_eq!(ran.code, 0, "{:#?}", ran.events);
    ran
}

/// The curve that a stage wrote last.
fn curve(space: &Space, store: &str, ran: &Ran) -> String {
    let key = ran.events.iter().rev().find_map(|event| match event {
        RunEvent::Done { key, .. } | RunEvent::Cached { key, .. } => Some(key.parse().unwrap()),
        _ => None,
    });
    let store = space.store(store);
    let record = store.action(&key.expect("a stage")).unwrap().unwrap();
    let bytes = store.read(&record.outputs["curve"].digest).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn raising_the_stop_goes_on_and_equals_the_unbroken() {
    let space = Space::new(PIPELINE);
    let whole = run(&space, "unbroken", &[]);
    let unbroken = curve(&space, "unbroken", &whole);
    let first = run(&space, "s", &["slow.stop-after=25"]);
    assert_eq!(way(&first, "slow").0, None);
    let expected: String = unbroken.split_inclusive('\n').take(25).collect();
    assert_eq!(curve(&space, "s", &first), expected);
    let second = run(&space, "s", &["slow.stop-after=40"]);
    let (from, steps) = way(&second, "slow");
    assert_eq!(from, Some(25));
    assert!(steps.iter().all(|done| *done > 25), "{steps:?}");
    // Of those that do not last nothing is left.
    let left = space.store("s").snapshots(&line(&space, "s")).unwrap();
    let left: Vec<u64> = left.iter().map(|s| s.label.progress).collect();
    assert_eq!(left, [40, 25]);
    let third = run(&space, "s", &[]);
    assert_eq!(way(&third, "slow").0, Some(40));
    assert_eq!(curve(&space, "s", &third), unbroken);
    let same = space.digests("unbroken");
    let resumed = space.digests("s");
    assert!(same.iter().all(|(key, digest)| resumed[key] == *digest));
}

/// The line of the one counting stage of a store.
fn line(space: &Space, store: &str) -> starling_cache::ActionKey {
    let store = space.store(store);
    let key = store.actions().unwrap().remove(0);
    let record = store.action(&key).unwrap().unwrap();
    starling::plan::line(&record.fields, &["stop-after"])
}

#[test]
fn lowering_the_stop_is_served_from_a_snapshot_that_lasts() {
    let space = Space::new(PIPELINE);
    run(
        &space,
        "s",
        &["slow.snapshots-last=true", "slow.snapshot-every=15"],
    );
    // 30 is there: nothing is counted again.
    let lower = run(&space, "s", &["slow.stop-after=30"]);
    assert_eq!(way(&lower, "slow"), (Some(30), vec![]));
    // 35 is not: it goes on from 30.
    let lower = run(&space, "s", &["slow.stop-after=35"]);
    let (from, steps) = way(&lower, "slow");
    assert_eq!((from, steps.last()), (Some(30), Some(&35)));
    // Without such snapshots it begins again, and comes to the same.
    run(&space, "fresh", &[]);
    let again = run(&space, "fresh", &["slow.stop-after=30"]);
    assert_eq!(way(&again, "slow").0, None);
    let other = run(&space, "s", &["slow.stop-after=30"]);
    assert_eq!(curve(&space, "fresh", &again), curve(&space, "s", &other));
}

#[test]
fn kills_on_the_way_lose_nothing() {
    let space = Space::new(PIPELINE);
    let unbroken = curve(&space, "unbroken", &run(&space, "unbroken", &[]));
    for stop in ["slow.stop-after=25", "slow.stop-after=50", "slow.pause=4"] {
        let mut running = space.start("s", &["--set", stop]);
        running.until(|event| {
            matches!(
                event,
                RunEvent::Stage {
                    what: Event::Snapshot { .. },
                    ..
                }
            )
        });
        for pid in workers(&running.kill()) {
            wait_until_dead(pid);
        }
        run(&space, "s", &[stop]);
    }
    assert_eq!(curve(&space, "s", &run(&space, "s", &[])), unbroken);
}

/// Both are ready at once: the one that stops earlier goes first, and the other goes on from there.
#[test]
fn stages_of_one_line_take_turns() {
    let two = "[stage.early]\nlike = \"slow\"\nstop-after = 20\n\n\
               [stage.after]\nkind = \"toy-slow\"\ncount = 3\ninputs.rows = \"early.rows\"\n";
    let space = Space::new(&format!(
        "[run]\nthreads = 4\n\n{PIPELINE}threads = 1\n\n{two}"
    ));
    let ran = space.complete("s");
    let order: Vec<&str> = ran.started();
    let at = |name| order.iter().position(|n| *n == name).unwrap();
    assert!(at("early") < at("slow"), "{order:?}");
    assert_eq!(way(&ran, "slow").0, Some(20));
    assert_eq!(way(&ran, "early").0, None);
}

#[test]
fn another_numerics_class_begins_again() {
    let space = Space::new(PIPELINE);
    run(&space, "s", &["slow.stop-after=25"]);
    let store = space.store("s");
    let snapshot = store.snapshots(&line(&space, "s")).unwrap().remove(0);
    assert_eq!(snapshot.label.numerics, numerics::class("cpu"));
    // As if another machine had made it.
    let folder = space.store_path("s").join("snapshots");
    let folder = folder.join(snapshot.label.line.to_string());
    fs::remove_dir_all(&folder).unwrap();
    let files = space.store_path("files");
    store
        .materialize(&snapshot.output, &files, starling_cache::Mode::Copy)
        .unwrap();
    let mut label = snapshot.label;
    label.numerics = "cpu of elsewhere 1".to_owned();
    store.put_snapshot(&label, &files).unwrap();
    assert_eq!(way(&run(&space, "s", &[]), "slow").0, None);
}

#[test]
fn collecting_leaves_what_others_go_on_from() {
    let space = Space::new(PIPELINE);
    run(&space, "s", &["slow.stop-after=25"]);
    let store = space.store("s");
    let collected = |keep_snapshots| {
        let options = CollectOptions {
            keep: Keep::All,
            keep_snapshots,
            dry_run: false,
            now_unix: 1e11,
            grace_seconds: 0.0,
        };
        collect(&store, &options).unwrap();
        store.snapshots(&line(&space, "s")).unwrap().len()
    };
    assert_eq!(collected(true), 1);
    let found = verify(&store, false).unwrap();
    assert_eq!((found.snapshots, found.is_sound()), (1, true));
    assert_eq!(
        way(&run(&space, "s", &["slow.stop-after=26"]), "slow").0,
        Some(25)
    );
    assert_eq!(collected(false), 0);
    assert_eq!(
        way(&run(&space, "s", &["slow.stop-after=27"]), "slow").0,
        None
    );
}
