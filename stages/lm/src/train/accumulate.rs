//! Gradients of many chunks, added in the order of the chunks whatever the number of threads.
//!
//! Each thread computes a chunk into a buffer of its own and adds it to the total when all earlier chunks are in. So
//! there are never more buffers than threads, plus the total.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::decoder::{Gradients, Layout, Scratch};
use crate::error::LmError;
use crate::kernels::Real;
use crate::kernels::vector::add_assign;

use std::sync::Arc;

/// What a thread keeps between chunks and updates.
pub(crate) struct Worker<T> {
    pub(crate) gradients: Gradients<T>,
    pub(crate) scratch: Scratch<T>,
}

impl<T: Real> Worker<T> {
    pub(crate) fn new(layout: &Arc<Layout>) -> Self {
        Self {
            gradients: Gradients::zeros(layout),
            scratch: Scratch::new(),
        }
    }
}

/// State shared by the threads of one call.
struct Turn<'a, T, S> {
    next: usize,
    stopped: bool,
    total: &'a mut Gradients<T>,
    stats: Vec<S>,
    error: Option<LmError>,
}

/// Runs `work` for each chunk; it must write every gradient of its worker. Sets `total` to the sum and returns
/// what the chunks returned, in their order.
///
/// # Errors
/// The error of the earliest chunk that failed, as far as chunks were tried.
pub(crate) fn accumulate<T: Real, S: Send>(
    chunks: usize,
    workers: &mut [Worker<T>],
    total: &mut Gradients<T>,
    work: impl Fn(usize, &mut Worker<T>) -> Result<S, LmError> + Sync,
) -> Result<Vec<S>, LmError> {
    if chunks == 0 {
        total.values.fill(T::ZERO);
        return Ok(Vec::new());
    }
    let counter = AtomicUsize::new(0);
    let turn = Turn {
        next: 0,
        stopped: false,
        total,
        stats: Vec::new(),
        error: None,
    };
    let shared = (Mutex::new(turn), Condvar::new());
    let run = |worker: &mut Worker<T>| {
        let stop = StopOnPanic(&shared);
        loop {
            let chunk = counter.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks || !take_turn(chunk, worker, &shared, &work) {
                break;
            }
        }
        std::mem::forget(stop);
    };
    let (mine, others) = workers.split_at_mut(1);
    std::thread::scope(|scope| {
        for worker in others.iter_mut().take(chunks - 1) {
            scope.spawn(|| run(worker));
        }
        run(&mut mine[0]);
    });
    let turn = shared
        .0
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    turn.error.map_or(Ok(turn.stats), Err)
}

/// Computes a chunk, waits for the earlier ones, adds it. Returns whether to go on.
fn take_turn<T: Real, S>(
    chunk: usize,
    worker: &mut Worker<T>,
    shared: &(Mutex<Turn<'_, T, S>>, Condvar),
    work: &impl Fn(usize, &mut Worker<T>) -> Result<S, LmError>,
) -> bool {
    let result = work(chunk, worker);
    let (turn, changed) = shared;
    let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    while turn.next != chunk && !turn.stopped {
        turn = changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
    }
    if turn.stopped {
        return false;
    }
    match result {
        Ok(stats) => {
            if chunk == 0 {
                std::mem::swap(&mut turn.total.values, &mut worker.gradients.values);
            } else {
                add_assign(&mut turn.total.values, &worker.gradients.values);
            }
            turn.stats.push(stats);
            turn.next += 1;
        }
        Err(error) => {
            turn.error = Some(error);
            turn.stopped = true;
        }
    }
    changed.notify_all();
    !turn.stopped
}

/// Lets waiting threads go when this one panics.
struct StopOnPanic<'s, 'a, T, S>(&'s (Mutex<Turn<'a, T, S>>, Condvar));

impl<T, S> Drop for StopOnPanic<'_, '_, T, S> {
    fn drop(&mut self) {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.0.1.notify_all();
    }
}

/// Cuts sequences into consecutive chunks of about equal tokens, at most about `limit` each.
///
/// Depends on the lengths alone. The count is even when there is more than one, which keeps two threads equally busy.
pub(crate) fn cut(lens: &[usize], limit: usize) -> Vec<std::ops::Range<usize>> {
    let total: usize = lens.iter().sum();
    let mut count = total.div_ceil(limit.max(1)).max(1);
    if count > 1 {
        count = count.next_multiple_of(2);
    }
    let (mut chunks, mut start, mut seen) = (Vec::new(), 0, 0);
    for (at, &len) in lens.iter().enumerate() {
        seen += len;
        // this chunk ends where its share of all tokens does
        if seen * count >= (chunks.len() + 1) * total {
            chunks.push(start..at + 1);
            start = at + 1;
        }
    }
    if start < lens.len() {
        chunks.push(start..lens.len());
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;
    use crate::weights::tests::tiny;

    fn workers(count: usize) -> (Vec<Worker<f32>>, Gradients<f32>) {
        let layout = Arc::new(Layout::new(&tiny(Architecture::Llama)).unwrap());
        let workers = (0..count).map(|_| Worker::new(&layout)).collect();
        (workers, Gradients::zeros(&layout))
    }

    #[test]
    fn sums_in_the_order_of_the_chunks() {
        // sums of such numbers depend on their order
        let value = |chunk: usize| 1.0 / (1.0 + chunk as f32).powi(3) * 1e3;
        let expected = (0..40).map(value).fold(0.0, |sum, x| sum + x);
        for threads in [1, 2, 5] {
            let (mut workers, mut total) = workers(threads);
            let work = |chunk: usize, worker: &mut Worker<f32>| {
                std::thread::sleep(std::time::Duration::from_micros(
                    (chunk * 37 % 11) as u64 * 50,
                ));
                worker.gradients.values.fill(value(chunk));
                Ok(chunk)
            };
            let stats = accumulate(40, &mut workers, &mut total, work).unwrap();
            assert!(stats.into_iter().eq(0..40));
            assert!(
                total
                    .values
                    .iter()
                    .all(|x| x.to_bits() == f32::to_bits(expected))
            );
        }
    }

    #[test]
    fn an_error_ends_all_threads() {
        let (mut workers, mut total) = workers(3);
        let work = |chunk: usize, _: &mut Worker<f32>| {
            if chunk == 7 {
                Err(LmError::Config("seven".into()))
            } else {
                Ok(())
            }
        };
        let error = accumulate(100, &mut workers, &mut total, work).unwrap_err();
        assert!(error.to_string().contains("seven"));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_does_not_leave_the_others_waiting() {
        let (mut workers, mut total) = workers(3);
        let caller = std::thread::current().id();
        let work = |chunk: usize, _: &mut Worker<f32>| {
            let mine = std::thread::current().id() == caller;
            assert!(mine || chunk < 3, "a bug");
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(())
        };
        accumulate(1000, &mut workers, &mut total, work).unwrap();
    }

    #[test]
    fn chunks_cover_all_sequences_in_order() {
        for (lens, limit) in [
            (vec![80; 32], 640),
            (vec![1000, 3, 3, 3], 100),
            (vec![3, 3, 3, 1000], 100),
            (vec![0, 0], 10),
            (vec![], 10),
            (vec![5; 7], 1),
        ] {
            let chunks = cut(&lens, limit);
            let covered: Vec<usize> = chunks.iter().cloned().flatten().collect();
            assert!(covered.into_iter().eq(0..lens.len()), "{chunks:?}");
            assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        }
        assert_eq!(cut(&[80; 32], 640).len(), 4);
        assert_eq!(cut(&[80; 32], 600).len(), 6);
    }
}
