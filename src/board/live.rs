//! The boards of a run: written while stages tell their figures.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::tfevents::EventFile;

/// The boards of one run.
pub(crate) struct Boards {
    /// None where a store has no folder for a run.
    root: Option<PathBuf>,
    open: BTreeMap<String, Open>,
    /// What went wrong first, until it is told.
    wrong: Option<String>,
    given_up: bool,
}

struct Open {
    file: EventFile,
    /// The worker that tells.
    teller: u64,
    step: u64,
}

impl Boards {
    /// The boards of a run whose files lie in a folder.
    pub(crate) fn new(run_folder: Option<PathBuf>) -> Self {
        Self {
            root: run_folder.map(|folder| folder.join(super::FOLDER)),
            open: BTreeMap::new(),
            wrong: None,
            given_up: false,
        }
    }

    /// Writes figures that a worker tells; another worker of the same stage tells the curve from its beginning.
    pub(crate) fn scalars(
        &mut self,
        stage: &str,
        teller: u64,
        now: f64,
        step: u64,
        values: &[(String, f64)],
    ) {
        if let (Some(root), false) = (self.root.clone(), self.given_up)
            && let Err((path, error)) = self.write(&root, stage, teller, now, step, values)
        {
            self.given_up = true;
            self.wrong = Some(format!(
                "curves for TensorBoard are no longer written: {}: {error}",
                path.display()
            ));
        }
    }

    fn write(
        &mut self,
        root: &Path,
        stage: &str,
        teller: u64,
        now: f64,
        step: u64,
        values: &[(String, f64)],
    ) -> Result<(), (PathBuf, io::Error)> {
        let folder = root.join(stage);
        let failed = |error| (folder.clone(), error);
        let known = self.open.remove(stage).filter(|open| open.teller == teller);
        let mut open = match known {
            Some(open) => open,
            None => Open {
                file: begin(&folder, now).map_err(failed)?,
                teller,
                step: 0,
            },
        };
        let failed = |error| (folder.clone(), error);
        if step <= open.step {
            open.file.restart(now, step).map_err(failed)?;
        }
        let failed = |error| (folder.clone(), error);
        open.file.scalars(now, step, values).map_err(failed)?;
        open.step = step;
        self.open.insert(stage.to_owned(), open);
        Ok(())
    }

    /// Whether the curve of a stage was told in this run.
    pub(crate) fn has(&self, stage: &str) -> bool {
        self.open.contains_key(stage)
    }

    /// Whether anything was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Where the boards are.
    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref().filter(|_| !self.given_up)
    }

    /// What went wrong, once.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.wrong.take()
    }
}

/// Begins the one event file of a folder; readers take a new name for a new beginning.
pub(super) fn begin(folder: &Path, wall_time: f64) -> io::Result<EventFile> {
    fs::create_dir_all(folder)?;
    let mut number = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(rest) = name.strip_prefix(PREFIX) {
            let old = rest.rsplit('.').next().and_then(|n| n.parse::<u64>().ok());
            number = number.max(old.unwrap_or(0) + 1);
            fs::remove_file(entry.path())?;
        }
    }
    let name = format!(
        "{PREFIX}{:010}.starling.{number}",
        wall_time.max(0.0) as u64
    );
    EventFile::create(&folder.join(name), wall_time)
}

/// How TensorBoard knows an event file.
const PREFIX: &str = "events.out.tfevents.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_worker_begins_anew_and_a_step_back_is_marked() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut boards = Boards::new(Some(folder.path().to_owned()));
        let loss = |value: f64| vec![("loss".to_owned(), value)];
        boards.scalars("a@x,y=1", 1, 10.0, 1, &loss(3.0));
        boards.scalars("a@x,y=1", 1, 11.0, 2, &loss(2.0));
        let stage = folder.path().join("tensorboard/a@x,y=1");
        let files = || {
            let entries = fs::read_dir(&stage).expect("the stage's folder");
            let mut files: Vec<_> = entries
                .map(|e| e.expect("an entry"))
                .map(|e| {
                    let length = e.metadata().expect("its size").len();
                    (e.file_name().into_string().expect("a name"), length)
                })
                .collect();
            files.sort();
            files
        };
        let first = files();
        assert_eq!(first[0].0, "events.out.tfevents.0000000010.starling.0");
        boards.scalars("a@x,y=1", 1, 12.0, 1, &loss(2.5));
        let record = |event: &[u8]| event.len() as u64 + 16;
        let grown = files()[0].1 - first[0].1;
        // A restart (9 + 2 + 4 bytes) and the figure (9 + 2 + 2 + 13 bytes).
        assert_eq!(grown, record(&[0; 15]) + record(&[0; 26]));
        boards.scalars("a@x,y=1", 2, 20.0, 1, &loss(3.0));
        let anew = files();
        assert_eq!(anew.len(), 1);
        assert_eq!(anew[0].0, "events.out.tfevents.0000000020.starling.1");
        assert!(boards.has("a@x,y=1") && boards.take_warning().is_none());
    }

    #[test]
    fn what_cannot_be_written_is_said_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("tensorboard"), "in the way").expect("written");
        let mut boards = Boards::new(Some(folder.path().to_owned()));
        boards.scalars("a", 1, 1.0, 1, &[]);
        let said = boards.take_warning().expect("a warning");
        assert!(said.contains("no longer written"), "{said}");
        boards.scalars("a", 1, 1.0, 2, &[]);
        assert!(boards.take_warning().is_none());
    }
}
