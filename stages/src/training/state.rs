//! Where training is, in memory and in a folder: weights and optimizer, counters, the curve so far.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use starling_contract::StageError;
use starling_lm::place::Trainer;

use super::Counts;
use crate::chat::lm;
use crate::rows::{read_json, write_json};

const STATE: &str = "state.json";
const CURVE: &str = "curve.jsonl";

/// Where training is, besides the weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct State {
    /// Updates done on the way that counts.
    pub(super) update: u64,
    /// The furthest update that was begun before training was rolled back.
    pub(super) peak: u64,
    /// How often it was rolled back.
    pub(super) attempt: u64,
    /// For each rule how many updates in a row it has been crossed.
    pub(super) streaks: Vec<u64>,
    /// What it took.
    pub(super) counts: Counts,
    /// The curve, a line an update.
    #[serde(skip)]
    pub(super) rows: Vec<String>,
}

impl State {
    /// The number that a snapshot of this moment goes by. It never falls, and is above `n` exactly when update `n` was
    /// passed, once or more: so whoever stops at `n` takes no snapshot that lies behind a later roll-back.
    pub(super) fn progress(&self) -> u64 {
        self.update.max(self.peak)
    }

    /// Writes everything into an existing folder.
    pub(super) fn save(&self, folder: &Path, trainer: &Trainer) -> Result<(), StageError> {
        trainer.save_state(folder).map_err(lm)?;
        write_json(&folder.join(STATE), self)?;
        write_lines(&folder.join(CURVE), &self.rows)
    }

    /// The update of what [`Self::save`] wrote.
    pub(super) fn update_of(folder: &Path) -> Result<u64, StageError> {
        read_json::<Self>(&folder.join(STATE)).map(|state| state.update)
    }

    /// Reads what [`Self::save`] wrote.
    pub(super) fn load(folder: &Path, trainer: &mut Trainer) -> Result<Self, StageError> {
        trainer.load_state(folder).map_err(lm)?;
        let mut state: Self = read_json(&folder.join(STATE))?;
        let path = folder.join(CURVE);
        let text = fs::read_to_string(&path).map_err(StageError::io("read", &path))?;
        state.rows = text.lines().map(str::to_owned).collect();
        Ok(state)
    }
}

/// Lines, each with its end.
pub(super) fn write_lines(path: &Path, rows: &[String]) -> Result<(), StageError> {
    let mut text = rows.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    fs::write(path, text).map_err(StageError::io("write", path))
}

/// Places the files of a folder in another one, which is made; nobody changes them afterwards, so links will do.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), StageError> {
    fs::create_dir_all(to).map_err(StageError::io("create", to))?;
    let entries = fs::read_dir(from).map_err(StageError::io("list", from))?;
    for entry in entries {
        let entry = entry.map_err(StageError::io("list", from))?;
        let target = to.join(entry.file_name());
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).map_err(StageError::io("write", &target))?;
        }
    }
    Ok(())
}
