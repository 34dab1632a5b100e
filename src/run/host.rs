//! What a worker provides to its stage: events to the engine, snapshots to the store, the wish to stop.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use starling_cache::{ActionKey, CacheError, Mode, SnapshotLabel, Store};
use starling_contract::{Chunk, Event, EventSink, Host, Level, Shard, Snapshot, StageError};

use crate::run::chunks::ChunkStore;

/// More progress than this often would only be work for the engine.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Snapshots kept of a running action: the newest, and one more should that be damaged.
const SNAPSHOTS_KEPT: usize = 2;
/// Says that there is no snapshot yet.
const NONE: u64 = u64::MAX;

/// The host of one attempt.
pub(crate) struct WorkerHost<'a> {
    store: &'a dyn Store,
    key: ActionKey,
    /// By which its snapshots are found; see [`SnapshotLabel`].
    line: ActionKey,
    numerics: String,
    /// Where a snapshot is placed for the stage to read.
    resume_folder: PathBuf,
    stop: Arc<AtomicBool>,
    began: Instant,
    out: Mutex<Out>,
    /// Progress of the newest snapshot, or [`NONE`].
    snapshot: AtomicU64,
    chunks: Option<ChunkStore<'a>>,
    /// Whether snapshots are kept and found.
    remembers: bool,
}

/// The line to the engine.
struct Out {
    stream: Box<dyn Write + Send>,
    /// When progress was last told.
    told: Option<Instant>,
    /// Progress that was held back.
    held: Option<Event>,
    /// How far the stage said it was.
    reached: Option<String>,
}

impl<'a> WorkerHost<'a> {
    pub(crate) fn new(
        store: &'a dyn Store,
        key: ActionKey,
        line: ActionKey,
        numerics: String,
        resume_folder: PathBuf,
        stop: Arc<AtomicBool>,
        stream: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            store,
            key,
            line,
            numerics,
            resume_folder,
            stop,
            began: Instant::now(),
            out: Mutex::new(Out {
                stream,
                told: None,
                held: None,
                reached: None,
            }),
            snapshot: AtomicU64::new(NONE),
            chunks: None,
            remembers: true,
        }
    }

    /// Keeps nothing and finds nothing, so that all of the work is done.
    pub(crate) fn without_memory(self) -> Self {
        Self {
            remembers: false,
            ..self
        }
    }

    /// Leaves with the attempt at `key` which chunks it gathered.
    pub(crate) fn write_chunks(&self, key: &ActionKey) -> Result<(), CacheError> {
        let chunks = self.chunks.as_ref();
        chunks.map_or(Ok(()), |chunks| chunks.write_asked(key))
    }

    /// Lets the stage keep the results of its chunks.
    pub(crate) fn with_chunks(self, chunks: ChunkStore<'a>) -> Self {
        Self {
            chunks: Some(chunks),
            ..self
        }
    }

    /// Tells what was held back.
    pub(crate) fn flush(&self) {
        self.with_out(|out| {
            if let Some(event) = out.held.take() {
                out.write(&event);
            }
        });
    }

    /// Drops what has served, now that the action is finished: snapshots that do not last, as far as it came.
    ///
    /// Of a line that is `shared`, others may be further and need theirs.
    pub(crate) fn drop_snapshots(&self, shared: bool) -> Result<(), CacheError> {
        let most = match self.snapshot.load(Ordering::Relaxed) {
            NONE if shared => return Ok(()),
            newest if shared => newest,
            _ => u64::MAX,
        };
        self.store.drop_snapshots(&self.line, most, 0)
    }

    /// How far the stage was, in words.
    pub(crate) fn reached(&self) -> Option<String> {
        self.with_out(|out| out.reached.clone())
    }

    fn with_out<T>(&self, act: impl FnOnce(&mut Out) -> T) -> T {
        // A thread of the stage that panicked while telling leaves nothing half-changed that matters.
        act(&mut self.out.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pass_on_warnings(&self) {
        for warning in self.store.take_warnings() {
            self.emit(Event::Message {
                level: Level::Warning,
                text: warning.to_string(),
            });
        }
    }
}

impl Out {
    fn write(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            // An engine that is gone takes the worker down through its tether, not through this pipe.
            drop(
                self.stream
                    .write_all(&line)
                    .and_then(|()| self.stream.flush()),
            );
        }
    }
}

