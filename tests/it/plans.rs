//! Plans, reasons and results, from outside.

use std::fs;

use crate::space::Space;

const TWO: &str = "\
[stage.world]
kind = 'world'
seed = 3
base-rows = 20
train-rows = 40
test-rows = 20

[stage.parts]
kind = 'split'
inputs.rows = 'world.train'
test = 0.25
by = 'row'
";

fn space() -> Space {
    let space = Space::new();
    space.write("two.toml", TWO);
    space
}

#[test]
fn a_plan_before_and_after_a_run() {
    let space = space();
    let before = space.starling("plan two.toml");
    assert_eq!(before.code, 0, "{}", before.all());
    let first = before.stdout.lines().next().expect("a line");
    assert!(first.starts_with("     Ready  world  "), "{first}");
    assert!(first.ends_with("first of its kind"), "{first}");
    assert!(
        before
            .stdout
            .contains("   Blocked  parts            waits for world\n")
    );
    assert_eq!(
        before.stderr,
        "2 stages: 1 ready, 1 blocked\n\
         what 2 stages will cost is unknown: nothing of kind world, split has run with this store\n"
    );
    assert!(
        !space.path(".starling").exists(),
        "a plan leaves nothing behind"
    );

    let run = space.starling("run two.toml");
    assert_eq!(run.code, 0, "{}", run.all());
    let after = space.starling("plan two.toml");
    assert_eq!(after.stderr, "2 stages: 2 cached\n", "{}", after.all());
    let again = space.starling("run two.toml --threads 1");
    assert_eq!(again.code, 0, "{}", again.all());
    assert_eq!(space.starling("runs").stdout.lines().count(), 2);
}

#[test]
fn why_tells_the_parameter_its_values_and_its_place() {
    let space = space();
    assert_eq!(space.starling("run two.toml").code, 0);
    space.write("two.toml", &TWO.replace("test = 0.25", "test = 0.5"));
    let why = space.starling("why parts");
    assert_eq!(why.code, 0, "{}", why.all());
    assert!(
        why.stdout
            .contains("\n  test  0.25 → 0.5   two.toml:11:8\n"),
        "{}",
        why.stdout
    );
    let set = space.starling("why parts --set parts.seed=9");
    assert!(
        set.stdout.contains("\n  seed  0 → 9   --set:1:12\n"),
        "{}",
        set.stdout
    );
    let json = space.starling("why parts --json");
    let value: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(value["why"]["changes"][0]["new"], "0.5");
    let wrong = space.starling("why part");
    assert_eq!(wrong.code, 2);
    assert_eq!(
        wrong.stderr,
        "error: two.toml has no stage `part`; did you mean `parts`?\n"
    );
}

#[test]
fn show_finds_the_files() {
    let space = space();
    assert_eq!(space.starling("run two.toml").code, 0);
    let show = space.starling("show parts --json");
    let value: serde_json::Value = serde_json::from_str(&show.stdout).expect("JSON");
    assert_eq!(value["params"]["by"], "row");
    assert_eq!(value["inputs"]["rows"], "world.train");
    let path = value["outputs"]["test"]["path"].as_str().expect("a file");
    let rows = fs::read_to_string(path).expect("readable");
    assert_eq!(rows.lines().count(), 10);
    let text = space.starling("show parts");
    assert!(text.stdout.contains(path), "{}", text.stdout);
    assert!(text.stdout.contains("\nmade     2"), "{}", text.stdout);
    let elsewhere = space.starling("show world -p two.toml --set world.seed=4");
    assert!(
        elsewhere.stdout.contains("none yet"),
        "{}",
        elsewhere.stdout
    );
}

