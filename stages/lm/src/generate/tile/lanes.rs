//! The steps of a product in registers, for any instruction set: `V` registers make a line, `R` rows are computed at once.

use pulp::Simd;

use super::packed::{GROUP, Line, Words};

/// The numbers of 32 outputs for one of the four inputs of some words, in registers.
///
/// A byte in the low bits of 2^23 makes 2^23 + byte, so that no conversion is needed.
#[inline(always)]
fn unpack<S: Simd, const V: usize>(
    simd: S,
    words: &[S::u32s; V],
    factors: &[S::f32s; V],
    byte: u32,
) -> [S::f32s; V] {
    let shift = simd.splat_u32s(8 * byte);
    let (low, exponent) = (simd.splat_u32s(0xff), simd.splat_u32s(0x4b00_0000));
    let bias = simd.splat_f32s(8_388_736.0);
    let mut numbers = *factors;
    for (number, &word) in numbers.iter_mut().zip(words) {
        let bits = simd.and_u32s(simd.wrapping_dyn_shr_u32s(word, shift), low);
        let integer = simd.transmute_f32s_u32s(simd.or_u32s(bits, exponent));
        *number = simd.mul_f32s(simd.sub_f32s(integer, bias), *number);
    }
    numbers
}

#[inline(always)]
fn word_registers<S: Simd, const V: usize>(words: &Words) -> &[S::u32s; V] {
    let (registers, _) = S::as_simd_u32s(&words.0);
    registers
        .first_chunk()
        .expect("V registers of this instruction set make a line")
}

/// Writes the numbers that words stand for.
#[inline(always)]
pub(super) fn numbers<S: Simd, const V: usize>(
    simd: S,
    words: &[Words],
    factors: &[Line],
    lines: &mut [Line],
) {
    let groups = words.chunks(GROUP / 4).zip(lines.chunks_mut(GROUP));
    for ((words, lines), factor) in groups.zip(factors) {
        let factor = *registers::<S, V>(factor);
        for (word, lines) in words.iter().zip(lines.as_chunks_mut::<4>().0) {
            let word = *word_registers::<S, V>(word);
            for (byte, line) in (0_u32..).zip(lines) {
                let (stored, _) = S::as_mut_simd_f32s(&mut line.0);
                stored.copy_from_slice(&unpack::<S, V>(simd, &word, &factor, byte));
            }
        }
    }
}

/// Does something for each number below a constant of at most 8, without a loop: arrays that are only indexed by
/// constants stay in registers.
macro_rules! for_each {
    ($at:ident < $count:expr, $body:block) => {
        for_each!(@ $at, $count, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $at:ident, $count:expr, $body:block, $($number:literal)*) => {
        $(if $count > $number {
            let $at: usize = $number;
            $body
        })*
    };
}

/// `chains[r] += x[r] · line` for every row.
#[inline(always)]
fn multiply_add<S: Simd, const V: usize, const R: usize>(
    simd: S,
    x: &[f32; R],
    line: &[S::f32s; V],
    chains: &mut [[S::f32s; V]; R],
) {
    for_each!(row < R, {
        let value = simd.splat_f32s(x[row]);
        if V <= 8 {
            for_each!(part < V, {
                chains[row][part] = simd.mul_add_f32s(value, line[part], chains[row][part]);
            });
        } else {
            // one lane: there are no registers to keep
            for (sum, &number) in chains[row].iter_mut().zip(line) {
                *sum = simd.mul_add_f32s(value, number, *sum);
            }
        }
    });
}

/// [`accumulate`] over all inputs of a panel of integers.
#[inline(always)]
pub(super) fn accumulate_words<S: Simd, const V: usize, const R: usize>(
    simd: S,
    x: &[f32],
    words: &[Words],
    factors: &[Line],
    sums: &mut [Line],
) {
    let Some(sums) = sums.first_chunk_mut::<R>() else {
        return;
    };
    let mut chains = [[simd.splat_f32s(0.0); V]; R];
    let (x, _) = x.as_chunks::<R>();
    let (x, _) = x.as_chunks::<4>();
    let groups = words.chunks(GROUP / 4).zip(x.chunks(GROUP / 4));
    for ((words, x), factor) in groups.zip(factors) {
        let factor = *registers::<S, V>(factor);
        for (word, x) in words.iter().zip(x) {
            let word = *word_registers::<S, V>(word);
            for (byte, x) in (0_u32..).zip(x) {
                let line = unpack::<S, V>(simd, &word, &factor, byte);
                multiply_add::<S, V, R>(simd, x, &line, &mut chains);
            }
        }
    }
    for_each!(row < R, {
        *registers_mut::<S, V>(&mut sums[row]) = chains[row];
    });
}

/// Calls with the first row and the rows of each tile: of `R` rows, then of 4, 2 or 1.
#[inline(always)]
pub(in crate::generate) fn for_tiles<const R: usize>(
    rows: usize,
    mut tile: impl FnMut(usize, usize),
) {
    let mut first = 0;
    while first < rows {
        let left = rows - first;
        let count = match left {
            _ if left >= R => R,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        tile(first, count);
        first += count;
    }
}

/// Turns `[count, inputs]` into `[inputs, count]`.
#[inline(always)]
pub(super) fn turn(x: &[f32], count: usize, turned: &mut [f32]) {
    let inputs = x.len() / count;
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (input, &value) in x.iter().enumerate() {
            turned[input * count + row] = value;
        }
    }
}

/// [`accumulate`] for a tile of 1, 2, 4 or 8 rows.
#[inline(always)]
pub(in crate::generate) fn accumulate_any<S: Simd, const V: usize>(
    simd: S,
    x: &[f32],
    lines: &[Line],
    sums: &mut [Line],
) {
    match sums.len() {
        8 => accumulate::<S, V, 8>(simd, x, lines, sums),
        4 => accumulate::<S, V, 4>(simd, x, lines, sums),
        2 => accumulate::<S, V, 2>(simd, x, lines, sums),
        _ => accumulate::<S, V, 1>(simd, x, lines, sums),
    }
}

/// `sums[r] += Σᵢ x[i, r] · lines[i]`, continuing each chain where it stands.
///
/// # Shapes
/// `x` `[inputs, R]`, `lines` `[inputs]`; `V` registers make a line.
#[inline(always)]
fn accumulate<S: Simd, const V: usize, const R: usize>(
    simd: S,
    x: &[f32],
    lines: &[Line],
    sums: &mut [Line],
) {
    let Some(sums) = sums.first_chunk_mut::<R>() else {
        return;
    };
    let mut chains = [[simd.splat_f32s(0.0); V]; R];
    for_each!(row < R, {
        chains[row] = *registers::<S, V>(&sums[row]);
    });
    let (x, _) = x.as_chunks::<R>();
    for (x, line) in x.iter().zip(lines) {
        let line = *registers::<S, V>(line);
        multiply_add::<S, V, R>(simd, x, &line, &mut chains);
    }
    for_each!(row < R, {
        *registers_mut::<S, V>(&mut sums[row]) = chains[row];
    });
}

#[inline(always)]
fn registers_mut<S: Simd, const V: usize>(line: &mut Line) -> &mut [S::f32s; V] {
    let (registers, _) = S::as_mut_simd_f32s(&mut line.0);
    registers
        .first_chunk_mut()
        .expect("V registers of this instruction set make a line")
}

#[inline(always)]
fn registers<S: Simd, const V: usize>(line: &Line) -> &[S::f32s; V] {
    let (registers, _) = S::as_simd_f32s(&line.0);
    registers
        .first_chunk()
        .expect("V registers of this instruction set make a line")
}
