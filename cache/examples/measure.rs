//! Measures a store in a folder that is given: `scripts/bench/store.sh` runs it and prints its rows.
//!
//! ```text
//! cargo run --release -p starling-cache --example measure -- FOLDER BYTES FILES
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and one that cannot go on has failed"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use starling_cache::{
    ActionRecord, Digest, KeyFields, LocalStore, Memo, Mode, OutputRef, Store as _,
};

/// How often storing and `dd` take turns.
const ROUNDS: usize = 5;
/// A virtual machine hands free memory back to its host after two seconds, and whoever needs it next pays for that: with
/// this pause before each of the two that write, both do, where otherwise only the slower one would.
const SETTLED: Duration = Duration::from_secs(4);

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap());
    let mut number = || {
        arguments
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let (bytes, files) = (number(), number());
    large(&folder, bytes);
    let store = LocalStore::open_or_create(&folder.join("store")).unwrap();
    small(&store, &folder, files);
}

fn timed<T>(act: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let result = act();
    (began.elapsed().as_secs_f64(), result)
}

/// One large file: digested on one core, stored, checked, and copied by `dd`, in turn and several times, because the
/// rate of a shared disk moves from one minute to the next. Medians.
fn large(folder: &Path, bytes: u64) {
    let path = folder.join("large");
    let mut state = 1_u64;
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes()).unwrap();
    }
    out.into_inner().unwrap().sync_all().unwrap();
    // Read once before, so that all of these read from memory.
    let _digest = Digest::of_file(&path).unwrap();
    let mut rates = BTreeMap::<&str, Vec<f64>>::new();
    let mut note = |name, seconds: f64| {
        rates
            .entry(name)
            .or_default()
            .push(bytes as f64 / seconds / 1e6);
    };
    for _ in 0..ROUNDS {
        let (sha, _) = timed(|| Digest::of_file(&path).unwrap());
        note("sha256", sha);
    }
    for _ in 0..ROUNDS {
        let root = folder.join("large-store");
        let store = LocalStore::open_or_create(&root).unwrap();
        thread::sleep(SETTLED);
        let (put, digest) = timed(|| store.put_file(&path).unwrap());
        note("put", put);
        let output = OutputRef {
            digest,
            tree: false,
            bytes,
        };
        let (check, ()) = timed(|| {
            store
                .materialize(&output, &folder.join("out"), Mode::Link)
                .unwrap();
        });
        note("check", check);
        fs::remove_file(folder.join("out")).unwrap();
        fs::remove_dir_all(root).unwrap();
        let plain = folder.join("plain");
        thread::sleep(SETTLED);
        let (dd, status) = timed(|| {
            Command::new("dd")
                .arg(format!("if={}", path.display()))
                .arg(format!("of={}", plain.display()))
                .args(["bs=1M", "conv=fsync", "status=none"])
                .status()
                .unwrap()
        });
        assert!(status.success());
        note("dd", dd);
        fs::remove_file(plain).unwrap();
    }
    for (name, mut rates) in rates {
        rates.sort_by(f64::total_cmp);
        println!("{name} {:.0}", rates[rates.len() / 2]);
    }
}

/// Many small files: stored, then planned with nothing to do.
fn small(store: &LocalStore, folder: &Path, count: u64) {
    let tree = folder.join("tree");
    for i in 0..count {
        let sub = tree.join(format!("{:03}", i / 1000));
        if i % 1000 == 0 {
            fs::create_dir_all(&sub).unwrap();
        }
        fs::write(sub.join(i.to_string()), format!("row {i}\n")).unwrap();
    }
    let (put, output) = timed(|| store.put_tree(&tree).unwrap());
    println!("put-small {put:.2}");
    let record = record(store, output);
    store.create_action(&record.key, &record).unwrap();
    // Times far ahead: everything has settled.
    let later = 1e11;
    let mut memo = Memo::default();
    memo.digest_path(&tree, later).unwrap();
    store.save_memo(&mut memo).unwrap();
    store
        .remember(&mut std::iter::once(&record), later)
        .unwrap();
    let (plan, ()) = timed(|| {
        let store = LocalStore::open(store.root()).unwrap();
        assert_eq!(store.memo().digest_path(&tree, later).unwrap(), output);
        assert!(
            store
                .cached(&record.key, record.fields.clone())
                .unwrap()
                .is_ok()
        );
    });
    println!("noop-small {plan:.3}");
}

fn record(store: &LocalStore, output: OutputRef) -> ActionRecord {
    let fields = KeyFields::new("measure", 1, json!({}), vec![]);
    ActionRecord {
        key: fields.action_key(),
        kind: fields.kind.clone(),
        version: 1,
        stage: "measure".to_owned(),
        spec: store.put_bytes(b"spec").unwrap(),
        fields,
        outputs: BTreeMap::from([("tree".to_owned(), output)]),
        numerics: "cpu".to_owned(),
        attempt: 1,
        started_unix: 0.0,
        seconds: 1.0,
        max_rss_bytes: 1,
        threads: 1,
    }
}
