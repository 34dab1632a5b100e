//! Truncated and flipped files, lost blobs, full and read-only disks.

use std::{fs, io, path::Path, sync::Arc};

use starling_cache::{CacheError, Creation, Digest, Mode, Store, verify};

use crate::support::{Space, blob, files, label, record, tamper};

/// A way in which bytes go bad, and its name.
type Damage = (&'static str, fn(&mut Vec<u8>));
const DAMAGES: [Damage; 4] = [
    ("flipped", |bytes| bytes[0] ^= 1),
    ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
    ("emptied", Vec::clear),
    ("grown", |bytes| bytes.push(0)),
];

#[test]
fn a_damaged_blob_is_an_error_to_its_reader_and_healed_by_the_next_put() {
    for (damage, change) in DAMAGES {
        let space = Space::new();
        let digest = space.store.put_bytes(b"content").unwrap();
        let path = blob(&space.store, &digest);
        tamper(&path, change);
        let error = space.store.read(&digest).unwrap_err();
        assert!(error.is_lost_blob(), "{damage}: {error}");
        assert_eq!(error.path(), path);
        // It was set aside with a warning, so that the next plan sees a miss.
        assert!(!space.store.has(&digest).unwrap());
        assert_eq!(space.store.take_warnings().len(), 1);
        assert_eq!(files(&space.store.root().join("damaged")).len(), 1);
        space.store.put_bytes(b"content").unwrap();
        assert_eq!(space.store.read(&digest).unwrap(), b"content");
    }
}

#[test]
fn putting_over_damage_heals_it() {
    for (damage, change) in DAMAGES {
        let space = Space::new();
        let large = vec![3; 3 << 20];
        let file = space.write("large", &large);
        let digests = [
            space.store.put_bytes(b"small").unwrap(),
            space.store.put_file(&file).unwrap(),
        ];
        digests
            .iter()
            .for_each(|digest| tamper(&blob(&space.store, digest), change));
        space.store.put_bytes(b"small").unwrap();
        space.store.put_file(&file).unwrap();
        assert_eq!(space.store.read(&digests[0]).unwrap(), b"small", "{damage}");
        assert_eq!(space.store.read(&digests[1]).unwrap(), large, "{damage}");
        assert_eq!(space.store.take_warnings().len(), 2);
    }
}

#[test]
fn a_tree_with_a_damaged_file_is_not_placed_at_all() {
    for mode in [Mode::Link, Mode::Copy] {
        for (damage, change) in DAMAGES {
            let space = Space::new();
            space.write("tree/a", "a good file");
            space.write("tree/b", "a bad file");
            let output = space.store.put_tree(&space.path("tree")).unwrap();
            tamper(&blob(&space.store, &Digest::of(b"a bad file")), change);
            let out = space.path("out");
            let error = space.store.materialize(&output, &out, mode).unwrap_err();
            assert!(error.is_lost_blob(), "{damage}: {error}");
            assert!(!out.exists());
            // Once noticed, it is missing.
            let error = space.store.materialize(&output, &out, mode).unwrap_err();
            assert!(matches!(error, CacheError::BlobMissing { .. }), "{error}");
        }
    }
}

#[test]
fn a_damaged_record_is_a_warning_and_a_miss_and_the_rerun_replaces_it() {
    for (damage, change) in DAMAGES {
        let space = Space::new();
        let record = space.record("teacher", b"weights");
        assert_eq!(space.store.action(&record.key).unwrap(), None);
        assert!(space.store.take_warnings().is_empty());
        let created = space.store.create_action(&record.key, &record).unwrap();
        assert_eq!(created, Creation::Created);
        assert_eq!(
            space.store.action(&record.key).unwrap().as_ref(),
            Some(&record)
        );
        let path = space
            .store
            .root()
            .join(format!("actions/{}.json", record.key));
        tamper(&path, change);
        assert_eq!(space.store.action(&record.key).unwrap(), None, "{damage}");
        let warnings = space.store.take_warnings();
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].path, path);
        let created = space.store.create_action(&record.key, &record).unwrap();
        assert_eq!(created, Creation::Created, "{damage}");
        assert_eq!(
            space.store.action(&record.key).unwrap().as_ref(),
            Some(&record)
        );
    }
}

#[test]
fn a_record_under_a_wrong_key_is_a_miss() {
    let space = Space::new();
    let (one, two) = (space.record("one", b"1"), space.record("two", b"2"));
    space.store.create_action(&one.key, &one).unwrap();
    let path = |key| space.store.root().join(format!("actions/{key}.json"));
    fs::copy(path(one.key), path(two.key)).unwrap();
    assert_eq!(space.store.action(&two.key).unwrap(), None);
    assert_eq!(space.store.take_warnings().len(), 1);
}

