//! Scoring, evaluating and looking at benchmark entries from the command line.

use crate::space::Space;

/// A file of the golden results.
fn golden(name: &str) -> String {
    format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn golden_rows_are_judged_as_they_expect() {
    let space = Space::new();
    for (bench, file, told) in [
        ("bfcl", "bfcl/cases_public.jsonl.gz", "7663 of 7663"),
        ("bfcl", "bfcl/convert_public.jsonl.gz", "1730 of 1730"),
        ("bfcl", "bfcl/think_parse.jsonl.gz", "14 of 14"),
        ("bfcl", "bfcl/probe_public.jsonl.gz", "251 of 251"),
        ("acebench", "acebench/runs_public.jsonl.gz", "19 of 19"),
        (
            "acebench",
            "acebench/agent_replay_public.jsonl.gz",
            "126 of 126",
        ),
    ] {
        let said = space.starling(&format!(
            "score {bench} --in {} --out v.jsonl --check",
            golden(file)
        ));
        assert_eq!(said.code, 0, "{file}: {}", said.all());
        assert!(said.stderr.contains(told), "{file}: {}", said.all());
    }
}

#[test]
fn a_stored_run_has_the_official_scores() {
    let space = Space::new();
    let results = golden("bfcl/e2e_public_results.jsonl.gz");
    let said = space.starling(&format!(
        "score bfcl --in {results} --out v.jsonl --summary s.json"
    ));
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(
        said.stdout.contains("Overall (v3)") && said.stdout.contains("73.62"),
        "{}",
        said.stdout
    );
    let read = |path: &std::path::Path| -> serde_json::Value {
        let text = std::fs::read_to_string(path).expect("a file");
        serde_json::from_str(&text).expect("JSON")
    };
    let expected = read(golden("bfcl/e2e_public_expected.json").as_ref());
    let found = read(&space.path("s.json"));
    for part in ["correct_total", "v3", "v4_sections"] {
        assert_eq!(found[part], expected[part], "{part}");
    }
    let verdicts = std::fs::read_to_string(space.path("v.jsonl")).expect("verdicts");
    assert_eq!(verdicts.lines().count(), 4441);
}

#[test]
fn the_official_layout_is_read_and_what_is_missing_counts() {
    let space = Space::new();
    let call = r#"<tool_call>\n{\"name\": \"calculate_triangle_area\", \"arguments\": {\"base\": 10, \"height\": 5}}\n</tool_call>"#;
    space.write(
        "result/model/non_live/BFCL_v3_simple_python_result.json",
        &format!("{{\"id\": \"simple_python_0\", \"result\": \"{call}\"}}\n"),
    );
    space.write("result/model/notes.txt", "no results");
    let said = space.starling("score bfcl --in result");
    assert_eq!(said.code, 0, "{}", said.all());
    assert!(
        said.stdout.contains("1/400") && said.stderr.contains("399 entries"),
        "{}",
        said.all()
    );
    let said = space.starling("score bfcl --in result --subset");
    assert!(said.stdout.contains("1/1 "), "{}", said.all());
}

#[test]
fn bad_rows_are_told_with_their_place_and_the_others_kept() {
    let space = Space::new();
    space.write(
        "rows.jsonl",
        "{\"id\": \"simple_python_0\", \"result\": \"x\"}\nnonsense\n{\"id\": \"nope_1\", \"result\": \"\"}\n[1]\n",
    );
    let said = space.starling("score bfcl --in rows.jsonl --out v.jsonl");
    assert_eq!(said.code, 4, "{}", said.all());
    for place in [
        "rows.jsonl:2: not JSON",
        "rows.jsonl:3: `nope_1`",
        "rows.jsonl:4: a row is",
    ] {
        assert!(said.stderr.contains(place), "{place}: {}", said.stderr);
    }
    let verdicts = std::fs::read_to_string(space.path("v.jsonl")).expect("verdicts");
    assert_eq!(
        verdicts,
        "{\"id\": \"simple_python_0\", \"category\": \"simple_python\", \"valid\": false, \
         \"error_type\": \"simple_function_checker:wrong_count\"}\n"
    );
    let said = space.starling("score acebench --in nowhere.jsonl");
    assert_eq!((said.code, said.stdout.as_str()), (3, ""), "{}", said.all());
}

#[test]
fn a_case_is_shown_beside_what_is_accepted() {
    let space = Space::new();
    let call = r#"<tool_call>\n{\"name\": \"calculate_triangle_area\", \"arguments\": {\"base\": 10, \"height\": \"x\"}}\n</tool_call>"#;
    space.write(
        "o.jsonl",
        &format!("{{\"id\": \"simple_python_0\", \"result\": \"{call}\"}}\n"),
    );
    let said = space.starling("inspect case bfcl simple_python_0 --outputs o.jsonl");
    assert_eq!(said.code, 0, "{}", said.all());
    for part in [
        "── tools (1)",
        "base = 10",
        "✗   height = \"x\"",
        "type_error:simple",
        "wrong",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    let said = space.starling("inspect case acebench normal_atom_bool_0 --prompt");
    assert!(said.stdout.contains("── accepted"), "{}", said.all());
    let said = space.starling("inspect case bfcl simple_pyton_0");
    assert_eq!(said.code, 2);
    assert!(
        said.stderr
            .contains("did you mean the category `simple_python`"),
        "{}",
        said.stderr
    );
}

#[test]
fn an_evaluation_is_a_pipeline_that_can_be_shown() {
    let space = Space::new();
    space.write("model/config.json", "{}");
    let said = space
        .starling("eval --model model --bench bfcl --categories live,simple_java --limit 3 --show");
    assert_eq!(said.code, 0, "{}", said.all());
    for line in [
        "kind = \"bfcl\"",
        "categories = [\"live\", \"simple_java\"]",
        "items-per-category = 3",
    ] {
        assert!(said.stdout.contains(line), "{line}: {}", said.stdout);
    }
    let said = space.starling("eval --model nowhere --bench acebench");
    assert_eq!(said.code, 3, "{}", said.all());
    let said = space.starling(
        "eval --model m --endpoint http://127.0.0.1:1/v1 --bench bfcl --categories nonsense",
    );
    assert_eq!(said.code, 3, "{}", said.all());
    assert!(
        said.stderr.contains("there is no category `nonsense`"),
        "{}",
        said.stderr
    );
}

/// What is wrong is named, with where it is and what to do.
#[test]
fn wrong_inputs_say_what_to_do() {
    let space = Space::new();
    space.write("empty.jsonl", "\n");
    space.write(
        "broken.jsonl",
        "{\"id\": \"simple_python_5\", \"result\": \"x\"}\n\n{\"id\": \n",
    );
    space.write("model/config.txt", "no model");
    for (arguments, code, said) in [
        ("score bfcl --in none.jsonl", 3, "name a file of JSON lines"),
        (
            "score reward --in none.jsonl --out s.jsonl",
            3,
            "name a file of rows",
        ),
        ("score bfcl --in empty.jsonl", 3, "holds no rows"),
        ("score acebench --in empty.jsonl", 3, "holds no rows"),
        (
            "score reward --in empty.jsonl --out s.jsonl",
            3,
            "holds no rows",
        ),
        (
            "score bfcl --in broken.jsonl",
            4,
            "broken.jsonl:3: not JSON",
        ),
        (
            "inspect case bfcl simple_python_7 --outputs broken.jsonl",
            3,
            "the first is broken.jsonl:3",
        ),
        (
            "inspect case bfcl simple_python_400",
            2,
            "simple_python_0 to simple_python_399",
        ),
        (
            "inspect case bfcl simple_pyton_4",
            2,
            "did you mean the category `simple_python`",
        ),
        (
            "inspect case acebench nothing",
            2,
            "categories are normal_single",
        ),
        (
            "inspect case acebench agent_multi_step_99",
            2,
            "`agent_multi_step` has 20 of them",
        ),
        (
            "inspect case acebench normal_atom_bool_3 --prompt-mode",
            2,
            "a mode of bfcl",
        ),
        ("eval --bench bfcl --model model", 3, "no config.json"),
        (
            "eval --bench bfcl --model empty.jsonl",
            3,
            "does not begin with `GGUF`",
        ),
    ] {
        let one = space.starling(arguments);
        assert_eq!(one.code, code, "{arguments}: {}", one.all());
        assert!(one.stderr.contains(said), "{arguments}: {}", one.all());
    }
    space.write("config.json", "{}");
    let inside = space.starling("eval --bench bfcl --model .");
    assert!(
        inside.stderr.contains("lies in the model's folder"),
        "{}",
        inside.all()
    );
}

#[test]
fn an_evaluation_can_be_taken_out_and_looked_through() {
    let space = Space::new();
    space.write(
        "rows.jsonl",
        "{\"id\": \"1\", \"messages\": [{\"role\": \"user\", \"content\": \"a triangle of base 10\"}]}\n",
    );
    space.write(
        "model.toml",
        "[stage.file]\nkind = \"fetch\"\npath = \"rows.jsonl\"\n\
         [stage.rows]\nkind = \"format\"\ninputs.raw = \"file.data\"\nsource = \"messages\"\n\
         [stage.words]\nkind = \"tokenizer-train\"\ninputs.rows.mine = \"rows.rows\"\nvocab-size = 300\n\
         [stage.m]\nkind = \"model-init\"\ninputs.tokenizer = \"words.tokenizer\"\nhidden = 16\nlayers = 1\n\
         heads = 2\nkv-heads = 1\nmax-positions = 4096\n",
    );
    for arguments in ["run model.toml", "copy m.model model -p model.toml"] {
        let one = space.starling(arguments);
        assert_eq!(one.code, 0, "{}", one.all());
    }
    let eval = "eval --model model --bench bfcl --categories simple_python --limit 1 --max-new-tokens 4 \
                --max-prompt-tokens 4000 --out found";
    let one = space.starling(eval);
    assert_eq!(one.code, 0, "{}", one.all());
    let case = space.starling("inspect case bfcl simple_python_0 --outputs found/items.jsonl");
    assert_eq!(case.code, 0, "{}", case.all());
    assert!(case.stdout.contains("── verdict"), "{}", case.all());
    let again = space.starling(eval);
    assert!(again.stderr.contains("is there already"), "{}", again.all());
    let show = space.starling("show eval");
    assert!(show.stderr.contains("--out FOLDER"), "{}", show.all());
}
