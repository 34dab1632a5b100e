//! What preparing stages have in common: rows go through a function side by side and come out in order.

use rayon::prelude::*;
use starling_contract::{Complaint, StageContext, StageError};
use starling_text::json::Value;

use crate::dropped::Dropped;
use crate::rows::{self, Place, ReadRow, RowReader, RowWriter};

/// What becomes of a row.
pub(crate) enum Fate {
    /// It stays, as this JSON text.
    Kept(String),
    /// It is left out.
    Dropped(String),
}

/// A pool of as many threads as the stage may use.
pub(crate) fn pool(context: &StageContext<'_>) -> Result<rayon::ThreadPool, StageError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(context.threads())
        .build()
        .map_err(|e| StageError::failed(format!("cannot start threads: {e}")))
}

/// Sends every row of input `rows` through `judge` to the output `rows`, and writes the report.
///
/// # Errors
/// Those of reading and writing, [`StageError::Interrupted`], and what [`Dropped::finish`] raises.
pub(crate) fn sift(
    context: &StageContext<'_>,
    max_drop: f64,
    judge: impl Fn(&Value, &Place) -> Fate + Sync,
) -> Result<(), StageError> {
    let pool = pool(context)?;
    let mut reader = RowReader::open(context.input("rows")?)?;
    let mut writer = RowWriter::create(&context.output("rows"))?;
    let mut dropped = Dropped::default();
    let (mut read, mut kept) = (0_usize, 0_usize);
    loop {
        let chunk = pool.install(|| reader.chunk())?;
        if chunk.is_empty() {
            break;
        }
        let chunk = valid(chunk, &reader)?;
        let fates: Vec<Fate> = pool.install(|| {
            chunk
                .par_iter()
                .map(|(place, row)| judge(row, place))
                .collect()
        });
        for ((place, row), fate) in chunk.iter().zip(fates) {
            dropped.seen();
            match fate {
                Fate::Kept(text) => {
                    kept += 1;
                    writer.line(&text)?;
                }
                Fate::Dropped(reason) => dropped.add(&reason, place, &rows::id_of(row)),
            }
        }
        read += chunk.len();
        told(context, read)?;
    }
    let _ = writer.finish()?;
    dropped.finish(context, kept, max_drop)
}

/// The rows of an artifact: what is no JSON there is damage, not data.
pub(crate) fn valid(
    chunk: Vec<ReadRow>,
    reader: &RowReader,
) -> Result<Vec<(Place, Value)>, StageError> {
    let checked = chunk.into_iter().map(|row| match row.value {
        Ok(value) => Ok((row.place, value)),
        Err(why) => Err(StageError::failed(format!(
            "{}:{}: {why}",
            reader.path().display(),
            row.place.line
        ))),
    });
    checked.collect()
}

/// Tells how far the reading is; stops when asked to.
pub(crate) fn told(context: &StageContext<'_>, read: usize) -> Result<(), StageError> {
    context.progress(read as u64, read as u64, "rows", "");
    if context.interrupted() {
        return Err(StageError::Interrupted);
    }
    Ok(())
}

/// The complaint about a share that is none.
pub(crate) fn share(name: &'static str, value: f64) -> Vec<Complaint> {
    if (0.0..=1.0).contains(&value) {
        return Vec::new();
    }
    vec![Complaint::new(name, "must be between 0 and 1")]
}
