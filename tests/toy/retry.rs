//! Failures that pass: tried again after a while, and told when they do not pass.

use starling::report::{Cause, RunEvent};
use starling_cache::Store as _;

use crate::space::Space;

fn pipeline(space: &str, failures: u32) -> String {
    format!("[stage.flaky]\nkind = \"toy-flaky\"\ncounter = \"{space}\"\nfailures = {failures}\n")
}

#[test]
fn a_passing_failure_is_tried_again_with_longer_pauses() {
    let space = Space::new("");
    let counter = space.store_path("counter");
    space.write(&pipeline(counter.to_str().unwrap(), 2));
    let ran = space.complete("s");
    let pauses: Vec<f64> = ran
        .events
        .iter()
        .filter_map(|e| match e {
            RunEvent::Retrying { seconds, .. } => Some(*seconds),
            _ => None,
        })
        .collect();
    assert_eq!(pauses.len(), 2, "{:#?}", ran.events);
    assert!(pauses[1] > pauses[0], "{pauses:?}");
    assert_eq!(ran.started().len(), 3);
    let store = space.store("s");
    let key = store.actions().unwrap()[0];
    assert_eq!(store.attempts(&key).unwrap(), [1, 2, 3]);
}

#[test]
fn one_that_does_not_pass_fails_in_the_end() {
    let space = Space::new("");
    let counter = space.store_path("counter");
    space.write(&pipeline(counter.to_str().unwrap(), 100));
    let ran = space.run("s", &[]);
    assert_eq!(ran.code, 4);
    let failure = ran.failure("flaky");
    assert_eq!(failure.cause, Cause::Transient { after: None });
    assert_eq!(failure.message, "the server is busy");
    assert_eq!(ran.started().len(), 4, "one try and three more");
}
