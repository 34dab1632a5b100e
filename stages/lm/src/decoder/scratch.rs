//! Buffers that are used again, so that an update does not ask the system for memory.

use crate::kernels::Real;

/// Free buffers of one thread.
#[derive(Debug, Default)]
pub struct Scratch<T>(Vec<Vec<T>>);

impl<T: Real> Scratch<T> {
    /// No buffers yet.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// A buffer of this length with arbitrary values: the smallest that fits, else the largest, enlarged.
    pub(crate) fn take(&mut self, len: usize) -> Vec<T> {
        let fitting = (0..self.0.len())
            .filter(|&at| self.0[at].capacity() >= len)
            .min_by_key(|&at| self.0[at].capacity());
        let best = fitting
            .filter(|&at| self.0[at].capacity() <= 2 * len + 1024)
            .map(|at| self.0.swap_remove(at));
        let mut buffer = best.unwrap_or_default();
        buffer.resize(len, T::ZERO);
        buffer
    }

    /// A buffer that begins as a copy.
    pub(crate) fn copy(&mut self, values: &[T]) -> Vec<T> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give(&mut self, buffer: Vec<T>) {
        if buffer.capacity() > 0 {
            self.0.push(buffer);
        }
    }
}
