//! Every method that a pipeline can name, at a size of seconds: it runs, any number of threads gives the
//! same bytes, and what is cut off continues.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::small::BEGINNING;
use crate::space::Space;

/// World, teacher and student; then each method from the same student.
const REST: &str = r#"
[stage.student]
kind = "sft"
inputs.model = "init.model"
inputs.rows = "rows.rows"
updates = 100
batch = 16
optimizer.lr = 1e-2

[stage.rollouts]
kind = "rollout"
inputs.model = "teacher.model"
inputs.prompts = "rows.rows"
samples = 4
top-k = 8
max-new-tokens = 48

[stage.own]
kind = "rollout"
inputs.model = "student.model"
inputs.prompts = "rows.rows"
samples = 4
top-k = 0
max-new-tokens = 48

# One teacher pass over what the student wrote.
[stage.judged]
kind = "teacher-topk"
inputs.teacher = "teacher.model"
inputs.rollouts = "own.rollouts"
top-k = 8
snapshot-seconds = 0.0

[stage.offline]
kind = "distill"
inputs.student = "student.model"
inputs.rollouts = "judged.rollouts"
updates = 6
batch = 8
tail = 0.5
student-top = 16
optimizer.lr = 1e-3

[stage.gkd]
kind = "distill"
inputs.student = "student.model"
inputs.rollouts = "own.rollouts"
inputs.teacher = "teacher.model"
divergence = "js"
tail = 0.0
top-k = 420
on-policy = 0.5
max-new-tokens = 48
lora.rank = 4
updates = 6
batch = 8
optimizer.lr = 1e-3
snapshot-seconds = 0.0

[stage.dpo]
kind = "dpo"
inputs.model = "student.model"
inputs.prompts = "rows.rows"
inputs.rollouts.teacher = "rollouts.rollouts"
inputs.rollouts.own = "own.rollouts"
lora = { rank = 4 }
precision = "bf16"
updates = 6
batch = 8
optimizer.lr = 1e-3
snapshot-seconds = 0.0

# An adapter alone learns, in products of bfloat16.
[stage.adapted]
kind = "sft"
inputs.model = "student.model"
inputs.rows = "rows.rows"
lora = { rank = 4, alpha = 8.0, targets = ["q_proj", "v_proj", "down_proj"] }
precision = "bf16"
recompute = true
updates = 6
batch = 8
optimizer.lr = 1e-3
snapshot-seconds = 0.0

[stage.toolrl]
kind = "rl"
inputs.model = "student.model"
inputs.prompts = "rows.rows"
reward = "toolrl"
estimator = "rloo"
clip-high = 0.28
mini-batch = 2
optimizer.lr = 5e-3
kl-in = "reward"
kl-estimator = "k1"
lora.rank = 4
updates = 3
prompts = 8
samples = 4
max-new-tokens = 48

[stage.gspo]
kind = "rl"
inputs.model = "student.model"
inputs.prompts = "rows.rows"
reward = "format-exact"
ratio = "sequence"
entropy-bonus = 0.001
overlong-buffer = 8
filter.rounds = 3
updates = 3
prompts = 8
samples = 4
max-new-tokens = 48

[stage.luffy]
kind = "rl"
inputs.model = "student.model"
inputs.prompts = "rows.rows"
inputs.traces = "rollouts.rollouts"
estimator = "dr-grpo"
kl = 0.0
updates = 3
prompts = 8
samples = 4
max-new-tokens = 48

[stage.examined]
kind = "evaluate"
inputs.model = "dpo.model"
inputs.rows = "held-out.rows"
max-new-tokens = 48
samples = 2

[stage.examined-student]
kind = "evaluate"
inputs.model = "student.model"
inputs.rows = "held-out.rows"
max-new-tokens = 48
samples = 2

[stage.comparison]
kind = "compare"
against = "student"
inputs.arms.student = "examined-student.evaluation"
inputs.arms.dpo = "examined.evaluation"

