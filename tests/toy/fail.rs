//! Stages that end badly: each with its own words, and none takes others with it.

use starling::report::{Cause, RunEvent};

use crate::space::Space;

const PIPELINE: &str = r#"
[stage.text]
kind = "toy-write"
text = "hello"

[stage.fails]
kind = "toy-fail"
inputs.rows = "text.rows"
message = "loss is not finite"

[stage.after]
kind = "toy-slow"
inputs.rows = "fails.rows"
count = 1

[stage.long_after]
kind = "toy-slow"
inputs.rows = "after.rows"
count = 1

[stage.panics]
kind = "toy-panic"

[stage.aborts]
kind = "toy-abort"

[stage.forgets]
kind = "toy-forget"

[stage.good]
kind = "toy-slow"
inputs.rows = "text.rows"
count = 3

[stage.table]
kind = "toy-concat"
inputs.parts.good = "good.rows"
"#;

#[test]
fn each_failure_has_its_words_and_others_go_on() {
    let space = Space::new(PIPELINE);
    let ran = space.run("s", &[]);
    assert_eq!(ran.code, 4);
    assert!(ran.stdout.starts_with("good: "), "{}", ran.stdout);

    let fails = ran.failure("fails");
    assert_eq!(fails.cause, Cause::Stage);
    assert_eq!(fails.message, "loss is not finite");
    assert_eq!(fails.hint.as_deref(), Some("lower `lr`"));
    assert_eq!(fails.reached.as_deref(), Some("3 of 7 updates"));
    assert_eq!(fails.place, "p.toml:6:1");
    assert!(
        fails
            .rerun
            .as_deref()
            .is_some_and(|line| line.contains("run-stage --store '"))
    );

    let panics = ran.failure("panics");
    assert_eq!(panics.cause, Cause::Panic);
    assert!(panics.message.contains("kinds.rs:"), "{}", panics.message);
    assert!(
        panics
            .message
            .ends_with("an invariant of the toy does not hold")
    );

    let aborts = ran.failure("aborts");
    assert_eq!(aborts.cause, Cause::Signal { number: 6 });
    assert!(
        aborts
            .message
            .ends_with("last words: the toy's kernel gives up"),
        "{}",
        aborts.message
    );

    let forgets = ran.failure("forgets");
    assert_eq!(forgets.cause, Cause::Output);
    assert!(
        forgets.message.contains("output `rows`"),
        "{}",
        forgets.message
    );

    for failure in [fails, panics, aborts, forgets] {
        let log = failure.log.as_ref().expect("a local store has logs");
        assert!(log.is_file(), "{}", log.display());
    }
    let blocked = ran.events.iter().filter_map(|event| match event {
        RunEvent::Blocked { stage, by } => Some((stage.as_str(), by.as_str())),
        _ => None,
    });
    let blocked: Vec<_> = blocked.collect();
    assert_eq!(blocked, [("after", "fails"), ("long_after", "after")]);
    let Some(RunEvent::Ended(summary)) = ran.events.last() else {
        panic!("no summary")
    };
    assert_eq!(
        (summary.failures.len(), summary.blocked, summary.ran.len()),
        (4, 2, 3)
    );
}

#[test]
fn a_failure_is_not_remembered() {
    let space = Space::new("[stage.fails]\nkind = \"toy-fail\"\nmessage = \"m\"\n");
    for attempt in 1..=2 {
        let ran = space.run("s", &[]);
        assert_eq!((ran.code, ran.failure("fails").attempt), (4, attempt));
    }
}

#[test]
fn equal_actions_fail_once() {
    let space = Space::new(
        "[stage.a]\nkind = \"toy-fail\"\nmessage = \"m\"\n[stage.b]\nkind = \"toy-fail\"\nmessage = \"m\"\n",
    );
    let ran = space.run("s", &[]);
    assert_eq!((ran.code, ran.started().len()), (4, 1));
    assert_eq!(ran.failure("a").message, ran.failure("b").message);
}

#[test]
fn on_request_nothing_starts_after_a_failure() {
    let space = Space::new(&PIPELINE.replace("[stage.text]", "[run]\nthreads = 1\n[stage.text]"));
    let ran = space.run("s", &["--fail-fast"]);
    assert_eq!(ran.code, 4);
    let failed = ran
        .events
        .iter()
        .filter(|e| matches!(e, RunEvent::Failed(_)));
    assert_eq!(failed.count(), 1);
    let after = ran
        .events
        .iter()
        .skip_while(|e| !matches!(e, RunEvent::Failed(_)));
    assert_eq!(
        after
            .filter(|e| matches!(e, RunEvent::Started { .. }))
            .count(),
        0
    );
}

#[test]
fn time_limits_hold_for_those_who_listen_and_those_who_do_not() {
    for deaf in ["false", "true"] {
        let space = Space::new(&format!(
            "[stage.sleep]\nkind = \"toy-eat-time\"\nseconds = 600\ndeaf = {deaf}\ntime-limit = \"1s\"\n"
        ));
        let ran = space.run("s", &["--grace", "0.3"]);
        assert_eq!(ran.code, 4);
        let failure = ran.failure("sleep");
        assert_eq!(failure.cause, Cause::TimeLimit, "deaf = {deaf}");
        assert!(
            failure.message.contains("time limit of 1.0 s"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn what_a_stage_reached_before_its_time_limit_is_kept() {
    let space = Space::new(
        "[stage.slow]\nkind = \"toy-slow\"\ncount = 100\npause = 50\ntime-limit = \"1s\"\nsnapshot-every = 1000\n",
    );
    let mut last = 0;
    for _ in 0..2 {
        let ran = space.run("s", &[]);
        let failure = ran.failure("slow");
        assert_eq!(failure.cause, Cause::TimeLimit);
        let kept = failure
            .snapshot
            .expect("it saved its state when its time was over");
        assert!(kept > last, "{kept} after {last}");
        last = kept;
    }
}
