//! A store in a temporary folder, and made-up records.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use starling_cache::{
    ActionKey, ActionRecord, Digest, KeyFields, LocalStore, OutputRef, SnapshotLabel, Store,
};

pub(crate) struct Space {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: LocalStore,
}

impl Space {
    /// The store's path has spaces and letters from elsewhere, in every test.
    pub(crate) fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap())
    }

    /// A store in memory where there is such a place, for tests that write very often.
    pub(crate) fn fast() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_folder(dir.unwrap())
    }

    fn in_folder(dir: tempfile::TempDir) -> Self {
        let store = LocalStore::open_or_create(&dir.path().join("my store – höhle/.starling"));
        Self {
            dir,
            store: store.unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file outside the store.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// A second view of the same store, as another process has it.
    pub(crate) fn reopened(&self) -> LocalStore {
        LocalStore::open(self.store.root()).unwrap()
    }

    /// Stores a one-file artifact and a record that names it.
    pub(crate) fn record(&self, stage: &str, content: &[u8]) -> ActionRecord {
        let digest = self.store.put_bytes(content).unwrap();
        let output = OutputRef {
            digest,
            tree: false,
            bytes: content.len() as u64,
        };
        record(&self.store, stage, output)
    }
}

/// A record of a made-up action, not yet created.
pub(crate) fn record(store: &LocalStore, stage: &str, output: OutputRef) -> ActionRecord {
    let fields = KeyFields::new("sft", 1, json!({"stage": stage}), vec![]);
    ActionRecord {
        key: fields.action_key(),
        kind: "sft".into(),
        version: 1,
        stage: stage.into(),
        spec: store
            .put_bytes(format!("spec of {stage}").as_bytes())
            .unwrap(),
        fields,
        outputs: BTreeMap::from([("student".into(), output)]),
        numerics: "cpu".into(),
        attempt: 1,
        started_unix: 0.0,
        seconds: 1.0,
        max_rss_bytes: 1,
        threads: 1,
    }
}

pub(crate) fn blob(store: &LocalStore, digest: &Digest) -> PathBuf {
    store.blob_path(digest).unwrap()
}

/// Changes a read-only file of the store behind its back.
pub(crate) fn tamper(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
}

pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// Every file under a folder by its relative path, with its bytes.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(root, &path, found);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

/// A snapshot of an action that goes its own way.
pub(crate) fn label(action: ActionKey) -> SnapshotLabel {
    SnapshotLabel {
        line: action,
        action,
        progress: 1,
        numerics: "cpu".into(),
        lasts: false,
    }
}
