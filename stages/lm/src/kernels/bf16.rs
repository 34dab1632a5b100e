//! Products of matrices whose values are rounded to bfloat16, summed in `f32`.
//!
//! Both matrices are packed in panels of word pairs (two neighbouring values of the inner size), which processors with
//! AVX512-BF16 multiply and add two at a time. Others do the same with fused multiply-adds of `f32`, in the same order:
//! the same bits, as long as no number is subnormal.

use pulp::{Arch, Simd, WithSimd};

use super::gemm::{Mat, MatMut, Write};
use super::vector::add_assign;

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

/// Lanes of the widest block.
const MOST_LANES: usize = if BLOCK_COLUMNS > BLOCK_ROWS {
    BLOCK_COLUMNS
} else {
    BLOCK_ROWS
};
/// Values of a lane that are rounded before they are turned.
const TURNED: usize = 32;

/// A tile to write, rows `stride` apart.
struct Out<'a> {
    values: &'a mut [f32],
    stride: usize,
    write: Write,
}

/// The upper half of an `f32`, rounded to the nearest, ties to even; NaN stays NaN.
#[inline(always)]
fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if value.is_nan() {
        (bits >> 16) | 0x40
    } else {
        rounded
    }
}

/// The value as `bfloat16` has it.
#[cfg(test)]
fn rounded(value: f32) -> f32 {
    f32::from_bits(round(value) << 16)
}

#[inline(always)]
fn pair(even: f32, odd: f32) -> u32 {
    round(even) | (round(odd) << 16)
}

/// Where a panel's lines come from: lane l, inner index k at `l * lane + k * inner`.
#[derive(Clone, Copy)]
struct Source<'a> {
    data: &'a [f32],
    lane: usize,
    inner: usize,
}

/// Packs `lanes` lines of `depth` inner values in panels of `W`, zeros beyond either.
struct Pack<'a, const W: usize> {
    source: Source<'a>,
    lanes: usize,
    first: usize,
    depth: usize,
    panels: &'a mut [u32],
}

impl<const W: usize> WithSimd for Pack<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if self.source.inner == 1 {
            self.turn();
        } else {
            self.join();
        }
    }
}

impl<const W: usize> Pack<'_, W> {
    /// Values of a lane lie in one piece: they are rounded some at a time, then turned.
    #[inline(always)]
    fn turn(self) {
        let pairs = self.depth.div_ceil(2);
        for (index, panel) in self.panels.chunks_exact_mut(W * pairs).enumerate() {
            let start = index * W;
            let width = W.min(self.lanes - start);
            let lines = panel.as_chunks_mut::<W>().0;
            for (block, lines) in lines.chunks_mut(TURNED / 2).enumerate() {
                let from = block * TURNED;
                let count = TURNED.min(self.depth - from);
                let mut words = [[0_u32; TURNED / 2]; W];
                for (lane, words) in words.iter_mut().enumerate().take(width) {
                    let at = (start + lane) * self.source.lane + self.first + from;
                    let (twos, rest) = self.source.data[at..][..count].as_chunks::<2>();
                    if let Ok(twos) = <&[[f32; 2]; TURNED / 2]>::try_from(twos) {
                        for at in 0..TURNED / 2 {
                            words[at] = pair(twos[at][0], twos[at][1]);
                        }
                    } else {
                        let twos = twos.iter().copied();
                        let last = rest.iter().map(|&last| [last, 0.0]);
                        for (word, two) in words.iter_mut().zip(twos.chain(last)) {
                            *word = pair(two[0], two[1]);
                        }
                    }
                }
                for (at, line) in lines.iter_mut().enumerate() {
                    for lane in 0..W {
                        line[lane] = words[lane][at];
                    }
                }
            }
        }
    }

    /// Lanes lie side by side: all of an inner pair are joined before the next, in the order of the memory.
    #[inline(always)]
    fn join(self) {
        let pairs = self.depth.div_ceil(2);
        let mut words = [0_u32; MOST_LANES];
        let words = &mut words[..self.lanes.next_multiple_of(W)];
        for at in 0..pairs {
            let even = (self.first + 2 * at) * self.source.inner;
            let evens = &self.source.data[even..][..self.lanes];
            if 2 * at + 1 < self.depth {
                let odds = &self.source.data[even + self.source.inner..][..self.lanes];
                for ((word, &even), &odd) in words.iter_mut().zip(evens).zip(odds) {
                    *word = pair(even, odd);
                }
            } else {
                for (word, &even) in words.iter_mut().zip(evens) {
                    *word = pair(even, 0.0);
                }
            }
            for (index, line) in words.as_chunks::<W>().0.iter().enumerate() {
                self.panels[(index * pairs + at) * W..][..W].copy_from_slice(line);
            }
        }
    }
}

/// How a tile is computed.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Pairs,
    Fused(Arch),
}

