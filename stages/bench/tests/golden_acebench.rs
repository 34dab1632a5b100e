//! Verdicts, prompts and scores of the official evaluator, row by row.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use starling_bench::acebench::{Dataset, Lang, Profile};
use starling_text::json::{self, Value};

/// The folder of golden data; a relative name counts from the workspace's root.
fn golden() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are told where the golden data lies by the environment"
    )]
    let folder = std::env::var_os("STARLING_GOLDEN");
    root.join(folder.map_or_else(|| PathBuf::from("tests/golden"), PathBuf::from))
        .join("acebench")
}

/// The rows of every file whose name starts with `set`.
fn rows(set: &str) -> Vec<Value> {
    let folder = golden();
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.retain(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        name.starts_with(set) && (name.ends_with(".jsonl.gz") || name.ends_with(".jsonl"))
    });
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let bytes = fs::read(&file).expect("a readable file");
        let mut text = String::new();
        if file.extension().is_some_and(|extension| extension == "gz") {
            MultiGzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .expect("gzip");
        } else {
            text = String::from_utf8(bytes).expect("UTF-8");
        }
        rows.extend(
            text.lines()
                .filter(|line| !line.is_empty())
                .map(|line| json::parse(line).expect("JSON")),
        );
    }
    assert!(
        !rows.is_empty(),
        "no rows of `{set}` in {}",
        folder.display()
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
