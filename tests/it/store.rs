//! The commands about a store: verify, diff, status, doctor, gc, pin.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use starling_cache::Owner;

use crate::space::Space;

const PIPELINE: &str = r#"
[stage.text]
kind = "source"
path = "text.txt"

[stage.count]
kind = "command"
argv = ["sh", "-c", "wc -c < {in.text} > {out.raw}; echo '{{\"n\": '$N'}}' > {out.report}"]
inputs.in.text = "text.data"
outputs = ["raw", "report"]
env.N = "1"

[stage.again]
kind = "command"
argv = ["cp", "{in.count}", "{out.raw}"]
inputs.in.count = "count.raw"
outputs = ["raw"]
"#;

fn space() -> Space {
    let space = Space::new();
    space.write("text.txt", "some words\n");
    space.write("p.toml", PIPELINE);
    let said = space.starling("run p.toml");
    assert_eq!(said.code, 0, "{}", said.all());
    space
}

/// What `show` says about a stage.
fn shown(space: &Space, stage: &str) -> Value {
    let said = space.starling(&format!("show {stage} --json -p p.toml"));
    assert_eq!(said.code, 0, "{}", said.all());
    serde_json::from_str(&said.stdout).expect("JSON")
}

/// Flips a bit of an output's file.
fn damage(space: &Space, stage: &str, port: &str) {
    let value = shown(space, stage);
    let path = value["outputs"][port]["path"]
        .as_str()
        .expect("a file")
        .to_owned();
    let mut bytes = fs::read(&path).expect("read");
    bytes[0] ^= 1;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("writable");
    fs::write(&path, bytes).expect("written");
}

#[test]
fn damage_is_found_and_made_again_from_specs() {
    let space = space();
    assert_eq!(space.starling("verify").code, 0);
    let before = shown(&space, "again")["outputs"].clone();
    damage(&space, "text", "data");
    damage(&space, "count", "raw");
    damage(&space, "count", "report");
    let found = space.starling("verify --json");
    assert_eq!(found.code, 7, "{}", found.all());
    let value: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(
        value["damaged"].as_array().map(Vec::len),
        Some(3),
        "{value}"
    );
    let repaired = space.starling("verify --repair");
    assert_eq!(repaired.code, 0, "{}", repaired.all());
    assert!(repaired.stderr.contains("made again"), "{}", repaired.all());
    let whole = space.starling("verify");
    assert_eq!(whole.code, 0, "{}", whole.all());
    assert_eq!(shown(&space, "again")["outputs"], before);
    let run = space.starling("run p.toml");
    assert!(run.stderr.contains("0 ran"), "{}", run.all());
}

#[test]
fn a_stage_is_run_beside_its_result_and_compared() {
    let space = space();
    let same = space.starling("verify --reexecute text -p p.toml");
    assert_eq!(same.code, 0, "{}", same.all());
    assert!(
        same.stdout.contains("every byte is the same"),
        "{}",
        same.all()
    );
    assert!(
        same.stderr.contains("the same bytes on every machine"),
        "{}",
        same.all()
    );
    // A kind that promises nothing may differ, and the differences are told.
    space.write(
        "p.toml",
        &PIPELINE.replace(
            "wc -c < {in.text}",
            "date +%N | tee {out.raw}.x; od -An -N8 -tx8 /dev/urandom",
        ),
    );
    assert_eq!(space.starling("run p.toml").code, 0);
    let other = space.starling("verify --reexecute count --json -p p.toml");
    assert_eq!(other.code, 0, "{}", other.all());
    let value: Value = serde_json::from_str(&other.stdout).expect("JSON");
    assert_eq!(value["same-bytes"], false, "{value}");
    assert!(
        value["promise"]
            .as_str()
            .is_some_and(|p| p.starts_with("nothing")),
        "{value}"
    );
    // The result that was there stays, and nothing has to run.
    assert!(space.starling("run p.toml").stderr.contains("0 ran"));
    let none = space.starling("verify --reexecute count -p p.toml --set count.env.N=\"9\"");
    assert_eq!(none.code, 2, "{}", none.all());
}

#[test]
fn a_copy_is_checked_and_ones_own() {
    let space = space();
    let said = space.starling("copy again out/here.txt -p p.toml");
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(fs::read(space.path("out/here.txt")).expect("read"), b"11\n");
    // Writing to it leaves the store alone.
    space.write("out/here.txt", "mine\n");
    assert_eq!(space.starling("verify").code, 0);
    for (arguments, code, words) in [
        ("copy again out/here.txt", 2, "is there already"),
        ("copy count new", 2, "`count.raw`, `count.report`"),
        ("copy count.row new", 2, "it has raw, report"),
        ("copy cuont.raw new", 2, "did you mean `count`?"),
        ("copy again new --set count.env.N=\"7\"", 3, "no result yet"),
        ("copy again out/here.txt/below", 3, "out/here.txt"),
    ] {
        let said = space.starling(&format!("{arguments} -p p.toml"));
        assert_eq!(said.code, code, "{arguments}: {}", said.all());
        assert!(said.stderr.contains(words), "{arguments}: {}", said.all());
    }
    assert_eq!(
        fs::read(space.path("out/here.txt")).expect("read"),
        b"mine\n"
    );
    damage(&space, "again", "raw");
    let said = space.starling("copy again.raw new -p p.toml");
    assert_eq!(said.code, 5, "{}", said.all());
    assert!(!space.path("new").exists());
}

