//! Each file of `tests/pipelines/bad/` gives exactly the message beside it; those of `good/` give none.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Device, Mistakes, Pipeline, read};
use crate::Registry;
use crate::testing::registry;

/// Files of a folder of `tests/pipelines`, and the folder itself relative to the package.
fn files(folder: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pipelines")
        .join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .expect("the folder exists")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    files
}

/// Reads a file the way the command does; its first lines may say `# --set …`.
fn read_file(path: &Path, registry: &Registry) -> Result<Pipeline, Mistakes> {
    let text = fs::read_to_string(path).expect("readable");
    let sets: Vec<String> = text
        .lines()
        .filter_map(|l| l.strip_prefix("# --set "))
        .map(str::to_owned)
        .collect();
    let name = path.file_name().expect("a file").to_string_lossy();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = path.parent().and_then(|f| f.strip_prefix(package).ok());
    read(
        &name,
        folder.expect("a folder of the package"),
        &text,
        &sets,
        registry,
    )
}

#[test]
fn wrong_files_give_their_messages() {
    let registry = registry();
    let bless = option_env!("BLESS").is_some();
    let mut wrong = Vec::new();
    let files = files("bad");
    assert!(files.len() >= 60, "only {} wrong files", files.len());
    for file in files {
        let message = match read_file(&file, &registry) {
            Ok(_) => "no mistake was found\n".to_owned(),
            Err(mistakes) => mistakes.render(false),
        };
        let expected = file.with_extension("txt");
        if bless {
            fs::write(&expected, &message).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != message {
            wrong.push(format!("{}\n{message}", file.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "unexpected messages:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn every_message_has_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines/bad");
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "txt") {
            assert!(path.with_extension("toml").exists(), "{}", path.display());
        }
    }
}

#[test]
fn right_files_give_none() {
    let registry = registry();
    let files = files("good");
    assert!(files.len() >= 9, "only {} right files", files.len());
    for file in files {
        if let Err(mistakes) = read_file(&file, &registry) {
            panic!("{}\n{}", file.display(), mistakes.render(false));
        }
    }
}

fn parse(text: &str, sets: &[&str]) -> Pipeline {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    match read("p.toml", Path::new("."), text, &sets, &registry()) {
        Ok(pipeline) => pipeline,
        Err(mistakes) => panic!("{}", mistakes.render(false)),
    }
}

const TWO: &str = "\
[run]
threads = 2
[stage.large]
kind = 'upper'
inputs.rows = 'small.rows'
device = 'cuda'
time-limit = '1m30s'
[stage.small]
kind = 'letters'
text = 'a'
tail.names = ['x', 'y']
threads = 1
";

#[test]
fn everything_written_arrives() {
    let pipeline = parse(TWO, &[]);
    assert_eq!(pipeline.settings.threads, Some(2));
    let names: Vec<&str> = pipeline.stages.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["small", "large"]);
    let [small, large] = &pipeline.stages[..] else {
        panic!("two stages")
    };
    assert_eq!(
        small.params,
        serde_json::json!({
            "text": "a", "count": 1, "log-every": 1,
            "tail": {"coefficient": 0.0, "names": ["x", "y"]},
        })
    );
    assert_eq!((small.threads, small.device), (Some(1), Device::Cpu));
    assert_eq!(large.device, Device::Cuda);
    assert_eq!(large.time_limit.map(|t| t.as_secs()), Some(90));
    assert_eq!(
        (large.inputs[0].stage, large.inputs[0].output.as_str()),
        (0, "rows")
    );
    assert_eq!(pipeline.place(&small.span).to_string(), "p.toml:8:1");
    let place = |path: &str| pipeline.place(&small.param_spans[path]).to_string();
    assert_eq!(place("text"), "p.toml:10:8");
    assert_eq!(place("tail.names[1]"), "p.toml:11:20");
    assert!(!small.param_spans.contains_key("count"));
    assert!(pipeline.is_read(0) && !pipeline.is_read(1));
}

#[test]
fn a_set_replaces_and_adds() {
    let sets = [
        "small.text=plain-word",
        "small.tail.coefficient = 0.5",
        "small.tail.names=[]",
    ];
    let pipeline = parse(TWO, &sets);
    let small = &pipeline.stages[0];
    assert_eq!(small.params["text"], "plain-word");
    assert_eq!(
        small.params["tail"],
        serde_json::json!({"coefficient": 0.5, "names": []})
    );
    assert_eq!(
        pipeline.place(&small.param_spans["text"]).to_string(),
        "--set:1:12"
    );
    let other = parse(TWO, &["small.text=\"t\"", "large.inputs.rows='small.rows'"]);
    assert_eq!(
        other.place(&other.stages[1].inputs[0].span).to_string(),
        "--set:1:19"
    );
}

proptest! {
    /// Whatever the text, there is an answer, and it can be shown.
    #[test]
    fn any_text_is_only_an_error(text in "\\PC{0,60}", set in "\\PC{0,20}") {
        if let Err(mistakes) = read("x", Path::new("."), &text, &[set], &registry()) {
            prop_assert!(mistakes.render(false).contains("nothing was run"));
        }
    }

    /// The same for texts that look like pipelines.
    #[test]
    fn any_near_pipeline_is_only_an_error(lines in prop::collection::vec(near_line(), 0..12)) {
        let text = lines.join("\n");
        if let Err(mistakes) = read("x", Path::new("."), &text, &[], &registry()) {
            prop_assert!(mistakes.render(false).contains("nothing was run"));
        }
    }
}

fn near_line() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "'letters'",
        "'upper'",
        "'table'",
        "1",
        "-1",
        "1e999",
        "nan",
        "[1, [2]]",
        "{a = 1}",
        "'a.rows'",
        "'b.rows'",
        "'a.'",
        "'.'",
        "''",
        "99999999999999999999999999",
        "1979-05-27",
        "",
        "'\u{e9}",
        "true",
        "\"\"\"",
        "'${x}'",
        "'${x'",
        "'a@*.rows'",
        "'b@x,y=1.rows'",
        "[1, 2]",
        "[['a.count', 'x']]",
        "[{ x = 1 }]",
    ]);
    let key = prop::sample::select(vec![
        "kind",
        "inputs.rows",
        "inputs.arms.a",
        "inputs",
        "text",
        "count",
        "threads",
        "tail",
        "device",
        "time-limit",
        "tail.coefficient",
        "a.b",
        "",
        "a.count",
        "vars.x",
        "x",
        "seeds",
        "zip",
        "exclude",
        "arms",
        "include",
        "extends",
        "kind.letters.count",
    ]);
    let header = prop::sample::select(vec![
        "[stage.a]",
        "[stage.b]",
        "[stage]",
        "[[stage]]",
        "[run]",
        "[stage.\"\u{e9} x\"]",
        "[stage.a",
        "[x]",
        "[vars]",
        "[matrix]",
        "[matrix.axes]",
        "[matrix.arms.x]",
        "[profile.p]",
    ]);
    prop_oneof![
        3 => (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        1 => header.prop_map(str::to_owned),
    ]
}

