//! What `why` says.

use super::{CHAIN, Space};
use crate::plan::why;

fn why_of(space: &Space, text: &str, stage: &str) -> String {
    let pipeline = space.pipeline(text);
    let plan = space.try_plan(&pipeline).expect("a plan");
    let stage = pipeline.find(stage).expect("there");
    why(&pipeline, &plan, stage, None)
}

#[test]
fn why_names_every_difference() {
    let space = Space::new();
    insta::assert_snapshot!(why_of(&space, CHAIN, "train"), @r#"
        `train` is blocked: it waits for letters
        no stage of its kind has run with this store
        `starling why letters` says more about what it waits for
    "#);
    space.run(CHAIN);
    insta::assert_snapshot!(why_of(&space, CHAIN, "train"), @r#"`train` 4213aa is cached: attempt 1 made it in 0.5 s on 1 thread (cpu test 1)"#);
    let changed = CHAIN
        .replace("updates = 10", "updates = 20\nlr = 1e-3")
        .replace("count = 2", "tail = { coefficient = 0.5, names = ['x'] }");
    insta::assert_snapshot!(why_of(&space, &changed, "letters"), @r#"
        `letters` 681b88 is ready to run
        4 fields differ from the nearest record 01754b (`letters`)
          count             2 → 1   p.toml:1:1
          tail.coefficient  0.0 → 0.5   p.toml:4:24
          tail.names        [] → absent   p.toml:4:37
          tail.names[0]     absent → "x"   p.toml:4:38
    "#);
    insta::assert_snapshot!(why_of(&space, &changed, "train"), @r#"
        `train` is blocked: it waits for letters
        2 fields differ from the nearest record 4213aa (`train`)
          lr       0.0 → 0.001   p.toml:10:6
          updates  10 → 20   p.toml:9:11
        `starling why letters` says more about what it waits for
    "#);
    insta::assert_snapshot!(why_of(&space, &changed, "table"), @r#"
        `table` is blocked: it waits for score
        no known field differs from the nearest record fa2aa9 (`table`)
        `starling why letters` says more about what it waits for
    "#);
}

#[test]
fn the_nearest_record_is_the_one_with_the_fewest_differences() {
    let space = Space::new();
    // Another stage differs by one field, the stage's own last run by two.
    space.run(&CHAIN.replace("updates = 10", "updates = 30\nlr = 0.5"));
    space.run(
        &CHAIN
            .replace("stage.train", "stage.other")
            .replace("train.student", "other.student"),
    );
    let text = CHAIN.replace("updates = 10", "updates = 40");
    insta::assert_snapshot!(why_of(&space, &text, "train"), @r#"
        `train` 124d4e is ready to run
        1 field differs from the nearest record 4213aa (`other`)
          updates  10 → 40   p.toml:9:11
    "#);
    // Of two with one difference, the one of the same name; of those, the newer.
    space.run(&CHAIN.replace("updates = 10", "updates = 50"));
    space.run(&CHAIN.replace("updates = 10", "updates = 60"));
    insta::assert_snapshot!(why_of(&space, &text, "train"), @r#"
        `train` 124d4e is ready to run
        1 field differs from the nearest record e8ac74 (`train`)
          updates  60 → 40   p.toml:9:11
    "#);
}
