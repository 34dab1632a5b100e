//! The real training stages, killed in the middle: the same command ends with the bytes of an unbroken run.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::small::BEGINNING;
use crate::space::Space;

/// SFT, rollout, CKD and Sim-RL at a size of seconds, with a snapshot due at every chance.
const REST: &str = r#"snapshot-seconds = 0.0

[stage.rollouts]
kind = "rollout"
inputs.model = "teacher.model"
inputs.prompts = "rows.rows"
samples = 2
top-k = 8
max-new-tokens = 48

[stage.ckd]
kind = "distill"
inputs.student = "teacher.model"
inputs.rollouts = "rollouts.rollouts"
updates = 40
batch = 16
tail = 0.5
student-top = 16
optimizer.lr = 1e-3
snapshot-seconds = 0.0

[stage.refined]
kind = "rl"
inputs.model = "ckd.model"
inputs.prompts = "rows.rows"
updates = 6
prompts = 8
samples = 4
max-new-tokens = 48
snapshot-seconds = 0.0

[stage.examined]
kind = "evaluate"
inputs.model = "refined.model"
inputs.rows = "held-out.rows"
max-new-tokens = 48
samples = 2

[stage.table]
kind = "table"
inputs.arms.refined = "examined.evaluation"
"#;

fn pipeline() -> String {
    format!("{BEGINNING}{REST}")
}

/// The stages that keep snapshots: each is killed once, its worker or the engine in turn.
const KILLED: [&str; 4] = ["teacher", "rollouts", "ckd", "refined"];

fn start(space: &Space, store: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(["--store", store, "run", "--json", "p.toml"])
        .current_dir(space.path(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts")
}

/// Runs to the end; the digests of every output by stage and port, and whether something was resumed.
fn complete(space: &Space, store: &str) -> (BTreeMap<String, String>, String) {
    let said = space.starling(&format!("--store {store} run --json p.toml"));
    assert_eq!(said.code, 0, "{}", said.all());
    let mut digests = BTreeMap::new();
    for stage in ["teacher", "rollouts", "ckd", "refined", "examined", "table"] {
        let shown = space.starling(&format!("--store {store} show {stage} --json -p p.toml"));
        assert_eq!(shown.code, 0, "{}", shown.all());
        let value: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        for (port, output) in value["outputs"].as_object().expect("outputs") {
            digests.insert(format!("{stage}.{port}"), output["digest"].to_string());
        }
    }
    assert!(digests.len() >= 9, "{digests:?}");
    (digests, said.stdout)
}

/// Lets the run come to its next snapshot of `stage`, then kills the engine, or its workers; false when the
/// stage was over before.
fn kill_at_snapshot(space: &Space, store: &str, stage: &str, engine: bool) -> bool {
    let mut run = start(space, store);
    let lines = BufReader::new(run.stdout.take().expect("a pipe")).lines();
    let mut reached = false;
    for line in lines {
        let line = line.expect("text");
        let event: Value = serde_json::from_str(&line).expect("a JSON line");
        // A rollout keeps chunks instead of snapshots, and tells of each as progress.
        let kept =
            line.contains("\"snapshot\"") || (stage == "rollouts" && line.contains("\"progress\""));
        if reached || event["stage"] != stage || !kept {
            continue;
        }
        reached = true;
        if engine {
            run.kill().expect("killed");
            break;
        }
        // The workers are the engine's only children; one may have ended on its own meanwhile.
        Command::new("pkill")
            .args(["-KILL", "-P", &run.id().to_string()])
            .status()
            .expect("pkill runs");
    }
    run.wait().expect("ended");
    reached
}

#[test]
fn a_killed_run_ends_with_the_bytes_of_an_unbroken_one() {
    let space = Space::new();
    space.write("p.toml", &pipeline());
    let (unbroken, _) = complete(&space, "unbroken");
    // Where a snapshot falls depends on the clock, so every run of the test kills at other points.
    for stage in KILLED {
        let kills = [true, false].map(|engine| kill_at_snapshot(&space, "broken", stage, engine));
        println!(
            "{stage}: engine killed {}, worker killed {}",
            kills[0], kills[1]
        );
        assert!(kills.contains(&true), "`{stage}` was never killed");
    }
    let (broken, _) = complete(&space, "broken");
    assert_eq!(broken, unbroken);
}

#[test]
fn threads_and_shards_change_no_byte_and_rerun_nothing() {
    let space = Space::new();
    space.write("p.toml", &pipeline());
    let (one, _) = {
        let said = space.starling("--store one run --threads 1 p.toml");
        assert_eq!(said.code, 0, "{}", said.all());
        complete(&space, "one")
    };
    let (two, _) = {
        // Four processes share the prompts.
        let said = space.starling(
            "--store two run --threads 2 p.toml --set rollouts.shards=4 --set examined.shards=4",
        );
        assert_eq!(said.code, 0, "{}", said.all());
        complete(&space, "two")
    };
    assert_eq!(one, two);
    let again = space.starling("--store one run --threads 2 p.toml");
    assert!(again.stderr.contains("0 ran"), "{}", again.all());

    // One parameter reruns its stage and what follows it: refined, examined, table.
    let changed = space.starling("--store one run p.toml --set ckd.tail=5.0");
    assert_eq!(changed.code, 0, "{}", changed.all());
    assert!(changed.stderr.contains("4 ran"), "{}", changed.all());
    // `why` names it, with both values and its place in the file.
    space.write("p.toml", &pipeline().replace("tail = 0.5", "tail = 2.5"));
    let why = space.starling("--store one why ckd -p p.toml");
    let line = pipeline()
        .lines()
        .position(|l| l == "tail = 0.5")
        .expect("there")
        + 1;
    for part in ["tail", "→ 2.5", &format!("p.toml:{line}:")] {
        assert!(why.all().contains(part), "{part}: {}", why.all());
    }
}
