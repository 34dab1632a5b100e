//! Rows of logits: statistics and the greatest (`head.cu`); losses and draws launch their kernels by [`Ops::logits`].

use super::{Ops, blocks, int, threads};
use crate::cuda::board::{Arg, Buffer};
use crate::error::LmError;

/// Most threads of a block that has a row of logits.
const LOGIT_THREADS: u32 = 512;
/// The longest list that the kernels sort.
const LONGEST_LIST: usize = 4096;
/// Shared memory that the top-k loss needs beside its lists.
const TOPK_ROOM: usize = 2560;

impl Ops {
    /// What rows of logits say about their targets: four floats a row, see `cuda/head.cu`.
    pub(crate) fn row_stats(
        &self,
        logits: &Buffer,
        rows: usize,
        vocabulary: usize,
        targets: &Buffer,
    ) -> Result<Buffer, LmError> {
        let stats = self.floats(4 * rows)?;
        let args = [logits.arg(), int(vocabulary), targets.arg(), stats.arg()];
        self.logits("row_stats", rows, vocabulary, 0, &args)?;
        Ok(stats)
    }

    /// A kernel of rows of logits.
    pub(crate) fn logits(
        &self,
        name: &str,
        rows: usize,
        vocabulary: usize,
        shared: usize,
        args: &[Arg],
    ) -> Result<(), LmError> {
        let threads = threads(vocabulary, LOGIT_THREADS);
        self.run(name, [blocks(rows, 1), 1, 1], threads, shared, args)
    }

    /// Shared memory of the top-k loss.
    pub(crate) fn topk_room(k: usize, student_top: usize) -> usize {
        TOPK_ROOM + 16 * k + 8 * student_top
    }

    /// The k greatest of each row and their log-probabilities.
    pub(crate) fn top_rows(
        &self,
        logits: &Buffer,
        rows: usize,
        vocabulary: usize,
        stats: &Buffer,
        k: usize,
    ) -> Result<(Buffer, Buffer), LmError> {
        if k > LONGEST_LIST {
            return Err(LmError::Config(format!(
                "lists of {k} tokens: CUDA kernels list at most {LONGEST_LIST}"
            )));
        }
        let (ids, logprobs) = (self.floats(rows * k)?, self.floats(rows * k)?);
        let size = k.next_power_of_two();
        let args = [
            logits.arg(),
            int(vocabulary),
            stats.arg(),
            int(k),
            int(size),
            ids.arg(),
            logprobs.arg(),
        ];
        self.logits("top_rows", rows, vocabulary, 8 * size, &args)?;
        Ok((ids, logprobs))
    }
}
