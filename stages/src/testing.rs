//! Runs a stage in a folder, for the tests of the kinds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use starling_contract::{Chunk, Event, EventSink, Host, Snapshot, Stage, StageContext, StageError};

/// A host that keeps snapshots in a folder and can ask the stage to stop after some of them.
pub(crate) struct TestHost {
    /// Where snapshots go.
    pub(crate) snapshots: PathBuf,
    /// Stop when so many snapshots were saved.
    pub(crate) stop_after: Option<usize>,
    /// What the stage said.
    pub(crate) events: RefCell<Vec<Event>>,
}

impl TestHost {
    fn chunks(&self) -> PathBuf {
        self.snapshots.with_file_name("chunks")
    }
}

impl EventSink for TestHost {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

impl Host for TestHost {
    fn save_snapshot(&self, progress: u64, folder: &Path, _lasts: bool) -> Result<(), StageError> {
        let to = self.snapshots.join(format!("{progress:09}"));
        copy(folder, &to);
        Ok(())
    }

    fn newest_snapshot(&self, most: u64) -> Result<Option<Snapshot>, StageError> {
        let saved = std::fs::read_dir(&self.snapshots);
        let saved = saved.into_iter().flatten().filter_map(Result::ok);
        let snapshots = saved.map(|entry| Snapshot {
            progress: entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .unwrap_or(0),
            folder: entry.path(),
        });
        Ok(snapshots
            .filter(|snapshot| snapshot.progress <= most)
            .max_by_key(|snapshot| snapshot.progress))
    }

    fn chunk(&self, chunk: &Chunk<'_>) -> Result<Option<PathBuf>, StageError> {
        let folder = self.chunks().join(chunk.rows.to_string());
        Ok(folder.exists().then_some(folder))
    }

    fn put_chunk(&self, chunk: &Chunk<'_>, folder: &Path) -> Result<PathBuf, StageError> {
        let to = self.chunks().join(chunk.rows.to_string());
        std::fs::create_dir_all(self.chunks()).map_err(StageError::io("create", &to))?;
        if !to.exists() {
            std::fs::rename(folder, &to).map_err(StageError::io("keep", &to))?;
        }
        Ok(to)
    }

    fn interrupted(&self) -> bool {
        let saved = self
            .events
            .borrow()
            .iter()
            .filter(|e| matches!(e, Event::Snapshot { .. }))
            .count();
        self.stop_after.is_some_and(|n| saved >= n)
    }

