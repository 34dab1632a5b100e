//! Every check, conversion, response, state, prompt and score against rows that the benchmark's own program wrote.

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use starling_bench::bfcl::{
    Answer, Bfcl, Category, Class, DecodedCall, ErrorKind, Item, Language, Message, Verdict,
    convert, decoded_calls, percent, read, read_lines,
};
use starling_text::json::{self, Value};
use starling_text::python;

fn files(prefix: &str, suffix: &str) -> Vec<PathBuf> {
    golden::files("bfcl", |name| {
        name.starts_with(prefix) && name.ends_with(suffix)
    })
}

fn rows(set: &str) -> Vec<Value> {
    rows_of(&files(set, ".jsonl.gz"))
}

fn rows_of(files: &[PathBuf]) -> Vec<Value> {
    let texts = files.iter().map(|path| golden::text(path));
    let parse = |text: String| {
        text.lines()
            .map(|line| json::parse(line).expect("JSON"))
            .collect::<Vec<_>>()
    };
    texts.flat_map(parse).collect()
}

#[expect(
    clippy::print_stdout,
    reason = "a golden test tells how many cases it saw"
)]
fn report(set: &str, cases: usize, wrong: &[String]) {
    println!("golden bfcl {set}: {cases} cases");
    assert!(cases > 0, "no cases of {set}");
    let shown = &wrong[..wrong.len().min(12)];
    assert!(
        wrong.is_empty(),
        "{} of {cases} wrong:\n{}",
        wrong.len(),
        shown.join("\n")
    );
}

fn str_of<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn bfcl() -> Bfcl {
    Bfcl::embedded().expect("the data of the binary")
}

fn item<'a>(bfcl: &'a Bfcl, row: &Value) -> &'a Item {
    let id = str_of(row, "id");
    bfcl.item(id)
        .expect("data")
        .unwrap_or_else(|| panic!("no item {id}"))
}

