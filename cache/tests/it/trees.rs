//! Files and folders go in and come out.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use starling_cache::{CacheError, Digest, LocalStore, Memo, Mode, Store, find_store};

use crate::support::{Space, blob, files, now};

#[test]
fn bytes_and_files_of_any_size_come_back() {
    let space = Space::new();
    for size in [0, 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 7] {
        let content: Vec<u8> = (0..size).map(|i: usize| (i * 31 % 251) as u8).collect();
        let file = space.write("big file", &content);
        let digest = space.store.put_file(&file).unwrap();
        assert_eq!(digest, Digest::of(&content));
        assert_eq!(space.store.put_bytes(&content).unwrap(), digest);
        assert_eq!(space.store.put_file(&file).unwrap(), digest);
        assert_eq!(space.store.read(&digest).unwrap(), content);
        let mode = fs::metadata(blob(&space.store, &digest))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o444);
    }
    assert!(files(&space.store.root().join("tmp")).is_empty());
    assert!(space.store.take_warnings().is_empty());
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let space = Space::new();
    for name in [
        "a",
        "deep/er/b",
        "mit Leerzeichen/ü\n\\ ü",
        ".hidden",
        "empty file",
    ] {
        space.write(
            &format!("tree/{name}"),
            if name == "empty file" { "" } else { name },
        );
    }
    fs::create_dir(space.path("tree/empty folder")).unwrap();
    let output = space.store.put_tree(&space.path("tree")).unwrap();
    assert!(output.tree);
    let before = files(&space.path("tree"));
    assert_eq!(
        output.bytes,
        before.values().map(|bytes| bytes.len() as u64).sum::<u64>()
    );
    for mode in [Mode::Link, Mode::Copy] {
        let dest = space.path(&format!("out {mode:?}"));
        space.store.materialize(&output, &dest, mode).unwrap();
        assert_eq!(files(&dest), before);
        assert!(dest.join("empty folder").is_dir());
    }
    let link = fs::metadata(space.path("out Link/a")).unwrap();
    let original = fs::metadata(blob(&space.store, &Digest::of(b"a"))).unwrap();
    assert_eq!(link.ino(), original.ino());
    // A copy is the user's: changing it changes nothing in the store.
    fs::write(space.path("out Copy/a"), "changed").unwrap();
    assert_eq!(space.store.read(&Digest::of(b"a")).unwrap(), b"a");
}

#[test]
fn many_small_files_take_the_same_way() {
    let space = Space::new();
    for i in 0..300 {
        // Some have the same content, in one folder and across folders.
        space.write(&format!("tree/{}/{i}", i % 7), format!("{}", i % 200));
    }
    space.write("tree/large", vec![7; (1 << 20) + 1]);
    let output = space.store.put_tree(&space.path("tree")).unwrap();
    assert_eq!(space.store.put_tree(&space.path("tree")).unwrap(), output);
    space
        .store
        .materialize(&output, &space.path("out"), Mode::Link)
        .unwrap();
    assert_eq!(files(&space.path("out")), files(&space.path("tree")));
    assert!(files(&space.store.root().join("tmp")).is_empty());
    assert_eq!(files(&space.store.root().join("blobs")).len(), 200 + 1 + 1);
}

#[test]
fn a_digest_depends_on_content_and_names_alone() {
    let space = Space::new();
    let path = space.write("one/x", "1");
    let one = space.store.put_tree(&space.path("one")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(space.path("one"), space.path("two")).unwrap();
    assert_eq!(space.store.put_tree(&space.path("two")).unwrap(), one);
    fs::rename(space.path("two/x"), space.path("two/y")).unwrap();
    assert_ne!(space.store.put_tree(&space.path("two")).unwrap(), one);
    let memo = Memo::default()
        .digest_path(&space.path("two"), now())
        .unwrap();
    assert_eq!(space.store.put_tree(&space.path("two")).unwrap(), memo);
    fs::create_dir(space.path("none")).unwrap();
    let none = space.store.put_tree(&space.path("none")).unwrap();
    assert_eq!(
        Memo::default()
            .digest_path(&space.path("none"), now())
            .unwrap(),
        none
    );
    space
        .store
        .materialize(&none, &space.path("none out"), Mode::Link)
        .unwrap();
    assert!(
        fs::read_dir(space.path("none out"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn links_are_followed_and_circles_refused() {
    let space = Space::new();
    space.write("elsewhere/weights", "w");
    space.write("tree/readme", "r");
    symlink(space.path("elsewhere/weights"), space.path("tree/model")).unwrap();
    symlink(space.path("elsewhere"), space.path("tree/folder")).unwrap();
    let output = space.store.put_tree(&space.path("tree")).unwrap();
    let manifest = space.store.manifest(&output.digest).unwrap();
    let paths: Vec<_> = manifest.files().map(|(path, ..)| path).collect();
    assert_eq!(paths, ["folder/weights", "model", "readme"]);
    symlink(space.path("tree"), space.path("tree/circle")).unwrap();
    let error = space.store.put_tree(&space.path("tree")).unwrap_err();
    assert!(matches!(error, CacheError::Unsupported { .. }), "{error}");
    fs::remove_file(space.path("tree/circle")).unwrap();
    symlink(space.path("nowhere"), space.path("tree/dangling")).unwrap();
    let error = space.store.put_tree(&space.path("tree")).unwrap_err();
    assert_eq!(error.path(), space.path("tree/dangling"));
}

#[test]
fn a_pipe_is_refused_and_does_not_hang() {
    let space = Space::new();
    fs::create_dir(space.path("tree")).unwrap();
    let pipe = space.path("tree/pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for path in [&pipe, &space.path("tree")] {
        let error = space.store.put_tree(path).unwrap_err();
        assert!(matches!(error, CacheError::Unsupported { .. }), "{error}");
        let error = Memo::default().digest_path(path, now()).unwrap_err();
        assert!(matches!(error, CacheError::Unsupported { .. }), "{error}");
    }
}

#[test]
fn an_existing_place_is_not_written_over() {
    let space = Space::new();
    let content = space.write("tree/x", "1");
    let output = space.store.put_tree(&space.path("tree")).unwrap();
    let file = space.store.put_tree(&content).unwrap();
    let taken = space.write("taken", "mine");
    for mode in [Mode::Link, Mode::Copy] {
        space
            .store
            .materialize(&output, &space.path("tree"), mode)
            .unwrap_err();
        space.store.materialize(&file, &taken, mode).unwrap_err();
    }
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    assert_eq!(fs::read(&content).unwrap(), b"1");
}

#[test]
fn stores_are_found_from_below_and_refused_when_foreign() {
    let space = Space::new();
    let root = space.store.root();
    let below = root.parent().unwrap().join("pipelines/deep");
    fs::create_dir_all(&below).unwrap();
    assert_eq!(find_store(&below.canonicalize().unwrap()).unwrap(), root);
    assert_eq!(find_store(&space.path("")), None);
    assert_eq!(
        LocalStore::open_url(&space.store.url()).unwrap().root(),
        root
    );
    let url = format!("file://{}", space.store.url());
    assert_eq!(LocalStore::open_url(&url).unwrap().root(), root);
    let error = LocalStore::open(&space.path("none")).unwrap_err();
    assert!(matches!(error, CacheError::NoStore { .. }), "{error}");
    fs::remove_file(root.join("format")).unwrap();
    fs::write(root.join("format"), "starling store 2\n").unwrap();
    let error = LocalStore::open_or_create(root).unwrap_err();
    assert!(matches!(error, CacheError::Format { .. }), "{error}");
}
