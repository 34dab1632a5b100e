//! The process ends between two steps of writing, whichever two they are.
//!
//! The test starts itself again as a child that ends without any clean-up at its n-th step, for every n.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use starling_cache::{Creation, Digest, LocalStore, Mode, Store, verify};

use crate::support::{Space, files, label, record};

/// What every child does, and the parent afterwards.
fn work(store: &LocalStore, folder: &Path) -> Creation {
    let output = store.put_tree(&folder.join("tree")).unwrap();
    let record = record(store, "teacher", output);
    let attempt = store.next_attempt(&record.key).unwrap();
    store
        .put_attempt(&record.key, attempt, "started.json", b"{}")
        .unwrap();
    store
        .put_snapshot(&label(record.key), &folder.join("tree"))
        .unwrap();
    let created = store.create_action(&record.key, &record).unwrap();
    store
        .put_attempt(&record.key, attempt, "exit.json", b"{}")
        .unwrap();
    store.put_run("run", "manifest.json", b"{}").unwrap();
    created
}

/// The child; does nothing unless it is told where and how far to go.
#[test]
#[ignore = "is the child of `a_crash_at_any_step_leaves_nothing_half_made`"]
fn child() {
    let told = io::read_to_string(io::stdin()).unwrap();
    let mut lines = told.lines();
    let (folder, last) = (PathBuf::from(lines.next().unwrap()), lines.next().unwrap());
    let last: usize = last.parse().unwrap();
    let steps = AtomicUsize::new(0);
    let store = LocalStore::open_or_create(&folder.join("store"))
        .unwrap()
        .with_fault(Arc::new(move |_, _| {
            if steps.fetch_add(1, Ordering::SeqCst) == last {
                std::process::abort();
            }
            Ok(())
        }));
    work(&store, &folder);
}

/// Runs the child up to a step; whether it was ended by it.
fn run_child(folder: &Path, last: usize) -> bool {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}\n{last}", folder.display()).unwrap();
    drop(stdin);
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

#[test]
fn a_crash_at_any_step_leaves_nothing_half_made() {
    let unbroken = Space::new();
    let make = |space: &Space| {
        space.write("tree/small", "small");
        space.write("tree/deep/large", vec![1; (1 << 20) + 1]);
    };
    make(&unbroken);
    work(&unbroken.store, unbroken.dir.path());
    let mut step = 0;
    loop {
        let space = Space::fast();
        make(&space);
        let crashed = run_child(space.dir.path(), step);
        let root = space.path("store");
        // Whatever is visible is whole, before anybody cleans up.
        let store = LocalStore::open(&root).unwrap();
        assert!(verify(&store, false).unwrap().is_sound(), "step {step}");
        for key in store.actions().unwrap() {
            let record = store.action(&key).unwrap().unwrap();
            let out = space.path("out");
            store
                .materialize(&record.outputs["student"], &out, Mode::Link)
                .unwrap();
            assert_eq!(files(&out), files(&space.path("tree")), "step {step}");
        }
        // The next process removes what the dead one left, and comes to the same result.
        let store = LocalStore::open_or_create(&root).unwrap();
        assert!(files(&root.join("tmp")).is_empty(), "step {step}");
        work(&store, space.dir.path());
        let digests = |store: &LocalStore| {
            let key = store.actions().unwrap()[0];
            store.action(&key).unwrap().unwrap().outputs
        };
        assert_eq!(digests(&store), digests(&unbroken.store), "step {step}");
        assert!(store.take_warnings().is_empty(), "step {step}");
        if !crashed {
            assert!(step > 30, "only {step} steps");
            return;
        }
        step += 1;
    }
}

#[test]
fn files_of_living_processes_and_other_hosts_are_left_alone() {
    let space = Space::new();
    let tmp = space.store.root().join("tmp");
    let living = {
        // A write that is under way in this process.
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let store = space
            .reopened()
            .with_fault(Arc::new(move |verb, path: &Path| {
                if verb == "link" {
                    sender
                        .lock()
                        .unwrap()
                        .send(files(path.ancestors().nth(4).unwrap()))
                        .unwrap();
                }
                Ok(())
            }));
        store.put_bytes(b"under way").unwrap();
        let seen = receiver.recv().unwrap();
        seen.into_keys()
            .find_map(|name| name.strip_prefix("tmp/").map(str::to_owned))
            .unwrap()
    };
    let [place, pid, start, n]: [&str; 4] =
        living.split('-').collect::<Vec<_>>().try_into().unwrap();
    let dead = format!("{place}-{pid}-{}-{n}", start.parse::<u64>().unwrap() + 1);
    let far = format!("{}-{pid}-1-{n}", &Digest::of(b"far").to_string()[..12]);
    for name in [&living, &dead, &far, &"stranger".to_owned()] {
        fs::write(tmp.join(name), "half").unwrap();
    }
    LocalStore::open_or_create(space.store.root()).unwrap();
    let mut left: Vec<_> = files(&tmp).into_keys().collect();
    let mut expected = vec![living, far, "stranger".to_owned()];
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
}
