//! Products of matrices whose values are rounded to bfloat16, summed in `f32`.
//!
//! Both matrices are packed in panels of word pairs (two neighbouring values of the inner size), which processors with
//! AVX512-BF16 multiply and add two at a time. Others do the same with fused multiply-adds of `f32`, in the same order:
//! the same bits, as long as no number is subnormal.

#[cfg(target_arch = "x86_64")]
mod native;
mod pack;
mod tile;

use self::pack::{Pack, Source};
use self::tile::{Kernel, Out};
use super::gemm::{Mat, MatMut, Write};
use super::vector::add_assign;

pub(crate) use self::tile::peak;

/// Rows of a tile.
const ROWS: usize = 12;
/// Columns of a tile.
const COLUMNS: usize = 32;
/// Inner pairs of a block: a panel of columns stays in the nearest cache.
const DEPTH: usize = 160;
/// Rows of a block, whole tiles: stays in the second cache.
const BLOCK_ROWS: usize = 240;
/// Columns of a block, whole tiles.
const BLOCK_COLUMNS: usize = 1024;

/// Packed panels, kept by each thread between products.
#[derive(Default)]
struct Room {
    rows: Vec<u32>,
    columns: Vec<u32>,
}

thread_local! {
    static ROOM: std::cell::RefCell<Room> = std::cell::RefCell::default();
}

/// `dst = a·b` or `dst += a·b` of the rounded values.
pub(crate) fn matmul(dst: MatMut<'_, f32>, write: Write, a: Mat<'_, f32>, b: Mat<'_, f32>) {
    ROOM.with_borrow_mut(|room| product(Kernel::of_this_machine(), room, dst, write, a, b));
}

