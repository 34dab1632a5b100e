//! `--json` everywhere: every command either prints one JSON value with it, or writes something that has a form of its
//! own. The list of commands is the program's own, so that a new one without `--json` fails here.

use std::collections::BTreeMap;

use crate::small::BEGINNING;
use crate::space::Space;

/// Behind the teacher: answers kept for `inspect rollouts`, and a model for the rest.
const REST: &str = r#"
[stage.policy]
kind = "rl"
inputs.model = "teacher.model"
inputs.prompts = "rows.rows"
updates = 1
prompts = 8
samples = 4
max-new-tokens = 48

[stage.saved]
kind = "export"
name = "tiny"
inputs.model = "teacher.model"
"#;

/// What every command is given, in this order; RUN stands for the name of a run.
const ASKED: [(&str, &str); 28] = [
    ("fetch", "fetch p.toml --json"),
    ("plan", "plan p.toml --json"),
    ("run", "run p.toml --json"),
    ("why", "why teacher -p p.toml --json"),
    ("graph", "graph p.toml --json"),
    ("show", "show teacher -p p.toml --json"),
    ("stages", "stages --json"),
    ("stages show", "stages show sft --json"),
    ("runs", "runs --json"),
    ("status", "status --json"),
    ("tensorboard", "tensorboard --json"),
    ("tensorboard", "tensorboard --json -p p.toml --out curves"),
    ("diff", "diff RUN RUN --json"),
    ("doctor", "doctor --json"),
    ("pin", "pin kept teacher -p p.toml --json"),
    ("pin", "pin --json"),
    ("pin", "pin kept --remove --json"),
    ("verify", "verify --json"),
    ("gc", "gc --dry-run --json"),
    ("copy", "copy saved saved/model -p p.toml --json"),
    ("lm info", "lm info saved/model --json"),
    (
        "lm convert",
        "lm convert --model saved/model --out copy --json",
    ),
    (
        "inspect sample",
        "inspect sample rows.rows 1 -p p.toml --json",
    ),
    (
        "inspect rollouts",
        "inspect rollouts policy -p p.toml --json",
    ),
    ("inspect case", "inspect case bfcl simple_python_0 --json"),
    (
        "inspect case",
        "inspect case acebench normal_atom_bool_1 --json",
    ),
    ("schema", "schema"),
    (
        "eval",
        "eval --model saved/model --bench bfcl --categories irrelevance --limit 1 --max-new-tokens 2 --json",
    ),
];

/// Commands whose product has a form of its own.
const OWN_FORM: [(&str, &str); 8] = [
    ("new", "a pipeline in TOML"),
    ("completions", "a shell's script"),
    ("lm logprobs", "JSON lines, in --out"),
    ("lm generate", "JSON lines, in --out"),
    ("score reward", "JSON lines, in --out"),
    ("score bfcl", "JSON lines, in --out, and JSON in --summary"),
    (
        "score acebench",
        "JSON lines, in --out, and JSON in --summary",
    ),
    ("help", "this"),
];

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn all_commands(space: &Space) -> Vec<String> {
    let mut all = Vec::new();
    for command in listed(&space.starling("--help").stdout) {
        let help = space.starling(&format!("{command} --help")).stdout;
        let below = listed(&help).into_iter().filter(|name| name != "help");
        let below: Vec<String> = below.map(|name| format!("{command} {name}")).collect();
        // Some do something by themselves, too.
        if below.is_empty() || help.contains(" [COMMAND]") || command == "help" {
            all.push(command);
        }
        if all.last().is_none_or(|last| last != "help") {
            all.extend(below);
        }
    }
    all
}

#[test]
fn every_command_speaks_json() {
    let space = Space::new();
    let commands = all_commands(&space);
    assert!(commands.len() > 25, "{commands:?}");
    let known: BTreeMap<&str, ()> = ASKED
        .iter()
        .chain(&OWN_FORM)
        .map(|(command, _)| (*command, ()))
        .collect();
    for command in &commands {
        assert!(
            known.contains_key(command.as_str()),
            "`{command}` neither has --json here nor a form of its own"
        );
    }
    for command in known.keys() {
        assert!(
            commands.iter().any(|known| known == command),
            "there is no command `{command}`"
        );
    }
    space.write("p.toml", &format!("{BEGINNING}{REST}"));
    let mut run = String::new();
    for (command, arguments) in ASKED {
        let said = space.starling(&arguments.replace("RUN", &run));
        assert_eq!(said.code, 0, "{arguments}: {}", said.all());
        let mut values = serde_json::Deserializer::from_str(&said.stdout)
            .into_iter::<serde_json::Value>()
            .collect::<Result<Vec<_>, _>>()
            .unwrap_or_else(|e| panic!("{arguments}: {e}\n{}", said.all()));
        assert!(!values.is_empty(), "{arguments}: {}", said.all());
        // Runs, and a list of answers, tell as they go, a value a line.
        if !matches!(command, "run" | "eval" | "inspect rollouts") {
            assert_eq!(values.len(), 1, "{arguments}: {}", said.all());
        }
        let value = values.remove(0);
        if command == "runs" {
            let newest = value.as_array().and_then(|runs| runs.last());
            let name = newest.and_then(|run| run["run"].as_str());
            run = name.expect("a run has a name").to_owned();
        }
    }
}
