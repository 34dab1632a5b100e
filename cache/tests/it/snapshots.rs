//! Snapshots: the newest good one, and no more disk than needed.

use std::fs;

use starling_cache::{
    ActionKey, CollectOptions, Creation, Digest, Keep, Mode, SnapshotLabel, Store, collect, verify,
};

use crate::support::{Space, blob, files, record, tamper};

fn key() -> ActionKey {
    ActionKey(Digest::of(b"action"))
}

fn label(progress: u64, numerics: &str) -> SnapshotLabel {
    SnapshotLabel {
        line: key(),
        action: key(),
        progress,
        numerics: numerics.to_owned(),
        lasts: false,
    }
}

/// Saves a snapshot of two files, one of which never changes.
fn save(space: &Space, progress: u64, numerics: &str) {
    save_as(space, &label(progress, numerics));
}

fn save_as(space: &Space, label: &SnapshotLabel) {
    let (progress, numerics) = (label.progress, &label.numerics);
    space.write("snapshot/config", "the same each time");
    space.write("snapshot/weights", format!("weights {progress} {numerics}"));
    let folder = space.path("snapshot");
    space.store.put_snapshot(label, &folder).unwrap();
}

fn newest(space: &Space, numerics: &str) -> Option<u64> {
    newest_up_to(space, numerics, u64::MAX)
}

fn newest_up_to(space: &Space, numerics: &str, most: u64) -> Option<u64> {
    let found = space.store.newest_snapshot(&key(), numerics, most).unwrap();
    let (progress, output) = found?;
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
        .map(|snapshot| snapshot.label.progress)
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
    space.store.drop_snapshots(&key(), u64::MAX, 2).unwrap();
    assert_eq!(newest(&space, "cpu"), Some(4));
    assert_eq!(space.store.snapshots(&key()).unwrap().len(), 2);
    let has = |content: &str| space.store.has(&Digest::of(content.as_bytes())).unwrap();
    assert!(has("weights 1 cpu") && has("weights 3 cpu") && has("the same each time"));
    assert!(!has("weights 2 cpu"));
    space.store.drop_snapshots(&key(), u64::MAX, 0).unwrap();
    assert_eq!(newest(&space, "cpu"), None);
    assert!(!has("weights 4 cpu") && !has("the same each time"));
    assert_eq!(space.store.action(&other.key).unwrap(), Some(other));
    space.store.drop_snapshots(&key(), u64::MAX, 0).unwrap();
}

#[test]
fn none_beyond_the_stop_is_used_or_dropped() {
    let space = Space::new();
    for progress in [1, 2, 3, 8, 9] {
        save(&space, progress, "cpu");
    }
    assert_eq!(newest_up_to(&space, "cpu", 8), Some(8));
    assert_eq!(newest_up_to(&space, "cpu", 7), Some(3));
    assert_eq!(newest_up_to(&space, "cpu", 0), None);
    space.store.drop_snapshots(&key(), 7, 1).unwrap();
    assert_eq!(newest_up_to(&space, "cpu", 7), Some(3));
    assert_eq!(newest_up_to(&space, "cpu", 2), None);
    space.store.drop_snapshots(&key(), 7, 0).unwrap();
    assert_eq!(newest_up_to(&space, "cpu", 7), None);
    assert_eq!(newest(&space, "cpu"), Some(9));
}

#[test]
fn those_that_last_stay_until_they_are_collected() {
    let space = Space::new();
    let lasting = |progress, action| SnapshotLabel {
        action,
        lasts: true,
        ..label(progress, "cpu")
    };
    space.write("artifact/weights", "final");
    let output = space.store.put_tree(&space.path("artifact")).unwrap();
    let done = record(&space.store, "done", output);
    space.store.create_action(&done.key, &done).unwrap();
    save_as(&space, &lasting(5, done.key));
    // One that does not last does not take the place of one that does.
    save(&space, 5, "cpu");
    save(&space, 6, "cpu");
    space.store.drop_snapshots(&key(), u64::MAX, 0).unwrap();
    assert_eq!(newest(&space, "cpu"), Some(5));
    let kept = |keep: Keep, keep_snapshots: bool| {
        let options = CollectOptions {
            keep,
            keep_snapshots,
            dry_run: false,
            now_unix: 4e9,
            grace_seconds: 0.0,
        };
        collect(&space.store, &options).unwrap();
        newest(&space, "cpu")
    };
    assert_eq!(kept(Keep::All, true), Some(5));
    assert_eq!(kept(Keep::Actions([done.key].into()), true), Some(5));
    assert_eq!(kept(Keep::All, false), None);
    save_as(&space, &lasting(5, done.key));
    assert_eq!(kept(Keep::Actions([key()].into()), true), None);
}

#[test]
fn verifying_finds_what_cannot_be_resumed_from() {
    let space = Space::new();
    for progress in 1..=3 {
        save(&space, progress, "cpu");
    }
    let found = verify(&space.store, false).unwrap();
    assert_eq!((found.snapshots, found.is_sound()), (3, true));
    fs::remove_file(blob(&space.store, &Digest::of(b"weights 3 cpu"))).unwrap();
    let folder = space.store.root().join(format!("snapshots/{}", key()));
    let second = files(&folder)
        .into_keys()
        .find(|name| name.starts_with("2."))
        .unwrap();
    tamper(&folder.join(second), |bytes| bytes.truncate(9));
    let found = verify(&space.store, true).unwrap();
    assert!(!found.is_sound());
    let mut broken: Vec<_> = found
        .broken_snapshots
        .iter()
        .map(|s| (s.progress, s.lost.len()))
        .collect();
    broken.sort_unstable();
    assert_eq!(broken, [(None, 0), (Some(3), 1)]);
    space.store.take_warnings();
    assert!(verify(&space.store, false).unwrap().is_sound());
    assert_eq!(newest(&space, "cpu"), Some(1));
}
