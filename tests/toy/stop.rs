//! Ctrl-C, once and twice.

use rustix::process::Signal;
use starling::report::RunEvent;
use starling::run::ExitRecord;
use starling_cache::Store as _;
use starling_contract::Event;

use crate::space::{Space, wait_until_dead};

const SLOW: &str = r#"
[stage.slow]
kind = "toy-slow"
count = 400
pause = 5
snapshot-every = 100000

[stage.table]
kind = "toy-concat"
inputs.parts.a = "slow.rows"
"#;

#[test]
fn a_stopped_run_saves_its_state_and_goes_on() {
    let space = Space::new(SLOW);
    let unbroken = space.complete("unbroken");
    let mut run = space.start("broken", &[]);
    // Snapshots are never due here, so the one that it goes on from was made because it was stopped.
    run.until(|e| {
        matches!(
            e,
            RunEvent::Stage {
                what: Event::Progress { done: 20.., .. },
                ..
            }
        )
    });
    run.signal(Signal::INT);
    let stopped = run.finish();
    assert_eq!(stopped.code, 130);
    assert_eq!(stopped.stdout, "");
    let kept = stopped.events.iter().find_map(|event| match event {
        RunEvent::Interrupted { snapshot, .. } => *snapshot,
        _ => None,
    });
    assert!(kept.is_some_and(|at| at >= 20), "{:#?}", stopped.events);
    let next = space.complete("broken");
    assert_eq!(next.resumed(), 1);
    assert_eq!(next.stdout, unbroken.stdout);
    assert_eq!(space.digests("broken"), space.digests("unbroken"));
}

#[test]
fn terminate_stops_like_interrupt() {
    let space = Space::new(SLOW);
    let mut run = space.start("s", &[]);
    run.until_started("slow");
    run.signal(Signal::TERM);
    assert_eq!(run.finish().code, 130);
}

#[test]
fn a_second_interrupt_waits_for_nothing() {
    let space = Space::new("[stage.sleep]\nkind = \"toy-eat-time\"\nseconds = 600\ndeaf = true\n");
    // The grace is far longer than this test would be let run.
    let mut run = space.start("s", &["--grace", "3600"]);
    let pid = run.until_started("sleep");
    run.signal(Signal::INT);
    run.until(|e| matches!(e, RunEvent::Stopping { at_once: false }));
    run.signal(Signal::INT);
    let stopped = run.finish();
    assert_eq!(stopped.code, 130);
    assert!(
        stopped
            .events
            .contains(&RunEvent::Stopping { at_once: true })
    );
    wait_until_dead(pid);
}

#[test]
fn a_deaf_stage_is_killed_after_the_grace() {
    let space = Space::new("[stage.sleep]\nkind = \"toy-eat-time\"\nseconds = 600\ndeaf = true\n");
    let mut run = space.start("s", &["--grace", "0.3"]);
    let pid = run.until_started("sleep");
    // Before this a signal would end the worker as it ends any process.
    run.until(|e| matches!(e, RunEvent::Stage { .. }));
    run.signal(Signal::INT);
    let stopped = run.finish();
    assert_eq!(stopped.code, 130);
    wait_until_dead(pid);
    let key = stopped.events.iter().find_map(|event| match event {
        RunEvent::Interrupted { key, .. } => key.parse().ok(),
        _ => None,
    });
    let key = key.expect("the stage was interrupted");
    let store = space.store("s");
    assert_eq!(store.attempts(&key).unwrap(), [1]);
    let left = ExitRecord::read(&store, &key, 1)
        .unwrap()
        .expect("written by the engine");
    assert_eq!(left.signal, Some(9));
}