#[test]
fn a_record_whose_blob_is_gone_or_cut_is_a_miss_until_it_is_back() {
    for lost in ["x", "y", "manifest"] {
        for cut in [false, true] {
            let space = Space::new();
            space.write("tree/x", "xxx");
            space.write("tree/y", "yyy");
            let output = space.store.put_tree(&space.path("tree")).unwrap();
            let record = record(&space.store, "teacher", output);
            space.store.create_action(&record.key, &record).unwrap();
            assert!(space.store.complete(&record).unwrap());
            let digest = match lost {
                "manifest" => output.digest,
                name => Digest::of(name.repeat(3).as_bytes()),
            };
            let path = blob(&space.store, &digest);
            if cut {
                tamper(&path, |bytes| bytes.truncate(2));
            } else {
                fs::remove_file(&path).unwrap();
            }
            assert_eq!(space.store.action(&record.key).unwrap(), None, "{lost}");
            assert!(!space.store.complete(&record).unwrap());
            assert!(!space.store.take_warnings().is_empty());
            // The rerun puts the same bytes and finds its record there, whole again.
            space.store.put_tree(&space.path("tree")).unwrap();
            let created = space.store.create_action(&record.key, &record).unwrap();
            assert_eq!(created, Creation::Existing(Box::new(record.clone())));
            assert_eq!(space.store.action(&record.key).unwrap(), Some(record));
        }
    }
}

#[test]
fn a_rerun_with_other_bytes_takes_the_place_of_a_record_without_blobs() {
    let space = Space::new();
    let old = space.record("teacher", b"old");
    space.store.create_action(&old.key, &old).unwrap();
    let new = space.record("teacher", b"new");
    let Creation::Existing(first) = space.store.create_action(&new.key, &new).unwrap() else {
        panic!("the first record must stay");
    };
    assert_eq!(first.differing_outputs(&new), ["student"]);
    fs::remove_file(blob(&space.store, &Digest::of(b"old"))).unwrap();
    assert_eq!(
        space.store.create_action(&new.key, &new).unwrap(),
        Creation::Created
    );
    assert_eq!(space.store.action(&new.key).unwrap(), Some(new));
}

#[test]
fn verification_names_blobs_and_records_and_repairs_by_setting_aside() {
    let space = Space::new();
    let good = space.record("good", b"good");
    let flipped = space.record("flipped", b"flipped");
    let lost = space.record("lost", b"lost");
    let garbled = space.record("garbled", b"garbled");
    for record in [&good, &flipped, &lost, &garbled] {
        space.store.create_action(&record.key, record).unwrap();
    }
    assert!(verify(&space.store, false).unwrap().is_sound());
    tamper(&blob(&space.store, &Digest::of(b"flipped")), |bytes| {
        bytes[0] ^= 1;
    });
    fs::remove_file(blob(&space.store, &Digest::of(b"lost"))).unwrap();
    let path = space
        .store
        .root()
        .join(format!("actions/{}.json", garbled.key));
    tamper(&path, |bytes| bytes[5] ^= 1);
    for repair in [false, true] {
        let found = verify(&space.store, repair).unwrap();
        assert_eq!((found.records, found.blobs), (4, 7));
        let damaged: Vec<_> = found.damaged.iter().map(|damaged| damaged.digest).collect();
        assert_eq!(damaged, [Digest::of(b"flipped")]);
        let mut broken: Vec<_> = found
            .broken
            .iter()
            .map(|b| (b.key, b.damage.is_some(), b.lost.clone()))
            .collect();
        let lost_at = |content: &[u8]| [("student".to_owned(), vec![Digest::of(content)])].into();
        let mut expected = vec![
            (flipped.key, false, lost_at(b"flipped")),
            (lost.key, false, lost_at(b"lost")),
            (garbled.key, true, [].into()),
        ];
        broken.sort_by_key(|(key, ..)| *key);
        expected.sort_by_key(|(key, ..)| *key);
        assert_eq!(broken, expected);
    }
    let found = verify(&space.store, false).unwrap();
    assert!(found.is_sound());
    assert_eq!(space.store.actions().unwrap(), [good.key]);
}

