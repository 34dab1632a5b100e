//! Points of a matrix: what they share, and what they cost.

use super::Space;
use crate::plan::json;

const ABLATION: &str = "\
[stage.letters]
kind = 'letters'
text = 'abc'

[stage.student]
kind = 'train'
inputs.rows = 'letters.rows'
updates = 10
lr = '${rate}'

[stage.score]
kind = 'score'
inputs.student = 'student.student'
inputs.rows = 'letters.rows'

[vars]
rate = 0.5

[matrix]
axes.student.updates = [10, 20, 30]

[matrix.arms.slow]
[matrix.arms.fast]
vars.rate = 1.5
";

#[test]
fn points_share_what_they_do_not_mention() {
    let space = Space::new();
    insta::assert_snapshot!(space.table(ABLATION), @r"
             Ready  letters                  a927ff    first of its kind
           Blocked  student@slow,updates=10            waits for letters
           Blocked  student@slow,updates=20            waits for letters
           Blocked  student@slow,updates=30            waits for letters
           Blocked  student@fast,updates=10            waits for letters
           Blocked  student@fast,updates=20            waits for letters
           Blocked  student@fast,updates=30            waits for letters
           Blocked  score@slow,updates=10              waits for letters, student@slow,updates=10
           Blocked  score@slow,updates=20              waits for letters, student@slow,updates=20
           Blocked  score@slow,updates=30              waits for letters, student@slow,updates=30
           Blocked  score@fast,updates=10              waits for letters, student@fast,updates=10
           Blocked  score@fast,updates=20              waits for letters, student@fast,updates=20
           Blocked  score@fast,updates=30              waits for letters, student@fast,updates=30
        6 points, 13 unique stages: 1 ready, 12 blocked
    ");
    // A run of a part is a part of the whole.
    let part = ABLATION.replace("[10, 20, 30]", "[10]");
    assert_eq!(space.run(&part).len(), 5);
    let whole = space.table(ABLATION);
    assert!(
        whole.ends_with("6 points, 13 unique stages: 5 cached, 4 ready, 4 blocked\n"),
        "{whole}"
    );
    assert_eq!(space.run(ABLATION).len(), 8);
    // The arms' names, and which way a value came, are in no key.
    let renamed = ABLATION.replace("slow", "one").replace("fast", "two");
    assert_eq!(space.run(&renamed), [""; 0]);
    let plain = "\
[stage.letters]
kind = 'letters'
text = 'abc'
[stage.any]
kind = 'train'
inputs.rows = 'letters.rows'
updates = 30
lr = 1.5
";
    assert_eq!(space.run(plain), [""; 0]);
}

#[test]
fn stages_of_one_key_run_once() {
    let space = Space::new();
    let text = "\
[stage.a]
kind = 'letters'
text = 'abc'
[stage.b]
kind = 'letters'
text = 'abc'
log-every = 7
[stage.large_a]
kind = 'upper'
inputs.rows = 'a.rows'
[stage.large_b]
kind = 'upper'
inputs.rows = 'b.rows'
[stage.large_report]
kind = 'letters'
text = 'abd'
";
    insta::assert_snapshot!(space.table(text), @r"
             Ready  a             a927ff    first of its kind
             Ready  b             a927ff    the same as a
           Blocked  large_a                 waits for a
           Blocked  large_b                 the same as large_a
             Ready  large_report  eb4a7d    first of its kind
        3 unique stages: 2 ready, 1 blocked
    ");
    let pipeline = space.pipeline(text);
    let planned = space.try_plan(&pipeline).expect("a plan");
    assert_eq!(json(&pipeline, &planned)["stages"][1]["same-as"], "a");
    assert_eq!(space.run(text), ["a", "large_a", "large_report"]);
}

#[test]
fn the_cost_comes_from_what_was_recorded() {
    let space = Space::new();
    let pipeline = space.pipeline(ABLATION);
    let before = space.try_plan(&pipeline).expect("a plan").cost;
    assert_eq!((before.stages, before.known), (13, 0));
    assert_eq!(before.unknown_kinds, ["letters", "train", "score"]);
    space.run(&ABLATION.replace("[10, 20, 30]", "[10]"));
    let plan = space.try_plan(&pipeline).expect("a plan");
    assert_eq!((plan.cost.stages, plan.cost.known), (8, 8));
    // Every record says half a second; `train` declares no work to scale it by.
    assert!((plan.cost.seconds - 4.0).abs() < 1e-9, "{:?}", plan.cost);
    let json = json(&pipeline, &plan);
    assert_eq!(json["cost"]["known"], 8);
    assert_eq!(json["counts"]["points"], 6);
    let estimated = json["stages"].as_array().expect("a list").iter();
    assert_eq!(
        estimated
            .filter(|s| s["estimate"]["seconds"] == 0.5)
            .count(),
        8
    );
    let more = ABLATION.replace(
        "[stage.score]",
        "[stage.large]\nkind = 'upper'\ninputs.rows = 'letters.rows'\n[stage.score]",
    );
    let pipeline = space.pipeline(&more);
    let cost = space.try_plan(&pipeline).expect("a plan").cost;
    assert_eq!((cost.stages, cost.known), (9, 8));
    assert!(
        cost.text()
            .ends_with("; without 1 stage, of which nothing is known (upper)"),
        "{}",
        cost.text()
    );
}
