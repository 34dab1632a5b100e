//! Collecting deletes exactly what nothing names.

use std::{collections::BTreeSet, fs};

use starling_cache::{
    ActionKey, CollectOptions, CollectedItem, Digest, Keep, Pin, Store, collect, verify,
};

use crate::support::{Space, blob, label, now, record};

fn options(keep: Keep) -> CollectOptions {
    CollectOptions {
        keep,
        keep_snapshots: true,
        dry_run: false,
        now_unix: now() + 1.0,
        grace_seconds: 0.0,
    }
}

fn has(space: &Space, content: &str) -> bool {
    space.store.has(&Digest::of(content.as_bytes())).unwrap()
}

#[test]
fn a_dry_run_deletes_nothing_and_says_the_same() {
    let space = Space::new();
    let kept = space.record("kept", b"kept");
    let gone = space.record("gone", b"gone!");
    for record in [&kept, &gone] {
        space.store.create_action(&record.key, record).unwrap();
    }
    space.store.put_bytes(b"garbage").unwrap();
    let keep = Keep::Actions(BTreeSet::from([kept.key]));
    let dry = CollectOptions {
        dry_run: true,
        ..options(keep.clone())
    };
    let before = space.store.size_on_disk().unwrap();
    let would = collect(&space.store, &dry).unwrap();
    assert_eq!(space.store.size_on_disk().unwrap(), before);
    let did = collect(&space.store, &options(keep)).unwrap();
    assert_eq!(did, would);
    assert_eq!(before - space.store.size_on_disk().unwrap(), did.freed);
    let item = CollectedItem::Action {
        key: gone.key,
        stage: "gone".into(),
        seconds: 1.0,
        artifacts: 5,
    };
    assert!(did.items.iter().any(|(found, _)| *found == item));
    assert!(
        did.items
            .contains(&(CollectedItem::Blob(Digest::of(b"gone!")), 5))
    );
    assert!(
        did.items
            .contains(&(CollectedItem::Blob(Digest::of(b"garbage")), 7))
    );
    assert_eq!(space.store.actions().unwrap(), [kept.key]);
    assert!(has(&space, "kept") && has(&space, "spec of kept"));
    assert!(!has(&space, "gone!") && !has(&space, "spec of gone"));
    assert!(verify(&space.store, false).unwrap().is_sound());
}

#[test]
fn records_pins_and_unfinished_snapshots_protect_whole_trees() {
    let space = Space::new();
    for name in ["artifact", "snapshot", "done", "pinned"] {
        space.write(&format!("{name}/file"), format!("file of {name}"));
    }
    let record = record(
        &space.store,
        "stage",
        space.store.put_tree(&space.path("artifact")).unwrap(),
    );
    space.store.create_action(&record.key, &record).unwrap();
    let open = ActionKey(Digest::of(b"unfinished"));
    space
        .store
        .put_snapshot(&label(open), &space.path("snapshot"))
        .unwrap();
    space
        .store
        .put_snapshot(&label(record.key), &space.path("done"))
        .unwrap();
    let pinned = space.store.put_tree(&space.path("pinned")).unwrap();
    let other = space.record("pinned action", b"by action");
    space.store.create_action(&other.key, &other).unwrap();
    let pin = Pin {
        actions: [other.key].into(),
        blobs: [pinned.digest].into(),
        reason: "paper".into(),
    };
    space.store.put_pin("paper", &pin).unwrap();
    let keep = Keep::Actions([record.key, open].into());
    let did = collect(&space.store, &options(keep)).unwrap();
    // Snapshots of what is finished have served.
    assert!(
        did.items
            .iter()
            .any(|(item, _)| *item == CollectedItem::Snapshots(record.key))
    );
    assert!(!has(&space, "file of done"));
    assert_eq!(
        space.store.newest_snapshot(&record.key, "cpu", 9).unwrap(),
        None
    );
    assert!(
        space
            .store
            .newest_snapshot(&open, "cpu", 9)
            .unwrap()
            .is_some()
    );
    assert!(space.store.action(&record.key).unwrap().is_some());
    assert!(space.store.action(&other.key).unwrap().is_some());
    assert!(has(&space, "file of pinned"));
    assert!(space.store.remove_pin("paper").unwrap());
    assert!(!space.store.remove_pin("paper").unwrap());
    collect(&space.store, &options(Keep::Actions([record.key].into()))).unwrap();
    assert!(!has(&space, "file of pinned") && !has(&space, "by action"));
    assert_eq!(space.store.newest_snapshot(&open, "cpu", 9).unwrap(), None);
    assert!(space.store.action(&record.key).unwrap().is_some());
}

#[test]
fn young_blobs_stay_for_whoever_is_about_to_name_them() {
    let space = Space::new();
    let digest = space.store.put_bytes(b"in flight").unwrap();
    let path = blob(&space.store, &digest);
    let grace = CollectOptions {
        grace_seconds: 3600.0,
        ..options(Keep::All)
    };
    assert_eq!(collect(&space.store, &grace).unwrap().freed, 0);
    // Old, but put again just now.
    let file = fs::File::open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    space.store.put_bytes(b"in flight").unwrap();
    assert_eq!(collect(&space.store, &grace).unwrap().freed, 0);
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(collect(&space.store, &grace).unwrap().freed, 9);
    assert!(!path.exists());
}

#[test]
fn a_damaged_pin_stops_everything() {
    let space = Space::new();
    space.store.put_pin("paper", &Pin::default()).unwrap();
    space.store.put_bytes(b"garbage").unwrap();
    fs::write(space.store.root().join("pins/paper"), "{").unwrap();
    let error = collect(&space.store, &options(Keep::All)).unwrap_err();
    assert!(error.path().ends_with("pins/paper"), "{error}");
    assert!(has(&space, "garbage"));
}
