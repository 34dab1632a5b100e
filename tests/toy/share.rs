//! Several runs and workers on one store.

use std::process::Command;

use starling::report::RunEvent;
use starling_cache::Store as _;

use crate::space::{Space, toy};

const PIPELINE: &str = r#"
[stage.text]
kind = "toy-write"
text = "hello"

[stage.slow]
kind = "toy-slow"
inputs.rows = "text.rows"
count = 100
pause = 5

[stage.table]
kind = "toy-concat"
inputs.parts.a = "slow.rows"
"#;

#[test]
fn two_runs_share_the_work() {
    let space = Space::new(PIPELINE);
    let mut first = space.start("s", &[]);
    first.until_started("slow");
    let second = space.run("s", &[]);
    let first = first.finish();
    assert_eq!((first.code, second.code), (0, 0));
    assert_eq!(first.stdout, second.stdout);
    assert!(
        space.attempts("s").iter().all(|&n| n == 1),
        "an action ran twice"
    );
    let waited = |e: &&RunEvent| matches!(e, RunEvent::Elsewhere { stage, .. } if stage == "slow");
    assert_eq!(second.events.iter().filter(waited).count(), 1);
}

#[test]
fn a_run_takes_over_from_one_that_was_killed() {
    let space = Space::new(PIPELINE);
    let mut first = space.start("s", &[]);
    first.until_started("slow");
    let mut second = space.start("s", &[]);
    second.until(|e| matches!(e, RunEvent::Elsewhere { .. }));
    first.kill();
    let second = second.finish();
    assert_eq!(second.code, 0);
    assert_eq!(second.started(), ["slow", "table"]);
}

/// How many stages ran at once, at most.
fn at_once(events: &[RunEvent]) -> usize {
    let (mut running, mut most) = (0, 0);
    for event in events {
        match event {
            RunEvent::Started { .. } => running += 1,
            RunEvent::Done { .. } => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    most
}

#[test]
fn small_stages_run_side_by_side_under_the_budget() {
    let stage = |n: u32| {
        format!(
            "[stage.s{n}]\nkind = \"toy-slow\"\nseed = {n}\ncount = 100\npause = 5\nthreads = 1\n"
        )
    };
    let space = Space::new(&format!(
        "[run]\nthreads = 2\n{}{}{}",
        stage(1),
        stage(2),
        stage(3)
    ));
    let ran = space.complete("s");
    assert_eq!(at_once(&ran.events), 2);
}

/// What another machine would do: a worker with nothing but the store and the digest of its spec.
#[test]
fn a_worker_needs_only_the_store_and_its_spec() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    let store = space.store("s");
    let keys = store.actions().unwrap();
    let records = keys
        .iter()
        .map(|key| store.action(key).unwrap().expect("whole"));
    let slow = records
        .into_iter()
        .find(|r| r.stage == "slow")
        .expect("it ran");
    let work = || {
        let status = Command::new(toy())
            .args(["run-stage", "--store", &store.url(), "--attempt", "7"])
            .args(["--spec", &slow.spec.to_string()])
            .status();
        status.unwrap().code()
    };
    assert_eq!(work(), Some(0), "the record is there");
    assert_eq!(store.attempts(&slow.key).unwrap(), [1]);
    assert!(store.remove_action(&slow.key).unwrap());
    assert_eq!(work(), Some(0));
    let again = store.action(&slow.key).unwrap().expect("made again");
    assert_eq!((&again.outputs, again.attempt), (&slow.outputs, 7));
}

#[test]
fn a_worker_refuses_what_it_cannot_run() {
    let space = Space::new(PIPELINE);
    space.complete("s");
    let store = space.store("s");
    let no_spec = store.put_bytes(b"{\"format\":1}").unwrap();
    let future = store.put_bytes(b"{\"format\":99,\"new\":true}").unwrap();
    let missing = starling_cache::Digest::of(b"nowhere");
    let url = store.url();
    for (url, spec, code, words) in [
        (url.as_str(), no_spec, 3, "is not the spec"),
        (&url, future, 3, "has format 99"),
        (&url, missing, 5, "is missing"),
        ("/nowhere/at all", missing, 5, "no store"),
    ] {
        let output = Command::new(toy())
            .args(["run-stage", "--store", url, "--attempt", "1"])
            .args(["--spec", &spec.to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

/// Runs on one store whose actions differ are under way at the same time, whatever each of them waits for.
#[test]
fn runs_of_different_actions_do_not_wait_for_each_other() {
    let pipeline = |seed: u32| {
        format!("[stage.slow]\nkind = \"toy-slow\"\nseed = {seed}\ncount = 200\npause = 5\n")
    };
    let space = Space::new(&pipeline(1));
    let mut first = space.start("s", &[]);
    first.until_started("slow");
    space.write(&pipeline(2));
    let mut second = space.start("s", &[]);
    second.until_started("slow");
    // The second one has begun to work, so the first must not have ended yet for the test to mean anything.
    let store = space.store("s");
    assert_eq!(store.actions().unwrap(), [], "the first ended too soon");
    let (first, second) = (first.finish(), second.finish());
    assert_eq!((first.code, second.code), (0, 0));
    let waited = |e: &RunEvent| matches!(e, RunEvent::Elsewhere { .. });
    assert!(!first.events.iter().chain(&second.events).any(waited));
    assert_eq!(store.actions().unwrap().len(), 2);
}

/// The same with a memory to share.
fn most_at_once(memory: &str, declared: &[&str]) -> usize {
    let stage = |(n, memory): (usize, &&str)| {
        let memory = match *memory {
            "" => String::new(),
            memory => format!("memory = \"{memory}\"\n"),
        };
        format!(
            "[stage.s{n}]\nkind = \"toy-slow\"\nseed = {n}\ncount = 40\npause = 5\nthreads = 1\n{memory}"
        )
    };
    let stages: String = declared.iter().enumerate().map(stage).collect();
    let space = Space::new(&format!("[run]\nthreads = 8\n{stages}"));
    let ran = space.run("s", &["--memory", memory]);
    assert_eq!(ran.code, 0, "{:#?}", ran.events);
    at_once(&ran.events)
}

#[test]
fn declared_memory_is_shared_and_not_exceeded() {
    assert_eq!(most_at_once("4GB", &["3GB", "2GB", "3GB"]), 1);
    assert_eq!(most_at_once("4GB", &["2GB", "2GB", "2GB"]), 2);
    // More than there is runs all the same, but beside nothing that declares any.
    assert_eq!(most_at_once("1GB", &["3GB", "2GB"]), 1);
    // Who declares nothing is in nobody's way.
    assert_eq!(most_at_once("1GB", &["1GB", "", ""]), 3);
}

#[test]
fn memory_changes_no_key() {
    let stage =
        |memory: &str| format!("[stage.slow]\nkind = \"toy-slow\"\ncount = 2\npause = 1\n{memory}");
    let space = Space::new(&stage(""));
    space.complete("s");
    space.write(&stage("memory = \"3GB\"\n"));
    assert!(space.complete("s").started().is_empty());
}