#[test]
fn depth_and_size_are_no_problem() {
    let deep = format!(
        "[stage.a]\nkind = 'letters'\ntext = {}",
        "[".repeat(100_000)
    );
    let dotted = format!(
        "[stage.a]\nkind = 'letters'\n{} = 1",
        vec!["a"; 50_000].join(".")
    );
    let long = format!("[stage.a]\nkind = '{}'", "k".repeat(1_000_000));
    for text in [deep, dotted, long] {
        let mistakes = read("x", Path::new("."), &text, &[], &registry()).expect_err("wrong");
        assert!(!mistakes.render(false).is_empty());
    }
}

#[test]
fn an_order_is_found_for_any_graph() {
    // A thousand stages in reverse: each reads the one written after it.
    let mut text = String::new();
    for n in 0..1000 {
        text.push_str(&format!(
            "[stage.s{n}]\nkind = 'upper'\ninputs.rows = 's{}.rows'\n",
            n + 1
        ));
    }
    text.push_str("[stage.s1000]\nkind = 'letters'\ntext = 'a'\n");
    let pipeline = parse(&text, &[]);
    for (n, stage) in pipeline.stages.iter().enumerate() {
        assert!(stage.inputs.iter().all(|i| i.stage < n));
    }
    assert_eq!(pipeline.stages[0].name, "s1000");
}

