//! What ran before: the records of the store, for explanations and estimates.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use starling_cache::{ActionKey, ActionRecord, CacheError, FieldChange, KeyFields, Store};

/// Records of a kind that a stage is compared with at most, besides those of its own name; newer ones first.
const MOST_COMPARED: usize = 200;

/// The records of a store, read once.
#[derive(Debug, Default)]
pub struct History {
    keys: BTreeSet<ActionKey>,
    records: Vec<Past>,
    /// By kind, newest first.
    by_kind: BTreeMap<String, Vec<usize>>,
}

#[derive(Debug)]
struct Past {
    record: ActionRecord,
    /// The fields of its key as text, made when they are first asked for.
    lines: OnceCell<BTreeMap<String, String>>,
}

impl Past {
    fn lines(&self) -> &BTreeMap<String, String> {
        self.lines.get_or_init(|| self.record.fields.lines())
    }
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
            records.extend(store.action(key)?.map(|record| Past {
                record,
                lines: OnceCell::new(),
            }));
        }
        Ok(Self::of(keys, records))
    }

    fn of(keys: Vec<ActionKey>, mut records: Vec<Past>) -> Self {
        records.sort_by(|a, b| b.record.started_unix.total_cmp(&a.record.started_unix));
        let mut by_kind: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (n, past) in records.iter().enumerate() {
            by_kind.entry(past.record.kind.clone()).or_default().push(n);
        }
        Self {
            keys: keys.into_iter().collect(),
            records,
            by_kind,
        }
    }

    /// Whether a record was made under `key`, even if it is of no use any more.
    #[must_use]
    pub fn had(&self, key: &ActionKey) -> bool {
        self.keys.contains(key)
    }

    /// The records of a kind to compare a stage with, newest first.
    fn candidates<'h>(&'h self, stage: &'h str, kind: &str) -> impl Iterator<Item = &'h Past> {
        let of_kind = self.by_kind.get(kind).map_or(&[][..], Vec::as_slice);
        let wanted =
            move |(n, past): &(usize, &Past)| *n < MOST_COMPARED || past.record.stage == stage;
        let pasts = of_kind.iter().map(|&n| &self.records[n]).enumerate();
        pasts.filter(wanted).map(|(_, past)| past)
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
        let lines = fields.lines();
        let best = self
            .candidates(stage, &fields.kind)
            .filter(|past| past.record.key != key)
            .map(|past| (differences(past.lines(), &lines, &unknown), past))
            .min_by_key(|(count, past)| (*count, past.record.stage != stage));
        best.map(|(_, past)| Nearest {
            changes: changes(past.lines(), &lines, &unknown),
            record: past.record.clone(),
        })
    }

    /// The records of the same kind whose parameters differ least, newest first, at most three; what they
    /// read is not compared. Records of the same version come before others.
    pub(super) fn alike<'h>(&'h self, stage: &'h str, fields: &KeyFields) -> Vec<&'h ActionRecord> {
        let lines = fields.lines();
        let no_param = |path: &str| !path.starts_with("params");
        let mut best: Option<(bool, usize)> = None;
        let mut alike: Vec<&'h ActionRecord> = Vec::new();
        for past in self.candidates(stage, &fields.kind) {
            let other_version = past.record.version != fields.version;
            let distance = (other_version, differences(past.lines(), &lines, &no_param));
            match best.map_or(Ordering::Less, |best| distance.cmp(&best)) {
                Ordering::Less => {
                    best = Some(distance);
                    alike = vec![&past.record];
                }
                Ordering::Equal if alike.len() < 3 => alike.push(&past.record),
                _ => {}
            }
        }
        alike
    }
}

/// How many fields differ.
fn differences(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    unknown: &impl Fn(&str) -> bool,
) -> usize {
    let mut count = 0;
    each_difference(old, new, unknown, |_, _, _| count += 1);
    count
}

fn changes(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    unknown: &impl Fn(&str) -> bool,
) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    each_difference(old, new, unknown, |path, old, new| {
        changes.push(FieldChange {
            path: path.to_owned(),
            old: old.cloned(),
            new: new.cloned(),
        });
    });
    changes
}

/// Walks two sets of lines side by side, in order of the paths.
fn each_difference<'l>(
    old: &'l BTreeMap<String, String>,
    new: &'l BTreeMap<String, String>,
    unknown: &impl Fn(&str) -> bool,
    mut each: impl FnMut(&'l str, Option<&'l String>, Option<&'l String>),
) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let (path, before, after) = match order {
            Ordering::Less => {
                let Some((path, value)) = old.next() else {
                    return;
                };
                (path, Some(value), None)
            }
            Ordering::Greater => {
                let Some((path, value)) = new.next() else {
                    return;
                };
                (path, None, Some(value))
            }
            Ordering::Equal => {
                let (Some((path, before)), Some((_, after))) = (old.next(), new.next()) else {
                    return;
                };
                if before == after {
                    continue;
                }
                (path, Some(before), Some(after))
            }
        };
        if !unknown(path) {
            each(path, before, after);
        }
    }
}
