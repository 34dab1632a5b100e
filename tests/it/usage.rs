//! The command line itself.

use crate::space::Space;

#[test]
fn version_and_help_are_data() {
    let space = Space::new();
    let version = space.starling("--version");
    assert_eq!(version.code, 0);
    assert_eq!(
        version.stdout,
        concat!("starling ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = space.starling("--help");
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(!help.stdout.contains("run-stage"), "{}", help.stdout);
    for command in [
        "run",
        "plan",
        "why",
        "show",
        "graph",
        "stages",
        "new",
        "schema",
        "runs",
        "gc",
        "verify",
        "lm",
        "completions",
    ] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{command}: {}",
            help.stdout
        );
        let help = space.starling(&format!("{command} --help"));
        assert_eq!(help.code, 0, "{}", help.all());
    }
}

#[test]
fn wrong_usage_has_its_own_code() {
    let space = Space::new();
    for arguments in [
        "",
        "fly",
        "run --treads 2",
        "why",
        "run --threads 0",
        "show",
    ] {
        let said = space.starling(arguments);
        assert_eq!(said.code, 2, "{arguments}: {}", said.all());
        assert_eq!(said.stdout, "", "{arguments}");
    }
}

#[test]
fn a_store_that_is_not_there_is_said_to_be() {
    let space = Space::new();
    for command in ["runs", "verify", "gc --dry-run"] {
        let said = space.starling(&format!("--store nowhere {command}"));
        assert_eq!(said.code, 5, "{}", said.all());
        assert!(
            said.stderr.starts_with("error: there is no store at "),
            "{}",
            said.stderr
        );
    }
    space.write("other/format", "something else\n");
    let said = space.starling("--store other runs");
    assert_eq!(said.code, 5, "{}", said.all());
}

#[test]
fn completions_know_the_commands() {
    let said = Space::new().starling("completions bash");
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("fail-fast"), "{}", said.stdout);
}

#[test]
fn the_folder_can_be_chosen() {
    let space = Space::new();
    space.write(
        "sub/p.toml",
        "[stage.data]\nkind = 'source'\npath = 'data.txt'\n",
    );
    space.write("sub/data.txt", "abc");
    let said = space.starling("-C sub run p.toml");
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(space.path("sub/.starling").is_dir());
    // The nearest store above is found from a folder within.
    space.write(
        "sub/deep/p.toml",
        "[stage.data]\nkind = 'source'\npath = '../data.txt'\n",
    );
    let said = space.starling("-C sub/deep plan p.toml");
    assert_eq!(said.stderr, "1 stage: 1 cached\n", "{}", said.all());
}

#[test]
fn a_device_that_a_kind_lacks_is_said_and_not_replaced() {
    let space = Space::new();
    let text = "[stage.world]\nkind = 'world'\ndevice = 'cuda'\n";
    let rows = "base-rows = 4\ntrain-rows = 4\ntest-rows = 4\n";
    space.write("p.toml", &format!("{text}{rows}"));
    let said = space.starling("run p.toml");
    assert_eq!(said.code, 6, "{}", said.all());
    assert!(
        said.stderr.contains("computes on cpu only"),
        "{}",
        said.all()
    );
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_there_is_said_before_a_model_is_read() {
    let space = Space::new();
    space.write("rows.jsonl", "{\"id\": 1, \"ids\": [1, 2]}\n");
    let files = "--model nowhere --in rows.jsonl --out out.jsonl";
    for (device, words) in [("cuda", "scripts/cuda-build.sh"), ("abacus", "no device")] {
        let said = space.starling(&format!("lm logprobs {files} --device {device}"));
        assert_eq!(said.code, 6, "{}", said.all());
        assert!(said.stderr.contains(words), "{}", said.all());
    }
}
