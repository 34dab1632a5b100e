//! Runs a stage in a folder, for the tests of the kinds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use starling_contract::{Event, EventSink, Host, Snapshot, Stage, StageContext, StageError};

/// A host that keeps snapshots in a folder and can ask the stage to stop after some of them.
pub(crate) struct TestHost {
    /// Where snapshots go.
    pub(crate) snapshots: PathBuf,
    /// Stop when so many snapshots were saved.
    pub(crate) stop_after: Option<usize>,
    /// What the stage said.
    pub(crate) events: RefCell<Vec<Event>>,
}

impl EventSink for TestHost {
    fn emit(&self, event: Event) {
        self.events.borrow_mut().push(event);
    }
}

impl Host for TestHost {
    fn save_snapshot(&self, progress: u64, folder: &Path) -> Result<(), StageError> {
        let to = self.snapshots.join(format!("{progress:09}"));
        std::fs::create_dir_all(&to).map_err(StageError::io("create", &to))?;
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
        Ok(())
    }

    fn newest_snapshot(&self) -> Result<Option<Snapshot>, StageError> {
        let newest = std::fs::read_dir(&self.snapshots)
            .ok()
            .and_then(|d| d.filter_map(Result::ok).map(|e| e.path()).max());
        Ok(newest.map(|folder| Snapshot {
            progress: folder
                .file_name()
                .and_then(|n| n.to_str()?.parse().ok())
                .unwrap_or(0),
            folder,
        }))
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
    let mut context = StageContext::new(
        &host,
        inputs,
        BTreeMap::new(),
        BTreeMap::new(),
        out,
        scratch,
        2,
        "cpu".to_owned(),
    );
    S::run(params, &mut context)?;
    Ok(host.events.into_inner())
}