impl Kernel {
    fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            return Self::Pairs;
        }
        Self::Fused(Arch::new())
    }

    /// The product of a panel of rows and one of columns, a whole tile.
    fn tile(self, rows: &[[u32; ROWS]], columns: &[[u32; COLUMNS]], out: Out<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => {
                #[expect(unsafe_code, reason = "the instructions exist on some processors only")]
                // SAFETY: this kernel is chosen only where both features were detected.
                unsafe {
                    native::tile(rows, columns, out);
                }
            }
            Self::Fused(arch) => arch.dispatch(Fused { rows, columns, out }),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps,
        _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{COLUMNS, Out, ROWS, Write};

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn words(value: __m512i) -> __m512bh {
        #[expect(unsafe_code, reason = "two names for the same register")]
        // SAFETY: both types are 512 bits of plain data.
        unsafe {
            std::mem::transmute(value)
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn tile(rows: &[[u32; ROWS]], columns: &[[u32; COLUMNS]], out: Out<'_>) {
        let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
        for (row, column) in rows.iter().zip(columns) {
            let (low, high) = column.split_at(COLUMNS / 2);
            #[expect(unsafe_code, reason = "loads take pointers")]
            // SAFETY: both halves hold 16 words, and the loads need no alignment.
            let (low, high) = unsafe {
                (
                    words(_mm512_loadu_si512(low.as_ptr().cast())),
                    words(_mm512_loadu_si512(high.as_ptr().cast())),
                )
            };
            for at in 0..ROWS {
                let value = words(_mm512_set1_epi32(row[at].cast_signed()));
                sums[at][0] = _mm512_dpbf16_ps(sums[at][0], value, low);
                sums[at][1] = _mm512_dpbf16_ps(sums[at][1], value, high);
            }
        }
        let add = out.write == Write::Add;
        for (at, sums) in sums.into_iter().enumerate() {
            let row = &mut out.values[at * out.stride..][..COLUMNS];
            for (half, sum) in row.chunks_exact_mut(COLUMNS / 2).zip(sums) {
                #[expect(unsafe_code, reason = "loads and stores take pointers")]
                // SAFETY: a half holds 16 values, and neither needs alignment.
                unsafe {
                    let sum = if add {
                        _mm512_add_ps(_mm512_loadu_ps(half.as_ptr()), sum)
                    } else {
                        sum
                    };
                    _mm512_storeu_ps(half.as_mut_ptr(), sum);
                }
            }
        }
    }
}

/// Products of one tile whose panels stay in the nearest cache, `rounds` times; returns 10¹² operations.
pub(crate) fn peak(rounds: usize) -> f64 {
    let (rows, columns) = ([[0x3f80_3f80; ROWS]; 16], [[0x3f80_3f80; COLUMNS]; 16]);
    let (rows, columns) = (rows.as_slice().repeat(8), columns.as_slice().repeat(8));
    let kernel = Kernel::of_this_machine();
    let mut tile = [0.0; ROWS * COLUMNS];
    let times = rounds / rows.len();
    for _ in 0..times {
        let out = Out {
            values: std::hint::black_box(&mut tile),
            stride: COLUMNS,
            write: Write::Set,
        };
        kernel.tile(&rows, &columns, out);
    }
    (times * rows.len() * 2 * ROWS * COLUMNS * 2) as f64 / 1e12
}

/// A tile by fused multiply-adds.
struct Fused<'a> {
    rows: &'a [[u32; ROWS]],
    columns: &'a [[u32; COLUMNS]],
    out: Out<'a>,
}

impl WithSimd for Fused<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 2>(simd),
            8 => self.run::<S, 4>(simd),
            4 => self.run::<S, 8>(simd),
            _ => self.run::<S, 32>(simd),
        }
    }
}

impl Fused<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let upper = simd.splat_u32s(0xffff_0000);
        let half = simd.splat_u32s(16);
        let Out {
            values,
            stride,
            write,
        } = self.out;
        for at in 0..ROWS {
            let mut sums = [simd.splat_f32s(0.0); V];
            for (row, column) in self.rows.iter().zip(self.columns) {
                let even = simd.splat_f32s(f32::from_bits(row[at] << 16));
                let odd = simd.splat_f32s(f32::from_bits(row[at] & 0xffff_0000));
                let (words, _) = S::as_simd_u32s(column);
                for (sum, &word) in sums.iter_mut().zip(words) {
                    let odds = simd.transmute_f32s_u32s(simd.and_u32s(word, upper));
                    let evens = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(word, half));
                    *sum = simd.mul_add_f32s(odd, odds, *sum);
                    *sum = simd.mul_add_f32s(even, evens, *sum);
                }
            }
            let (out, _) = S::as_mut_simd_f32s(&mut values[at * stride..][..COLUMNS]);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = match write {
                    Write::Set => sum,
                    Write::Add => simd.add_f32s(*out, sum),
                };
            }
        }
    }
}

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
    let arch = Arch::new();
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
            arch.dispatch(Pack::<COLUMNS> {
                source: columns_from.after(column),
                lanes: columns,
                first,
                depth,
                panels: &mut room.columns,
            });
            for row in (0..m).step_by(BLOCK_ROWS) {
                let rows = BLOCK_ROWS.min(m - row);
                room.rows.resize(rows.div_ceil(ROWS) * ROWS * pairs, 0);
                arch.dispatch(Pack::<ROWS> {
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

impl<'a> Source<'a> {
    /// Without the first lanes.
    fn after(self, lanes: usize) -> Self {
        Self {
            data: self.data.get(lanes * self.lane..).unwrap_or_default(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

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

    #[test]
    fn rounding_is_to_the_nearest_even() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.003_906_3, 1.0),
            (1.003_906_5, 1.007_812_5),
            (1.011_718_8, 1.015_625),
            (-1.003_906_5, -1.007_812_5),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
        ] {
            assert_eq!(rounded(value).to_bits(), f32::to_bits(expected), "{value}");
        }
        assert!(rounded(f32::NAN).is_nan());
    }
}