#[test]
fn two_runs_are_compared_by_parameters_and_figures() {
    let space = space();
    let changed = space.starling("run p.toml --set count.env.N=\"2\"");
    assert_eq!(changed.code, 0, "{}", changed.all());
    let diff = space.starling("diff -2 -1");
    assert_eq!(diff.code, 0, "{}", diff.all());
    for part in [
        "changed  count",
        "env.N  \"1\" → \"2\"",
        "report.n  1",
        "→ 2",
        "2  stages are the same",
    ] {
        assert!(diff.stdout.contains(part), "{part}: {}", diff.stdout);
    }
    let json = space.starling("diff -2 --json");
    let value: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(value["stages"].as_array().map(Vec::len), Some(3), "{value}");
    let unknown = space.starling("diff nothing");
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("there is no run `nothing`"),
        "{}",
        unknown.all()
    );
}

#[test]
fn what_is_pinned_stays_and_the_rest_has_a_price() {
    let space = space();
    assert_eq!(space.starling("run p.toml --set count.env.N=\"2\"").code, 0);
    let pinned = space.starling("pin first count -p p.toml --reason paper");
    assert_eq!(pinned.code, 0, "{}", pinned.all());
    let dry = space.starling("gc --dry-run --max-size 0 --grace 0");
    assert_eq!(dry.code, 0, "{}", dry.all());
    let lines: Vec<&str> = dry
        .stdout
        .lines()
        .filter(|line| line.contains("result"))
        .collect();
    assert_eq!(lines.len(), 2, "the other count, and again: {}", dry.all());
    for part in [
        "of stage count",
        "of artifacts",
        "to make again",
        "last used by",
    ] {
        assert!(dry.stdout.contains(part), "{part}: {}", dry.stdout);
    }
    assert_eq!(space.starling("gc --max-size 0 --grace 0 --json").code, 0);
    assert_eq!(space.starling("verify").code, 0);
    let run = space.starling("run p.toml");
    assert!(run.stderr.contains("1 ran"), "{}", run.all());
    assert!(
        space
            .starling("pin")
            .stdout
            .contains("first  2 results  paper")
    );
    assert_eq!(space.starling("pin first --remove").code, 0);
    assert_eq!(space.starling("pin first --remove").code, 2);
}

/// A worker that was killed between its record and its tidying has no further attempt to tidy up after it.
#[test]
fn what_a_dead_worker_left_is_collected_and_a_living_ones_is_not() {
    let space = space();
    assert_eq!(space.starling("run p.toml").code, 0);
    let attempts = space.path(".starling/attempts");
    let action = fs::read_dir(attempts).expect("attempts").next();
    let action = action.expect("one").expect("a folder").path();
    let here = Owner::current();
    let gone = Owner {
        start: here.start + 1,
        ..here.clone()
    };
    for (attempt, owner) in [("8", gone), ("9", here)] {
        let folder = action.join(attempt);
        fs::create_dir_all(folder.join("scratch/work")).expect("a folder");
        fs::write(folder.join("scratch/work/half"), "x".repeat(1000)).expect("a file");
        let started = json!({"owner": owner, "started-unix": 0.0, "numerics": "cpu"});
        fs::write(folder.join("started.json"), started.to_string()).expect("a file");
    }
    let dead = action.join("8/scratch");
    let dry = space.starling("gc --dry-run --json");
    let found: Value = serde_json::from_str(&dry.stdout).expect("JSON");
    assert_eq!(
        found["items"],
        json!([{"leftover": dead, "bytes": 1000}]),
        "{}",
        dry.all()
    );
    assert!(dead.exists(), "nothing is deleted by asking");
    assert_eq!(space.starling("gc").code, 0);
    assert!(!dead.exists() && action.join("9/scratch/work/half").exists());
}

#[test]
fn status_and_doctor_answer() {
    let space = space();
    let status = space.starling("status");
    assert_eq!((status.code, status.stdout.as_str()), (0, ""));
    assert!(status.stderr.contains("nothing runs"), "{}", status.all());
    assert_eq!(space.starling("status --json").stdout.trim(), "[]");
    let doctor = space.starling("doctor");
    assert_eq!(doctor.code, 0, "{}", doctor.all());
    for part in [
        "cores",
        "numerics  cpu",
        "writing  works",
        "placing",
        "clocks",
    ] {
        assert!(doctor.stdout.contains(part), "{part}: {}", doctor.stdout);
    }
    let json = space.starling("doctor --json");
    assert!(serde_json::from_str::<Value>(&json.stdout).is_ok_and(|v| v.is_array()));
}

/// While a stage runs, `status` says so, from another process.
#[test]
fn status_tells_what_runs() {
    let space = Space::new();
    space.write(
        "p.toml",
        "[stage.nap]\nkind = \"command\"\nargv = [\"sh\", \"-c\", \"sleep 30; echo > {out.raw}\"]\noutputs = [\"raw\"]\n",
    );
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_starling"))
        .args(["run", "p.toml"])
        .current_dir(space.path(""))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the command starts");
    let began = std::time::Instant::now();
    loop {
        let status = space.starling("status");
        if status.stdout.contains("nap") {
            assert!(
                status.stdout.contains("0 of 1 stages done"),
                "{}",
                status.all()
            );
            break;
        }
        assert!(began.elapsed().as_secs() < 60, "{}", status.all());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    run.kill().expect("killed");
    run.wait().expect("ended");
    assert!(!space.starling("status").stdout.contains("nap"));
}
