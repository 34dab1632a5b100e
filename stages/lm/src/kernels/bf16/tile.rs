//! The product of one panel of rows and one of columns.

use pulp::{Arch, Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::native;
use super::pack::Pack;
use super::{COLUMNS, ROWS, Write};

/// A tile to write, rows `stride` apart.
pub(super) struct Out<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) write: Write,
}

/// How panels are packed and a tile is computed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Pairs,
    Fused(Arch),
}

impl Kernel {
    pub(super) fn of_this_machine() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16")
        {
            return Self::Pairs;
        }
        Self::Fused(Arch::new())
    }

    /// Rounds a block and writes its panels.
    pub(super) fn pack<const W: usize>(self, block: Pack<'_, W>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => {
                #[expect(unsafe_code, reason = "the instructions exist on some processors only")]
                // SAFETY: this kernel is chosen only where all three features were detected.
                unsafe {
                    native::pack(block);
                }
            }
            Self::Fused(arch) => arch.dispatch(block),
        }
    }

    /// The product of a panel of rows and one of columns, a whole tile.
    pub(super) fn tile(self, rows: &[[u32; ROWS]], columns: &[[u32; COLUMNS]], out: Out<'_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => {
                #[expect(unsafe_code, reason = "the instructions exist on some processors only")]
                // SAFETY: this kernel is chosen only where all three features were detected.
                unsafe {
                    native::tile(rows, columns, out);
                }
            }
            Self::Fused(arch) => arch.dispatch(Fused { rows, columns, out }),
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
