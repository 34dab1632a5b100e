//! Stages that map over their rows in chunks: cut off, shared, changed.

use rustix::process::Signal;
use starling::report::RunEvent;
use starling::run::CHUNK_KIND;
use starling_cache::Store as _;

use crate::space::{Ran, Space, random, seed, send, wait_until_dead, workers};

/// Forty lines in ten chunks of four.
fn pipeline(more: &str) -> String {
    let lines: String = (0..40).map(|n| format!("line {n}\\n")).collect();
    format!(
        "[stage.text]\nkind = \"toy-write\"\ntext = \"{lines}\"\n\n[stage.map]\nkind = \"toy-map\"\n\
         inputs.rows = \"text.rows\"\n{more}\n"
    )
}

/// How many chunks the store has.
fn chunks(space: &Space, store: &str) -> usize {
    let store = space.store(store);
    let keys = store.actions().unwrap();
    let records = keys.iter().filter_map(|key| store.action(key).unwrap());
    records.filter(|r| r.kind.ends_with(CHUNK_KIND)).count()
}

/// The digest of what the stage wrote.
fn rows(space: &Space, store: &str) -> String {
    let store = space.store(store);
    let keys = store.actions().unwrap();
    let mut records = keys.iter().filter_map(|key| store.action(key).unwrap());
    let map = records.find(|r| r.kind == "toy-map").expect("it ran");
    map.outputs["rows"].digest.to_string()
}

fn failed(ran: &Ran) -> usize {
    let failures = ran
        .events
        .iter()
        .filter(|e| matches!(e, RunEvent::Failed(_)));
    failures.count()
}

#[test]
fn each_chunk_is_an_action_of_its_own() {
    let space = Space::new(&pipeline(""));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 10);
    // One more line of forty changes one chunk; a longer list makes new ones only.
    space.write(&pipeline("").replace("line 21", "line twenty-one"));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 11);
    // A parameter that only chooses rows makes no chunk run again; one that changes them makes all.
    space.write(&pipeline("lines = 16"));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 11);
    space.write(&pipeline("salt = \"s\""));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 21);
}

#[test]
fn shards_change_no_byte_and_rerun_nothing() {
    let space = Space::new(&pipeline(""));
    space.complete("one");
    for shards in [2, 4, 16] {
        let name = format!("s{shards}");
        space.write(&pipeline(&format!("shards = {shards}")));
        let ran = space.run(&name, &["--threads", "2"]);
        assert_eq!(ran.code, 0, "{:#?}", ran.events);
        let started = ran.started().iter().filter(|s| **s == "map").count();
        assert_eq!(
            started,
            shards + 1,
            "a worker a shard, and one that gathers"
        );
        assert_eq!(rows(&space, &name), rows(&space, "one"));
        assert_eq!(space.digests(&name), space.digests("one"));
        let again = space.run("one", &["--threads", "2"]);
        assert_eq!((again.code, again.started()), (0, vec![]));
    }
}

#[test]
fn a_kind_that_does_not_map_says_so() {
    let space = Space::new("[stage.a]\nkind = \"toy-slow\"\ncount = 1\nshards = 2\n");
    let ran = space.run("s", &["--threads", "2"]);
    assert_eq!((ran.code, failed(&ran)), (4, 1));
    let words = &ran.failure("a").message;
    assert!(words.contains("does not work in shards"), "{words}");
}

#[test]
fn what_is_cut_off_goes_on_chunk_by_chunk() {
    let mut seed = seed() + 2;
    println!("seed {seed}");
    for shards in [1, 3] {
        let slow = pipeline(&format!("pause = 10\nshards = {shards}"));
        let space = Space::new(&slow);
        space.complete("unbroken");
        let mut kept = 0;
        for kill in 0..5 {
            let mut run = space.start("broken", &["--threads", "3"]);
            if run.until_started_or_over("map").is_none() {
                // A fast machine is done before the last kill; the first always finds work.
                assert!(kill > 0, "{:#?}", run.events);
                run.finish();
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(random(&mut seed, 250)));
            // The engine and a worker in turn.
            let events = if kill % 2 == 0 {
                run.kill()
            } else {
                if let Some(pid) = workers(&run.events).last() {
                    send(*pid, Signal::KILL);
                }
                run.finish().events
            };
            for pid in workers(&events) {
                wait_until_dead(pid);
            }
            let now = chunks(&space, "broken");
            assert!(now >= kept, "{now} chunks after {kept}");
            kept = now;
        }
        space.complete("broken");
        assert_eq!(rows(&space, "broken"), rows(&space, "unbroken"));
        assert_eq!(space.digests("broken"), space.digests("unbroken"));
        let stays = space.scratch_that_stays("broken");
        assert!(stays.is_empty(), "{stays:?}");
    }
}

#[test]
fn an_interrupt_keeps_the_chunks_that_are_done() {
    let space = Space::new(&pipeline("pause = 20\nshards = 2"));
    let mut run = space.start("s", &["--threads", "2"]);
    run.until(|e| {
        matches!(
            e,
            RunEvent::Stage {
                what: starling_contract::Event::Progress { done: 8.., .. },
                ..
            }
        )
    });
    run.signal(Signal::INT);
    let stopped = run.finish();
    assert_eq!(stopped.code, 130, "{:#?}", stopped.events);
    let kept = chunks(&space, "s");
    assert!((2..10).contains(&kept), "{kept} chunks");
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 10);
}

#[test]
fn chunks_go_with_the_result_that_keeps_its_digest_only() {
    let after = "[stage.after]\nkind = \"toy-copy\"\ntext = \"x\"\ninputs.rows = \"map.rows\"";
    let space = Space::new(&pipeline(&format!("keep = \"digest\"\n\n{after}")));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 0);
    // Until the bytes are collected another reader finds them; the chunks stay away.
    space.write(&pipeline(&format!(
        "keep = \"digest\"\n\n{}",
        after.replace("\"x\"", "\"y\"")
    )));
    assert_eq!(space.complete("s").started(), ["after"]);
    assert_eq!(chunks(&space, "s"), 0);
    // What others keep is theirs.
    space.write(&pipeline(&format!("salt = \"kept\"\n\n{after}")));
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 10);
    space.complete("s");
    assert_eq!(chunks(&space, "s"), 10);
}