/// Whether the verdict is the row's, kind of error included.
fn agrees(row: &Value, verdict: Verdict) -> bool {
    let valid = row
        .get("valid")
        .and_then(Value::as_bool)
        .expect("a verdict");
    let error = row.get("error_type").and_then(Value::as_str);
    verdict.is_valid() == valid && verdict.error.map(ErrorKind::name) == error
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_list().expect("a list").iter();
    items
        .map(|item| item.as_str().expect("a text").to_owned())
        .collect()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn golden_bfcl_cases() {
    let bfcl = bfcl();
    let rows = rows("cases_");
    let mut wrong = Vec::new();
    for row in &rows {
        let item = item(&bfcl, row);
        let verdict = match row.get("raw") {
            Some(raw) => bfcl.check(item, raw.as_str().expect("a text")),
            None => {
                let underscores =
                    row.get("underscore_to_dot").and_then(Value::as_bool) == Some(true);
                match decoded_calls(row.get("output").expect("an output")) {
                    Ok(calls) => check_decoded(&bfcl, item, &calls, underscores),
                    Err(kind) if item.category.has_answers() => kind.into(),
                    Err(_) => check_decoded(&bfcl, item, &[], underscores),
                }
            }
        };
        if !agrees(row, verdict) {
            wrong.push(format!("{verdict:?} {}", json::dumps(row)));
        }
    }
    report("cases", rows.len(), &wrong);
}

fn check_decoded(
    bfcl: &Bfcl,
    item: &Item,
    calls: &[DecodedCall<'_>],
    underscores: bool,
) -> Verdict {
    match item.category {
        Category::Irrelevance | Category::LiveIrrelevance if !calls.is_empty() => {
            ErrorKind::IrrelevanceSuccess.into()
        }
        Category::LiveRelevance if calls.is_empty() => ErrorKind::RelevanceFailed.into(),
        Category::Irrelevance | Category::LiveIrrelevance | Category::LiveRelevance => {
            Verdict::VALID
        }
        _ => bfcl.check_calls(item, calls, underscores),
    }
}

#[test]
fn golden_bfcl_convert() {
    let rows = rows("convert_");
    let mut wrong = Vec::new();
    for row in &rows {
        let language = match str_of(row, "language") {
            "java" => Language::Java,
            _ => Language::JavaScript,
        };
        let element = row.get("nested").and_then(Value::as_str);
        let found = convert(language, str_of(row, "input"), str_of(row, "type"), element);
        let found = found.map_or_else(|raised| format!("{raised:?}"), |value| python::repr(&value));
        let expected = match row.get("value_python") {
            Some(text) => text.as_str().expect("a text").to_owned(),
            None => python::repr(row.get("value").expect("a value")),
        };
        if found != expected {
            wrong.push(format!("{found} {}", json::dumps(row)));
        }
    }
    report("convert", rows.len(), &wrong);
}

/// A response as rows write it: long ones only by length, digest and ends.
fn response_agrees(expected: &Value, found: &str) -> bool {
    match expected {
        Value::Str(text) => text == found,
        _ => {
            expected.get("len").and_then(Value::as_i64) == Some(found.chars().count() as i64)
                && str_of(expected, "sha256") == sha256(found)
        }
    }
}

#[test]
fn golden_bfcl_mt_truth() {
    let bfcl = bfcl();
    let rows = rows("mt_truth_");
    let mut wrong = Vec::new();
    for row in &rows {
        let item = item(&bfcl, row);
        let turns = bfcl.replay(item).expect("a dialogue");
        let expected = row.get("turns").and_then(Value::as_list).expect("turns");
        let digests = row
            .get("state_after_turn")
            .and_then(Value::as_list)
            .expect("digests");
        assert_eq!(turns.len(), expected.len(), "{}", item.id);
        for (index, (turn, calls)) in turns.iter().zip(expected).enumerate() {
            let calls = calls.as_list().expect("calls");
            assert_eq!(turn.responses.len(), calls.len(), "{}", item.id);
            for (found, call) in turn.responses.iter().zip(calls) {
                if !response_agrees(call.get("response").expect("a response"), found) {
                    wrong.push(format!(
                        "{} turn {index}: {found:.300}\n  {}",
                        item.id,
                        json::dumps(call)
                    ));
                }
            }
            if !digests[index]
                .as_str()
                .is_some_and(|digest| turn.state_digest.starts_with(digest))
            {
                wrong.push(format!("{} state after turn {index}", item.id));
            }
        }
        check_final_state(&bfcl, item, row, &mut wrong);
    }
    report("mt_truth", rows.len(), &wrong);
}

fn check_final_state(bfcl: &Bfcl, item: &Item, row: &Value, wrong: &mut Vec<String>) {
    let expected = row
        .get("final_state")
        .and_then(Value::as_dict)
        .expect("a state");
    let state = bfcl.final_state(item).expect("a dialogue");
    assert_eq!(state.len(), expected.len(), "{}", item.id);
    for (class, state) in state {
        let expected = expected[class].as_dict().expect("attributes");
        let mut attributes = state.attributes;
        if let Some(directory) = state.working_directory {
            attributes.push(("@cwd", canonical(&Value::Str(directory))));
        }
        let names: Vec<&str> = attributes.iter().map(|(name, _)| *name).collect();
        if !expected.keys().all(|name| names.contains(&name.as_str())) {
            wrong.push(format!("{} {class}: {names:?}", item.id));
        }
        for (name, found) in attributes {
            let Some(expected) = expected.get(name) else {
                wrong.push(format!("{} {class}.{name} is not expected", item.id));
                continue;
            };
            let same = match expected.get("__digest__") {
                Some(digest) => digest.as_str() == Some(&sha256(&found)),
                None => canonical(expected) == found,
            };
            if !same {
                wrong.push(format!(
                    "{} {class}.{name}: {found:.200}\n  {}",
                    item.id,
                    canonical(expected)
                ));
            }
        }
    }
}

fn canonical(value: &Value) -> String {
    let options = json::Dumps {
        sort_keys: true,
        separators: Some((",".to_owned(), ":".to_owned())),
        ..json::Dumps::default()
    };
    json::dumps_with(value, &options)
}

#[test]
fn golden_bfcl_mt_checks() {
    let bfcl = bfcl();
    let rows = rows("mt_checks_");
    let mut wrong = Vec::new();
    for row in &rows {
        let item = item(&bfcl, row);
        let verdict = match row.get("raw_turns") {
            Some(turns) => {
                let turns: Vec<_> = turns
                    .as_list()
                    .expect("turns")
                    .iter()
                    .map(strings)
                    .collect();
                bfcl.check_turns(item, &turns)
            }
            None => {
                let steps =
                    |turn: &Value| turn.as_list().expect("steps").iter().map(strings).collect();
                let turns = row.get("turns").and_then(Value::as_list).expect("turns");
                let turns: Vec<Vec<_>> = turns.iter().map(steps).collect();
                bfcl.check_turn_calls(item, &turns)
            }
        };
        if !agrees(row, verdict) {
            wrong.push(format!("{verdict:?} {:.800}", json::dumps(row)));
        }
    }
    report("mt_checks", rows.len(), &wrong);
}

#[test]
fn golden_bfcl_probe() {
    let bfcl = bfcl();
    let rows = rows("probe_");
    let mut wrong = Vec::new();
    let (mut calls, mut skipped) = (0, 0);
    let marked = |row: &Value| row.get("hash_seed_dependent").is_some_and(python::truthy);
    for row in &rows {
        let class = Class::from_name(str_of(row, "class")).expect("a class");
        let long_context = row.get("long_context").and_then(Value::as_bool) == Some(true);
        let scenario = row.get("initial_config").expect("a scenario");
        let mut sandbox = bfcl
            .sandbox(class, scenario, long_context)
            .expect("a scenario that loads");
        for call in row.get("calls").and_then(Value::as_list).expect("calls") {
            let found = sandbox.execute(str_of(call, "call"));
            if marked(row) || marked(call) {
                skipped += 1;
                continue;
            }
            calls += 1;
            if !response_agrees(call.get("response").expect("a response"), &found) {
                wrong.push(format!(
                    "{}: {found:.300}\n  {}",
                    str_of(row, "id"),
                    json::dumps(call)
                ));
            } else if !sandbox.state_digest().starts_with(str_of(call, "state")) {
                wrong.push(format!(
                    "{}: state after {}",
                    str_of(row, "id"),
                    json::dumps(call)
                ));
            }
        }
    }
    println!(
        "golden bfcl probe: {calls} calls, {skipped} skipped because their order is that of a hash set"
    );
    report("probe", rows.len(), &wrong);
}

#[test]
fn golden_bfcl_prompts() {
    let bfcl = bfcl();
    let rows = rows("prompts_");
    let mut wrong = Vec::new();
    for row in &rows {
        let item = item(&bfcl, row);
        let Some(model_texts) = row.get("model_texts") else {
            let found = bfcl.prompt(item).text().expect("no tool calls yet");
            if sha256(&found) != str_of(row, "sha256") {
                wrong.push(format!(
                    "{}: {found:.1500}\n  {}",
                    item.id,
                    str_of(row, "prompt")
                ));
            }
            continue;
        };
        let mut dialogue = bfcl.dialogue(item).expect("a dialogue");
        let mut found = Vec::new();
        for answer in model_texts
            .as_list()
            .expect("turns")
            .iter()
            .flat_map(strings)
        {
            found.extend(dialogue.next_query().map(|query| sha256(&query)));
            dialogue.answer(&answer);
        }
        let expected = strings(row.get("query_sha256").expect("digests"));
        if found != expected {
            let first = found
                .iter()
                .zip(&expected)
                .position(|(found, expected)| found != expected);
            wrong.push(format!(
                "{}: {} of {} queries, differs at {first:?}",
                item.id,
                found.len(),
                expected.len()
            ));
        }
        if dialogue.prompt().is_some() {
            wrong.push(format!("{}: not over", item.id));
        }
    }
    report("prompts", rows.len(), &wrong);
}

#[test]
fn golden_bfcl_think_parse() {
    let rows = rows("think_parse");
    let mut wrong = Vec::new();
    for row in &rows {
        let completion = read(str_of(row, "text"));
        let message = Message::assistant(&completion);
        let expected = row.get("history_message").expect("a message");
        let no_calls = Value::List(Vec::new());
        let calls = expected.get("tool_calls").unwrap_or(&no_calls);
        let same = completion.cleaned == str_of(row, "cleaned")
            && completion.reasoning == str_of(row, "reasoning")
            && message.content == str_of(expected, "content")
            && message.reasoning == str_of(expected, "reasoning_content")
            && Value::List(message.tool_calls.clone()) == *calls;
        if !same {
            wrong.push(format!(
                "{completion:?} {message:?}\n  {}",
                json::dumps(row)
            ));
        }
    }
    report("think_parse", rows.len(), &wrong);
}

#[test]
fn categories_have_their_entries() {
    let bfcl = bfcl();
    for category in Category::ALL {
        assert_eq!(
            bfcl.items(category).expect("data").len(),
            category.entries(),
            "{category}"
        );
    }
}

#[test]
fn golden_bfcl_stored() {
    let bfcl = bfcl();
    let rows = rows_of(&golden::own_files("bfcl", |name| {
        name.starts_with("stored_")
    }));
    let differs = |row: &&Value| {
        let result = row.get("result").cloned().expect("a result");
        !agrees(
            row,
            bfcl.check_answer(item(&bfcl, row), &Answer::from_value(result)),
        )
    };
    let wrong: Vec<String> = rows.iter().filter(differs).map(json::dumps).collect();
    report("stored", rows.len(), &wrong);
}

#[test]
fn golden_bfcl_e2e() {
    let bfcl = bfcl();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for results in files("e2e_", "_results.jsonl.gz") {
        let beside = |suffix: &str| {
            let name = results
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            results.with_file_name(name.replace("_results.jsonl.gz", suffix))
        };
        let answers = read_lines(&golden::text(&results), &results).expect("results");
        for line in golden::text(&beside("_verdicts.jsonl.gz")).lines() {
            let row = json::parse(line).expect("JSON");
            let item = item(&bfcl, &row);
            let verdict = bfcl.check_answer(item, &answers[&item.id]);
            cases += 1;
            if !agrees(&row, verdict) {
                wrong.push(format!("{verdict:?} {line}"));
            }
        }
        let expected = std::fs::read_to_string(beside("_expected.json")).expect("scores");
        let expected = json::parse(&expected).expect("JSON");
        check_scores(&bfcl, &answers, &expected);
    }
    report("e2e", cases, &wrong);
}

fn check_scores(bfcl: &Bfcl, answers: &starling_bench::bfcl::Answers, expected: &Value) {
    let summary = bfcl.score(answers).expect("data");
    for (name, count) in expected
        .get("correct_total")
        .and_then(Value::as_dict)
        .expect("counts")
    {
        let found = summary.count(Category::from_name(name).expect("a category"));
        let found = [found.correct, found.total].map(|count| Value::Int(count as i64));
        assert_eq!(Value::List(found.to_vec()), *count, "{name}");
    }
    let (v3, v4) = (summary.v3(), summary.v4(0.0));
    for (section, name, found) in [
        ("v3", "non_live_ast", v3.non_live_ast),
        ("v3", "non_live_overall", v3.non_live_overall),
        ("v3", "live", v3.live),
        ("v3", "multi_turn", v3.multi_turn),
        ("v3", "overall", v3.overall),
        ("v3", "irrelevance_column", v3.irrelevance),
        ("v3", "relevance_column", v3.relevance),
        ("v4_sections", "non_live", v4.non_live),
        ("v4_sections", "live", v4.live),
        ("v4_sections", "irrelevance", v4.irrelevance),
        ("v4_sections", "multi_turn", v4.multi_turn),
        ("v4_sections", "overall_with_agentic_0", v4.overall),
    ] {
        let expected = expected.get(section).and_then(|section| section.get(name));
        let expected = expected.and_then(Value::as_f64).expect("a score");
        // Sums may be taken in another order.
        assert!(
            (found - expected).abs() < 1e-12,
            "{section} {name}: {found} {expected}"
        );
        assert_eq!(percent(found), percent(expected), "{section} {name}");
    }
}