#[test]
fn mistakes_come_all_at_once_and_nothing_runs() {
    let space = Space::new();
    space.write(
        "bad.toml",
        "[stage.world]\nkind = 'wrold'\n\n[stage.parts]\nkind = 'split'\ninputs.rows = 'world.trian'\ntset = 0.25\n",
    );
    for command in ["run", "plan"] {
        let said = space.starling(&format!("{command} bad.toml"));
        assert_eq!(said.code, 3, "{}", said.all());
        assert_eq!(said.stdout, "");
        for part in [
            "bad.toml:2:8",
            "did you mean `world`?",
            "bad.toml:7:1",
            "did you mean `test`?",
            "error: 3 mistakes; nothing was run",
        ] {
            assert!(
                said.stderr.contains(part),
                "{part} is missing in\n{}",
                said.stderr
            );
        }
    }
    assert!(!space.path(".starling").exists());
    let absent = space.starling("run absent.toml");
    assert_eq!(absent.code, 3);
    assert!(
        absent
            .stderr
            .starts_with("error: cannot read the pipeline absent.toml: ")
    );
}

#[test]
fn a_pinned_file_may_be_planned_before_it_is_there() {
    let space = Space::new();
    // `printf abc | sha256sum`
    let pin = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = format!(
        "[stage.data]\nkind = 'source'\npath = 'data.txt'\nsha256 = '{pin}'\nfetch = 'printf abc'\n"
    );
    space.write("pinned.toml", &text);
    let plan = space.starling("plan pinned.toml");
    assert_eq!(plan.code, 0, "{}", plan.all());
    assert!(
        plan.stdout
            .contains("data.txt is not there; to get it: printf abc"),
        "{}",
        plan.all()
    );
    let run = space.starling("run pinned.toml");
    assert_eq!(run.code, 3, "{}", run.all());
    assert!(run.stderr.contains("printf abc"), "{}", run.stderr);
    space.write("data.txt", "abd");
    let wrong = space.starling("run pinned.toml");
    assert_eq!(wrong.code, 3, "{}", wrong.all());
    assert!(
        wrong.stderr.contains("pinned.toml:4:10"),
        "{}",
        wrong.stderr
    );
    space.write("data.txt", "abc");
    assert_eq!(space.starling("run pinned.toml").code, 0);
    fs::remove_file(space.path("data.txt")).expect("removed");
    let without = space.starling("run pinned.toml");
    assert_eq!(
        without.code,
        0,
        "its bytes are in the store\n{}",
        without.all()
    );
}

#[test]
fn damage_is_found_and_healed() {
    let space = space();
    assert_eq!(space.starling("run two.toml").code, 0);
    let sound = space.starling("verify");
    assert_eq!(sound.code, 0, "{}", sound.all());
    let show = space.starling("show parts --json");
    let value: serde_json::Value = serde_json::from_str(&show.stdout).expect("JSON");
    let path = value["outputs"]["train"]["path"].as_str().expect("a file");
    let mut permissions = fs::metadata(path).expect("there").permissions();
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "the test damages its own store"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(path, permissions).expect("writable");
    fs::write(path, "flipped").expect("written");
    let found = space.starling("verify");
    assert_eq!(found.code, 7, "{}", found.all());
    let damaged = space.starling("verify --repair");
    assert_eq!(damaged.code, 0, "{}", damaged.all());
    assert!(
        damaged
            .stdout
            .contains("of stage parts; 1 files of output train are lost"),
        "{}",
        damaged.all()
    );
    assert_eq!(space.starling("run two.toml").code, 0);
    assert_eq!(space.starling("verify").code, 0);
}

#[test]
fn collecting_spares_what_is_kept() {
    let space = space();
    assert_eq!(space.starling("run two.toml --set world.seed=8").code, 0);
    assert_eq!(space.starling("run two.toml").code, 0);
    let dry = space.starling("gc --dry-run --keep-runs 1 --grace 0");
    assert_eq!(dry.code, 0, "{}", dry.all());
    assert!(dry.stdout.contains("of stage world"), "{}", dry.all());
    assert_eq!(
        space.starling("plan two.toml --set world.seed=8").stderr,
        "2 stages: 2 cached\n"
    );
    let real = space.starling("gc --keep-runs 1 --grace 0");
    assert_eq!(real.stdout, dry.stdout, "{}", real.all());
    assert_eq!(
        space.starling("plan two.toml").stderr,
        "2 stages: 2 cached\n"
    );
    let gone = space.starling("plan two.toml --set world.seed=8");
    assert!(
        gone.stderr
            .starts_with("2 stages: 1 ready, 1 blocked\nto go: about "),
        "{}",
        gone.all()
    );
}
