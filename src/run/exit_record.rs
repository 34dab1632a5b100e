//! What an attempt leaves behind about its end: `exit.json`.
//!
//! The worker writes it itself; where it could not (killed, aborted) the engine that started it does,
//! from what the system says. The driver believes the action record first, this second.

use serde::{Deserialize, Serialize};
use starling_cache::{ActionKey, CacheError, Store};

use crate::report::Cause;

/// The name of the file within an attempt.
const NAME: &str = "exit.json";
/// How much of the log's end is kept, in bytes.
pub(crate) const TAIL_BYTES: u64 = 64 * 1024;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExitRecord {
    /// The worker's exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why there are no outputs; none after a success.
    pub cause: Option<Cause>,
    /// What happened, for a person; empty after a success.
    pub message: String,
    /// What to try.
    pub hint: Option<String>,
    /// How far the stage was, for example `812 of 4000 updates`.
    pub reached: Option<String>,
    /// The share of the chunks that the attempt was for, `2/4`; none when it was for all of the action.
    #[serde(default)]
    pub shard: Option<String>,
    /// Start, seconds since 1970.
    pub started_unix: f64,
    /// Wall time.
    pub seconds: f64,
    /// The most memory that the worker held, as far as known.
    pub max_rss_bytes: u64,
    /// The end of what it wrote on stderr.
    pub stderr_tail: String,
}

impl ExitRecord {
    pub(crate) fn write(
        &self,
        store: &dyn Store,
        key: &ActionKey,
        attempt: u32,
    ) -> Result<(), CacheError> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        store.put_attempt(key, attempt, NAME, &bytes)
    }

    /// The record of an attempt; a damaged one counts as none.
    ///
    /// # Errors
    /// [`CacheError`] when the store cannot be read.
    pub fn read(
        store: &dyn Store,
        key: &ActionKey,
        attempt: u32,
    ) -> Result<Option<Self>, CacheError> {
        Ok(store
            .attempt(key, attempt, NAME)?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}
