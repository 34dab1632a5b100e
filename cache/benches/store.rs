//! How fast the store is: digests, big and many small artifacts, records.
//!
//! `cargo bench -p starling-cache`; figures on a shared machine are for comparison within one run.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed"
)]

use std::{collections::BTreeMap, fs};

use divan::{Bencher, counter::BytesCount};
use serde_json::json;
use starling_cache::{
    ActionRecord, Digest, KeyFields, KeyInput, LocalStore, Memo, Mode, OutputRef, Store,
};

fn main() {
    divan::main();
}

const MIB: usize = 1 << 20;

struct Space {
    dir: tempfile::TempDir,
    store: LocalStore,
}

fn space() -> Space {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open_or_create(&dir.path().join("store")).unwrap();
    Space { dir, store }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

fn fields(i: usize) -> KeyFields {
    let params = json!({"tail": {"coefficient": 0.5}, "k": 64, "lr": 3e-4, "seed": i, "updates": 500, "batch": 32});
    let input = |port: &str| KeyInput {
        port: port.into(),
        name: None,
        digest: Digest::of(port.as_bytes()),
    };
    KeyFields::new(
        "distill",
        3,
        params,
        vec![input("student"), input("rollouts"), input("trainset")],
    )
}

#[divan::bench]
fn digest_64_mib(bencher: Bencher<'_, '_>) {
    let bytes = noise(64 * MIB);
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .bench(|| Digest::of(&bytes));
}

#[divan::bench]
fn key_of_a_stage(bencher: Bencher<'_, '_>) {
    let fields = fields(1);
    bencher.bench(|| fields.action_key());
}

/// Beside it in the same run, what the disk alone takes: a plain write with one sync at the end.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn plain_write_256_mib(bencher: Bencher<'_, '_>) {
    let space = space();
    let bytes = noise(256 * MIB);
    let path = space.dir.path().join("plain");
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .with_inputs(|| drop(fs::remove_file(&path)))
        .bench_values(|()| {
            let mut file = fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            file.sync_all().unwrap();
        });
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn put_file_256_mib(bencher: Bencher<'_, '_>) {
    let space = space();
    let bytes = noise(256 * MIB);
    let file = space.dir.path().join("file");
    fs::write(&file, &bytes).unwrap();
    let digest = Digest::of(&bytes);
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .with_inputs(|| drop(fs::remove_file(space.store.blob_path(&digest).unwrap())))
        .bench_values(|()| space.store.put_file(&file).unwrap());
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn materialize_256_mib(bencher: Bencher<'_, '_>) {
    let space = space();
    let bytes = noise(256 * MIB);
    let digest = space.store.put_bytes(&bytes).unwrap();
    let output = OutputRef {
        digest,
        tree: false,
        bytes: bytes.len() as u64,
    };
    let dest = space.dir.path().join("out");
    bencher
        .counter(BytesCount::of_slice(&bytes))
        .with_inputs(|| drop(fs::remove_file(&dest)))
        .bench_values(|()| space.store.materialize(&output, &dest, Mode::Link).unwrap());
}

/// A folder of so many small files, all different.
fn small_files(space: &Space, count: usize) -> std::path::PathBuf {
    let folder = space.dir.path().join("tree");
    for i in 0..count {
        let sub = folder.join(format!("{:03}", i / 1000));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(i.to_string()), format!("row {i}")).unwrap();
    }
    folder
}

#[divan::bench(sample_count = 1, sample_size = 1, args = [10_000])]
fn put_tree_of_small_files(bencher: Bencher<'_, '_>, count: usize) {
    let space = space();
    let folder = small_files(&space, count);
    bencher.bench(|| space.store.put_tree(&folder).unwrap());
}

#[divan::bench(sample_count = 3, sample_size = 1, args = [10_000])]
fn complete_with_small_files(bencher: Bencher<'_, '_>, count: usize) {
    let space = space();
    let output = space.store.put_tree(&small_files(&space, count)).unwrap();
    let record = record(&space, 1, output);
    bencher.bench(|| assert!(space.store.complete(&record).unwrap()));
}

/// What a plan of an unchanged outside folder costs, reading the memo's file included.
#[divan::bench(sample_count = 3, sample_size = 1, args = [10_000])]
fn memo_of_small_files(bencher: Bencher<'_, '_>, count: usize) {
    let space = space();
    let folder = small_files(&space, count);
    let later = 1e11;
    let mut memo = Memo::default();
    memo.digest_path(&folder, later).unwrap();
    space.store.save_memo(&mut memo).unwrap();
    bencher.bench(|| space.store.memo().digest_path(&folder, later).unwrap());
}

fn record(space: &Space, i: usize, output: OutputRef) -> ActionRecord {
    let fields = fields(i);
    ActionRecord {
        key: fields.action_key(),
        kind: fields.kind.clone(),
        version: fields.version,
        stage: format!("stage-{i}"),
        spec: space.store.put_bytes(b"spec").unwrap(),
        fields,
        outputs: BTreeMap::from([("student".into(), output), ("curve".into(), output)]),
        numerics: "cpu".into(),
        attempt: 1,
        started_unix: 0.0,
        seconds: 1.0,
        max_rss_bytes: 1,
        threads: 1,
    }
}

/// A record read, checked, and its two artifacts found.
#[divan::bench]
fn action(bencher: Bencher<'_, '_>) {
    let space = space();
    let digest = space.store.put_bytes(b"weights").unwrap();
    let output = OutputRef {
        digest,
        tree: false,
        bytes: 7,
    };
    let record = record(&space, 1, output);
    space.store.create_action(&record.key, &record).unwrap();
    bencher.bench(|| space.store.action(&record.key).unwrap().unwrap());
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let space = space();
    bencher.bench(|| LocalStore::open(space.store.root()).unwrap());
}
