//! What ran before: the records of the store, for explanations.

use starling_cache::{ActionKey, ActionRecord, CacheError, FieldChange, KeyFields, Store, diff};

/// The records of a store, read once.
#[derive(Debug, Default)]
pub struct History {
    keys: Vec<ActionKey>,
    records: Vec<ActionRecord>,
}

/// The record nearest to some fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Nearest {
    /// The record.
    pub record: ActionRecord,
    /// What differs, old and new, in order of the paths.
    pub changes: Vec<FieldChange>,
}

impl History {
    /// Reads every record.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read; a damaged record is only left out.
    pub fn load(store: &dyn Store) -> Result<Self, CacheError> {
        let keys = store.actions()?;
        let mut records = Vec::with_capacity(keys.len());
        for key in &keys {
            records.extend(store.action(key)?);
        }
        Ok(Self { keys, records })
    }

    /// Whether a record was made under `key`, even if it is of no use any more.
    #[must_use]
    pub fn had(&self, key: &ActionKey) -> bool {
        self.keys.contains(key)
    }

    /// The record of the same kind with the fewest differing fields; of those one of the stage called
    /// `stage`, then the newest. Records with equal fields are not considered.
    ///
    /// Fields for which `unknown` holds are not compared.
    #[must_use]
    pub fn nearest(
        &self,
        stage: &str,
        fields: &KeyFields,
        unknown: impl Fn(&str) -> bool,
    ) -> Option<Nearest> {
        let key = fields.action_key();
        let same_kind = self
            .records
            .iter()
            .filter(|r| r.kind == fields.kind && r.key != key);
        same_kind
            .map(|record| {
                let mut changes = diff(&record.fields, fields);
                changes.retain(|c| !unknown(&c.path));
                (record, changes)
            })
            .min_by(|(a, a_changes), (b, b_changes)| {
                let other_name = |r: &ActionRecord| r.stage != stage;
                (a_changes.len(), other_name(a))
                    .cmp(&(b_changes.len(), other_name(b)))
                    .then(b.started_unix.total_cmp(&a.started_unix))
            })
            .map(|(record, changes)| Nearest {
                record: record.clone(),
                changes,
            })
    }
}
