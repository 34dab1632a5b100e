//! The state that training goes back to.

use std::fs;
use std::path::{Path, PathBuf};

use starling_contract::StageError;
use starling_lm::place::Trainer;

use super::state::{State, place};

/// What is good, and what will be if nothing speaks against it before the next is kept: harm shows late.
///
/// Both lie in folders of the stage's own and in its snapshots.
pub(super) struct Good {
    good: PathBuf,
    next: PathBuf,
}

/// Where they are within a snapshot.
const NAMES: [&str; 2] = ["good", "good-next"];

impl Good {
    pub(super) fn new(scratch: &Path) -> Self {
        let [good, next] = NAMES.map(|name| scratch.join(name));
        Self { good, next }
    }

    /// The update of the newest state that is kept.
    pub(super) fn at(&self) -> Result<Option<u64>, StageError> {
        let newest = [&self.next, &self.good]
            .into_iter()
            .find(|folder| folder.exists());
        newest.map(|folder| State::update_of(folder)).transpose()
    }

    /// Keeps a state. The one kept before has proved to be good.
    pub(super) fn keep(&self, state: &State, trainer: &Trainer) -> Result<(), StageError> {
        if self.next.exists() {
            clear(&self.good)?;
            fs::rename(&self.next, &self.good).map_err(StageError::io("rename", &self.next))?;
        }
        let folder = if self.good.exists() {
            &self.next
        } else {
            &self.good
        };
        fs::create_dir_all(folder).map_err(StageError::io("create", folder))?;
        state.save(folder, trainer)
    }

    /// Goes back to the good state.
    pub(super) fn load(&self, trainer: &mut Trainer) -> Result<State, StageError> {
        clear(&self.next)?;
        State::load(&self.good, trainer)
    }

    /// Takes them from a snapshot, if that has some.
    pub(super) fn take(&self, snapshot: &Path) -> Result<(), StageError> {
        for (name, folder) in NAMES.iter().zip([&self.good, &self.next]) {
            clear(folder)?;
            let from = snapshot.join(name);
            if from.exists() {
                place(&from, folder)?;
            }
        }
        Ok(())
    }

    /// Puts them into a snapshot, if there are some.
    pub(super) fn give(&self, snapshot: &Path) -> Result<(), StageError> {
        for (name, folder) in NAMES.iter().zip([&self.good, &self.next]) {
            if folder.exists() {
                place(folder, &snapshot.join(name))?;
            }
        }
        Ok(())
    }
}

fn clear(folder: &Path) -> Result<(), StageError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(StageError::io("remove", folder))?;
    }
    Ok(())
}
