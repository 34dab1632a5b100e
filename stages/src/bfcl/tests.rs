//! The kind against a scripted server, and with the engine on an untrained model.

use starling_text::json::Value;

use super::BfclKind;
use super::params::Params;
use crate::endpoint::tests::{Script, chat_server};
use crate::rows::{read_all, read_json, text};
use crate::testing;

fn params(change: &str) -> Params {
    toml::from_str(change).expect("good parameters")
}

/// A server that makes the accepted call of `simple_python_0` in every answer.
fn caller() -> Script {
    Box::new(|body| {
        assert!(
            body["tools"]
                .as_array()
                .is_some_and(|tools| !tools.is_empty())
                || body["max_tokens"] == 8
        );
        "<tool_call>\n{\"name\": \"calculate_triangle_area\", \"arguments\": {\"base\": 10, \"height\": 5}}\n</tool_call>"
            .to_owned()
    })
}

#[test]
fn a_server_is_examined_and_every_answer_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = chat_server(caller());
    let p = params(&format!(
        "categories = [\"simple_python\", \"irrelevance\", \"multi_turn_base\"]\nitems-per-category = 3\n\
         endpoint.base-url = \"{address}\"\nendpoint.model = \"m\""
    ));
    testing::run::<BfclKind>(p, folder.path(), &[]);
    let out = folder.path().join("out");
    let records = read_all(&out.join("evaluation/items.jsonl")).expect("records");
    let verdicts: Vec<(&str, Option<&str>)> = records
        .iter()
        .map(|r| (text(r, "id").expect("an id"), text(r, "error_type")))
        .collect();
    assert_eq!(verdicts.len(), 9);
    assert_eq!(verdicts[0], ("simple_python_0", None));
    assert_eq!(
        verdicts[1],
        (
            "simple_python_133",
            Some("simple_function_checker:wrong_func_name")
        )
    );
    assert_eq!(
        verdicts[3],
        ("irrelevance_0", Some("irrelevance_error:decoder_success"))
    );
    // The same call for ever: the first turn is stopped after 21 steps.
    assert_eq!(
        verdicts[6],
        ("multi_turn_base_0", Some("multi_turn:force_terminated"))
    );
    let queries = records[6]
        .get("queries")
        .and_then(Value::as_list)
        .expect("queries");
    assert_eq!(queries.len(), 21);
    let metrics: serde_json::Value =
        read_json(&out.join("evaluation/metrics.json")).expect("metrics");
    assert_eq!(metrics["items"], 9);
    let report = std::fs::read_to_string(out.join("report/report.txt")).expect("a report");
    assert!(
        report.contains("at most 3 of each category") && report.contains("1/3"),
        "{report}"
    );
    // What is stored as the official package stores it gives the same verdicts.
    let stored = out.join("evaluation/results");
    let answers = starling_bench::bfcl::read_folder(&stored).expect("results");
    let bfcl = starling_bench::bfcl::Bfcl::embedded().expect("data");
    for (record, (id, error)) in records.iter().zip(&verdicts) {
        let item = bfcl.item(id).expect("data").expect("an item");
        let verdict = bfcl.check_answer(item, &answers[*id]);
        assert_eq!(
            verdict.error.map(starling_bench::bfcl::ErrorKind::name),
            *error,
            "{record:?}"
        );
    }
}

#[test]
fn a_stopped_run_ends_with_the_same_bytes() {
    let parameters = |address: &str| {
        params(&format!(
            "categories = [\"simple_java\"]\nitems-per-category = 40\n\
             endpoint.base-url = \"{address}\"\nendpoint.model = \"m\""
        ))
    };
    let address = chat_server(caller());
    let (whole, cut) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    testing::run::<BfclKind>(parameters(&address), whole.path(), &[]);
    // A run that was stopped has some of its chunks and no output.
    let run = || testing::run::<BfclKind>(parameters(&address), cut.path(), &[]);
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
    for file in [
        "evaluation/items.jsonl",
        "evaluation/metrics.json",
        "report/report.txt",
    ] {
        let read = |folder: &std::path::Path| {
            std::fs::read(folder.join("out").join(file)).expect("a file")
        };
        assert_eq!(read(whole.path()), read(cut.path()), "{file}");
    }
}

#[test]
fn wrong_parameters_are_named() {
    use starling_contract::Stage as _;
    let p = params("categories = [\"simple\"]\nmax-new-tokens = 0\nitems-per-category = 0");
    let params: Vec<&str> = BfclKind::check(&p).iter().map(|c| c.param).collect();
    assert_eq!(
        params,
        ["max-new-tokens", "items-per-category", "categories"]
    );
    let folder = tempfile::tempdir().expect("a folder");
    let error = testing::try_run::<BfclKind>(super::tests::params(""), folder.path(), &[], None);
    let error = error.expect_err("no model").to_string();
    assert!(
        error.contains("exactly one of the input `model`"),
        "{error}"
    );
}
