//! `kill -9` of the engine and of workers at random moments, then the same command.

use std::time::Duration;

use rustix::process::Signal;
use starling::report::{Cause, RunEvent};

use crate::space::{Space, random, resumed, seed, send, wait_until_dead, workers};

/// Some two seconds of work, in which a snapshot is due every fifty milliseconds.
const PIPELINE: &str = r#"
[run]
threads = 2

[stage.text]
kind = "toy-write"
text = "hello"

[stage.left]
kind = "toy-slow"
inputs.rows = "text.rows"
threads = 1
count = 200
pause = 5

[stage.right]
kind = "toy-slow"
inputs.rows = "text.rows"
threads = 1
seed = 2
count = 200
pause = 5

[stage.last]
kind = "toy-slow"
inputs.rows = "left.rows"
count = 100
pause = 5

[stage.table]
kind = "toy-concat"
inputs.parts.last = "last.rows"
inputs.parts.right = "right.rows"
"#;

/// How often each test kills.
const KILLS: u64 = 6;

#[test]
fn killed_engines_lose_nothing() {
    let space = Space::new(PIPELINE);
    let unbroken = space.complete("unbroken");
    let mut seed = seed();
    println!("seed {seed}");
    let mut resumes = 0;
    for _ in 0..KILLS {
        let run = space.start("broken", &[]);
        std::thread::sleep(Duration::from_millis(100 + random(&mut seed, 700)));
        let events = run.kill();
        resumes += resumed(&events);
        for pid in workers(&events) {
            wait_until_dead(pid);
        }
    }
    let last = space.complete("broken");
    assert!(
        resumes + last.resumed() > 0,
        "no run went on from a snapshot"
    );
    assert_eq!(last.stdout, unbroken.stdout);
    assert_eq!(space.digests("broken"), space.digests("unbroken"));
    let stays = space.scratch_that_stays("broken");
    assert!(stays.is_empty(), "{stays:?}");
}

/// Nobody waits for the killed engine's workers here: the next engine does that itself.
#[test]
fn a_killed_engine_is_followed_at_once() {
    let space = Space::new(PIPELINE);
    space.complete("unbroken");
    let mut run = space.start("broken", &[]);
    run.until_started("left");
    run.until(|e| {
        matches!(
            e,
            RunEvent::Stage {
                what: starling_contract::Event::Snapshot { .. },
                ..
            }
        )
    });
    run.kill();
    let next = space.complete("broken");
    assert!(next.resumed() > 0, "{:#?}", next.events);
    assert_eq!(space.digests("broken"), space.digests("unbroken"));
}

#[test]
fn killed_workers_lose_nothing() {
    let space = Space::new(PIPELINE);
    let unbroken = space.complete("unbroken");
    let mut seed = seed() + 1;
    println!("seed {seed}");
    let (mut resumes, mut kills) = (0, 0);
    for _ in 0..KILLS {
        let mut run = space.start("broken", &[]);
        let mut victim = None;
        run.until(|event| match event {
            RunEvent::Started { stage, pid, .. } if stage != "text" && stage != "table" => {
                victim = Some((stage.clone(), *pid));
                true
            }
            _ => false,
        });
        if let Some((_, pid)) = victim {
            std::thread::sleep(Duration::from_millis(100 + random(&mut seed, 400)));
            send(pid, Signal::KILL);
        }
        let ran = run.finish();
        resumes += ran.resumed();
        if ran.code == 0 {
            continue;
        }
        kills += 1;
        assert_eq!(ran.code, 4);
        let (name, _) = victim.expect("nothing else fails");
        let failure = ran.failure(&name);
        assert_eq!(failure.cause, Cause::Signal { number: 9 });
        let words = &failure.message;
        assert!(words.contains("killed (signal 9)"), "{words}");
    }
    assert!(kills > 0, "every worker was killed too late to matter");
    let last = space.complete("broken");
    assert!(
        resumes + last.resumed() > 0,
        "no run went on from a snapshot"
    );
    assert_eq!(last.stdout, unbroken.stdout);
    assert_eq!(space.digests("broken"), space.digests("unbroken"));
}

/// A worker that was never let go of by its engine sees the end of its stdin.
#[test]
fn workers_die_with_their_engine() {
    let space = Space::new("[stage.sleep]\nkind = \"toy-eat-time\"\nseconds = 600\ndeaf = true\n");
    let mut run = space.start("s", &[]);
    let pid = run.until_started("sleep");
    std::thread::sleep(Duration::from_millis(100));
    run.kill();
    wait_until_dead(pid);
}
