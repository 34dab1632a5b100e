//! Many chunks on some threads, their gradients added in the order of the chunks.
//!
//! A thread takes the next chunk and computes it to its end; each part of the gradients waits for its turn, see
//! [`Sums`]. The first of the chunks under way never waits, so all come to their end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::decoder::Scratch;
use crate::decoder::sums::Sums;
use crate::error::LmError;
use crate::kernels::Real;

/// What a thread keeps between chunks and updates.
pub(crate) struct Worker<T> {
    /// Gradient on the head, which is made some rows at a time and so cannot wait its turn; empty when the head does
    /// not learn.
    pub(crate) dhead: Vec<T>,
    pub(crate) scratch: Scratch<T>,
}

impl<T: Real> Worker<T> {
    /// With room for so many values of the head.
    pub(crate) fn new(head: usize) -> Self {
        Self {
            dhead: vec![T::ZERO; head],
            scratch: Scratch::new(),
        }
    }
}

/// Runs `work` for each chunk, which must add to every part of `sums` as that chunk; returns what the chunks
/// returned, in their order.
///
/// # Errors
/// The error of the earliest chunk that failed, as far as chunks were tried; the sums are worthless then.
pub(crate) fn accumulate<T: Real, S: Send>(
    chunks: usize,
    workers: &mut [Worker<T>],
    sums: &Sums<'_, T>,
    work: impl Fn(usize, &mut Worker<T>) -> Result<S, LmError> + Sync,
) -> Result<Vec<S>, LmError> {
    let counter = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let run = |worker: &mut Worker<T>| {
        let stop = StopOnPanic(sums);
        while !sums.stopped() {
            let chunk = counter.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                break;
            }
            let result = work(chunk, worker);
            if result.is_err() {
                sums.stop();
            }
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.insert(chunk, result);
        }
        std::mem::forget(stop);
    };
    let (mine, others) = workers.split_at_mut(1);
    std::thread::scope(|scope| {
        for worker in others.iter_mut().take(chunks.saturating_sub(1)) {
            scope.spawn(|| run(worker));
        }
        run(&mut mine[0]);
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_values().collect()
}

/// Lets waiting threads go when this one panics.
struct StopOnPanic<'s, 'a, T: Real>(&'s Sums<'a, T>);

impl<T: Real> Drop for StopOnPanic<'_, '_, T> {
    fn drop(&mut self) {
        self.0.stop();
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
    use crate::decoder::sums::Sink;
    use crate::kernels::Precision;

    fn workers(count: usize) -> Vec<Worker<f32>> {
        (0..count).map(|_| Worker::new(0)).collect()
    }

    fn parts() -> [std::ops::Range<usize>; 3] {
        [0..5, 5..6, 6..40]
    }

    #[test]
    fn sums_in_the_order_of_the_chunks() {
        // sums of such numbers depend on their order
        let value = |chunk: usize| 1.0 / (1.0 + chunk as f32).powi(3) * 1e3;
        let expected = (0..40).map(value).fold(0.0, |sum, x| sum + x);
        for threads in [1, 2, 5] {
            let mut total = vec![f32::NAN; 40];
            let sums = Sums::new(&mut total, parts());
            let work = |chunk: usize, _: &mut Worker<f32>| {
                let sink = Sink {
                    sums: &sums,
                    chunk,
                    adapter: None,
                    precision: Precision::F32,
                };
                for part in parts().into_iter().rev() {
                    let pause = (chunk * 37 % 11 + part.len() % 3) as u64 * 20;
                    std::thread::sleep(std::time::Duration::from_micros(pause));
                    sink.vector(&part, &vec![value(chunk); part.len()]);
                }
                Ok(chunk)
            };
            let stats = accumulate(40, &mut workers(threads), &sums, work).unwrap();
            assert!(stats.into_iter().eq(0..40));
            assert!(total.iter().all(|x| x.to_bits() == f32::to_bits(expected)));
        }
    }

    #[test]
    fn an_error_ends_all_threads() {
        let mut total = vec![0.0_f32; 40];
        let sums = Sums::new(&mut total, parts());
        let work = |chunk: usize, _: &mut Worker<f32>| {
            if chunk == 7 {
                return Err(LmError::Config("seven".into()));
            }
            let sink = Sink {
                sums: &sums,
                chunk,
                adapter: None,
                precision: Precision::F32,
            };
            sink.vector(&(5..6), &[1.0]);
            Ok(())
        };
        let error = accumulate(100, &mut workers(3), &sums, work).unwrap_err();
        assert!(error.to_string().contains("seven"));
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_does_not_leave_the_others_waiting() {
        let mut total = vec![0.0_f32; 40];
        let sums = Sums::new(&mut total, parts());
        let caller = std::thread::current().id();
        let work = |chunk: usize, _: &mut Worker<f32>| {
            let mine = std::thread::current().id() == caller;
            assert!(mine || chunk < 3, "a bug");
            std::thread::sleep(std::time::Duration::from_millis(1));
            let sink = Sink {
                sums: &sums,
                chunk,
                adapter: None,
                precision: Precision::F32,
            };
            sink.vector(&(5..6), &[1.0]);
            Ok(())
        };
        accumulate(1000, &mut workers(3), &sums, work).unwrap();
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
