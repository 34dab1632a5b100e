//! A packed batch as the kernels read it: tokens, positions, and who sees whom.

use super::board::Buffer;
use super::ops::{ATTENTION_ROWS, Ops, Scatter};
use crate::decoder::PackedBatch;
use crate::error::LmError;
use crate::kernels::attention::Segment;

/// The tokens of a batch on the device.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) tokens: usize,
    /// One past the last position.
    pub(super) longest: usize,
    pub(super) ids: Buffer,
    pub(super) positions: Buffer,
    /// Five integers a tile, see `QueryTile` in `cuda/attention.cu`.
    pub(super) query_tiles: (Buffer, usize),
    /// Four integers a tile, and two a range: `KeyTile` and `QueryRange`.
    pub(super) key_tiles: (Buffer, usize),
    pub(super) ranges: Buffer,
    /// Which tokens have which row of the embedding.
    pub(super) by_id: Scatter,
}

impl Batch {
    pub(super) fn new(ops: &Ops, batch: &PackedBatch) -> Result<Self, LmError> {
        let segments = batch.segments();
        let positions = batch.positions();
        if batch.ids.len() > (1 << 24) {
            let expected = "at most 16,777,216 tokens at once on a device";
            return Err(LmError::shape("a batch", &[batch.ids.len()], expected));
        }
        let ints = |values: &mut dyn Iterator<Item = usize>| {
            ops.upload_ints(&values.map(|value| value as i32).collect::<Vec<_>>())
        };
        let ids: Vec<usize> = batch.ids.iter().map(|&id| id as usize).collect();
        let query_tiles = query_tiles(&segments);
        let (key_tiles, ranges) = key_tiles(&segments);
        Ok(Self {
            tokens: ids.len(),
            longest: positions.iter().max().map_or(0, |last| last + 1),
            ids: ints(&mut ids.iter().copied())?,
            positions: ints(&mut positions.iter().copied())?,
            query_tiles: (
                ints(&mut query_tiles.iter().copied().flatten())?,
                query_tiles.len(),
            ),
            key_tiles: (
                ints(&mut key_tiles.iter().copied().flatten())?,
                key_tiles.len(),
            ),
            ranges: ints(&mut ranges.iter().copied().flatten())?,
            by_id: ops.scatter_of(&ids)?,
        })
    }
}

/// First token and count of each tile of queries; its segment's start; start and count of the segment before.
fn query_tiles(segments: &[Segment]) -> Vec<[usize; 5]> {
    let mut tiles = Vec::new();
    for one in segments {
        for first in (0..one.len).step_by(ATTENTION_ROWS) {
            let count = ATTENTION_ROWS.min(one.len - first);
            tiles.push([
                one.start + first,
                count,
                one.start,
                one.before,
                one.before_len,
            ]);
        }
    }
    tiles
}

/// First token and count of each tile of keys, and which ranges hold the queries that may see them: those of its own
/// segment from its first key on, and all of the segments that go on from it.
fn key_tiles(segments: &[Segment]) -> (Vec<[usize; 4]>, Vec<[usize; 2]>) {
    let (mut tiles, mut ranges) = (Vec::new(), Vec::new());
    for one in segments {
        let followers: Vec<[usize; 2]> = segments
            .iter()
            .filter(|other| other.before_len > 0 && other.len > 0 && other.before == one.start)
            .map(|other| [other.start, other.start + other.len])
            .collect();
        for first in (0..one.len).step_by(ATTENTION_ROWS) {
            let begin = ranges.len();
            ranges.push([one.start + first, one.start + one.len]);
            ranges.extend(&followers);
            let count = ATTENTION_ROWS.min(one.len - first);
            tiles.push([one.start + first, count, begin, ranges.len()]);
        }
    }
    (tiles, ranges)
}
