//! Results of chunks: each an action with a record of its own, made by the worker of its stage.
//!
//! The key of a chunk is that of its stage with the digest of the chunk's rows in the place of the digest of all
//! rows (beside the parameters where no input holds the rows), without the parameters that change no chunk, and with the numerics class, so that a stage never gathers
//! chunks of two classes. Its kind is the stage's with `#chunk` after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use starling_cache::{
    ActionKey, ActionRecord, CacheError, Creation, Digest, KeyFields, Mode, Store,
};
use starling_contract::{Chunk, Shard};

use crate::run::clock;
use crate::run::spec::ActionSpec;

/// What follows a kind's name in the records of its chunks.
pub const CHUNK_KIND: &str = "#chunk";
/// The one output of a chunk.
const OUTPUT: &str = "chunk";

/// The file of an attempt that names the chunks that it gathered.
const ASKED: &str = "chunks.json";

/// Lets go of the chunks that a result was gathered from.
pub(crate) fn retire(store: &dyn Store, record: &ActionRecord) -> Result<(), CacheError> {
    let bytes = store.attempt(&record.key, record.attempt, ASKED)?;
    let keys = bytes.and_then(|bytes| serde_json::from_slice::<Vec<ActionKey>>(&bytes).ok());
    for key in keys.unwrap_or_default() {
        store.remove_action(&key)?;
    }
    Ok(())
}

/// Keeps and finds the chunks of one stage.
pub(crate) struct ChunkStore<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) spec: &'a ActionSpec,
    pub(crate) spec_digest: Digest,
    pub(crate) numerics: &'a str,
    pub(crate) attempt: u32,
    pub(crate) shard: Option<Shard>,
    /// Where results are placed for the stage to read.
    pub(crate) folder: PathBuf,
    /// When the work on the next chunk to be kept began.
    pub(crate) since: Mutex<Instant>,
    /// The chunks that the stage asked for.
    pub(crate) asked: Mutex<BTreeSet<ActionKey>>,
}

/// A chunk's result, kept.
pub(crate) struct Kept {
    pub(crate) folder: PathBuf,
    /// What to say when an earlier result stays that has other bytes.
    pub(crate) differs: Option<String>,
}

impl ChunkStore<'_> {
    /// What the key of a chunk is made of.
    fn fields(&self, chunk: &Chunk<'_>) -> KeyFields {
        let mut fields = self.spec.fields.clone();
        fields.kind.push_str(CHUNK_KIND);
        if let Some(params) = fields.params.as_object_mut() {
            for neutral in chunk.chunks.neutral {
                params.remove(*neutral);
            }
            params.insert("numerics-class".to_owned(), Value::from(self.numerics));
        }
        let mut placed = false;
        for input in &mut fields.inputs {
            if input.port == chunk.chunks.port {
                input.digest = chunk.rows;
                placed = true;
            }
        }
        // Rows that come with the program are no input.
        if let Some(params) = fields.params.as_object_mut().filter(|_| !placed) {
            params.insert("chunk-rows".to_owned(), Value::from(chunk.rows.to_string()));
        }
        fields
    }

    /// The result of a chunk, placed for reading, if the store has it.
    pub(crate) fn find(&self, chunk: &Chunk<'_>) -> Result<Option<PathBuf>, CacheError> {
        let key = self.fields(chunk).action_key();
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).insert(key);
        let Some(record) = self.store.action(&key)? else {
            return Ok(None);
        };
        match self.place(&key, &record) {
            Err(error) if error.is_lost_blob() => Ok(None),
            placed => placed,
        }
    }

    /// Leaves with the attempt which chunks its result was gathered from.
    pub(crate) fn write_asked(&self, key: &ActionKey) -> Result<(), CacheError> {
        let asked = self.asked.lock();
        let asked = asked.unwrap_or_else(PoisonError::into_inner);
        if asked.is_empty() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&*asked).unwrap_or_default();
        self.store.put_attempt(key, self.attempt, ASKED, &bytes)
    }

    fn place(&self, key: &ActionKey, record: &ActionRecord) -> Result<Option<PathBuf>, CacheError> {
        let Some(output) = record.outputs.get(OUTPUT) else {
            return Ok(None);
        };
        // Two chunks of the same rows are one action and one folder.
        let folder = self.folder.join(key.to_string());
        if folder.exists() {
            return Ok(Some(folder));
        }
        self.store.materialize(output, &folder, Mode::Link)?;
        Ok(Some(folder))
    }

    /// Seconds since the last chunk was kept.
    fn lap(&self) -> f64 {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *since, Instant::now())
            .elapsed()
            .as_secs_f64()
    }

    /// Keeps a chunk's result; the first one stays.
    pub(crate) fn keep(&self, chunk: &Chunk<'_>, folder: &Path) -> Result<Kept, CacheError> {
        let fields = self.fields(chunk);
        let key = fields.action_key();
        let record = ActionRecord {
            key,
            kind: fields.kind.clone(),
            version: fields.version,
            stage: self.spec.stage.clone(),
            spec: self.spec_digest,
            outputs: BTreeMap::from([(OUTPUT.to_owned(), self.store.put_tree(folder)?)]),
            fields,
            numerics: self.numerics.to_owned(),
            attempt: self.attempt,
            started_unix: clock::now_unix(),
            seconds: self.lap(),
            max_rss_bytes: 0,
            threads: u32::try_from(self.spec.threads).unwrap_or(u32::MAX),
        };
        let mut differs = None;
        if let Creation::Existing(first) = self.store.create_action(&key, &record)?
            && !record.differing_outputs(&first).is_empty()
        {
            differs = Some(format!(
                "chunk {} differs from that of attempt {}, which was first and stays: the kind is not deterministic",
                chunk.number, first.attempt
            ));
            if let Some(placed) = self.place(&key, &first)? {
                return Ok(Kept {
                    folder: placed,
                    differs,
                });
            }
        }
        // Out of the way of the next chunk, and of what the stage does with its scratch folder.
        let placed = self.folder.join(key.to_string());
        let moved = fs::rename(folder, &placed).map(|()| placed);
        Ok(Kept {
            folder: moved.unwrap_or_else(|_| folder.to_owned()),
            differs,
        })
    }
}
