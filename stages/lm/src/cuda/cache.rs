//! Keys and values of a sequence on a device, in blocks that sequences with the same past share.

use std::sync::Arc;

use super::board::Buffer;
use super::ops::{CACHE_BLOCK, Ops};
use crate::config::ModelConfig;
use crate::error::LmError;

/// The past of one sequence. A block that another sequence has too is copied before it is written.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    blocks: Vec<Arc<Buffer>>,
    length: usize,
    /// Numbers in a block: keys and values of all layers and heads.
    block: usize,
}

impl Cache {
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self {
            blocks: Vec::new(),
            length: 0,
            block: 2 * config.num_hidden_layers * config.key_size() * CACHE_BLOCK,
        }
    }

    /// Positions that it holds.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Makes room for the next positions, all of which must be written.
    pub(super) fn grow(&mut self, ops: &Ops, count: usize) -> Result<(), LmError> {
        let partly = !self.length.is_multiple_of(CACHE_BLOCK);
        if let Some(last) = self.blocks.last_mut().filter(|_| partly && count > 0)
            && Arc::get_mut(last).is_none()
        {
            *last = Arc::new(ops.copy_of(last)?);
        }
        self.length += count;
        while self.blocks.len() * CACHE_BLOCK < self.length {
            self.blocks.push(Arc::new(ops.values(self.block)?));
        }
        Ok(())
    }

    /// A sequence with the first `length` positions of this one.
    pub(super) fn prefix(&self, length: usize) -> Self {
        let length = length.min(self.length);
        Self {
            blocks: self.blocks[..length.div_ceil(CACHE_BLOCK)].to_vec(),
            length,
            block: self.block,
        }
    }

    /// Addresses of its blocks.
    pub(super) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().map(|block| block.address())
    }

    /// Blocks, each with an identity of its own, and their size.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.blocks
            .iter()
            .map(|block| (block.address(), block.bytes()))
    }
}