fn store_failed(error: &CacheError) -> StageError {
    StageError::failed(with_sources(error))
}

/// An error with its causes, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

impl EventSink for WorkerHost<'_> {
    fn emit(&self, event: Event) {
        self.with_out(|out| {
            if let Event::Progress {
                done, total, unit, ..
            } = &event
            {
                out.reached = Some(format!("{done} of {total} {unit}"));
                let now = Instant::now();
                let early = out
                    .told
                    .is_some_and(|told| now.duration_since(told) < PROGRESS_EVERY);
                if early && done < total {
                    out.held = Some(event);
                    return;
                }
                out.told = Some(now);
                out.held = None;
            }
            if let Some(held) = out.held.take() {
                out.write(&held);
            }
            out.write(&event);
        });
    }
}

impl Host for WorkerHost<'_> {
    fn save_snapshot(&self, progress: u64, folder: &Path, lasts: bool) -> Result<(), StageError> {
        if !self.remembers {
            return Ok(());
        }
        let label = SnapshotLabel {
            line: self.line,
            action: self.key,
            progress,
            numerics: self.numerics.clone(),
            lasts,
        };
        self.store
            .put_snapshot(&label, folder)
            .map_err(|e| store_failed(&e))?;
        self.snapshot.store(progress, Ordering::Relaxed);
        // Old snapshots that cannot be dropped cost space, not results.
        let dropped = self
            .store
            .drop_snapshots(&self.line, progress, SNAPSHOTS_KEPT);
        if let Err(error) = dropped {
            self.emit(Event::Message {
                level: Level::Warning,
                text: with_sources(&error),
            });
        }
        self.pass_on_warnings();
        Ok(())
    }

    fn newest_snapshot(&self, most: u64) -> Result<Option<Snapshot>, StageError> {
        if !self.remembers {
            return Ok(None);
        }
        let newest = self
            .store
            .newest_snapshot(&self.line, &self.numerics, most)
            .map_err(|e| store_failed(&e))?;
        self.pass_on_warnings();
        let Some((progress, output)) = newest else {
            return Ok(None);
        };
        let folder = self.resume_folder.join(progress.to_string());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(StageError::io("remove", &folder))?;
        }
        self.store
            .materialize(&output, &folder, Mode::Link)
            .map_err(|e| store_failed(&e))?;
        self.snapshot.store(progress, Ordering::Relaxed);
        Ok(Some(Snapshot { progress, folder }))
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn elapsed_seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn chunk(&self, chunk: &Chunk<'_>) -> Result<Option<PathBuf>, StageError> {
        let Some(chunks) = &self.chunks else {
            return Ok(None);
        };
        let found = chunks.find(chunk).map_err(|e| store_failed(&e))?;
        self.pass_on_warnings();
        Ok(found)
    }

    fn put_chunk(&self, chunk: &Chunk<'_>, folder: &Path) -> Result<PathBuf, StageError> {
        let Some(chunks) = &self.chunks else {
            return Ok(folder.to_owned());
        };
        let kept = chunks.keep(chunk, folder).map_err(|e| store_failed(&e))?;
        self.pass_on_warnings();
        if let Some(text) = kept.differs {
            self.emit(Event::Message {
                level: Level::Warning,
                text,
            });
        }
        Ok(kept.folder)
    }

    fn shard(&self) -> Option<Shard> {
        self.chunks.as_ref().and_then(|chunks| chunks.shard)
    }
}
