//! One sum of gradients for all threads.
//!
//! Every chunk adds to every part of the sum exactly once, in the order of the chunks: a thread that comes to a
//! part early waits. The first chunk writes instead. So the bytes do not depend on the number of threads, and no
//! thread needs gradients of its own.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Scratch;
use super::adapter::Adapter;
use crate::kernels::Real;
use crate::kernels::gemm::{Mat, MatMut, Precision, Write, matmul};
use crate::kernels::vector::add_assign;

/// The sum, in parts.
pub(crate) struct Sums<'a, T> {
    /// Ascending by where they begin.
    parts: Vec<Part<'a, T>>,
    stopped: AtomicBool,
}

struct Part<'a, T> {
    start: usize,
    turn: Mutex<Turn<'a, T>>,
    changed: Condvar,
}

struct Turn<'a, T> {
    /// The chunk that is next to add.
    next: usize,
    values: &'a mut [T],
}

impl<'a, T: Real> Sums<'a, T> {
    /// Cuts `values` at the borders of consecutive ranges that cover it.
    pub(crate) fn new(values: &'a mut [T], ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let (mut parts, mut rest) = (Vec::new(), values);
        for range in ranges {
            let (values, others) = rest.split_at_mut(range.len());
            rest = others;
            parts.push(Part {
                start: range.start,
                turn: Mutex::new(Turn { next: 0, values }),
                changed: Condvar::new(),
            });
        }
        assert!(rest.is_empty(), "parts cover all gradients");
        Self {
            parts,
            stopped: AtomicBool::new(false),
        }
    }

    /// Lets all waiting threads go; the sum is worthless from here on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        for part in &self.parts {
            // taken so that nobody is between looking and waiting
            drop(lock(&part.turn));
            part.changed.notify_all();
        }
    }

    /// Whether somebody called [`Self::stop`].
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Calls `write` on the part that begins at `start` when it is the chunk's turn; not at all when all was stopped.
    fn add(&self, chunk: usize, start: usize, write: impl FnOnce(&mut [T], Write)) {
        let at = self.parts.partition_point(|part| part.start < start);
        let part = &self.parts[at];
        debug_assert_eq!(part.start, start, "gradients are added by whole parts");
        let mut turn = lock(&part.turn);
        while turn.next != chunk {
            if self.stopped() {
                return;
            }
            turn = part
                .changed
                .wait(turn)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let how = if chunk == 0 { Write::Set } else { Write::Add };
        write(turn.values, how);
        turn.next += 1;
        part.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the gradients of one chunk go: all of them, or those of an adapter alone.
pub(crate) struct Sink<'s, 'a, T> {
    /// Over the decoder's parameters, or the adapter's.
    pub(crate) sums: &'s Sums<'a, T>,
    /// The chunk's number.
    pub(crate) chunk: usize,
    /// What is trained in place of the decoder's own parameters.
    pub(crate) adapter: Option<&'s Adapter<T>>,
    /// What products are computed in.
    pub(crate) precision: Precision,
}

impl<T: Real> Sink<'_, '_, T> {
    /// Whether norms, biases, embedding and head have gradients.
    pub(crate) fn takes_all(&self) -> bool {
        self.adapter.is_none()
    }

    /// The gradient of a vector.
    pub(crate) fn vector(&self, slot: &Range<usize>, gradient: &[T]) {
        if self.takes_all() {
            self.sums.add(self.chunk, slot.start, |sum, how| match how {
                Write::Set => sum.copy_from_slice(gradient),
                Write::Add => add_assign(sum, gradient),
            });
        }
    }

    /// The gradient of a table whose rows tokens pick: `write` adds to what is there.
    pub(crate) fn table(&self, slot: &Range<usize>, write: impl FnOnce(&mut [T])) {
        if self.takes_all() {
            self.sums.add(self.chunk, slot.start, |sum, how| {
                if how == Write::Set {
                    sum.fill(T::ZERO);
                }
                write(sum);
            });
        }
    }

    /// The gradient of the matrix W of y = x·Wᵀ, or of some below each other: dyᵀ·x.
    ///
    /// # Shapes
    /// `dy` `[n, out]`, `x` `[n, in]`; the slot holds `[out, in]`.
    pub(crate) fn matrix(
        &self,
        slot: &Range<usize>,
        dy: Mat<'_, T>,
        x: Mat<'_, T>,
        scratch: &mut Scratch<T>,
    ) {
        let Some(adapter) = self.adapter else {
            self.sums.add(self.chunk, slot.start, |sum, how| {
                let sum = MatMut::new(sum, dy.columns(), x.columns());
                matmul(self.precision, sum, how, dy.t(), x);
            });
            return;
        };
        let n = dy.rows();
        for one in adapter.inside(slot) {
            let first = (one.place.start - slot.start) / one.inputs;
            let dy = dy.part(first, one.outputs);
            let rank = adapter.rank();
            // W = base + s·B·A, so dB = s·dyᵀ·(x·Aᵀ) and dA = s·(dy·B)ᵀ·x
            let mut room = scratch.take(n * rank);
            let a = Mat::new(&adapter.params[one.a.clone()], rank, one.inputs);
            let b = Mat::new(&adapter.params[one.b.clone()], one.outputs, rank);
            let narrow = MatMut::new(&mut room, n, rank);
            matmul(self.precision, narrow, Write::Set, x, a.t());
            adapter.scale_by(&mut room);
            self.sums.add(self.chunk, one.b.start, |sum, how| {
                let sum = MatMut::new(sum, one.outputs, rank);
                matmul(self.precision, sum, how, dy.t(), Mat::new(&room, n, rank));
            });
            let narrow = MatMut::new(&mut room, n, rank);
            matmul(self.precision, narrow, Write::Set, dy, b);
            adapter.scale_by(&mut room);
            self.sums.add(self.chunk, one.a.start, |sum, how| {
                let sum = MatMut::new(sum, rank, one.inputs);
                matmul(self.precision, sum, how, Mat::new(&room, n, rank).t(), x);
            });
            scratch.give(room);
        }
    }
}
