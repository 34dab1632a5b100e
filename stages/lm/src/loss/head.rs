//! The output head, in chunks of rows: logits, a loss on each row, and the gradients.

use crate::decoder::Scratch;
use crate::kernels::gemm::{Mat, MatMut, Write, matmul};
use crate::kernels::{Precision, Real};

/// Logits that a chunk holds at least, when there are that many.
const CHUNK_VALUES: usize = 1 << 22;
/// Rows that a chunk holds at least, so that products stay efficient for large vocabularies.
const CHUNK_ROWS: usize = 192;
/// Tokens of the vocabulary in one product: one over all of them would pack a copy of all logits.
const TOKENS: usize = 1024;

/// The most rows whose logits exist at once, on one thread.
pub(crate) fn rows_at_once(vocabulary: usize) -> usize {
    (CHUNK_VALUES / vocabulary).max(CHUNK_ROWS)
}

/// Hidden states of the positions of interest and the head that reads them.
///
/// # Shapes
/// `hidden` `[n, h]`, `head` `[v, h]`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a, T> {
    /// Normalised final hidden states.
    pub hidden: &'a [T],
    /// The output matrix.
    pub head: &'a [T],
    /// h.
    pub width: usize,
    /// v.
    pub vocabulary: usize,
    /// What products are computed in.
    pub precision: Precision,
}

impl<T: Real> Head<'_, T> {
    fn rows(&self) -> usize {
        self.hidden.len() / self.width
    }

    /// Rows `first..first + count`, chunk after chunk, all of about one size.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let rows = self.rows();
        let most = rows_at_once(self.vocabulary);
        let count = rows.div_ceil(most);
        (0..count).map(move |chunk| {
            let first = chunk * rows / count;
            (first, (chunk + 1) * rows / count - first)
        })
    }

    /// Room for the logits of the widest chunk: one buffer for all, as a larger one would lie beside a smaller.
    fn room(&self, scratch: &mut Scratch<T>) -> Vec<T> {
        let most = self.chunks().map(|(_, count)| count).max().unwrap_or(0);
        scratch.take(most * self.vocabulary)
    }

    fn logits(&self, first: usize, count: usize, logits: &mut [T]) {
        let (v, h) = (self.vocabulary, self.width);
        let hidden = Mat::new(&self.hidden[first * h..], count, h);
        for (at, head) in self.blocks() {
            let logits = MatMut::strided(&mut logits[at..], count, head.rows(), v);
            matmul(self.precision, logits, Write::Set, hidden, head.t());
        }
    }

    /// The head, some tokens at a time, and the first token of each block.
    fn blocks(&self) -> impl Iterator<Item = (usize, Mat<'_, T>)> {
        let h = self.width;
        let blocks = self.head.chunks(TOKENS * h).enumerate();
        blocks.map(move |(at, block)| (at * TOKENS, Mat::new(block, block.len() / h, h)))
    }

    /// Calls `read` with each row's index and logits.
    pub fn read(&self, scratch: &mut Scratch<T>, mut read: impl FnMut(usize, &mut [T])) {
        let mut room = self.room(scratch);
        for (first, count) in self.chunks() {
            let logits = &mut room[..count * self.vocabulary];
            self.logits(first, count, logits);
            for (row, logits) in logits.chunks_exact_mut(self.vocabulary).enumerate() {
                read(first + row, logits);
            }
        }
        scratch.give(room);
    }

    /// Calls `replace` with each row's index and logits, which it replaces by their gradient; writes the
    /// gradients on the hidden states and on the head.
    ///
    /// # Shapes
    /// `dhidden` `[n, h]`, `dhead` `[v, h]`, or empty when nobody wants it; both are overwritten.
    pub fn differentiate(
        &self,
        dhidden: &mut [T],
        dhead: &mut [T],
        scratch: &mut Scratch<T>,
        mut replace: impl FnMut(usize, &mut [T]),
    ) {
        let (v, h) = (self.vocabulary, self.width);
        let mut write = Write::Set;
        let mut room = self.room(scratch);
        for (first, count) in self.chunks() {
            let logits = &mut room[..count * v];
            self.logits(first, count, logits);
            for (row, logits) in logits.chunks_exact_mut(v).enumerate() {
                replace(first + row, logits);
            }
            let dlogits = Mat::new(logits, count, v);
            let part = first * h..(first + count) * h;
            let hidden = Mat::new(&self.hidden[part.clone()], count, h);
            let mut sum = Write::Set;
            for (at, head) in self.blocks() {
                let dlogits = dlogits.part(at, head.rows());
                let dhidden = MatMut::new(&mut dhidden[part.clone()], count, h);
                matmul(self.precision, dhidden, sum, dlogits, head);
                sum = Write::Add;
                if !dhead.is_empty() {
                    let rows = at * h..(at + head.rows()) * h;
                    let dhead = MatMut::new(&mut dhead[rows], head.rows(), h);
                    matmul(self.precision, dhead, write, dlogits.t(), hidden);
                }
            }
            if !dhead.is_empty() {
                write = Write::Add;
            }
        }
        scratch.give(room);
        if write == Write::Set {
            dhead.fill(T::ZERO);
        }
    }
}
