//! Snapshots: the newest good one, and no more disk than needed.

use std::fs;

use starling_cache::{ActionKey, Creation, Digest, Mode, Store};

use crate::support::{Space, blob, files, record, tamper};

fn key() -> ActionKey {
    ActionKey(Digest::of(b"action"))
}

/// Saves a snapshot of two files, one of which never changes.
fn save(space: &Space, progress: u64, numerics: &str) {
    space.write("snapshot/config", "the same each time");
    space.write("snapshot/weights", format!("weights {progress} {numerics}"));
    let folder = space.path("snapshot");
    space
        .store
        .put_snapshot(&key(), progress, &folder, numerics)
        .unwrap();
}

fn newest(space: &Space, numerics: &str) -> Option<u64> {
    let (progress, output) = space.store.newest_snapshot(&key(), numerics).unwrap()?;
    let out = space.path(&format!("resumed {progress} {numerics}"));
    if !out.exists() {
        space.store.materialize(&output, &out, Mode::Link).unwrap();
    }
    let weights = fs::read_to_string(out.join("weights")).unwrap();
    assert_eq!(weights, format!("weights {progress} {numerics}"));
    Some(progress)
}

#[test]
fn the_newest_of_the_class_is_used() {
    let space = Space::new();
    assert_eq!(newest(&space, "cpu"), None);
    // 9 before 10: by number, not by name.
    for (progress, numerics) in [(9, "cpu"), (10, "cpu"), (10, "cuda"), (11, "cuda")] {
        save(&space, progress, numerics);
    }
    assert_eq!(newest(&space, "cpu"), Some(10));
    assert_eq!(newest(&space, "cuda"), Some(11));
    assert_eq!(newest(&space, "metal"), None);
    let progress: Vec<_> = space
        .store
        .snapshots(&key())
        .unwrap()
        .iter()
        .map(|snapshot| snapshot.progress)
        .collect();
    assert_eq!(progress, [11, 10, 10, 9]);
}

#[test]
fn a_damaged_one_gives_way_to_an_older_with_a_warning() {
    let space = Space::new();
    for progress in 1..=4 {
        save(&space, progress, "cpu");
    }
    let digest = |progress| Digest::of(format!("weights {progress} cpu").as_bytes());
    tamper(&blob(&space.store, &digest(4)), |bytes| bytes[0] ^= 1);
    assert_eq!(newest(&space, "cpu"), Some(3));
    assert!(!space.store.take_warnings().is_empty());
    fs::remove_file(blob(&space.store, &digest(3))).unwrap();
    assert_eq!(newest(&space, "cpu"), Some(2));
    let folder = space.store.root().join(format!("snapshots/{}", key()));
    let name = files(&folder)
        .into_keys()
        .find(|name| name.starts_with("2."))
        .unwrap();
    tamper(&folder.join(name), |bytes| bytes.truncate(9));
    assert_eq!(newest(&space, "cpu"), Some(1));
    // Saving again at the same place heals.
    save(&space, 2, "cpu");
    save(&space, 4, "cpu");
    assert_eq!(newest(&space, "cpu"), Some(4));
}

#[test]
fn dropping_frees_the_disk_but_nothing_that_others_name() {
    let space = Space::new();
    for progress in 1..=4 {
        save(&space, progress, "cpu");
    }
    // The artifact of another action has the bytes of the first snapshot.
    space.write("artifact/weights", "weights 1 cpu");
    let output = space.store.put_tree(&space.path("artifact")).unwrap();
    let other = record(&space.store, "other", output);
    assert_eq!(
        space.store.create_action(&other.key, &other).unwrap(),
        Creation::Created
    );
    space.store.drop_snapshots(&key(), 2).unwrap();
    assert_eq!(newest(&space, "cpu"), Some(4));
    assert_eq!(space.store.snapshots(&key()).unwrap().len(), 2);
    let has = |content: &str| space.store.has(&Digest::of(content.as_bytes())).unwrap();
    assert!(has("weights 1 cpu") && has("weights 3 cpu") && has("the same each time"));
    assert!(!has("weights 2 cpu"));
    space.store.drop_snapshots(&key(), 0).unwrap();
    assert_eq!(newest(&space, "cpu"), None);
    assert!(!has("weights 4 cpu") && !has("the same each time"));
    assert_eq!(space.store.action(&other.key).unwrap(), Some(other));
    space.store.drop_snapshots(&key(), 0).unwrap();
}
