//! Reading and planning pipelines of 100, 1,000 and 10,000 stages.
//!
//! `cargo bench --no-default-features --bench plan`. `read` is text to checked pipeline; `cached` is a plan of
//! one whose every stage the store holds; `matrix` makes the same number of stages of a few lines. In the
//! graph each stage reads the one before it and every tenth starts anew.

use std::collections::BTreeMap;
use std::path::Path;

use divan::Bencher;
use starling::Registry;
use starling::pipeline::{Pipeline, read};
use starling::plan::{Resolution, plan, resolve};
use starling_cache::{ActionRecord, LocalStore, Store};

#[path = "../tests/support/kinds.rs"]
mod kinds;

const SIZES: &[usize] = &[100, 1_000, 10_000];

fn main() {
    divan::main();
}

fn registry() -> Registry {
    Registry::new(kinds::kinds())
}

fn text(stages: usize) -> String {
    let mut text = String::new();
    for n in 0..stages {
        if n % 10 == 0 {
            text.push_str(&format!(
                "[stage.s{n}]\nkind = 'letters'\ntext = 'row {n}'\n"
            ));
        } else {
            text.push_str(&format!(
                "[stage.s{n}]\nkind = 'upper'\ninputs.rows = 's{}.rows'\n",
                n - 1
            ));
        }
    }
    text
}

fn parse(text: &str, registry: &Registry) -> Pipeline {
    read("p.toml", Path::new(""), text, &[], registry).expect("right")
}

#[divan::bench(args = SIZES)]
fn a_read(bencher: Bencher<'_, '_>, stages: usize) {
    let (text, registry) = (text(stages), registry());
    bencher.bench_local(|| parse(&text, &registry));
}

#[divan::bench(args = SIZES)]
fn b_matrix(bencher: Bencher<'_, '_>, stages: usize) {
    let registry = registry();
    let seeds: Vec<String> = (0..stages / 10).map(|n| n.to_string()).collect();
    let mut text = String::from("[stage.s0]\nkind = 'letters'\ntext = 'x${seed}'\n");
    for n in 1..10 {
        text.push_str(&format!(
            "[stage.s{n}]\nkind = 'upper'\ninputs.rows = 's{}.rows'\n",
            n - 1
        ));
    }
    text.push_str(&format!("[matrix]\nseeds = [{}]\n", seeds.join(", ")));
    bencher.bench_local(|| {
        let pipeline = parse(&text, &registry);
        assert_eq!(pipeline.stages.len(), stages);
        pipeline
    });
}

/// A store that holds a record of every stage.
fn filled(pipeline: &Pipeline, registry: &Registry) -> (tempfile::TempDir, LocalStore) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open_or_create(&folder.path().join("store")).expect("a store");
    let output = folder.path().join("output");
    std::fs::write(&output, "rows").expect("written");
    let output = store.put_tree(&output).expect("stored");
    let mut records: Vec<Option<ActionRecord>> = vec![None; pipeline.stages.len()];
    let mut memo = store.memo();
    for stage in 0..pipeline.stages.len() {
        let known = |n: usize| records[n].as_ref();
        let resolved = resolve(pipeline, stage, registry, &known, &store, &mut memo, 1e9);
        let Ok(Resolution::Action(action)) = resolved else {
            panic!("stage {stage} is not ready")
        };
        let kind = registry.get(&pipeline.stages[stage].kind).expect("known");
        let outputs = kind
            .ports()
            .outputs
            .iter()
            .map(|o| (o.name.to_owned(), output));
        let record = ActionRecord {
            key: action.key,
            kind: action.fields.kind.clone(),
            version: action.fields.version,
            stage: pipeline.stages[stage].name.clone(),
            spec: output.digest,
            fields: action.fields,
            outputs: outputs.collect::<BTreeMap<_, _>>(),
            numerics: "cpu bench 1".into(),
            attempt: 1,
            started_unix: 1e9,
            seconds: 1.0,
            max_rss_bytes: 1,
            threads: 1,
        };
        store.create_action(&action.key, &record).expect("created");
        records[stage] = Some(record);
    }
    (folder, store)
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn c_cached(bencher: Bencher<'_, '_>, stages: usize) {
    let registry = registry();
    let pipeline = parse(&text(stages), &registry);
    let (_folder, store) = filled(&pipeline, &registry);
    bencher.bench_local(|| {
        let mut memo = store.memo();
        plan(&pipeline, &registry, &store, &mut memo, 2e9).expect("a plan")
    });
}

#[divan::bench(args = SIZES, sample_count = 10)]
fn d_first(bencher: Bencher<'_, '_>, stages: usize) {
    let registry = registry();
    let pipeline = parse(&text(stages), &registry);
    let folder = tempfile::tempdir().expect("a folder");
    let store = LocalStore::open_or_create(&folder.path().join("store")).expect("a store");
    bencher.bench_local(|| {
        let mut memo = store.memo();
        plan(&pipeline, &registry, &store, &mut memo, 2e9).expect("a plan")
    });
}