/// The name, the inputs and a parameter of every stage, a line each.
fn shown(pipeline: &Pipeline, param: &str) -> String {
    let mut text = String::new();
    for stage in &pipeline.stages {
        let inputs: Vec<String> = stage
            .inputs
            .iter()
            .map(|i| {
                format!(
                    "{} <- {}.{}",
                    i.path(),
                    pipeline.stages[i.stage].name,
                    i.output
                )
            })
            .collect();
        let value = stage.params.get(param).map(|v| format!(" {param}={v}"));
        text.push_str(&format!(
            "{}{} [{}]\n",
            stage.name,
            value.unwrap_or_default(),
            inputs.join(", ")
        ));
    }
    text
}

fn good(name: &str) -> Pipeline {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pipelines/good")
        .join(name);
    read_file(&path, &registry()).unwrap_or_else(|m| panic!("{}", m.render(false)))
}

#[test]
fn variables_have_types_and_places() {
    let pipeline = good("variables.toml");
    let letters = &pipeline.stages[0];
    assert_eq!(
        letters.params,
        serde_json::json!({
            "text": "abc-5", "count": 5, "log-every": 1,
            "tail": {"coefficient": 0.5, "names": ["abc", "${word}"]},
        })
    );
    let place = |path: &str| pipeline.place(&letters.param_span(path)).to_string();
    assert_eq!(place("count"), "--set:1:12");
    assert_eq!(place("tail.coefficient"), "variables.toml:7:24");
    assert_eq!(place("text"), "variables.toml:5:8");
}

