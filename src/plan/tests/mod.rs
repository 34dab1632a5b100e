//! Change one thing, expect these statuses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use starling_cache::{ActionRecord, LocalStore, Mode, Store};
use starling_contract::{Event, EventSink, Host, Snapshot, StageContext, StageError};

use super::{PlanError, Resolution, Status, counts, json, plan, resolve, table, why};
use crate::pipeline::{Pipeline, read};
use crate::testing::registry;
use crate::{Registry, pipeline};

/// A host for stages that need none.
struct NoHost;

impl EventSink for NoHost {
    fn emit(&self, _: Event) {}
}

impl Host for NoHost {
    fn save_snapshot(&self, _: u64, _: &Path, _: bool) -> Result<(), StageError> {
        Ok(())
    }
    fn newest_snapshot(&self, _: u64) -> Result<Option<Snapshot>, StageError> {
        Ok(None)
    }
    fn interrupted(&self) -> bool {
        false
    }
    fn elapsed_seconds(&self) -> f64 {
        0.0
    }
}

/// A folder with a store, and a clock that moves on by itself.
struct Space {
    folder: tempfile::TempDir,
    store: LocalStore,
    registry: Registry,
    clock: RefCell<f64>,
}

impl Space {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = LocalStore::open_or_create(&folder.path().join(".starling")).expect("a store");
        Self {
            folder,
            store,
            registry: registry(),
            clock: RefCell::new(1e9),
        }
    }

    fn now(&self) -> f64 {
        *self.clock.borrow_mut() += 1.0;
        *self.clock.borrow()
    }

    fn pipeline(&self, text: &str) -> Pipeline {
        match read("p.toml", self.folder.path(), text, &[], &self.registry) {
            Ok(pipeline) => pipeline,
            Err(mistakes) => panic!("{}", mistakes.render(false)),
        }
    }

    fn try_plan(&self, pipeline: &Pipeline) -> Result<super::Plan, PlanError> {
        let mut memo = self.store.memo();
        plan(pipeline, &self.registry, &self.store, &mut memo, self.now())
    }

    /// Paths of the temporary folder cut off.
    fn redact(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "[folder]")
    }

    fn table(&self, text: &str) -> String {
        let pipeline = self.pipeline(text);
        let plan = self.try_plan(&pipeline).expect("a plan");
        self.redact(&format!(
            "{}{}\n",
            table(&pipeline, &plan),
            counts(&pipeline, &plan)
        ))
    }

    /// Runs every stage in this process; returns the names of those that were not cached.
    fn run(&self, text: &str) -> Vec<String> {
        let pipeline = self.pipeline(text);
        let mut records: Vec<Option<ActionRecord>> = vec![None; pipeline.stages.len()];
        let mut ran = Vec::new();
        let mut memo = self.store.memo();
        for stage in 0..pipeline.stages.len() {
            let (registry, store, now) = (&self.registry, &self.store, self.now());
            let known = |n: usize| records[n].as_ref();
            let resolved = resolve(&pipeline, stage, registry, &known, store, &mut memo, now);
            records[stage] = Some(match resolved.expect("resolvable") {
                Resolution::Cached(record) => *record,
                Resolution::Action(action) => {
                    ran.push(pipeline.stages[stage].name.clone());
                    self.run_one(&pipeline.stages[stage], &action)
                }
                other => panic!("stage {stage} is not ready: {other:?}"),
            });
        }
        ran
    }

    fn run_one(
        &self,
        stage: &pipeline::PipelineStage,
        action: &super::ResolvedAction,
    ) -> ActionRecord {
        let kind = self.registry.get(&stage.kind).expect("known");
        let work = tempfile::tempdir().expect("a folder");
        let outputs = work.path().join("outputs");
        let scratch = work.path().join("scratch");
        fs::create_dir_all(&outputs).expect("created");
        fs::create_dir_all(&scratch).expect("created");
        let mut inputs = BTreeMap::new();
        let mut many: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for (n, input) in action.inputs.iter().enumerate() {
            let path = work.path().join(format!("input{n}"));
            self.store
                .materialize(&input.artifact, &path, Mode::Link)
                .expect("placed");
            match &input.name {
                Some(name) => {
                    many.entry(input.port.clone())
                        .or_default()
                        .insert(name.clone(), path);
                }
                None => {
                    inputs.insert(input.port.clone(), path);
                }
            }
        }
        let externals = action
            .externals
            .iter()
            .map(|e| (e.param.clone(), e.path.clone()));
        let externals = externals.collect();
        let mut context = StageContext::new(
            &NoHost,
            inputs,
            many,
            externals,
            outputs.clone(),
            scratch,
            1,
            "cpu".into(),
        );
        kind.run(stage.params.clone(), &mut context).expect("runs");
        let outputs = kind.ports().outputs.iter().map(|o| {
            let stored = self.store.put_tree(&outputs.join(o.name)).expect("stored");
            (o.name.to_owned(), stored)
        });
        let record = ActionRecord {
            key: action.key,
            kind: action.fields.kind.clone(),
            version: action.fields.version,
            stage: stage.name.clone(),
            spec: self.store.put_bytes(b"spec").expect("stored"),
            fields: action.fields.clone(),
            outputs: outputs.collect(),
            numerics: "cpu test 1".into(),
            attempt: 1,
            started_unix: self.now(),
            seconds: 0.5,
            max_rss_bytes: 1,
            threads: 1,
        };
        self.store
            .create_action(&action.key, &record)
            .expect("created");
        record
    }
}

