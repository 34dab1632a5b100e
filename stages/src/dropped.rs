//! What a preparing stage left out or changed, counted by reason, with file and line of the first rows.

use std::collections::BTreeMap;

use serde::Serialize;
use starling_contract::{StageContext, StageError};

use crate::rows::{Place, write_json};

/// How many rows of a reason are named in the report.
const NAMED: usize = 20;

/// What was left out or changed so far.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Dropped {
    rows: usize,
    kept: usize,
    /// Why rows, or turns of them, were left out.
    reasons: Reasons,
    /// What was changed in rows that stayed.
    changed: Reasons,
}

/// Rows by reason.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Reasons(BTreeMap<String, Reason>);

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Reason {
    count: usize,
    first: Vec<Named>,
}

impl Reason {
    /// Where the first of them is.
    fn place(&self) -> String {
        let more = if self.count > 1 { "first in " } else { "" };
        match self.first.first() {
            Some(row) if row.file.is_empty() => format!(" ({more}line {})", row.line),
            Some(row) => format!(" ({more}{}:{})", row.file, row.line),
            None => String::new(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Named {
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    line: usize,
    id: String,
}

impl Reasons {
    /// Counts a row.
    pub(crate) fn note(&mut self, reason: &str, place: &Place, id: &str) {
        let entry = match self.0.get_mut(reason) {
            Some(entry) => entry,
            None => self.0.entry(reason.to_owned()).or_default(),
        };
        entry.count += 1;
        if entry.first.len() < NAMED {
            entry.first.push(Named {
                file: place.file.clone(),
                line: place.line,
                id: id.to_owned(),
            });
        }
    }

    /// Whether nothing was counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, reason)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {name}{}", reason.count, reason.place())?;
        }
        Ok(())
    }
}

impl Dropped {
    /// Counts rows that came in.
    pub(crate) fn seen(&mut self, rows: usize) {
        self.rows += rows;
    }

    /// Counts a row that is left out.
    pub(crate) fn add(&mut self, reason: &str, place: &Place, id: &str) {
        self.reasons.note(reason, place, id);
    }

    /// Counts a row that stays, with something in it changed.
    pub(crate) fn change(&mut self, what: &str, place: &Place, id: &str) {
        self.changed.note(what, place, id);
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
        let mut story = if self.reasons.is_empty() {
            format!("all {} rows kept", self.rows)
        } else {
            format!(
                "{kept} of {} rows kept; left out: {}",
                self.rows, self.reasons
            )
        };
        if !self.changed.is_empty() {
            story = format!("{story}; changed: {}", self.changed);
        }
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
