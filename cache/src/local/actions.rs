//! Records of a local store: `actions/<key>.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    LocalStore,
    files::{list, read_if_there, remove},
};
use crate::{
    ActionKey, ActionRecord, CacheError, Creation, Digest,
    record::{seal, unseal},
};

/// How often a name may turn out taken by a useless record before that counts as a failure.
const ROUNDS: usize = 8;

impl LocalStore {
    pub(crate) fn action_path(&self, key: &ActionKey) -> PathBuf {
        self.files.root.join("actions").join(format!("{key}.json"))
    }

    pub(super) fn create_record(
        &self,
        key: &ActionKey,
        record: &ActionRecord,
    ) -> Result<Creation, CacheError> {
        let path = self.action_path(key);
        let bytes = seal(record).map_err(|source| CacheError::Json {
            path: path.clone(),
            source,
        })?;
        for _ in 0..ROUNDS {
            if self.files.create(&path, &bytes, true)? {
                return Ok(Creation::Created);
            }
            match self.load_action(key, &path)? {
                Loaded::Absent => {}
                Loaded::Good(existing) => {
                    if self.holds_all(&existing)? {
                        return Ok(Creation::Existing(existing));
                    }
                    self.replace_useless(key, &path, "artifacts that it names are gone")?;
                }
                Loaded::Damaged(what) => self.replace_useless(key, &path, &what)?,
            }
        }
        let source = std::io::Error::other("its name is taken by a damaged record again and again");
        Err(CacheError::Io {
            verb: "create",
            path,
            source,
        })
    }

    /// Sets a useless record aside, and puts it back if somebody replaced it by a good one after we had looked.
    ///
    /// Two that heal the same damaged record in the same instant may both be told that they created it; what is there
    /// afterwards is the record of one of them.
    fn replace_useless(&self, key: &ActionKey, path: &Path, what: &str) -> Result<(), CacheError> {
        let Some(aside) = self.files.set_aside(path, what)? else {
            return Ok(());
        };
        if let Loaded::Good(record) = self.load_action(key, &aside)?
            && self.holds_all(&record)?
        {
            let bytes = fs::read(&aside).map_err(crate::error::reading("read", &aside))?;
            self.files.create(path, &bytes, true)?;
            remove(&aside)?;
        }
        Ok(())
    }

    fn retired_path(&self, key: &ActionKey) -> PathBuf {
        self.files.root.join("retired").join(format!("{key}.json"))
    }

    /// Moves a record from the actions to the retired ones; an older one there gives way.
    pub(super) fn retire_record(&self, key: &ActionKey) -> Result<(), CacheError> {
        let (from, to) = (self.action_path(key), self.retired_path(key));
        self.files.create_folder(&self.files.root.join("retired"))?;
        self.files.point("retire", &from)?;
        match fs::rename(&from, &to) {
            Ok(()) => self.files.sync_parent(&to),
            // Somebody else did it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(crate::error::writing("retire", &from)(error)),
        }
    }

    pub(super) fn retired_record(
        &self,
        key: &ActionKey,
    ) -> Result<Option<ActionRecord>, CacheError> {
        let path = self.retired_path(key);
        Ok(match self.load_action(key, &path)? {
            Loaded::Good(record) => Some(*record),
            Loaded::Absent => None,
            Loaded::Damaged(what) => {
                self.files
                    .warn(&path, format!("{what}; it counts as a miss"));
                None
            }
        })
    }

    pub(super) fn read_record(&self, key: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        let path = self.action_path(key);
        match self.load_action(key, &path)? {
            Loaded::Absent => Ok(None),
            Loaded::Good(record) => {
                if self.holds_all(&record)? {
                    return Ok(Some(*record));
                }
                self.files.warn(
                    &path,
                    "artifacts that it names are gone; it counts as a miss",
                );
                Ok(None)
            }
            Loaded::Damaged(what) => {
                self.files
                    .warn(&path, format!("{what}; it counts as a miss"));
                Ok(None)
            }
        }
    }

    pub(crate) fn load_action(&self, key: &ActionKey, path: &Path) -> Result<Loaded, CacheError> {
        let Some(bytes) = read_if_there(path)? else {
            return Ok(Loaded::Absent);
        };
        Ok(match unseal::<ActionRecord>(&bytes) {
            Ok(record) if record.key == *key => Loaded::Good(Box::new(record)),
            Ok(record) => Loaded::Damaged(format!("it is the record of action {}", record.key)),
            Err(what) => Loaded::Damaged(what),
        })
    }

    pub(super) fn holds_all(&self, record: &ActionRecord) -> Result<bool, CacheError> {
        record
            .outputs
            .values()
            .try_fold(true, |all, output| Ok(all && self.holds(output)?))
    }

    pub(super) fn record_keys(&self) -> Result<Vec<ActionKey>, CacheError> {
        let names = list(&self.files.root.join("actions"))?;
        let key = |name: &String| {
            name.strip_suffix(".json")?
                .parse::<Digest>()
                .ok()
                .map(ActionKey)
        };
        Ok(names.iter().filter_map(key).collect())
    }

    pub(super) fn remove_record(&self, key: &ActionKey) -> Result<bool, CacheError> {
        let path = self.action_path(key);
        self.files.point("remove", &path)?;
        let removed = remove(&path)?;
        if removed {
            self.files.sync_parent(&path)?;
        }
        Ok(removed)
    }
}

/// What is at a record's place.
pub(crate) enum Loaded {
    /// Nothing.
    Absent,
    /// A record whose digest matches; its blobs were not looked at.
    Good(Box<ActionRecord>),
    /// Something else.
    Damaged(String),
}