const CHAIN: &str = "\
[stage.letters]
kind = 'letters'
text = 'abc'
count = 2

[stage.train]
kind = 'train'
inputs.rows = 'letters.rows'
updates = 10

[stage.score]
kind = 'score'
inputs.student = 'train.student'
inputs.rows = 'letters.rows'

[stage.table]
kind = 'table'
inputs.arms.one = 'score.evaluation'
";

#[test]
fn at_first_only_what_reads_nothing_is_ready() {
    insta::assert_snapshot!(Space::new().table(CHAIN), @r#"
             Ready  letters  01754b    first of its kind
           Blocked  train              waits for letters
           Blocked  score              waits for letters, train
           Blocked  table              waits for score
        4 stages: 1 ready, 3 blocked
    "#);
}

#[test]
fn afterwards_everything_is_cached() {
    let space = Space::new();
    assert_eq!(space.run(CHAIN), ["letters", "train", "score", "table"]);
    assert!(space.run(CHAIN).is_empty());
    insta::assert_snapshot!(space.table(CHAIN), @r#"
            Cached  letters  01754b
            Cached  train    4213aa
            Cached  score    9ee80e
            Cached  table    fa2aa9
        4 stages: 4 cached
    "#);
}

#[test]
fn a_parameter_reruns_its_stage_and_what_follows() {
    let space = Space::new();
    space.run(CHAIN);
    let changed = CHAIN.replace("updates = 10", "updates = 20");
    insta::assert_snapshot!(space.table(&changed), @r#"
            Cached  letters  01754b
             Ready  train    64749f    updates 10 → 20   p.toml:9:11
           Blocked  score              waits for train
           Blocked  table              waits for score
        4 stages: 1 cached, 1 ready, 2 blocked
    "#);
    assert_eq!(space.run(&changed), ["train", "score", "table"]);
    assert!(
        space.run(CHAIN).is_empty(),
        "the old results are still there"
    );
}

#[test]
fn neutral_things_rerun_nothing() {
    let space = Space::new();
    space.run(CHAIN);
    let text = CHAIN
        .replace(
            "count = 2",
            "count = 2\nlog-every = 7\nthreads = 3\ntime-limit = '1h'",
        )
        .replace("updates = 10", "updates = 10\ndevice = 'cuda'\nlr = 0.0")
        .replace("[stage.letters]", "# moved\n\n[stage.characters]")
        .replace("letters.rows", "characters.rows");
    assert_eq!(space.run(&format!("[run]\nthreads = 5\n{text}")), [""; 0]);
}

#[test]
fn equal_bytes_cut_off_early() {
    let space = Space::new();
    space.run(CHAIN);
    // Two lines of `abc`, written another way: the rows are the same, the report is not.
    let text = CHAIN.replace("text = 'abc'\ncount = 2", "text = \"abc\\nabc\"\ncount = 1");
    assert_eq!(space.run(&text), ["letters"]);
}

#[test]
fn the_name_under_a_port_counts() {
    let space = Space::new();
    space.run(CHAIN);
    let text = CHAIN.replace("inputs.arms.one", "inputs.arms.two");
    assert_eq!(space.run(&text), ["table"]);
}

#[test]
fn lost_bytes_are_a_miss() {
    let space = Space::new();
    space.run(CHAIN);
    let pipeline = space.pipeline(CHAIN);
    let before = space.try_plan(&pipeline).expect("a plan");
    let Status::Cached(record) = &before.stages[1].status else {
        panic!("cached")
    };
    let blob = space
        .store
        .blob_path(&record.outputs["curve"].digest)
        .expect("local");
    fs::remove_file(blob).expect("removed");
    insta::assert_snapshot!(space.table(CHAIN), @r#"
            Cached  letters  01754b
             Ready  train    4213aa    its outputs are damaged or gone
           Blocked  score              waits for train
           Blocked  table              waits for score
        4 stages: 1 cached, 1 ready, 2 blocked
    "#);
    assert_eq!(space.run(CHAIN), ["train"], "the same bytes again");
}

const FILE: &str = "[stage.corpus]\nkind = 'file'\npath = 'corpus'\n";

#[test]
fn a_file_counts_by_its_bytes() {
    let space = Space::new();
    let path = space.folder.path().join("corpus");
    fs::write(&path, "one").expect("written");
    assert_eq!(space.run(FILE), ["corpus"]);
    fs::rename(&path, space.folder.path().join("moved")).expect("moved");
    let moved = FILE.replace("'corpus'", "'moved'");
    assert!(space.run(&moved).is_empty());
    fs::write(space.folder.path().join("moved"), "two").expect("written");
    insta::assert_snapshot!(space.table(&moved), @r#"
             Ready  corpus  7ed71c    bytes of path 7692c3 → 3fc4cc   p.toml:3:8
        1 stage: 1 ready
    "#);
    assert_eq!(space.run(&moved), ["corpus"]);
}

fn pinned(content: &str) -> String {
    format!(
        "{FILE}sha256 = '{}'\n",
        starling_cache::Digest::of(content.as_bytes())
    )
}

#[test]
fn a_pinned_file_may_come_later() {
    let space = Space::new();
    let text = pinned("one");
    insta::assert_snapshot!(space.table(&text), @r#"
           Missing  corpus  69002d    [folder]/corpus is not there; to get it: write it by hand
        1 stage: 1 missing
    "#);
    fs::write(space.folder.path().join("corpus"), "one").expect("written");
    insta::assert_snapshot!(space.table(&text), @r#"
             Ready  corpus  69002d    first of its kind
        1 stage: 1 ready
    "#);
    space.run(&text);
    fs::remove_file(space.folder.path().join("corpus")).expect("removed");
    insta::assert_snapshot!(space.table(&text), @r#"
            Cached  corpus  69002d
        1 stage: 1 cached
    "#);
}

#[test]
fn another_file_than_the_pinned_one_is_a_mistake() {
    let space = Space::new();
    fs::write(space.folder.path().join("corpus"), "two").expect("written");
    let pipeline = space.pipeline(&pinned("one"));
    let Err(PlanError::Mistakes(mistakes)) = space.try_plan(&pipeline) else {
        panic!("a mistake")
    };
    insta::assert_snapshot!(space.redact(&mistakes.render(false)), @r#"
        Error: pipeline::wrong_digest
          × stage `corpus`: [folder]/corpus has another digest than the pinned one
           ╭─[p.toml:4:10]
         4 │ sha256 = '7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed'
           ·          ─────────────────────────────────┬────────────────────────────────
           ·                                           ╰── found 3fc4ccfe7458
           ╰────
          help: fetch the file again, or pin what is there: "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"

        error: 1 mistake; nothing was run
    "#);
}

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

#[test]
fn json_says_the_same() {
    let space = Space::new();
    space.run(CHAIN);
    let pipeline = space.pipeline(&CHAIN.replace("updates = 10", "updates = 20"));
    let plan = space.try_plan(&pipeline).expect("a plan");
    let value = json(&pipeline, &plan);
    assert_eq!(value["stages"][1]["status"], "ready");
    assert_eq!(
        value["stages"][1]["why"]["changes"][0]["what"]["param"],
        "updates"
    );
    assert_eq!(value["stages"][1]["why"]["changes"][0]["old"], "10");
    assert_eq!(
        value["stages"][1]["why"]["changes"][0]["place"],
        "p.toml:9:11"
    );
    assert_eq!(value["stages"][2]["waits"], serde_json::json!(["train"]));
}

/// A random graph of `upper` stages over one `letters`, written in a random order.
fn any_pipeline() -> impl Strategy<Value = String> {
    (1_usize..9)
        .prop_flat_map(|n| {
            let reads = (1..=n)
                .map(|i| (0..i, prop::option::of(0..i)))
                .collect::<Vec<_>>();
            (
                reads,
                prop::sample::subsequence((0..=n).collect::<Vec<_>>(), n + 1).prop_shuffle(),
            )
        })
        .prop_map(|(reads, order)| {
            let mut text = String::new();
            for i in order {
                text.push_str(&format!("[stage.s{i}]\n"));
                if i == 0 {
                    text.push_str("kind = 'letters'\ntext = 'a'\n");
                    continue;
                }
                let (rows, extra) = reads[i - 1];
                text.push_str(&format!("kind = 'upper'\ninputs.rows = 's{rows}.rows'\n"));
                if let Some(extra) = extra {
                    text.push_str(&format!("inputs.extra = 's{extra}.rows'\n"));
                }
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Every stage comes after what it reads, runs once, and is cached from then on.
    #[test]
    fn plans_are_topological(text in any_pipeline()) {
        let space = Space::new();
        let pipeline = space.pipeline(&text);
        for (n, stage) in pipeline.stages.iter().enumerate() {
            prop_assert!(stage.inputs.iter().all(|i| i.stage < n));
        }
        let plan = space.try_plan(&pipeline).expect("a plan");
        for (stage, planned) in pipeline.stages.iter().zip(&plan.stages) {
            let ready = matches!(planned.status, Status::Ready(_));
            prop_assert_eq!(ready, stage.inputs.is_empty());
        }
        space.run(&text);
        prop_assert!(space.run(&text).is_empty());
    }

    /// A parameter in the key changes it, and a neutral one does not.
    #[test]
    fn only_what_counts_changes_a_key(count in 1_u32..5, every in 1_u32..5, other in 1_u32..5) {
        let space = Space::new();
        let key = |count: u32, every: u32| {
            let text = format!("[stage.a]\nkind='letters'\ntext='a'\ncount={count}\nlog-every={every}\n");
            let pipeline = space.pipeline(&text);
            space.try_plan(&pipeline).expect("a plan").stages[0].key.expect("known")
        };
        prop_assert_eq!(key(count, every), key(count, other));
        prop_assert_eq!(key(count, every) == key(other, every), count == other);
    }
}

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each field that changes bytes changes the key, each that does not leaves it, whatever the others are.
    #[test]
    fn keys_follow_what_changes_bytes(
        text in "[a-z]{1,8}", count in 1u32..9, weight in 0.0f64..9.0, flip in 0usize..4, neutral in 0usize..5,
    ) {
        let space = Space::new();
        let stage = |text: &str, count: u32, weight: f64, names: &str, rest: &str, name: &str| {
            format!(
                "[stage.{name}]\nkind = 'letters'\ntext = '{text}'\ncount = {count}\n\
                 tail.coefficient = {weight:?}\ntail.names = [{names}]\n{rest}\n"
            )
        };
        let key = |text: String| {
            let pipeline = space.pipeline(&text);
            space.try_plan(&pipeline).expect("a plan").stages[0].key
        };
        let base = key(stage(&text, count, weight, "", "", "a"));
        let other = match flip {
            0 => stage(&format!("{text}x"), count, weight, "", "", "a"),
            1 => stage(&text, count + 1, weight, "", "", "a"),
            2 => stage(&text, count, weight + 0.25, "", "", "a"),
            _ => stage(&text, count, weight, "'n'", "", "a"),
        };
        prop_assert_ne!(key(other), base);
        let same = match neutral {
            0 => stage(&text, count, weight, "", "log-every = 5", "a"),
            1 => stage(&text, count, weight, "", "threads = 3\nmemory = '1GB'", "a"),
            2 => stage(&text, count, weight, "", "device = 'cuda'\ntime-limit = '3m'", "a"),
            3 => stage(&text, count, weight, "", "", "other-name"),
            _ => stage("${t}", count, weight, "", &format!("[vars]\nt = '{text}'"), "a"),
        };
        prop_assert_eq!(key(same), base);
    }
}
