//! Many at once: one wins, all agree.

use std::{fs, sync::Barrier, thread};

use starling_cache::{Creation, Digest, LocalStore, Store, verify};

use crate::support::{Space, blob, files, tamper};

const WRITERS: usize = 8;

/// Runs a function in several threads, each with its own view of the store, all starting together.
fn race<T: Send>(space: &Space, act: impl Fn(usize, LocalStore) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(WRITERS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS)
            .map(|i| {
                let (store, start, act) = (space.reopened(), &start, &act);
                scope.spawn(move || {
                    start.wait();
                    act(i, store)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Of records with different outputs exactly one is created, and every loser sees that one.
fn one_wins(space: &Space) {
    let results = race(space, |i, store| {
        let mut record = space.record("teacher", format!("bytes {i}").as_bytes());
        record.attempt = i as u32;
        match store.create_action(&record.key, &record).unwrap() {
            Creation::Created => (true, record),
            Creation::Existing(winner) => (false, *winner),
        }
    });
    let winners: Vec<_> = results.iter().filter(|(won, _)| *won).collect();
    assert_eq!(winners.len(), 1);
    assert!(results.iter().all(|(_, record)| *record == winners[0].1));
    let stored = space.store.action(&winners[0].1.key).unwrap().unwrap();
    assert_eq!(stored, winners[0].1);
}

#[test]
fn one_record_wins_and_the_losers_see_it() {
    for _ in 0..20 {
        one_wins(&Space::new());
    }
}

#[test]
fn one_record_wins_over_a_damaged_one() {
    for _ in 0..20 {
        let space = Space::new();
        let record = space.record("teacher", b"old");
        space.store.create_action(&record.key, &record).unwrap();
        let path = space
            .store
            .root()
            .join(format!("actions/{}.json", record.key));
        tamper(&path, |bytes| bytes.truncate(20));
        // Setting the damaged one aside may also hit a good one, which is put back: somebody may have been
        // told "created" twice, but all later readers agree.
        let results = race(&space, |i, store| {
            let mut record = record.clone();
            record.attempt = i as u32;
            store.create_action(&record.key, &record).unwrap()
        });
        assert!(results.contains(&Creation::Created));
        assert!(space.store.action(&record.key).unwrap().is_some());
    }
}

#[test]
fn the_same_blob_from_many_is_one_blob() {
    for damaged in [false, true] {
        let space = Space::new();
        let large = vec![5; (2 << 20) + 3];
        let file = space.write("large", &large);
        if damaged {
            space.store.put_file(&file).unwrap();
            tamper(&blob(&space.store, &Digest::of(&large)), |bytes| {
                bytes[9] ^= 1;
            });
        }
        let digests = race(&space, |_, store| {
            let small = store.put_bytes(b"small").unwrap();
            (small, store.put_file(&file).unwrap())
        });
        assert!(
            digests
                .iter()
                .all(|d| *d == (Digest::of(b"small"), Digest::of(&large)))
        );
        assert!(verify(&space.store, false).unwrap().is_sound());
        assert_eq!(files(&space.store.root().join("blobs")).len(), 2);
        assert!(files(&space.store.root().join("tmp")).is_empty());
    }
}

#[test]
fn attempts_are_numbered_without_gaps_or_twins() {
    let space = Space::new();
    let key = space.record("x", b"x").key;
    let mut numbers: Vec<u32> = race(&space, |_, store| store.next_attempt(&key).unwrap());
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=WRITERS as u32).collect::<Vec<_>>());
    assert_eq!(space.store.attempts(&key).unwrap(), numbers);
    space
        .store
        .put_attempt(&key, 3, "exit.json", b"{}")
        .unwrap();
    space
        .store
        .put_attempt(&key, 3, "exit.json", b"{\"code\":0}")
        .unwrap();
    let read = |n, name| space.store.attempt(&key, n, name).unwrap();
    assert_eq!(read(3, "exit.json").unwrap(), b"{\"code\":0}");
    assert_eq!(read(4, "exit.json"), None);
    let log = space.store.attempt_log(&key, 3).unwrap();
    fs::write(log, "line").unwrap();
    assert_eq!(read(3, "log").unwrap(), b"line");
}

#[test]
fn stores_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let start = Barrier::new(WRITERS);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                start.wait();
                let store = LocalStore::open_or_create(&dir.path().join("a/b/.starling")).unwrap();
                store.put_bytes(b"x").unwrap();
            });
        }
    });
}

#[test]
fn runs_keep_their_files() {
    let space = Space::new();
    space
        .store
        .put_run("20260102-a", "manifest.json", b"1")
        .unwrap();
    space
        .store
        .put_run("20260101-b", "manifest.json", b"2")
        .unwrap();
    space
        .store
        .put_run("20260101-b", "manifest.json", b"3")
        .unwrap();
    assert_eq!(space.store.runs().unwrap(), ["20260101-b", "20260102-a"]);
    assert_eq!(
        space
            .store
            .run_file("20260101-b", "manifest.json")
            .unwrap()
            .unwrap(),
        b"3"
    );
    assert_eq!(space.store.run_file("20260101-b", "other").unwrap(), None);
    assert_eq!(space.store.run_file("none", "manifest.json").unwrap(), None);
}
