//! Rows on their way through a stage: cut from their files by one thread at a time, read and worked on side by
//! side, handed on in their order.
//!
//! Invariant: what comes out, and which error, does not depend on the number of threads; at most a few chunks a
//! thread are held at once.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use starling_contract::{StageContext, StageError};

use crate::rows::{Chunk, RowReader};

/// So many chunks a thread may be read ahead of the one that is handed on.
const AHEAD: usize = 4;
/// Progress is told after so many rows.
const TOLD: usize = 2048;

/// Where the reading is.
struct Reading<S> {
    source: S,
    /// Chunks read, and rows in them.
    chunks: usize,
    rows: usize,
    /// Chunks handed on.
    taken: usize,
    over: bool,
}

/// Sends chunks of rows through `work` on the stage's threads, and what comes out through `take` in the order of
/// the rows. `work` is told how many rows stand before the chunk. Returns the number of rows.
///
/// # Errors
/// The first in the order of the rows, of `source`, `work` or `take`; [`StageError::Interrupted`].
pub(crate) fn flow<T: Send>(
    context: &StageContext<'_>,
    source: impl FnMut() -> Result<Option<Chunk>, StageError> + Send,
    work: impl Fn(usize, Chunk) -> Result<T, StageError> + Sync,
    mut take: impl FnMut(T) -> Result<(), StageError>,
) -> Result<usize, StageError> {
    let threads = context.threads().max(1);
    let reading = Mutex::new(Reading {
        source,
        chunks: 0,
        rows: 0,
        taken: 0,
        over: false,
    });
    let room = Condvar::new();
    let (send, receive) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (send, reading, room, work) = (send.clone(), &reading, &room, &work);
            scope.spawn(move || {
                while let Some((number, first, chunk)) = next(reading, room, threads * AHEAD) {
                    let done = chunk.and_then(|chunk| Ok((chunk.len(), work(first, chunk)?)));
                    if send.send((number, done)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let handed = hand_on(context, receive, &mut take, || {
            lock(&reading).taken += 1;
            room.notify_all();
        });
        // After an error nobody reads on, and nobody waits.
        lock(&reading).over = true;
        room.notify_all();
        handed
    })
}

/// As [`flow`], for the rows of a file or folder.
pub(crate) fn flow_rows<T: Send>(
    context: &StageContext<'_>,
    mut reader: RowReader,
    work: impl Fn(usize, Chunk) -> Result<T, StageError> + Sync,
    take: impl FnMut(T) -> Result<(), StageError>,
) -> Result<usize, StageError> {
    flow(context, move || reader.raw_chunk(), work, take)
}

/// What a worker does, with the number of its chunk and of the rows in it.
type Done<T> = (usize, Result<(usize, T), StageError>);

fn hand_on<T>(
    context: &StageContext<'_>,
    receive: mpsc::Receiver<Done<T>>,
    take: &mut impl FnMut(T) -> Result<(), StageError>,
    taken: impl Fn(),
) -> Result<usize, StageError> {
    let mut waiting = BTreeMap::new();
    let (mut next, mut rows, mut told) = (0, 0, 0);
    for (number, done) in receive {
        waiting.insert(number, done);
        while let Some(done) = waiting.remove(&next) {
            let (count, out) = done?;
            take(out)?;
            next += 1;
            rows += count;
            taken();
            if rows - told >= TOLD {
                told = rows;
                context.progress(rows as u64, rows as u64, "rows", "");
            }
            if context.interrupted() {
                return Err(StageError::Interrupted);
            }
        }
    }
    context.progress(rows as u64, rows as u64, "rows", "");
    Ok(rows)
}

/// Reads the next chunk: its number, the rows before it, and itself or why it cannot be read.
fn next<S: FnMut() -> Result<Option<Chunk>, StageError>>(
    reading: &Mutex<Reading<S>>,
    room: &Condvar,
    ahead: usize,
) -> Option<(usize, usize, Result<Chunk, StageError>)> {
    let mut now = lock(reading);
    while !now.over && now.chunks >= now.taken + ahead {
        now = room.wait(now).unwrap_or_else(PoisonError::into_inner);
    }
    if now.over {
        return None;
    }
    let chunk = match (now.source)() {
        Ok(Some(chunk)) => Ok(chunk),
        Ok(None) => {
            now.over = true;
            return None;
        }
        Err(error) => {
            now.over = true;
            Err(error)
        }
    };
    let (number, first) = (now.chunks, now.rows);
    now.chunks += 1;
    now.rows += chunk.as_ref().map_or(0, Chunk::len);
    Some((number, first, chunk))
}

/// A panic elsewhere leaves nothing half done in here, and ends the stage by itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