#[test]
fn a_matrix_makes_what_differs_and_no_more() {
    let pipeline = good("matrix.toml");
    assert_eq!(pipeline.points, 7);
    insta::assert_snapshot!(shown(&pipeline, "updates"), @r##"
    letters []
    noise@seed=1 []
    noise@seed=2 []
    noise@seed=3 []
    student@short,updates=1,lr=#1 updates=1 [rows <- letters.rows]
    score@short,updates=1,lr=#1,seed=1 [student <- student@short,updates=1,lr=#1.student, rows <- noise@seed=1.rows]
    by_seed@short,updates=1,lr=#1 [arms."seed=1" <- score@short,updates=1,lr=#1,seed=1.evaluation]
    baseline [student <- student@short,updates=1,lr=#1.student, rows <- letters.rows]
    start updates=1 [rows <- letters.rows]
    student@long,updates=1,lr=#1 updates=1 [rows <- letters.rows, student <- start.student]
    student@long,updates=10,lr=0.2 updates=10 [rows <- letters.rows, student <- start.student]
    score@long,updates=1,lr=#1,seed=1 [student <- student@long,updates=1,lr=#1.student, rows <- noise@seed=1.rows]
    score@long,updates=1,lr=#1,seed=2 [student <- student@long,updates=1,lr=#1.student, rows <- noise@seed=2.rows]
    score@long,updates=1,lr=#1,seed=3 [student <- student@long,updates=1,lr=#1.student, rows <- noise@seed=3.rows]
    score@long,updates=10,lr=0.2,seed=1 [student <- student@long,updates=10,lr=0.2.student, rows <- noise@seed=1.rows]
    score@long,updates=10,lr=0.2,seed=2 [student <- student@long,updates=10,lr=0.2.student, rows <- noise@seed=2.rows]
    score@long,updates=10,lr=0.2,seed=3 [student <- student@long,updates=10,lr=0.2.student, rows <- noise@seed=3.rows]
    table [arms."long,updates=1,lr=#1,seed=1" <- score@long,updates=1,lr=#1,seed=1.evaluation, arms."long,updates=1,lr=#1,seed=2" <- score@long,updates=1,lr=#1,seed=2.evaluation, arms."long,updates=1,lr=#1,seed=3" <- score@long,updates=1,lr=#1,seed=3.evaluation, arms."long,updates=10,lr=0.2,seed=1" <- score@long,updates=10,lr=0.2,seed=1.evaluation, arms."long,updates=10,lr=0.2,seed=2" <- score@long,updates=10,lr=0.2,seed=2.evaluation, arms."long,updates=10,lr=0.2,seed=3" <- score@long,updates=10,lr=0.2,seed=3.evaluation, arms."short,updates=1,lr=#1,seed=1" <- score@short,updates=1,lr=#1,seed=1.evaluation]
    by_seed@long,updates=1,lr=#1 [arms."seed=1" <- score@long,updates=1,lr=#1,seed=1.evaluation, arms."seed=2" <- score@long,updates=1,lr=#1,seed=2.evaluation, arms."seed=3" <- score@long,updates=1,lr=#1,seed=3.evaluation]
    by_seed@long,updates=10,lr=0.2 [arms."seed=1" <- score@long,updates=10,lr=0.2,seed=1.evaluation, arms."seed=2" <- score@long,updates=10,lr=0.2,seed=2.evaluation, arms."seed=3" <- score@long,updates=10,lr=0.2,seed=3.evaluation]
    both [arms.base <- baseline.evaluation, arms.best <- score@long,updates=10,lr=0.2,seed=1.evaluation, arms."long,updates=1,lr=#1,seed=2" <- score@long,updates=1,lr=#1,seed=2.evaluation, arms."long,updates=10,lr=0.2,seed=2" <- score@long,updates=10,lr=0.2,seed=2.evaluation]
    "##);
}

#[test]
fn a_like_stage_follows_the_other_but_for_what_it_says() {
    let pipeline = good("like.toml");
    insta::assert_snapshot!(shown(&pipeline, "updates"), @r"
    letters []
    long@updates=100,lr=1e-3 updates=100 [rows <- letters.rows]
    long@updates=100,lr=1e-4 updates=100 [rows <- letters.rows]
    long@updates=200,lr=1e-3 updates=200 [rows <- letters.rows]
    long@updates=200,lr=1e-4 updates=200 [rows <- letters.rows]
    short@lr=1e-3 updates=10 [rows <- letters.rows]
    short@lr=1e-4 updates=10 [rows <- letters.rows]
    shorter updates=10 [rows <- letters.rows]
    ");
    let text = fs::read_to_string("tests/pipelines/good/like.toml").expect("readable");
    let sets = ["long.updates=7", "long.lr=0.5", "short.lr=0.25"];
    let pipeline = parse(&text, &sets);
    let of = |stage: &str, param: &str| {
        let stage = &pipeline.stages[pipeline.find(stage).expect("a stage")];
        stage.params[param].as_f64().expect("a number")
    };
    let seen = ["long", "short", "shorter"].map(|s| (of(s, "updates"), of(s, "lr")));
    assert_eq!(seen, [(7.0, 0.5), (10.0, 0.25), (10.0, 2e-3)]);
}

#[test]
fn a_profile_changes_what_it_names() {
    let pipeline = good("profiles.toml");
    let [letters, train] = &pipeline.stages[..] else {
        panic!("two stages")
    };
    assert_eq!(letters.params["count"], 100);
    assert_eq!(
        (&train.params["updates"], &train.params["lr"]),
        (&7.into(), &0.25.into())
    );
    assert_eq!(
        (pipeline.settings.threads, pipeline.settings.memory),
        (Some(8), Some(64_000_000_000))
    );
    assert_eq!(train.memory, Some(1_500_000_000));
    // The kinds for tests compute on processors only, whatever the profile would like.
    assert_eq!((letters.device, train.device), (Device::Cpu, Device::Cpu));
    let place = pipeline.place(&train.param_span("lr")).to_string();
    assert_eq!(place, "profiles.toml:26:17");
}

#[test]
fn files_are_put_together() {
    let included = good("included.toml");
    assert_eq!(
        shown(&included, "text"),
        "letters text=\"abc\" []\nmore text=\"more\" []\n\
         large [rows <- letters.rows, extra <- more.rows]\n"
    );
    let letters = &included.stages[0];
    assert_eq!(
        included.place(&letters.span).to_string(),
        "tests/pipelines/good/parts/letters.toml:7:1"
    );
    assert_eq!(
        included.folder_of(letters, "text"),
        Path::new("tests/pipelines/good/parts")
    );
    let extended = good("extended.toml");
    let letters = &extended.stages[extended.find("letters").expect("there")];
    assert_eq!(letters.params["text"], "xyz");
    assert_eq!(letters.params["count"], 2);
    assert_eq!(
        extended.place(&letters.param_span("count")).to_string(),
        "extended.toml:10:9"
    );
    let large = &extended.stages[extended.find("large").expect("there")];
    assert_eq!(extended.stages[large.inputs[0].stage].name, "more");
}

#[test]
fn a_set_pins_an_axis() {
    let text = "\
[stage.letters]
kind = 'letters'
text = 'x${seed}'
[stage.train]
kind = 'train'
inputs.rows = 'letters.rows'
[stage.score]
kind = 'score'
inputs.student = 'train.student'
inputs.rows = 'letters.rows'
[stage.table]
kind = 'table'
inputs.arms = 'score@*.evaluation'
[matrix]
seeds = [1, 2]
axes.train.updates = [3, 4]
";
    assert_eq!(parse(text, &[]).stages.len(), 2 + 4 + 4 + 1);
    let one = parse(text, &["train.updates=9"]);
    assert_eq!(one.points, 2);
    assert_eq!(
        shown(&one, "updates"),
        "letters@seed=1 []\nletters@seed=2 []\n\
         train@seed=1 updates=9 [rows <- letters@seed=1.rows]\n\
         train@seed=2 updates=9 [rows <- letters@seed=2.rows]\n\
         score@seed=1 [student <- train@seed=1.student, rows <- letters@seed=1.rows]\n\
         score@seed=2 [student <- train@seed=2.student, rows <- letters@seed=2.rows]\n\
         table [arms.\"seed=1\" <- score@seed=1.evaluation, arms.\"seed=2\" <- score@seed=2.evaluation]\n"
    );
    let none = parse(text, &["train.updates=9", "vars.seed=5"]);
    assert_eq!(shown(&none, "text").lines().count(), 4);
    assert!(shown(&none, "text").contains("arms.score <- score.evaluation"));
}

proptest! {
    /// However axes, seeds and arms are chosen, every stage is made as often as what it mentions differs.
    #[test]
    fn a_stage_is_made_once_for_each_difference(
        seeds in 1usize..5, updates in 1usize..5, counts in 1usize..4, mentions in any::<bool>(),
    ) {
        let list = |n: usize| (1..=n).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
        let word = if mentions { "x${seed}" } else { "abc" };
        let text = format!(
            "[stage.letters]\nkind = 'letters'\ntext = '{word}'\n\
             [stage.train]\nkind = 'train'\ninputs.rows = 'letters.rows'\n\
             [stage.score]\nkind = 'score'\ninputs.student = 'train.student'\ninputs.rows = 'noise.rows'\n\
             [stage.noise]\nkind = 'letters'\ntext = 'x${{seed}}'\n\
             [stage.table]\nkind = 'table'\ninputs.arms = 'score@*.evaluation'\n\
             [matrix]\nseeds = [{}]\naxes.train.updates = [{}]\naxes.letters.count = [{}]\n",
            list(seeds), list(updates), list(counts),
        );
        let pipeline = parse(&text, &[]);
        let count = |base: &str| pipeline.stages.iter().filter(|s| s.base == base).count();
        let letters = counts * if mentions { seeds } else { 1 };
        prop_assert_eq!(pipeline.points, seeds * updates * counts);
        prop_assert_eq!(count("letters"), letters);
        prop_assert_eq!(count("train"), letters * updates);
        prop_assert_eq!(count("noise"), seeds);
        prop_assert_eq!(count("score"), seeds * updates * counts);
        prop_assert_eq!(count("table"), 1);
        let names: std::collections::BTreeSet<&str> =
            pipeline.stages.iter().map(|s| s.name.as_str()).collect();
        prop_assert_eq!(names.len(), pipeline.stages.len());
    }
}
