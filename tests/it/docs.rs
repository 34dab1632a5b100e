//! `docs/pipelines.md` is true: its files are right, its commands print what it says.

use std::fs;
use std::path::Path;

use crate::space::Space;

/// The fenced blocks of a language, without their fences.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            let block: Vec<&str> = lines.by_ref().take_while(|l| *l != "```").collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// Whether a line fits one in which `…` stands for anything, blanks for any number of blanks.
fn fits(pattern: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (squeeze(pattern), squeeze(line));
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return false;
    };
    if parts.len() == 1 {
        return line == *first;
    }
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether output is what is written, where a line `…` stands for any number of lines.
fn says(expected: &[&str], said: &[&str]) -> bool {
    match (expected.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=said.len()).any(|n| says(rest, &said[n..])),
        (Some((pattern, expected)), Some((line, said))) => {
            fits(pattern, line) && says(expected, said)
        }
        _ => false,
    }
}

#[test]
fn the_page_is_true() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipelines.md");
    let page = fs::read_to_string(page).expect("the page");
    let space = Space::new();
    let files = blocks(&page, "toml");
    assert!(files.len() >= 8, "{} files", files.len());
    let mut names = Vec::new();
    for text in &files {
        let first = text.lines().next().unwrap_or_default();
        let name = first.strip_prefix("# file: ");
        let name = name.unwrap_or_else(|| panic!("a file without a name: {first}"));
        space.write(name, text);
        names.push(name);
    }
    for name in names {
        let said = space.starling(&format!("plan {name}"));
        assert_eq!(said.code, 0, "{name}: {}", said.all());
    }
    let mut commands = 0;
    for block in blocks(&page, "console") {
        for part in block.split("$ starling ").skip(1) {
            let (command, expected) = part.split_once('\n').expect("lines");
            let said = space.starling(command);
            assert_eq!(said.code, 0, "{command}: {}", said.all());
            let all = format!("{}{}", said.stdout, said.stderr);
            let (expected, lines): (Vec<&str>, Vec<&str>) =
                (expected.lines().collect(), all.lines().collect());
            assert!(
                says(&expected, &lines),
                "{command} says\n{all}and not\n{}",
                expected.join("\n")
            );
            commands += 1;
        }
    }
    assert!(commands >= 6, "{commands} commands");
}

#[test]
fn the_comparison_can_fail() {
    assert!(fits("a … c", "a b   c") && fits("a…", "abc") && fits("…", ""));
    assert!(!fits("a … d", "a b c") && !fits("a", "a b") && !fits("a … b … c", "a c"));
    assert!(
        says(&["…", "b"], &["a", "b"]) && !says(&["…", "b"], &["a"]) && !says(&["a"], &["a", "b"])
    );
}

#[test]
fn a_new_pipeline_plans_as_written() {
    let space = Space::new();
    let new = space.starling("new mine.toml");
    assert_eq!(new.code, 0, "{}", new.all());
    let plan = space.starling("plan mine.toml");
    assert_eq!(plan.code, 0, "{}", plan.all());
    assert!(
        plan.stderr.starts_with("6 points, 21 unique stages: "),
        "{}",
        plan.stderr
    );
    let again = space.starling("new mine.toml");
    assert_eq!(
        (again.code, again.stderr.as_str()),
        (2, "error: mine.toml exists; name another file\n")
    );
    let default = space.starling("new");
    assert_eq!(default.code, 0, "{}", default.all());
    assert!(space.path("pipeline.toml").exists());
}

#[test]
fn a_graph_is_drawn_in_both_formats() {
    let space = Space::new();
    assert_eq!(space.starling("new p.toml").code, 0);
    let mermaid = space.starling("graph p.toml");
    assert_eq!(mermaid.code, 0, "{}", mermaid.all());
    assert!(
        mermaid.stdout.starts_with("flowchart LR\n  s0[\"world"),
        "{}",
        mermaid.stdout
    );
    let said = space.starling("graph p.toml --format svg --output p.svg");
    assert_eq!(said.code, 0, "{}", said.all());
    let svg = fs::read_to_string(space.path("p.svg")).expect("written");
    assert!(
        svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
        "{svg}"
    );
    assert!(svg.contains("student@ckd,seed=3"), "{svg}");
    let wrong = space.starling("graph p.toml --format png");
    assert_eq!(wrong.code, 2, "{}", wrong.all());
}
