//! Verdicts, prompts and scores of the official evaluator, row by row.

#[path = "../../../tests/support/golden.rs"]
#[expect(dead_code, reason = "shared with tests that ask for more")]
mod golden;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use sha2::{Digest as _, Sha256};
use starling_text::json::{self, Value};
use starling_text::python;

use starling_bench::acebench::{
    AgentScore, Category, CategoryScore, Dataset, ErrorKind, Item, Lang, MultiStep, MultiTurn,
    Outcome, Profile, Summary, Verdict,
};

/// The rows of every file whose name starts with `set`.
fn rows(set: &str) -> Vec<Value> {
    let files = golden::files("acebench", |name| {
        name.starts_with(set) && (name.ends_with(".jsonl.gz") || name.ends_with(".jsonl"))
    });
    let mut rows = Vec::new();
    for file in files {
        let text = golden::text(&file);
        rows.extend(
            text.lines()
                .filter(|line| !line.is_empty())
                .map(|line| json::parse(line).expect("JSON")),
        );
    }
    assert!(
        !rows.is_empty(),
        "no rows of `{set}` in {}",
        golden::folder("acebench").display()
    );
    rows
}

fn text<'v>(row: &'v Value, key: &str) -> &'v str {
    row.get(key)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text `{key}`"))
}

fn lang(row: &Value) -> Lang {
    Lang::from_name(text(row, "lang")).expect("a known language")
}

/// All datasets, decoded once a test.
struct Data(BTreeMap<(Lang, Profile), Dataset>);

impl Data {
    fn load(profiles: &[Profile]) -> Self {
        let all = Lang::ALL
            .into_iter()
            .flat_map(|lang| profiles.iter().map(move |&profile| (lang, profile)));
        Self(
            all.map(|key| (key, Dataset::embedded(key.0, key.1).expect("embedded data")))
                .collect(),
        )
    }

    fn get(&self, lang: Lang, profile: Profile) -> &Dataset {
        &self.0[&(lang, profile)]
    }
}

/// Prints how many rows were compared and fails with the first few that differ.
#[expect(
    clippy::print_stdout,
    reason = "the count of rows compared is what this test reports"
)]
fn conclude(set: &str, count: usize, differing: &[String]) {
    println!("golden acebench {set}: {count} cases");
    assert!(count > 0, "no cases in {set}");
    let shown: Vec<&str> = differing.iter().take(20).map(String::as_str).collect();
    assert!(
        differing.is_empty(),
        "{} of {count} differ:\n{}",
        differing.len(),
        shown.join("\n")
    );
}

#[test]
fn golden_acebench_cases() {
    let data = Data::load(&Profile::ALL);
    let rows = rows("cases_");
    let mut differing = Vec::new();
    for row in &rows {
        for (profile, valid, error) in [
            (Profile::R2508, "valid", "error_type"),
            (Profile::R2510, "valid_r2510", "error_type_r2510"),
        ] {
            let dataset = data.get(lang(row), profile);
            let item = dataset.get(text(row, "id")).expect("a known id");
            let verdict = dataset.check(item, text(row, "output"));
            let valid = row.get(valid).and_then(Value::as_bool).expect("a verdict");
            // What exception stopped the official program is no part of the verdict.
            let error = text(row, error);
            let error = if error.starts_with("crash:") {
                "crash"
            } else {
                error
            };
            if verdict.valid() != valid || verdict.error_name() != error {
                differing.push(format!(
                    "{} ({profile}): `{}` instead of `{error}` for {}",
                    text(row, "case"),
                    verdict.error_name(),
                    text(row, "output"),
                ));
            }
        }
    }
    conclude("cases", rows.len(), &differing);
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn golden_acebench_prompts() {
    let data = Data::load(&[Profile::R2508]);
    let rows = rows("prompts_");
    let mut differing = Vec::new();
    for row in &rows {
        let dataset = data.get(lang(row), Profile::R2508);
        let item = dataset.get(text(row, "id")).expect("a known id");
        let prompt = dataset.prompt(item);
        for (message, digest, length) in [
            (&prompt.system, "system_sha256", "system_chars"),
            (&prompt.user, "user_sha256", "user_chars"),
        ] {
            let chars = row.get(length).and_then(Value::as_i64);
            if sha256(message) != text(row, digest) || chars != Some(message.chars().count() as i64)
            {
                differing.push(format!("{}/{}: {digest}", text(row, "lang"), item.id));
            }
        }
    }
    conclude("prompts", rows.len(), &differing);
}

#[test]
fn golden_acebench_prompt_samples() {
    let data = Data::load(&[Profile::R2508]);
    let rows = rows("prompt_samples");
    let mut differing = Vec::new();
    for row in &rows {
        let dataset = data.get(lang(row), Profile::R2508);
        let item = dataset.get(text(row, "id")).expect("a known id");
        let prompt = dataset.prompt(item);
        if prompt.system != text(row, "system") || prompt.user != text(row, "user") {
            differing.push(format!(
                "{}/{}:\n{}\n{}",
                text(row, "lang"),
                item.id,
                prompt.system,
                prompt.user
            ));
        }
    }
    conclude("prompt_samples", rows.len(), &differing);
}

fn number(row: &Value, key: &str) -> f64 {
    row.get(key)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number `{key}`"))
}

fn list<'v>(row: &'v Value, key: &str) -> &'v [Value] {
    row.get(key)
        .and_then(Value::as_list)
        .unwrap_or_else(|| panic!("no list `{key}`"))
}

