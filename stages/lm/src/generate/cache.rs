//! Keys and values of a sequence, in blocks that samples of one prompt share.

use std::sync::Arc;

use super::tile::{Line, WIDTH};
use crate::config::ModelConfig;

/// Positions in a block.
pub(super) const BLOCK: usize = 64;

/// Where the keys and values of a layer's head lie in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheShape {
    layers: usize,
    heads: usize,
    head_dim: usize,
}

impl CacheShape {
    pub(super) fn new(config: &ModelConfig) -> Self {
        Self {
            layers: config.num_hidden_layers,
            heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        }
    }

    /// Panels that the values of a head take.
    pub(super) fn value_panels(self) -> usize {
        self.head_dim.div_ceil(WIDTH)
    }

    fn keys_of_head(self) -> usize {
        BLOCK / WIDTH * self.head_dim
    }

    fn values_of_head(self) -> usize {
        self.value_panels() * BLOCK
    }

    /// The lines of a head's keys: panels of [`WIDTH`] positions, a line a coordinate.
    pub(super) fn keys(self, block: &Block, layer: usize, head: usize) -> &[Line] {
        let size = self.keys_of_head();
        &block.keys[(layer * self.heads + head) * size..][..size]
    }

    /// The lines of a head's values: panels of [`WIDTH`] coordinates, a line a position.
    pub(super) fn values(self, block: &Block, layer: usize, head: usize) -> &[Line] {
        let size = self.values_of_head();
        &block.values[(layer * self.heads + head) * size..][..size]
    }
}

/// Keys and values of up to [`BLOCK`] positions, all layers and heads.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) filled: usize,
    keys: Vec<Line>,
    values: Vec<Line>,
}

impl Block {
    fn new(shape: CacheShape) -> Self {
        let heads = shape.layers * shape.heads;
        Self {
            filled: 0,
            keys: vec![Line::ZERO; heads * shape.keys_of_head()],
            values: vec![Line::ZERO; heads * shape.values_of_head()],
        }
    }

    fn write(&mut self, shape: CacheShape, layer: usize, slot: usize, key: &[f32], value: &[f32]) {
        let dim = shape.head_dim;
        let heads = key.chunks_exact(dim).zip(value.chunks_exact(dim));
        for (head, (key, value)) in heads.enumerate() {
            let index = layer * shape.heads + head;
            let keys = &mut self.keys[index * shape.keys_of_head()..];
            let keys = &mut keys[slot / WIDTH * dim..][..dim];
            for (line, &key) in keys.iter_mut().zip(key) {
                line.0[slot % WIDTH] = key;
            }
            let values = &mut self.values[index * shape.values_of_head()..];
            for (panel, value) in value.chunks(WIDTH).enumerate() {
                values[panel * BLOCK + slot].0[..value.len()].copy_from_slice(value);
            }
        }
    }
}

/// The past of one sequence: blocks that it shares, then its own.
#[derive(Debug)]
pub(super) struct Cache {
    shape: CacheShape,
    shared: Vec<Arc<Block>>,
    own: Vec<Block>,
    /// First position of each own block.
    starts: Vec<usize>,
    length: usize,
}

impl Cache {
    pub(super) fn new(shape: CacheShape) -> Self {
        Self {
            shape,
            shared: Vec::new(),
            own: Vec::new(),
            starts: Vec::new(),
            length: 0,
        }
    }

    /// Positions that it holds.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Makes room for the next positions, which [`write`](Self::write) fills layer by layer.
    pub(super) fn grow(&mut self, count: usize) {
        for _ in 0..count {
            if self.own.last().is_none_or(|block| block.filled == BLOCK) {
                self.own.push(Block::new(self.shape));
                self.starts.push(self.length);
            }
            if let Some(block) = self.own.last_mut() {
                block.filled += 1;
            }
            self.length += 1;
        }
    }

    /// Puts the keys and values of a position that [`grow`](Self::grow) made.
    ///
    /// # Shapes
    /// `key`, `value` `[heads, head_dim]`.
    pub(super) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let index = self.starts.partition_point(|&start| start <= position) - 1;
        let slot = position - self.starts[index];
        self.own[index].write(self.shape, layer, slot, key, value);
    }

    /// Turns own blocks into shared ones, so that [`fork`](Self::fork) can hand them on.
    pub(super) fn share(&mut self) {
        self.shared.extend(self.own.drain(..).map(Arc::new));
        self.starts.clear();
    }

    /// A sequence with the same past, which must be shared wholly.
    pub(super) fn fork(&self) -> Self {
        debug_assert!(
            self.own.is_empty(),
            "the past is shared before it is forked"
        );
        Self {
            shape: self.shape,
            shared: self.shared.clone(),
            own: Vec::new(),
            starts: Vec::new(),
            length: self.length,
        }
    }

    /// A sequence with the first `length` positions of this one, which must be shared wholly: whole blocks are
    /// shared, the last is copied as far as it counts.
    pub(super) fn prefix(&self, length: usize) -> Self {
        debug_assert!(
            self.own.is_empty() && length <= self.length,
            "the past is shared before it is forked"
        );
        let mut prefix = Self::new(self.shape);
        prefix.length = length;
        let mut left = length;
        for block in &self.shared {
            if block.filled <= left {
                prefix.shared.push(Arc::clone(block));
                left -= block.filled;
                continue;
            }
            if left > 0 {
                let mut part = Block::clone(block);
                part.filled = left;
                prefix.shared.push(Arc::new(part));
            }
            break;
        }
        prefix
    }

    /// Bytes of the blocks that are its own, and of those that it shares.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let heads = self.shape.layers * self.shape.heads;
        let lines = self.shape.keys_of_head() + self.shape.values_of_head();
        let block = heads * lines * size_of::<Line>();
        (self.own.len() * block, self.shared.len() * block)
    }

    /// Its blocks, first to last.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.shared.iter().map(|block| &**block).chain(&self.own)
    }

    pub(super) fn shape(&self) -> CacheShape {
        self.shape
    }
}