    fn elapsed_seconds(&self) -> f64 {
        // Time passes with every question, so that snapshots by time come often in tests.
        let asked = Event::Message {
            level: starling_contract::Level::Info,
            text: "asked for the time".to_owned(),
        };
        self.emit(asked);
        self.events.borrow().len() as f64 * 10.0
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Runs `S` with outputs under `folder/out`; fails the test when the stage fails.
pub(crate) fn run<S: Stage>(params: S::Params, folder: &Path, inputs: &[(&str, &Path)]) {
    try_run::<S>(params, folder, inputs, None).expect("the stage succeeds");
}

/// Runs `S`; `stop_after` so many snapshots the stage is asked to stop.
pub(crate) fn try_run<S: Stage>(
    params: S::Params,
    folder: &Path,
    inputs: &[(&str, &Path)],
    stop_after: Option<usize>,
) -> Result<Vec<Event>, StageError> {
    run_with::<S>(params, folder, inputs, &[], stop_after, 2)
}

/// The same on so many threads.
pub(crate) fn run_on<S: Stage>(
    params: S::Params,
    folder: &Path,
    inputs: &[(&str, &Path)],
    stop_after: Option<usize>,
    threads: usize,
) -> Result<Vec<Event>, StageError> {
    run_with::<S>(params, folder, inputs, &[], stop_after, threads)
}

/// The same with inputs of ports that take several: port, name, path.
pub(crate) fn try_run_many<S: Stage>(
    params: S::Params,
    folder: &Path,
    inputs: &[(&str, &Path)],
    many: &[(&str, &str, &Path)],
    stop_after: Option<usize>,
) -> Result<Vec<Event>, StageError> {
    run_with::<S>(params, folder, inputs, many, stop_after, 2)
}

fn run_with<S: Stage>(
    params: S::Params,
    folder: &Path,
    inputs: &[(&str, &Path)],
    many: &[(&str, &str, &Path)],
    stop_after: Option<usize>,
    threads: usize,
) -> Result<Vec<Event>, StageError> {
    let (out, scratch) = (folder.join("out"), folder.join("scratch"));
    for dir in [&out, &scratch] {
        std::fs::create_dir_all(dir).expect("a folder");
    }
    let host = TestHost {
        snapshots: folder.join("snapshots"),
        stop_after,
        events: RefCell::default(),
    };
    let inputs = inputs
        .iter()
        .map(|(n, p)| ((*n).to_owned(), p.to_path_buf()))
        .collect();
    let mut named: BTreeMap<String, BTreeMap<String, PathBuf>> = BTreeMap::new();
    for (port, name, path) in many {
        let port = named.entry((*port).to_owned()).or_default();
        port.insert((*name).to_owned(), path.to_path_buf());
    }
    let mut context = StageContext::new(
        &host,
        inputs,
        named,
        BTreeMap::new(),
        out,
        scratch,
        threads,
        "cpu".to_owned(),
    );
    S::run(params, &mut context)?;
    Ok(host.events.into_inner())
}

/// A world, its tokenizer, its rows and a teacher that has learned a little, made once a test.
pub(crate) struct SmallWorld {
    folder: tempfile::TempDir,
    rows: PathBuf,
}

impl SmallWorld {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let small = Self {
            rows: folder.path().join("rows/out/rows"),
            folder,
        };
        let at = |name: &str| small.folder(name);
        let params = serde_json::json!({"base-rows": 8, "train-rows": 60, "test-rows": 8});
        run::<crate::world::World>(small.params(params), &at("world"), &[]);
        let train = at("world").join("out/train");
        let many = [("rows", "train", train.as_path())];
        let params = serde_json::json!({"vocab-size": 420, "chat-template": "compact"});
        try_run_many::<crate::tokenizer_train::TokenizerTrain>(
            small.params(params),
            &at("tokenizer"),
            &[],
            &many,
            None,
        )
        .expect("the stage succeeds");
        let tokenizer = at("tokenizer").join("out/tokenizer");
        run::<crate::trainset::Trainset>(
            small.params(serde_json::json!({})),
            &at("rows"),
            &[("rows", &train), ("tokenizer", &tokenizer)],
        );
        small
    }

    /// Training rows.
    pub(crate) fn rows(&self) -> &Path {
        &self.rows
    }

    /// The conversations that the training rows were made of.
    pub(crate) fn conversations(&self) -> PathBuf {
        self.folder("world").join("out/train")
    }

    /// The tokenizer's folder.
    pub(crate) fn tokenizer_folder(&self) -> PathBuf {
        self.folder("tokenizer").join("out/tokenizer")
    }

    /// The tokenizer.
    pub(crate) fn tokenizer(&self) -> starling_lm::tokenizer::Tokenizer {
        crate::chat::tokenizer(&self.tokenizer_folder()).expect("a tokenizer")
    }

    /// A folder of this test.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Parameters from their JSON form.
    #[expect(clippy::unused_self, reason = "reads as the rest of the story")]
    pub(crate) fn params<P: serde::de::DeserializeOwned>(&self, params: serde_json::Value) -> P {
        serde_json::from_value(params).expect("parameters")
    }

    /// A model that has learned nothing.
    pub(crate) fn init(&self) -> PathBuf {
        let tokenizer = self.folder("tokenizer").join("out/tokenizer");
        let params = serde_json::json!({"layers": 2, "hidden": 48, "heads": 4, "kv-heads": 2});
        run::<crate::model_init::ModelInit>(
            self.params(params),
            &self.folder("init"),
            &[("tokenizer", &tokenizer)],
        );
        self.folder("init").join("out/model")
    }

    /// A model that has learned the rows a little.
    pub(crate) fn teacher(&self) -> PathBuf {
        let init = self.init();
        let params = serde_json::json!({"updates": 160, "batch": 16, "optimizer": {"lr": 1e-2}});
        run::<crate::sft::Sft>(
            self.params(params),
            &self.folder("teacher"),
            &[("model", &init), ("rows", &self.rows)],
        );
        self.folder("teacher").join("out/model")
    }
}