/// A step of some writing goes wrong, whichever it is; the error names a path, and nothing half-made shows.
#[test]
fn every_failing_step_is_an_error_with_a_path_and_leaves_nothing_half_made() {
    for kind in [
        io::ErrorKind::StorageFull,
        io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let mut step = 0;
        loop {
            let space = Space::fast();
            space.write("tree/x", "xxx");
            space.write("tree/large", vec![9; (1 << 20) + 1]);
            let counter = std::sync::atomic::AtomicUsize::new(0);
            let failing = space.reopened().with_fault(Arc::new(move |_, _| {
                let n = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if n == step { Err(kind.into()) } else { Ok(()) }
            }));
            let all = || -> Result<(), CacheError> {
                let output = failing.put_tree(&space.path("tree"))?;
                let record = record(&space.store, "teacher", output);
                failing.create_action(&record.key, &record)?;
                failing.put_attempt(&record.key, failing.next_attempt(&record.key)?, "a", b"a")?;
                failing.put_snapshot(&label(record.key), &space.path("tree"))?;
                failing.put_run("run", "manifest.json", b"{}")?;
                failing.materialize(&output, &space.path("out"), Mode::Link)
            };
            let result = all();
            assert!(verify(&space.store, false).unwrap().is_sound());
            assert!(files(&space.store.root().join("tmp")).is_empty());
            let Err(error) = result else {
                assert!(step > 30, "only {step} steps");
                break;
            };
            let expected = match kind {
                io::ErrorKind::StorageFull => matches!(error, CacheError::Full { .. }),
                _ => matches!(error, CacheError::ReadOnly { .. }),
            };
            assert!(expected, "step {step}: {error}");
            assert!(
                error.path().starts_with(space.dir.path()),
                "step {step}: {error}"
            );
            step += 1;
        }
    }
}

/// The same where many files are written before the first gets its place.
#[test]
fn a_failure_among_many_files_leaves_nothing_half_made() {
    for step in [
        0, 1, 2, 50, 130, 201, 209, 210, 211, 212, 213, 214, 250, 280, 281, 282, 300,
    ] {
        let space = Space::fast();
        for i in 0..70 {
            space.write(&format!("tree/{i}"), format!("file {i}"));
        }
        let counter = std::sync::atomic::AtomicUsize::new(0);
        let failing = space.reopened().with_fault(Arc::new(move |_, _| {
            let n = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if n == step {
                Err(io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        }));
        let error = failing.put_tree(&space.path("tree")).unwrap_err();
        assert!(
            matches!(error, CacheError::Full { .. }),
            "step {step}: {error}"
        );
        assert!(verify(&space.store, false).unwrap().is_sound());
        assert!(
            files(&space.store.root().join("tmp")).is_empty(),
            "step {step}"
        );
        let output = space.store.put_tree(&space.path("tree")).unwrap();
        space
            .store
            .materialize(&output, &space.path("out"), Mode::Link)
            .unwrap();
    }
}

#[test]
fn a_read_only_store_can_be_read_and_says_where_it_cannot_be_written() {
    let space = Space::new();
    let record = space.record("teacher", b"weights");
    space.store.create_action(&record.key, &record).unwrap();
    let deny = |_: &'static str, path: &Path| -> io::Result<()> {
        let inside = path
            .components()
            .any(|part| part.as_os_str() == ".starling");
        if inside {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        } else {
            Ok(())
        }
    };
    let store = space.reopened().with_fault(Arc::new(deny));
    assert!(store.action(&record.key).unwrap().is_some());
    let output = record.outputs["student"];
    store
        .materialize(&output, &space.path("out"), Mode::Link)
        .unwrap();
    assert_eq!(store.put_bytes(b"weights").unwrap(), output.digest);
    let error = store.put_bytes(b"new").unwrap_err();
    assert!(matches!(error, CacheError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("--store"), "{error}");
    // Damage is still told, though it cannot be set aside.
    tamper(&blob(&space.store, &output.digest), |bytes| bytes[0] ^= 1);
    store.read(&output.digest).unwrap_err();
    assert_eq!(store.take_warnings().len(), 1);
    let error = store.put_bytes(b"weights").unwrap_err();
    assert!(matches!(error, CacheError::ReadOnly { .. }), "{error}");
}

#[test]
fn names_do_not_leave_their_folder() {
    let space = Space::new();
    let key = space.record("x", b"x").key;
    for name in ["", ".", "..", "a/b", "/etc/passwd", "../../x", "a\0b"] {
        for error in [
            space.store.put_run(name, "manifest.json", b"").unwrap_err(),
            space.store.put_run("run", name, b"").unwrap_err(),
            space.store.run_file("run", name).unwrap_err(),
            space.store.put_attempt(&key, 1, name, b"").unwrap_err(),
            space.store.remove_pin(name).unwrap_err(),
        ] {
            assert!(
                matches!(error, CacheError::BadName { .. }),
                "{name:?}: {error}"
            );
        }
    }
}
