//! `starling score reward`, from outside.

use std::fs;
use std::path::Path;

use crate::space::Space;

fn golden(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    root.join(name).display().to_string()
}

fn rows(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn the_golden_rows_are_read_and_agree() {
    let space = Space::new();
    for (set, mode) in [
        ("star/reward/reward_public.jsonl.gz", "faithful"),
        ("star/rouge/rouge_public.jsonl.gz", "faithful"),
        ("star/rouge/stems_public.jsonl.gz", "fixed"),
        ("star/baselines/toolrl_public.jsonl.gz", "fixed"),
    ] {
        let command = format!(
            "score reward --in {} --out out.jsonl --mode {mode} --check",
            golden(set)
        );
        let said = space.starling(&command);
        // Rows that nobody can score are told, and nothing that can be scored differs.
        assert!(said.code == 0 || said.code == 4, "{set}: {}", said.all());
        let out = fs::read_to_string(space.path("out.jsonl")).expect("scores");
        let told = said
            .stderr
            .lines()
            .filter(|l| l.contains(".jsonl.gz:"))
            .count();
        assert!(
            out.lines().count() > 500 && (told > 0) == (said.code == 4),
            "{}",
            said.all()
        );
    }
    let scored = rows(&fs::read_to_string(space.path("out.jsonl")).expect("scores"));
    assert!(scored[0]["correctness"].is_f64(), "{}", scored[0]);
}

#[test]
fn bad_rows_are_told_with_their_lines_and_the_others_scored() {
    let space = Space::new();
    let row = |id: &str, call: &str| {
        format!(
            "{{\"id\": \"{id}\", \"tools\": [{{\"name\": \"f\", \"parameters\": {{\"a\": {{}}}}}}], \
             \"label\": \"</think><tool_call>{{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {{}}}}</tool_call>\", \
             \"generation\": \"<think></think>{call}\"}}\n"
        )
    };
    let call = "<tool_call>{\\\"name\\\": \\\"f\\\", \\\"arguments\\\": {}}</tool_call>";
    let text = row("good", call)
        + "{broken\n\n"
        + &row("label", call).replace("</think><tool_call>{", "<tool_call>{")
        + &row("late", call);
    space.write("rows.jsonl", &text);
    let said = space.starling("score reward --in rows.jsonl --out out.jsonl");
    assert_eq!(said.code, 4, "{}", said.all());
    assert!(
        said.stderr.contains("rows.jsonl:2: not JSON"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("rows.jsonl:4: label: "),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("2 of 4 rows could not be used"),
        "{}",
        said.stderr
    );
    let out = rows(&fs::read_to_string(space.path("out.jsonl")).expect("scores"));
    let outcomes: Vec<_> = out
        .iter()
        .map(|r| r["outcome"].as_str().expect("one"))
        .collect();
    assert_eq!(outcomes, ["ok", "unreadable", "refused", "ok"]);
    assert_eq!(out[3]["reward"], 1.0);
    // The same from a compressed file and a list, and to standard output.
    let good = row("good", call);
    let list = format!("[\n{},\n{}]", good.trim(), good.trim());
    space.write("rows.json", &list);
    let said = space.starling("score reward --in rows.json --out -");
    assert_eq!(said.code, 0, "{}", said.all());
    assert_eq!(said.stdout.lines().count(), 2);
    let absent = space.starling("score reward --in none.jsonl --out out.jsonl");
    assert_eq!(absent.code, 3, "{}", absent.all());
}
