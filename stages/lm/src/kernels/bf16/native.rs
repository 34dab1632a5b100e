//! Panels and tiles with AVX512-BF16, whose instructions round and multiply pairs.
//!
//! Subnormal numbers count as zero here, in rounding as in products.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::pack::Pack;
use super::tile::Out;
use super::{COLUMNS, ROWS, Write};

/// Words of a register.
const WORDS: usize = 16;

/// Values by which a lane is asked for before it is read: lanes lie so far apart that the processor does not.
const AHEAD: usize = 4 * WORDS;

/// Where the words of `[even lanes, odd lanes]` go so that each pair lies together.
const PAIRS: [u16; 2 * WORDS] = {
    let mut order = [0; 2 * WORDS];
    let mut at = 0;
    while at < WORDS {
        order[2 * at] = at as u16;
        order[2 * at + 1] = (WORDS + at) as u16;
        at += 1;
    }
    order
};

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn halves(value: __m512i) -> __m512bh {
    #[expect(unsafe_code, reason = "two names for the same register")]
    // SAFETY: both types are 512 bits of plain data.
    unsafe {
        std::mem::transmute(value)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn words(value: __m512bh) -> __m512i {
    #[expect(unsafe_code, reason = "two names for the same register")]
    // SAFETY: both types are 512 bits of plain data.
    unsafe {
        std::mem::transmute(value)
    }
}

/// As many lanes as there are values, up to all.
#[inline(always)]
fn mask(count: usize) -> u16 {
    if count < WORDS {
        (1 << count) - 1
    } else {
        u16::MAX
    }
}

/// The first 16 values, zeros where there are fewer.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    #[expect(unsafe_code, reason = "loads take pointers")]
    // SAFETY: the mask leaves out what lies beyond the slice, and the load needs no alignment.
    unsafe {
        _mm512_maskz_loadu_ps(mask(values.len()), values.as_ptr())
    }
}

/// Fills the slice, up to 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(out: &mut [u32], value: __m512i) {
    #[expect(unsafe_code, reason = "stores take pointers")]
    // SAFETY: the mask leaves out what lies beyond the slice, and the store needs no alignment.
    unsafe {
        _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask(out.len()), value);
    }
}

/// Asks for a line of memory, also one past the end of the values.
#[inline(always)]
fn prefetch(values: &[f32], at: usize) {
    #[expect(unsafe_code, reason = "takes a pointer")]
    // SAFETY: a prefetch reads nothing that the program sees and never faults.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(at).cast());
    }
}

/// Packs a block, see [`Pack`].
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn pack<const W: usize>(block: Pack<'_, W>) {
    if block.source.inner == 1 {
        turn(block);
    } else {
        join(block);
    }
}

/// Lanes lie side by side: rows of the memory are read two at a time, one after another.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn join<const W: usize>(block: Pack<'_, W>) {
    let Pack {
        source,
        lanes,
        first,
        depth,
        panels,
    } = block;
    #[expect(unsafe_code, reason = "loads take pointers")]
    // SAFETY: the array is 512 bits, and the load needs no alignment.
    let order = unsafe { _mm512_loadu_si512(PAIRS.as_ptr().cast()) };
    let pairs = depth.div_ceil(2);
    for at in 0..pairs {
        let even = (first + 2 * at) * source.inner;
        let evens = &source.data[even..][..lanes];
        let odds = if 2 * at + 1 < depth {
            &source.data[even + source.inner..][..lanes]
        } else {
            &[]
        };
        for (index, panel) in panels.chunks_exact_mut(W * pairs).enumerate() {
            let line = &mut panel[at * W..][..W];
            for (group, out) in line.chunks_mut(WORDS).enumerate() {
                let from = index * W + group * WORDS;
                let to = from + out.len();
                prefetch(source.data, even + 2 * source.inner + from);
                prefetch(source.data, even + 3 * source.inner + from);
                let both = _mm512_cvtne2ps_pbh(
                    load(between(odds, from, to)),
                    load(between(evens, from, to)),
                );
                store(out, _mm512_permutexvar_epi16(order, words(both)));
            }
        }
    }
}

/// What of the slice lies there.
#[inline(always)]
fn between(values: &[f32], from: usize, to: usize) -> &[f32] {
    &values[from.min(values.len())..to.min(values.len())]
}

/// Values of a lane lie in one piece: 32 values of 16 lanes are rounded, then turned.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn turn<const W: usize>(block: Pack<'_, W>) {
    let Pack {
        source,
        lanes,
        first,
        depth,
        panels,
    } = block;
    let pairs = depth.div_ceil(2);
    for (index, panel) in panels.chunks_exact_mut(W * pairs).enumerate() {
        for group in (0..W).step_by(WORDS) {
            let start = index * W + group;
            let width = WORDS.min(W - group);
            for (at, lines) in panel.chunks_mut(W * WORDS).enumerate() {
                let from = at * 2 * WORDS;
                let count = (2 * WORDS).min(depth - from);
                let mut rows = [_mm512_setzero_si512(); WORDS];
                for (lane, row) in rows.iter_mut().enumerate().take(width) {
                    if start + lane < lanes {
                        let place = (start + lane) * source.lane + first + from;
                        let values = &source.data[place..][..count];
                        prefetch(source.data, place + AHEAD);
                        prefetch(source.data, place + AHEAD + WORDS);
                        let (low, high) = values.split_at(WORDS.min(count));
                        *row = words(_mm512_cvtne2ps_pbh(load(high), load(low)));
                    }
                }
                for (line, row) in lines.chunks_exact_mut(W).zip(transposed(rows)) {
                    store(&mut line[group..group + width], row);
                }
            }
        }
    }
}

/// Word `r` of register `c` becomes word `c` of register `r`.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; WORDS]) -> [__m512i; WORDS] {
    let mut twos = rows;
    for at in (0..WORDS).step_by(2) {
        twos[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        twos[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // quarter l of register 4i + j: column 4l + j of rows 4i to 4i + 3
    let mut fours = twos;
    for at in (0..WORDS).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(twos[at], twos[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(twos[at], twos[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(twos[at + 1], twos[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(twos[at + 1], twos[at + 3]);
    }
    let mut out = fours;
    for at in 0..4 {
        let (a, b, c, d) = (fours[at], fours[at + 4], fours[at + 8], fours[at + 12]);
        let (even, odd) = (
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(a, b),
        );
        let (even_rest, odd_rest) = (
            _mm512_shuffle_i32x4::<0x88>(c, d),
            _mm512_shuffle_i32x4::<0xdd>(c, d),
        );
        out[at] = _mm512_shuffle_i32x4::<0x88>(even, even_rest);
        out[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd, odd_rest);
        out[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even, even_rest);
        out[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd, odd_rest);
    }
    out
}

/// The product of a panel of rows and one of columns, a whole tile.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn tile(rows: &[[u32; ROWS]], columns: &[[u32; COLUMNS]], out: Out<'_>) {
    let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
    for (row, column) in rows.iter().zip(columns) {
        let (low, high) = column.split_at(COLUMNS / 2);
        #[expect(unsafe_code, reason = "loads take pointers")]
        // SAFETY: both halves hold 16 words, and the loads need no alignment.
        let (low, high) = unsafe {
            (
                halves(_mm512_loadu_si512(low.as_ptr().cast())),
                halves(_mm512_loadu_si512(high.as_ptr().cast())),
            )
        };
        for at in 0..ROWS {
            let value = halves(_mm512_set1_epi32(row[at].cast_signed()));
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
