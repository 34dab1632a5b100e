//! The loop of a benchmark kind: entries in groups, a record an entry, snapshots between groups.
//!
//! A record is what an entry came to, and everything later is computed from records; so a resumed run ends with
//! the bytes of an unbroken one. Nothing in a record is a time.

use std::path::Path;

use starling_contract::{StageContext, StageError};
use starling_text::json::Value;

use crate::rows::{self, RowWriter};
use crate::training::SnapshotClock;

/// Records of a snapshot.
const RECORDS: &str = "records.jsonl";

/// Entries of which one record each is made, a group at a time.
pub(crate) struct Examination {
    /// Entries in all.
    pub(crate) total: usize,
    /// Entries of a group.
    pub(crate) group: usize,
    /// Seconds between snapshots.
    pub(crate) snapshot_seconds: f64,
}

impl Examination {
    /// Makes all records; `answer` makes those of a range of entries, `figure` says how it goes.
    pub(crate) fn run(
        &self,
        context: &StageContext<'_>,
        mut answer: impl FnMut(std::ops::Range<usize>) -> Result<Vec<Value>, StageError>,
        figure: impl Fn(&[Value]) -> String,
    ) -> Result<Vec<Value>, StageError> {
        let mut records = Vec::new();
        if let Some(snapshot) = context.resume()? {
            records = rows::read_all(&snapshot.folder.join(RECORDS))?;
        }
        let mut clock = SnapshotClock::new(context.elapsed_seconds(), self.snapshot_seconds);
        while records.len() < self.total {
            let end = (records.len() + self.group.max(1)).min(self.total);
            let made = answer(records.len()..end)?;
            if made.len() != end - records.len() {
                return Err(StageError::failed(
                    "a group made another number of records than it has entries",
                ));
            }
            records.extend(made);
            context.progress(end as u64, self.total as u64, "entries", figure(&records));
            let stop = context.interrupted() && end < self.total;
            if stop || (end < self.total && clock.due(context.elapsed_seconds())) {
                context
                    .save_snapshot(end as u64, |folder| write(&folder.join(RECORDS), &records))?;
                clock.saved(context.elapsed_seconds());
            }
            if stop {
                return Err(StageError::Interrupted);
            }
        }
        Ok(records)
    }
}

/// Writes records, a line each.
pub(crate) fn write(path: &Path, records: &[Value]) -> Result<(), StageError> {
    let mut writer = RowWriter::create(path)?;
    for record in records {
        writer.write(record)?;
    }
    writer.finish().map(|_| ())
}

/// A subset of `wanted` of `all`, evenly spread and in order: the same for every seed and every model.
pub(crate) fn spread(all: usize, wanted: Option<usize>) -> Vec<usize> {
    let wanted = wanted.unwrap_or(all).min(all);
    (0..wanted).map(|i| i * all / wanted).collect()
}

/// How many records hold `true` in a field.
pub(crate) fn count(records: &[Value], field: &str) -> usize {
    let holds = |record: &&Value| record.get(field).and_then(Value::as_bool) == Some(true);
    records.iter().filter(holds).count()
}

/// The sum of a whole number over records.
pub(crate) fn sum(records: &[Value], field: &str) -> u64 {
    let number = |record: &Value| record.get(field).and_then(Value::as_i64).unwrap_or(0);
    records.iter().map(number).map(i64::unsigned_abs).sum()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn a_subset_is_spread_evenly() {
        assert_eq!(spread(10, Some(4)), [0, 2, 5, 7]);
        assert_eq!(spread(3, Some(9)), [0, 1, 2]);
        assert_eq!(spread(2, None), [0, 1]);
        assert!(spread(0, Some(3)).is_empty() && spread(5, Some(0)).is_empty());
    }
}
