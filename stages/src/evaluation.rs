//! The artifact that an evaluation leaves: totals in `metrics.json`, a line an item in `items.jsonl`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use starling_contract::StageError;

use crate::rows::read_json;
use crate::statistics::Estimate;

/// File of the totals.
pub(crate) const METRICS: &str = "metrics.json";
/// File of the items.
pub(crate) const ITEMS: &str = "items.jsonl";

/// A figure of an evaluation, as the table shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Metric {
    /// Column heading, for example `exact calls`.
    pub(crate) name: String,
    /// Whether it is a share, shown in per cent.
    pub(crate) percent: bool,
    /// The figure and its interval.
    pub(crate) estimate: Estimate,
}

/// The totals of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Evaluation {
    /// Items evaluated.
    pub(crate) items: usize,
    /// The figures, in the order of the columns.
    pub(crate) metrics: Vec<Metric>,
}

impl Evaluation {
    /// Reads the totals of the evaluation in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self, StageError> {
        read_json(&folder.join(METRICS))
    }
}
