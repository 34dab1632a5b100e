//! The kind against scripted servers: one that answers, one that plays the user.

use starling_text::json::Value;

use super::AcebenchKind;
use super::params::Params;
use crate::endpoint::tests::{Script, chat_server};
use crate::rows::{read_all, text};
use crate::testing;

fn params(change: &str) -> Params {
    toml::from_str(change).expect("good parameters")
}

/// Answers what the conversation ends with.
fn says(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Script {
    Box::new(move |body| {
        let last = body["messages"]
            .as_array()
            .and_then(|m| m.last())
            .expect("a message");
        answer(last["content"].as_str().expect("a text"))
    })
}

fn records(folder: &std::path::Path) -> Vec<Value> {
    read_all(&folder.join("out/evaluation/items.jsonl")).expect("records")
}

#[test]
fn a_server_is_examined_in_both_languages() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = chat_server(says(|_| "<think>hm</think>\n[f(a=1)]".to_owned()));
    let p = params(&format!(
        "categories = [\"normal_atom_bool\", \"special_irrelevant\", \"normal_multi_turn_user_switch\"]\n\
         languages = [\"en\", \"zh\"]\nitems-per-category = 4\n\
         endpoint.base-url = \"{address}\"\nendpoint.model = \"m\""
    ));
    testing::run::<AcebenchKind>(p, folder.path(), &[]);
    let records = records(folder.path());
    let of = |lang: &str, category: &str| -> Vec<&Value> {
        let fits =
            |r: &&Value| text(r, "lang") == Some(lang) && text(r, "category") == Some(category);
        records.iter().filter(fits).collect()
    };
    for lang in ["en", "zh"] {
        let atoms = of(lang, "normal_atom_bool");
        assert_eq!(atoms.len(), 4);
        for record in atoms {
            // The thought is cut: what is left is a call list, of the wrong function.
            assert_eq!(
                text(record, "error_type"),
                Some("function_mismatch"),
                "{record:?}"
            );
            assert_eq!(text(record, "output"), Some("[f(a=1)]"));
        }
        let irrelevant = of(lang, "special_irrelevant");
        assert!(
            irrelevant
                .iter()
                .all(|r| text(r, "error_type") == Some("error_detection"))
        );
        // Whole dialogues, about four turns.
        let turns = of(lang, "normal_multi_turn_user_switch");
        assert!(turns.len() >= 4, "{}", turns.len());
    }
    let report =
        std::fs::read_to_string(folder.path().join("out/report/report.txt")).expect("a report");
    assert!(
        report.contains("en, evaluator r2508") && report.contains("zh, evaluator r2508"),
        "{report}"
    );
}

#[test]
fn tool_calls_are_rewritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let call = "<tool_call>\n{\"name\": \"ProteinRichMealPlanner_generateList\", \"arguments\": \
                {\"meal_type\": \"dinner\", \"include_vegetarian_options\": true}}\n</tool_call>";
    let address = chat_server(says(move |_| call.to_owned()));
    let p = params(&format!(
        "categories = [\"normal_atom_bool\"]\nitems-per-category = 1\nmode = \"tool\"\n\
         endpoint.base-url = \"{address}\"\nendpoint.model = \"m\""
    ));
    testing::run::<AcebenchKind>(p, folder.path(), &[]);
    let record = &records(folder.path())[0];
    assert_eq!(
        text(record, "output"),
        Some(
            "[ProteinRichMealPlanner_generateList(meal_type='dinner', include_vegetarian_options=True)]"
        )
    );
    assert_ne!(text(record, "error_type"), Some("wrong_output_format"));
    let queries = record
        .get("queries")
        .and_then(Value::as_list)
        .expect("queries");
    assert!(
        queries[0]
            .get("tools")
            .and_then(Value::as_list)
            .is_some_and(|tools| !tools.is_empty())
    );
}

#[test]
fn agents_play_with_the_environment_and_the_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = chat_server(says(|_| "[turn_on_wifi()]".to_owned()));
    let user = chat_server(says(|_| "please go on, and finish conversation".to_owned()));
    let p = params(&format!(
        "categories = [\"agent\"]\nitems-per-category = 2\n\
         endpoint.base-url = \"{model}\"\nendpoint.model = \"m\"\nuser.base-url = \"{user}\"\nuser.model = \"u\""
    ));
    testing::run::<AcebenchKind>(p, folder.path(), &[]);
    let records = records(folder.path());
    assert_eq!(records.len(), 4);
    for record in &records {
        let queries = record
            .get("queries")
            .and_then(Value::as_list)
            .expect("queries");
        let answered = queries
            .iter()
            .filter(|q| q.get("environment").is_some())
            .count();
        assert!(answered > 0, "{record:?}");
        let process = record
            .get("process")
            .and_then(Value::as_f64)
            .expect("a share");
        assert!((0.0..=1.0).contains(&process));
    }
}

#[test]
fn a_dialogue_needs_a_user() {
    use starling_contract::Stage as _;
    let p = params("categories = [\"agent_multi_turn\"]");
    assert_eq!(
        AcebenchKind::check(&p)
            .iter()
            .map(|c| c.param)
            .collect::<Vec<_>>(),
        ["user"]
    );
    let p = params("categories = [\"normal\", \"nonsense\"]\nlanguages = []");
    let complaints: Vec<&str> = AcebenchKind::check(&p).iter().map(|c| c.param).collect();
    assert_eq!(complaints, ["languages", "categories"]);
}

#[test]
fn a_stopped_run_ends_with_the_same_bytes() {
    let address = chat_server(says(|text| format!("[f(a={})]", text.len())));
    let parameters = || {
        params(&format!(
            "categories = [\"normal_atom_list\"]\nitems-per-category = 40\n\
             endpoint.base-url = \"{address}\"\nendpoint.model = \"m\""
        ))
    };
    let (whole, cut) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    testing::run::<AcebenchKind>(parameters(), whole.path(), &[]);
    // A run that was stopped has some of its chunks and no output.
    let run = || testing::run::<AcebenchKind>(parameters(), cut.path(), &[]);
    run();
    let chunks = cut.path().join("chunks");
    let kept = || -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(&chunks).expect("chunks");
        entries
            .map(|entry| entry.expect("a chunk").path())
            .collect()
    };
    let all = kept().len();
    assert!(all > 1);
    for chunk in &kept()[1..] {
        std::fs::remove_dir_all(chunk).expect("removed");
    }
    std::fs::remove_dir_all(cut.path().join("out")).expect("removed");
    run();
    assert_eq!(kept().len(), all);
    let read = |folder: &std::path::Path| {
        std::fs::read(folder.join("out/evaluation/items.jsonl")).expect("a file")
    };
    assert_eq!(read(whole.path()), read(cut.path()));
}