[stage.exported]
kind = "export"
name = "tiny"
inputs.model = "dpo.model"
inputs.evaluation = "examined.evaluation"
inputs.comparison = "comparison.comparison"
gguf = ["f32", "q8-0"]
"#;

fn pipeline() -> String {
    format!("{BEGINNING}{REST}")
}

const METHODS: [&str; 11] = [
    "adapted",
    "judged",
    "offline",
    "gkd",
    "dpo",
    "toolrl",
    "gspo",
    "luffy",
    "examined",
    "comparison",
    "exported",
];

fn digests(space: &Space, store: &str) -> BTreeMap<String, String> {
    let mut digests = BTreeMap::new();
    for stage in METHODS {
        let value = shown(space, store, stage);
        for (port, output) in value["outputs"].as_object().expect("outputs") {
            digests.insert(format!("{stage}.{port}"), output["digest"].to_string());
        }
    }
    digests
}

fn shown(space: &Space, store: &str, stage: &str) -> Value {
    let shown = space.starling(&format!("--store {store} show {stage} --json -p p.toml"));
    assert_eq!(shown.code, 0, "{}", shown.all());
    serde_json::from_str(&shown.stdout).expect("JSON")
}

/// The rows of a curve.
fn curve(space: &Space, store: &str, stage: &str) -> Vec<Value> {
    let value = shown(space, store, stage);
    let path = value["outputs"]["curve"]["path"].as_str().expect("a path");
    let text = std::fs::read_to_string(space.path(path)).expect("the curve");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn every_method_runs_and_threads_change_no_byte() {
    let space = Space::new();
    space.write("p.toml", &pipeline());
    for (store, threads) in [("one", 1), ("two", 2)] {
        let said = space.starling(&format!("--store {store} run --threads {threads} p.toml"));
        assert_eq!(said.code, 0, "{}", said.all());
    }
    assert_eq!(digests(&space, "one"), digests(&space, "two"));

    // What the sampler and the trainer think of a token differs by rounding alone.
    for stage in ["toolrl", "luffy"] {
        for row in curve(&space, "one", stage) {
            if let Some(gap) = row["sampler_gap"].as_f64() {
                assert!(gap.abs() < 1e-4, "{stage}: {row}");
            }
        }
    }
    // Later steps on the same answers see a policy that has moved, and some tokens too far.
    let rows = curve(&space, "one", "toolrl");
    let all = |name: &str| {
        rows.iter()
            .filter_map(|r| r[name].as_f64())
            .collect::<Vec<_>>()
    };
    assert!(all("steps").iter().any(|&n| n > 1.0), "{rows:?}");
    assert!(all("clipped").iter().any(|&share| share > 0.0), "{rows:?}");
    // One step moves nothing before it.
    for row in curve(&space, "one", "luffy") {
        assert!(row["clipped"].as_f64().unwrap_or(0.0) <= 0.0, "{row}");
    }
    // Before the first update moves anything, policy and reference are one: the loss of a pair is ln 2.
    let first = &curve(&space, "one", "dpo")[0];
    let loss = first["loss"].as_f64().expect("a loss");
    assert!((loss - std::f64::consts::LN_2).abs() < 1e-6, "{first}");
    let sampled = curve(&space, "one", "gkd").len();
    assert_eq!(sampled, 6);
    answers_are_kept(&space);

    // An adapter is saved beside the model that has it merged.
    let files = &shown(&space, "one", "adapted")["outputs"]["model"]["files"];
    let named = |name: &str| {
        files
            .as_array()
            .expect("files")
            .iter()
            .any(|f| f["file"] == name)
    };
    assert!(named("model.safetensors"), "{files}");
    assert!(
        named("adapter/adapter_config.json") && named("adapter/adapter_model.safetensors"),
        "{files}"
    );

    // What is exported loads, and the card tells of it.
    let files = &shown(&space, "one", "exported")["outputs"]["model"]["files"];
    let file = |name: &str| {
        let found = files
            .as_array()
            .expect("files")
            .iter()
            .find(|f| f["file"] == name);
        space.path(found.expect(name)["path"].as_str().expect("a path"))
    };
    let card = std::fs::read_to_string(file("README.md")).expect("the card");
    for part in [
        "# tiny",
        "| dpo |",
        "| exact |",
        "tiny-Q8_0.gguf",
        "model.safetensors",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let gguf = space.path("tiny.gguf");
    std::fs::copy(file("tiny-Q8_0.gguf"), &gguf).expect("copied");
    let said = space.starling("lm info tiny.gguf");
    assert_eq!(said.code, 0, "{}", said.all());
}

/// Everything that a policy answered can be asked for, and adds up to what the curve says.
fn answers_are_kept(space: &Space) {
    let rows = |arguments: &str| -> Vec<Value> {
        let said = space.starling(&format!(
            "--store one inspect rollouts {arguments} --json -p p.toml"
        ));
        assert_eq!(said.code, 0, "{}", said.all());
        let lines = said.stdout.lines();
        lines
            .map(|l| serde_json::from_str(l).expect("JSON"))
            .collect()
    };
    for (stage, rounds) in [("toolrl", 1), ("gspo", 3), ("luffy", 1)] {
        let all = rows(&format!("{stage}.samples"));
        for row in &curve(space, "one", stage) {
            let number = |s: &Value, name: &str| s[name].as_f64().expect("a number");
            let mine: Vec<&Value> = all
                .iter()
                .filter(|s| s["update"] == row["update"])
                .collect();
            let groups = number(row, "groups") as usize;
            assert!(groups <= 8 * rounds, "{row}");
            assert_eq!(mine.len(), groups * 4, "{stage} {row}");
            let sampled: Vec<&&Value> = mine.iter().filter(|s| s["foreign"] == false).collect();
            for (ours, theirs) in [("reward", "reward"), ("tokens", "response_tokens")] {
                let mean = sampled.iter().map(|s| number(s, ours)).sum::<f64>();
                let mean = mean / sampled.len() as f64;
                assert!((mean - number(row, theirs)).abs() < 1e-9, "{stage} {row}");
            }
            let kept = mine.iter().filter(|s| s["accepted"] == true).count();
            assert_eq!(kept, number(row, "groups_kept") as usize * 4, "{row}");
            for s in &mine {
                assert_eq!(s["accepted"] == true, s["advantage"].is_number(), "{s}");
                assert_eq!(s["accepted"] == false, s["filtered"].is_string(), "{s}");
                let parts = &s["parts"];
                let sum = match stage {
                    "toolrl" => number(parts, "format") + number(parts, "answer"),
                    _ if number(parts, "format") < 0.0 => -1.0,
                    _ => number(parts, "answer"),
                };
                let whole = sum - number(parts, "overlong");
                assert!((whole - number(s, "reward")).abs() < 1e-9, "{s}");
            }
        }
    }
    // Questions narrow the answers down.
    let all = rows("gspo");
    let update = rows("gspo.samples --update 2");
    assert!(!update.is_empty() && update.iter().all(|s| s["update"] == 2));
    let (kept, left) = (rows("gspo --accepted"), rows("gspo --filtered"));
    assert_eq!(kept.len() + left.len(), all.len());
    let bad = rows("gspo --max-reward -0.5").len();
    assert_eq!(bad + rows("gspo --min-reward -0.5").len(), all.len());
    let failed = rows("gspo --failed any");
    let rule = failed[0]["failed"].as_str().expect("a rule");
    let of_rule = rows(&format!("gspo --failed {rule}"));
    let expected = failed.iter().filter(|s| s["failed"] == rule).count();
    assert_eq!(of_rule.len(), expected);
    let said = space.starling("--store one inspect rollouts gspo --limit 3 -p p.toml");
    assert_eq!(
        (said.code, said.stdout.lines().count()),
        (0, 3),
        "{}",
        said.all()
    );
    assert!(
        said.stderr.contains("the first 3 are shown"),
        "{}",
        said.all()
    );
    // Switched off, the output is not there, and nothing else of the result moves.
    let off = "--set gspo.keep-rollouts=false";
    let said = space.starling(&format!("--store one run p.toml {off}"));
    assert_eq!(said.code, 0, "{}", said.all());
    let said = space.starling(&format!("--store one show gspo --json -p p.toml {off}"));
    let without: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let with = shown(space, "one", "gspo");
    assert!(without["outputs"].get("samples").is_none());
    assert!(with["outputs"]["samples"].is_object());
    for port in ["model", "curve"] {
        let digest = |value: &Value| value["outputs"][port]["digest"].clone();
        assert_eq!(digest(&without), digest(&with), "{port}");
    }
}

/// Each guard of `rl`, provoked: its words in the message, and where it stands.
const GUARDS: [(&str, &str, &str); 5] = [
    (
        "guards.entropy = { limit = 7.0, patience = 2 }",
        "guard `entropy`: `entropy` was below 7 for 2 updates in a row",
        "groups_kept",
    ),
    (
        "guards.kl = { limit = 1e-6, patience = 1, then = \"roll-back\" }\noptimizer.lr = 1e-2\n\
         guards.roll-back = { every = 1, most = 1 }",
        "after 1 roll-back: guard `kl`: `kl_reference` was above 0.000001 for 1 update in a row",
        "reward",
    ),
    (
        "filter = { low = 0.98, high = 0.981 }\nguards.no-groups.patience = 2",
        "guard `no-groups`: `groups_kept` was nothing for 2 updates in a row, 0.0000 at update 2",
        "groups 4.0000",
    ),
    (
        "temperature = 1e-4\nguards.no-advantages.patience = 3",
        "guard `no-advantages`: `groups_equal` was all of `groups` for 3 updates in a row, 4.0000 at update 3",
        "groups_kept 0.0000",
    ),
    (
        "optimizer = { lr = 1e38, warm-up = 0.0, clip = 1e30 }",
        "guard `non-finite`:",
        "lower `optimizer.lr` (now 1000",
    ),
];

#[test]
fn every_guard_stops_with_its_numbers() {
    let space = Space::new();
    let mut text = BEGINNING.to_owned();
    for (at, (settings, ..)) in GUARDS.iter().enumerate() {
        text.push_str(&format!(
            "\n[stage.guarded-{at}]\nkind = \"rl\"\ninputs.model = \"teacher.model\"\ninputs.prompts = \"rows.rows\"\n\
             updates = 12\nprompts = 4\nsamples = 4\nmax-new-tokens = 48\n{settings}\n"
        ));
    }
    space.write("p.toml", &text);
    let said = space.starling("run p.toml");
    assert_eq!(said.code, 4, "{}", said.all());
    for (at, (_, words, numbers)) in GUARDS.iter().enumerate() {
        let stage = format!("error: stage `guarded-{at}`");
        let found = said
            .stderr
            .split("error: ")
            .find(|part| format!("error: {part}").starts_with(&stage));
        let part = found.unwrap_or_else(|| panic!("{stage}: {}", said.all()));
        assert!(
            part.contains(words) && part.contains(numbers),
            "{words}: {part}"
        );
    }
}

#[test]
fn what_contradicts_itself_is_said() {
    let space = Space::new();
    space.write("p.toml", &pipeline());
    for (set, part) in [
        ("gkd.max-new-tokens=0", "max-new-tokens"),
        ("dpo.label-smoothing=0.5", "label-smoothing"),
        ("gspo.filter.rounds=0", "rounds"),
        ("toolrl.dual-clip=0.5", "dual-clip"),
        ("adapted.lora.rank=0", "rank"),
    ] {
        let said = space.starling(&format!("plan p.toml --set {set}"));
        assert_eq!(said.code, 3, "{}", said.all());
        assert!(said.stderr.contains(part), "{}", said.all());
    }
}
