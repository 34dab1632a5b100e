//! What preparing stages have in common: rows go through a function side by side and come out in order.

use starling_contract::{Complaint, StageContext, StageError};
use starling_text::json::Value;

use crate::dropped::Dropped;
use crate::flow::flow_rows;
use crate::rows::{self, Chunk, Place, RowReader, RowWriter};

/// What becomes of a row.
pub(crate) enum Fate {
    /// It stays, as this JSON text.
    Kept(String),
    /// It is left out.
    Dropped(String),
}

/// What became of the rows of a chunk.
#[derive(Default)]
struct Judged {
    /// The rows that stay, a line each.
    text: String,
    rows: usize,
    kept: usize,
    /// Why, which and where.
    dropped: Vec<(String, Place, String)>,
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
    let reader = RowReader::open(context.input("rows")?)?;
    let mut writer = RowWriter::create(&context.output("rows"))?;
    let mut dropped = Dropped::default();
    let mut kept = 0;
    let work = |_, chunk: Chunk| {
        let mut judged = Judged::default();
        for row in chunk.values() {
            let (place, row) = row?;
            judged.rows += 1;
            match judge(&row, &place) {
                Fate::Kept(text) => {
                    judged.kept += 1;
                    judged.text.push_str(&text);
                    judged.text.push('\n');
                }
                Fate::Dropped(reason) => judged.dropped.push((reason, place, rows::id_of(&row))),
            }
        }
        Ok(judged)
    };
    flow_rows(context, reader, work, |judged| {
        dropped.seen(judged.rows);
        kept += judged.kept;
        for (reason, place, id) in &judged.dropped {
            dropped.add(reason, place, id);
        }
        writer.lines(&judged.text, judged.kept)
    })?;
    let _ = writer.finish()?;
    dropped.finish(context, kept, max_drop)
}

/// The complaint about a share that is none.
pub(crate) fn share(name: &'static str, value: f64) -> Vec<Complaint> {
    if (0.0..=1.0).contains(&value) {
        return Vec::new();
    }
    vec![Complaint::new(name, "must be between 0 and 1")]
}