/// The same number; all of them are written with so few digits that they read back exactly.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

/// To three decimals, as a category of one entry would be.
fn rounded(x: f64) -> f64 {
    format!("{x:.3}").parse().expect("a number")
}

#[test]
fn golden_acebench_runs() {
    let data = Data::load(&[Profile::R2508]);
    let rows = rows("runs_");
    let mut differing = Vec::new();
    for row in &rows {
        let dataset = data.get(lang(row), Profile::R2508);
        let summary = summary_of_run(dataset, row);
        let categories = row
            .get("categories")
            .and_then(Value::as_dict)
            .expect("categories");
        for (name, expected) in categories {
            let category = Category::from_name(name).expect("a known category");
            let score = summary.category(category).expect("a judged category");
            let mut wrong = |what: &str, value: f64| {
                if expected.get(what).is_some() && !same(number(expected, what), value) {
                    differing.push(format!(
                        "{name} {what}: {value} instead of {}",
                        number(expected, what)
                    ));
                }
            };
            wrong("accuracy", score.accuracy);
            wrong("end_to_end_accuracy", score.accuracy);
            wrong("correct_count", score.correct as f64);
            wrong("total_count", score.total as f64);
            wrong("process_accuracy", score.process.unwrap_or(-1.0));
        }
        let expected = row.get("summary").expect("a summary");
        let computed: BTreeMap<&str, f64> = summary.rows().into_iter().collect();
        for (name, value) in expected.as_dict().expect("a summary") {
            let value = value.as_f64().expect("a number");
            if !same(computed[name.as_str()], value) {
                differing.push(format!(
                    "{name}: {} instead of {value}",
                    computed[name.as_str()]
                ));
            }
        }
    }
    conclude("runs", rows.len(), &differing);
}

/// The pass bits of a run as outcomes; the agent categories are given by their accuracies alone.
fn summary_of_run(dataset: &Dataset, row: &Value) -> Summary {
    let mut outcomes = IndexMap::new();
    for (name, bits) in row.get("bits").and_then(Value::as_dict).expect("bits") {
        let category = Category::from_name(name).expect("a known category");
        let bits = bits.as_str().expect("bits").bytes();
        let items = dataset.category(category);
        assert_eq!(bits.len(), dataset.category(category).count(), "{name}");
        for (item, bit) in items.zip(bits) {
            let error = (bit == b'0').then_some(ErrorKind::Value);
            outcomes.insert(item.id.clone(), Outcome::Verdict(Verdict { error }));
        }
    }
    let judged = dataset.summary(&outcomes);
    let given = row
        .get("categories")
        .and_then(Value::as_dict)
        .expect("categories");
    let all = Category::ALL.into_iter().filter_map(|category| {
        if let Some(score) = judged.category(category) {
            return Some((category, *score));
        }
        let given = given.get(category.name())?;
        let score = CategoryScore {
            accuracy: number(given, "end_to_end_accuracy"),
            process: Some(number(given, "process_accuracy")),
            correct: 0,
            total: 0,
            dialogues: None,
        };
        Some((category, score))
    });
    Summary::from_categories(all)
}