fn product(
    kernel: Kernel,
    room: &mut Room,
    mut dst: MatMut<'_, f32>,
    write: Write,
    a: Mat<'_, f32>,
    b: Mat<'_, f32>,
) {
    let (m, k, n) = (a.rows(), a.columns(), b.columns());
    let (data, lane, inner) = a.parts();
    let rows_from = Source { data, lane, inner };
    let (data, inner, lane) = b.parts();
    let columns_from = Source { data, lane, inner };
    let depths = k.div_ceil(2 * DEPTH).max(1);
    // even, so that pairs do not straddle blocks
    let depth = k.div_ceil(depths).next_multiple_of(2);
    let mut tile = [0.0; ROWS * COLUMNS];
    for column in (0..n).step_by(BLOCK_COLUMNS) {
        let columns = BLOCK_COLUMNS.min(n - column);
        for first in (0..k.max(1)).step_by(depth.max(1)) {
            let depth = depth.min(k - first);
            let pairs = depth.div_ceil(2);
            let write = if first == 0 { write } else { Write::Add };
            room.columns
                .resize(columns.div_ceil(COLUMNS) * COLUMNS * pairs, 0);
            kernel.pack(Pack::<COLUMNS> {
                source: columns_from.after(column),
                lanes: columns,
                first,
                depth,
                panels: &mut room.columns,
            });
            for row in (0..m).step_by(BLOCK_ROWS) {
                let rows = BLOCK_ROWS.min(m - row);
                room.rows.resize(rows.div_ceil(ROWS) * ROWS * pairs, 0);
                kernel.pack(Pack::<ROWS> {
                    source: rows_from.after(row),
                    lanes: rows,
                    first,
                    depth,
                    panels: &mut room.rows,
                });
                for (at, columns_panel) in blocks::<COLUMNS>(&room.columns, pairs) {
                    let left = column + at * COLUMNS;
                    let width = COLUMNS.min(n - left);
                    for (at, rows_panel) in blocks::<ROWS>(&room.rows, pairs) {
                        let top = row + at * ROWS;
                        if width == COLUMNS && top + ROWS <= m {
                            let (values, stride) = dst.from(top, left);
                            let out = Out {
                                values,
                                stride,
                                write,
                            };
                            kernel.tile(rows_panel, columns_panel, out);
                            continue;
                        }
                        let out = Out {
                            values: &mut tile,
                            stride: COLUMNS,
                            write: Write::Set,
                        };
                        kernel.tile(rows_panel, columns_panel, out);
                        for (at, sums) in tile.chunks_exact(COLUMNS).enumerate().take(m - top) {
                            let out = &mut dst.from(top + at, left).0[..width];
                            match write {
                                Write::Set => out.copy_from_slice(&sums[..width]),
                                Write::Add => add_assign(out, &sums[..width]),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The panels of a block, `pairs` lines each.
fn blocks<const W: usize>(
    words: &[u32],
    pairs: usize,
) -> impl Iterator<Item = (usize, &[[u32; W]])> {
    words
        .as_chunks::<W>()
        .0
        .chunks_exact(pairs.max(1))
        .enumerate()
}

#[cfg(test)]
mod tests {
    use super::pack::rounded;
    use super::*;
    use crate::rng::SplitMix64;
    use pulp::Arch;

    fn values(rng: &mut SplitMix64, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.normal_pair().0 as f32).collect()
    }

    /// The sum in the order that is promised.
    fn expected(
        (m, k, n): (usize, usize, usize),
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        start: Option<&[f32]>,
    ) -> Vec<f32> {
        let blocks = k.div_ceil(2 * DEPTH).max(1);
        let depth = k.div_ceil(blocks).next_multiple_of(2);
        let mut out = vec![0.0; m * n];
        for (at, out) in out.iter_mut().enumerate() {
            let (row, column) = (at / n, at % n);
            let mut total = start.map(|start| start[at]);
            for first in (0..k).step_by(depth) {
                let end = (first + depth).min(k);
                let product = |at: usize, sum: f32| {
                    if at < end {
                        rounded(a(row, at)).mul_add(rounded(b(at, column)), sum)
                    } else {
                        sum
                    }
                };
                let sum = (first..end)
                    .step_by(2)
                    .fold(0.0, |sum, at| product(at, product(at + 1, sum)));
                total = Some(total.map_or(sum, |total| total + sum));
            }
            *out = total.unwrap_or(0.0);
        }
        out
    }

    #[test]
    fn every_kernel_gives_the_promised_sum() {
        let mut rng = SplitMix64::new(4);
        let kernels = [
            Kernel::of_this_machine(),
            Kernel::Fused(Arch::new()),
            Kernel::Fused(Arch::Scalar),
        ];
        for (m, k, n) in [
            (1, 1, 1),
            (12, 2, 32),
            (13, 7, 33),
            (30, 701, 70),
            (250, 9, 40),
            (3, 40, 1030),
        ] {
            let (left, right) = (values(&mut rng, m * k), values(&mut rng, k * n));
            let start = values(&mut rng, m * n);
            for write in [Write::Set, Write::Add] {
                let from = (write == Write::Add).then_some(start.as_slice());
                for turned in 0..4 {
                    let a = match turned & 1 {
                        0 => Mat::new(&left, m, k),
                        _ => Mat::new(&left, k, m).t(),
                    };
                    let b = match turned & 2 {
                        0 => Mat::new(&right, k, n),
                        _ => Mat::new(&right, n, k).t(),
                    };
                    let expected = expected(
                        (m, k, n),
                        |r, c| {
                            left[if turned & 1 == 0 {
                                r * k + c
                            } else {
                                c * m + r
                            }]
                        },
                        |r, c| {
                            right[if turned & 2 == 0 {
                                r * n + c
                            } else {
                                c * k + r
                            }]
                        },
                        from,
                    );
                    for kernel in kernels {
                        let mut found = start.clone();
                        let dst = MatMut::new(&mut found, m, n);
                        product(kernel, &mut Room::default(), dst, write, a, b);
                        let same = found
                            .iter()
                            .zip(&expected)
                            .all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{kernel:?}, {m} {k} {n}, {turned}");
                    }
                }
            }
        }
    }
}
