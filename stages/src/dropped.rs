//! Rows that a preparing stage left out, counted by reason.

use std::collections::BTreeMap;

use serde::Serialize;
use starling_contract::{StageContext, StageError};

use crate::rows::write_json;

/// How many rows of a reason are named in the report.
const NAMED: usize = 20;

/// What was left out so far.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Dropped {
    rows: usize,
    kept: usize,
    reasons: BTreeMap<String, Reason>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Reason {
    count: usize,
    first: Vec<Place>,
}

#[derive(Debug, Serialize)]
struct Place {
    line: usize,
    id: String,
}

impl Dropped {
    /// Counts a row that came in.
    pub(crate) fn seen(&mut self) {
        self.rows += 1;
    }

    /// Counts a row that is left out.
    pub(crate) fn add(&mut self, reason: &str, line: usize, id: &str) {
        let entry = self.reasons.entry(reason.to_owned()).or_default();
        entry.count += 1;
        if entry.first.len() < NAMED {
            entry.first.push(Place {
                line,
                id: id.to_owned(),
            });
        }
    }

    /// Writes the output `report`; fails when more than `max_drop` of the rows are gone, or all.
    pub(crate) fn finish(
        mut self,
        context: &StageContext<'_>,
        kept: usize,
        max_drop: f64,
    ) -> Result<(), StageError> {
        self.kept = kept;
        write_json(&context.output("report"), &self)?;
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(name, r)| format!("{} {name}", r.count))
            .collect();
        let story = if reasons.is_empty() {
            format!("all {} rows kept", self.rows)
        } else {
            format!(
                "{kept} of {} rows kept; left out: {}",
                self.rows,
                reasons.join(", ")
            )
        };
        let gone = self.rows.saturating_sub(kept) as f64 / self.rows.max(1) as f64;
        if self.rows > 0 && kept == 0 {
            return Err(StageError::failed_try(
                format!("no row is left: {story}"),
                "see the reasons; the rows may be of another format",
            ));
        }
        if gone > max_drop {
            return Err(StageError::failed_try(
                format!("more rows were left out than `max-drop` allows: {story}"),
                format!("mend the rows, or raise `max-drop` to at least {gone:.3}"),
            ));
        }
        context.info(story);
        Ok(())
    }
}