#[test]
fn golden_acebench_agent_score() {
    let data = Data::load(&[Profile::R2508]);
    let rows = rows("agent_score_");
    let mut differing = Vec::new();
    for row in &rows {
        let dataset = data.get(lang(row), Profile::R2508);
        let item = dataset.get(text(row, "id")).expect("a known id");
        let messages = list(row, "process")
            .iter()
            .map(|message| message.as_str().expect("a text").to_owned());
        let messages: Vec<String> = messages.collect();
        let score = dataset
            .score_agent(item, list(row, "result"), &messages)
            .expect("an agent entry");
        let end = if score.end { 1.0 } else { 0.0 };
        let process = rounded(score.process);
        if !same(end, number(row, "end")) || !same(process, number(row, "process_accuracy")) {
            differing.push(format!(
                "{} {}: end {end}, process {} instead of {}, {}",
                text(row, "case"),
                text(row, "state_kind"),
                process,
                number(row, "end"),
                number(row, "process_accuracy"),
            ));
        }
    }
    conclude("agent_score", rows.len(), &differing);
}

/// The environment's answers to scripted messages: `execution`, `error` or `raises` of every step.
#[test]
fn golden_acebench_agent_replay() {
    let data = Data::load(&[Profile::R2508]);
    let rows = rows("agent_replay_");
    let mut differing = Vec::new();
    for row in &rows {
        let dataset = data.get(lang(row), Profile::R2508);
        let item = dataset.get(text(row, "id")).expect("a known id");
        let (answers, state, score) = replay(dataset, item, list(row, "steps"));
        for (step, answer) in list(row, "steps").iter().zip(answers) {
            if !same_answer(step, &answer) {
                differing.push(format!(
                    "{}: {answer:?} instead of {step:?}",
                    text(row, "case")
                ));
            }
        }
        if !python::eq(
            &Value::List(state.clone()),
            row.get("result").expect("a state"),
        ) {
            differing.push(format!(
                "{}: state {}",
                text(row, "case"),
                python::repr(&Value::List(state))
            ));
        }
        let end = if score.end { 1.0 } else { 0.0 };
        let process = rounded(score.process);
        if !same(end, number(row, "end")) || !same(process, number(row, "process_accuracy")) {
            differing.push(format!("{}: {score:?}", text(row, "case")));
        }
    }
    conclude("agent_replay", rows.len(), &differing);
}

/// What a step led to: an answer, an error inside, or a message that is not for the environment.
#[derive(Debug)]
enum Answer {
    Given(Value),
    Error,
    NotRead,
}

fn replay(
    dataset: &Dataset,
    item: &Item,
    steps: &[Value],
) -> (Vec<Answer>, Vec<Value>, AgentScore) {
    let messages = steps.iter().map(|step| text(step, "agent"));
    if item.category == Category::AgentMultiStep {
        let mut driver = MultiStep::new(dataset, item).expect("a multi-step entry");
        let answers = messages
            .map(|message| Answer::Given(driver.run(message)))
            .collect();
        return (answers, driver.state(), driver.score());
    }
    let mut driver = MultiTurn::new(dataset, item).expect("a multi-turn entry");
    let answers = messages.map(|message| match driver.run(message) {
        Some(Ok(answer)) => Answer::Given(Value::List(answer)),
        Some(Err(_)) => Answer::Error,
        None => Answer::NotRead,
    });
    let answers = answers.collect();
    (answers, driver.state(), driver.score())
}

/// Texts of raised errors are compared by their first three words.
fn same_answer(step: &Value, answer: &Answer) -> bool {
    const ERROR: &str = "Error during execution";
    match answer {
        Answer::Error => step.get("error").and_then(Value::as_bool) == Some(true),
        Answer::NotRead => step.get("raises").is_some(),
        Answer::Given(Value::List(items)) => {
            let items = items.iter().map(|item| match item.as_str() {
                Some(text) if text.starts_with(ERROR) => Value::Str(ERROR.to_owned()),
                _ => item.clone(),
            });
            step.get("execution")
                .is_some_and(|expected| python::eq(expected, &Value::List(items.collect())))
        }
        Answer::Given(answer) => step.get("execution") == Some(answer),
    }
}
