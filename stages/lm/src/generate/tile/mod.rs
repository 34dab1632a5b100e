//! Matrix products whose every number depends on its own row and column alone.
//!
//! An output is one chain of fused multiply-adds over the inputs, first to last, whatever else is computed beside it. So
//! a row gives the same bits alone or in any batch, in a prompt or in a step, with 4, 8 or 16 lanes.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Outputs in a line.
pub(super) const WIDTH: usize = 32;

/// Inputs that all rows pass before the next ones, so that the lines stay in the nearest cache.
const DEPTH: usize = 128;

/// Values of neighbouring outputs for one input, aligned for the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [f32; WIDTH]);

impl Line {
    pub(super) const ZERO: Self = Self([0.0; WIDTH]);
}

/// Integers of neighbouring outputs for four inputs: of each output a word, whose bytes are the integers plus 128, the
/// first input's lowest.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Words([u32; WIDTH]);

/// A matrix `[outputs, inputs]` packed in panels of [`WIDTH`] outputs, a line an input; the last panel ends in zeros.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    inputs: usize,
    outputs: usize,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    /// As they are, `[panels, inputs]`.
    Whole(Vec<Line>),
    /// Integers and, for each [`GROUP`] inputs of an output, the factor that makes numbers of them.
    Quantised {
        /// `[panels, inputs / 4]`
        words: Vec<Words>,
        /// `[panels, inputs / GROUP]`
        factors: Vec<Line>,
    },
}

impl Packed {
    /// Packs row-major matrices of the same `inputs` below each other.
    pub(super) fn new(inputs: usize, matrices: &[&[f32]]) -> Self {
        let outputs: usize = matrices.iter().map(|matrix| matrix.len() / inputs).sum();
        let mut lines = vec![Line::ZERO; outputs.div_ceil(WIDTH) * inputs];
        let rows = matrices
            .iter()
            .flat_map(|matrix| matrix.chunks_exact(inputs));
        for (output, row) in rows.enumerate() {
            let (panel, lane) = (output / WIDTH, output % WIDTH);
            let lines = &mut lines[panel * inputs..][..inputs];
            for (line, &value) in lines.iter_mut().zip(row) {
                line.0[lane] = value;
            }
        }
        Self {
            inputs,
            outputs,
            values: Values::Whole(lines),
        }
    }

    /// Packs matrices that are kept as integers; `inputs` is a multiple of [`GROUP`].
    pub(super) fn quantised(inputs: usize, matrices: &[&Quantised]) -> Self {
        let outputs: usize = matrices.iter().map(|m| m.integers.len() / inputs).sum();
        let (panels, groups) = (outputs.div_ceil(WIDTH), inputs / GROUP);
        let mut words = vec![Words([0; WIDTH]); panels * inputs / 4];
        let mut factors = vec![Line::ZERO; panels * groups];
        let rows = matrices.iter().flat_map(|matrix| {
            let factors = matrix.factors.chunks_exact(groups);
            matrix.integers.chunks_exact(inputs).zip(factors)
        });
        for (output, (row, scales)) in rows.enumerate() {
            let (panel, lane) = (output / WIDTH, output % WIDTH);
            let words = &mut words[panel * inputs / 4..];
            for (word, values) in words.iter_mut().zip(row.as_chunks::<4>().0) {
                let bytes = values.map(|value| value.cast_unsigned().wrapping_add(128));
                word.0[lane] = u32::from_le_bytes(bytes);
            }
            for (line, &factor) in factors[panel * groups..].iter_mut().zip(scales) {
                line.0[lane] = factor;
            }
        }
        Self {
            inputs,
            outputs,
            values: Values::Quantised { words, factors },
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that a product reads.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Whole(lines) => size_of_val(lines.as_slice()),
            Values::Quantised { words, factors } => {
                size_of_val(words.as_slice()) + size_of_val(factors.as_slice())
            }
        }
    }

    /// Copies the row of an output.
    pub(super) fn row(&self, output: usize, row: &mut [f32]) {
        let (panel, lane) = (output / WIDTH, output % WIDTH);
        match &self.values {
            Values::Whole(lines) => {
                let lines = &lines[panel * self.inputs..][..self.inputs];
                for (value, line) in row.iter_mut().zip(lines) {
                    *value = line.0[lane];
                }
            }
            Values::Quantised { words, factors } => {
                let words = &words[panel * self.inputs / 4..];
                let factors = &factors[panel * (self.inputs / GROUP)..];
                for (at, value) in row.iter_mut().enumerate() {
                    let byte = words[at / 4].0[lane].to_le_bytes()[at % 4];
                    let integer = f32::from(byte) - 128.0;
                    *value = integer * factors[at / GROUP].0[lane];
                }
            }
        }
    }
}

/// Inputs that share a factor in a matrix kept as integers.
pub(crate) const GROUP: usize = 32;

/// A row-major matrix as 8-bit integers: value = integer · factor of its [`GROUP`] (GGUF's Q8_0).
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    /// `[outputs, inputs]`
    pub(crate) integers: Vec<i8>,
    /// `[outputs, inputs / GROUP]`
    pub(crate) factors: Vec<f32>,
}

/// Buffers that are kept between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// `x`, turned tile by tile
    turned: Vec<f32>,
    /// A line of sums a row
    sums: Vec<Line>,
    /// Lines made of integers
    lines: Vec<Line>,
}

/// Multiplications below which a second thread costs more than it does.
const SHARED_WORK: usize = 1 << 17;
/// Rows from which on threads take rows; below they take panels.
const SHARED_ROWS: usize = 16;

/// `out = x · weightᵀ`, on up to as many threads as there are buffers (all of the current rayon pool).
///
/// # Shapes
/// `x` `[rows, inputs]`, `out` `[rows, outputs]`; at least one buffer.
pub(super) fn matmul(
    arch: Arch,
    x: &[f32],
    weight: &Packed,
    buffers: &mut [Buffers],
    out: &mut [f32],
) {
    let (inputs, outputs) = (weight.inputs, weight.outputs);
    let rows = x.len() / inputs;
    let panels = outputs.div_ceil(WIDTH);
    let (first, others) = buffers.split_at_mut(1);
    let first = &mut first[0];
    if others.is_empty() || rows * inputs * outputs < SHARED_WORK || panels * rows < 2 {
        let mut out: Vec<&mut [f32]> = out.chunks_exact_mut(outputs).collect();
        arch.dispatch(MatMul {
            x,
            rows,
            weight,
            panels: 0..panels,
            buffers: first,
            turned: None,
            out: &mut out,
        });
        return;
    }
    let threads = 1 + others.len();
    if rows >= SHARED_ROWS * threads {
        // Whole tiles of 8 rows for each thread.
        let share = rows.div_ceil(threads).next_multiple_of(8);
        rayon::scope(|scope| {
            let parts = x
                .chunks(share * inputs)
                .zip(out.chunks_mut(share * outputs));
            for ((x, out), buffers) in parts.zip(std::iter::once(first).chain(others)) {
                scope.spawn(move |_| {
                    let rows = x.len() / inputs;
                    let mut out: Vec<&mut [f32]> = out.chunks_exact_mut(outputs).collect();
                    arch.dispatch(MatMul {
                        x,
                        rows,
                        weight,
                        panels: 0..panels,
                        buffers,
                        turned: None,
                        out: &mut out,
                    });
                });
            }
        });
        return;
    }
    let mut turned = std::mem::take(&mut first.turned);
    arch.dispatch(Turn {
        x,
        rows,
        inputs,
        turned: &mut turned,
    });
    let share = panels.div_ceil(threads);
    let mut parts: Vec<Vec<&mut [f32]>> = (0..panels.div_ceil(share))
        .map(|_| Vec::with_capacity(rows))
        .collect();
    for row in out.chunks_exact_mut(outputs) {
        for (part, values) in parts.iter_mut().zip(row.chunks_mut(share * WIDTH)) {
            part.push(values);
        }
    }
    let shared = turned.as_slice();
    rayon::scope(|scope| {
        let buffers = std::iter::once(&mut *first).chain(others);
        for (at, (mut out, buffers)) in parts.into_iter().zip(buffers).enumerate() {
            scope.spawn(move |_| {
                let panels = at * share..((at + 1) * share).min(panels);
                arch.dispatch(MatMul {
                    x,
                    rows,
                    weight,
                    panels,
                    buffers,
                    turned: Some(shared),
                    out: &mut out,
                });
            });
        }
    });
    first.turned = turned;
}

/// Turns the rows of a product, tile by tile, as [`MatMul`] reads them.
struct Turn<'a> {
    x: &'a [f32],
    rows: usize,
    inputs: usize,
    turned: &'a mut Vec<f32>,
}

impl WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        match S::F32_LANES {
            8 => self.tiles::<2>(),
            16 => self.tiles::<8>(),
            4 => self.tiles::<2>(),
            _ => self.tiles::<1>(),
        }
    }
}

impl Turn<'_> {
    #[inline(always)]
    fn tiles<const R: usize>(self) {
        let Self {
            x,
            rows,
            inputs,
            turned,
        } = self;
        turned.resize(x.len(), 0.0);
        for_tiles::<R>(
            rows,
            #[inline(always)]
            |first, count| {
                let tile = first * inputs..(first + count) * inputs;
                turn(&x[tile.clone()], count, &mut turned[tile]);
            },
        );
    }
}

struct MatMul<'a, 'o> {
    x: &'a [f32],
    rows: usize,
    weight: &'a Packed,
    panels: Range<usize>,
    buffers: &'a mut Buffers,
    /// `x` turned, when another thread did that.
    turned: Option<&'a [f32]>,
    /// Of each row the outputs of these panels.
    out: &'a mut [&'o mut [f32]],
}

impl WithSimd for MatMul<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A line takes WIDTH / lanes registers for each row of a tile; the sums must stay in registers.
        match S::F32_LANES {
            16 => self.run::<S, 2, 8>(simd),
            8 => self.run::<S, 4, 2>(simd),
            4 => self.run::<S, 8, 2>(simd),
            _ => self.run::<S, 32, 1>(simd),
        }
    }
}

impl MatMul<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let Self {
            x,
            rows,
            weight,
            panels,
            buffers,
            turned,
            out,
        } = self;
        let inputs = weight.inputs;
        let Buffers {
            turned: own,
            sums,
            lines,
        } = buffers;
        let turned = match turned {
            Some(turned) => turned,
            None => {
                Turn {
                    x,
                    rows,
                    inputs,
                    turned: own,
                }
                .tiles::<R>();
                own.as_slice()
            }
        };
        sums.resize(rows, Line::ZERO);
        for (index, panel) in panels.enumerate() {
            sums.fill(Line::ZERO);
            match &weight.values {
                Values::Whole(all) => {
                    let all = &all[panel * inputs..][..inputs];
                    for (depth, lines) in all.chunks(DEPTH).enumerate() {
                        rows_by_lines::<S, V, R>(
                            simd,
                            turned,
                            rows,
                            inputs,
                            depth * DEPTH,
                            lines,
                            sums,
                        );
                    }
                }
                Values::Quantised { words, factors } => {
                    let words = &words[panel * inputs / 4..][..inputs / 4];
                    let factors = &factors[panel * (inputs / GROUP)..][..inputs / GROUP];
                    // one tile needs each number once, several keep them
                    match rows {
                        1 => accumulate_words::<S, V, 1>(simd, turned, words, factors, sums),
                        2 => accumulate_words::<S, V, 2>(simd, turned, words, factors, sums),
                        4 if R >= 4 => {
                            accumulate_words::<S, V, 4>(simd, turned, words, factors, sums);
                        }
                        8 if R >= 8 => {
                            accumulate_words::<S, V, 8>(simd, turned, words, factors, sums);
                        }
                        _ => {
                            let depths = words.chunks(DEPTH / 4).zip(factors.chunks(DEPTH / GROUP));
                            for (depth, (words, factors)) in depths.enumerate() {
                                lines.resize(words.len() * 4, Line::ZERO);
                                numbers::<S, V>(simd, words, factors, lines);
                                rows_by_lines::<S, V, R>(
                                    simd,
                                    turned,
                                    rows,
                                    inputs,
                                    depth * DEPTH,
                                    lines,
                                    sums,
                                );
                            }
                        }
                    }
                }
            }
            let start = index * WIDTH;
            for (sums, out) in sums.iter().zip(out.iter_mut()) {
                let width = WIDTH.min(out.len() - start);
                out[start..start + width].copy_from_slice(&sums.0[..width]);
            }
        }
    }
}

/// All rows by some lines of a panel, from the input `from` on.
#[inline(always)]
fn rows_by_lines<S: Simd, const V: usize, const R: usize>(
    simd: S,
    turned: &[f32],
    rows: usize,
    inputs: usize,
    from: usize,
    lines: &[Line],
    sums: &mut [Line],
) {
    for_tiles::<R>(
        rows,
        #[inline(always)]
        |first, count| {
            let begin = first * inputs + from * count;
            let x = &turned[begin..begin + lines.len() * count];
            accumulate_any::<S, V>(simd, x, lines, &mut sums[first..first + count]);
        },
    );
}

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
fn numbers<S: Simd, const V: usize>(
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
fn accumulate_words<S: Simd, const V: usize, const R: usize>(
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
pub(super) fn for_tiles<const R: usize>(rows: usize, mut tile: impl FnMut(usize, usize)) {
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
fn turn(x: &[f32], count: usize, turned: &mut [f32]) {
    let inputs = x.len() / count;
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (input, &value) in x.iter().enumerate() {
            turned[input * count + row] = value;
        }
    }
}

/// [`accumulate`] for a tile of 1, 2, 4 or 8 rows.
#[inline(always)]
pub(super) fn accumulate_any<S: Simd, const V: usize>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    fn random(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = SplitMix64::new(seed);
        (0..count).map(|_| rng.normal_pair().0 as f32).collect()
    }

    #[test]
    fn outputs_are_chains_over_the_inputs_on_every_instruction_set() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (13, 7, 33),
            (8, 40, 64),
            (31, 65, 100),
            (1, 300, 1000),
            (70, 64, 100),
        ] {
            let (x, matrix) = (random(rows * inputs, 1), random(outputs * inputs, 2));
            let (top, bottom) = matrix.split_at(inputs * (outputs / 2));
            let weight = Packed::new(inputs, &[top, bottom]);
            let chain = |row: usize, output: usize| {
                let (x, w) = (&x[row * inputs..], &matrix[output * inputs..]);
                (0..inputs).fold(0.0, |sum, i| x[i].mul_add(w[i], sum))
            };
            let expected: Vec<f32> = (0..rows * outputs)
                .map(|at| chain(at / outputs, at % outputs))
                .collect();
            for arch in [Arch::new(), Arch::Scalar] {
                for threads in [1, 2, 3] {
                    let mut out = vec![f32::NAN; rows * outputs];
                    let mut buffers: Vec<Buffers> =
                        (0..threads).map(|_| Buffers::default()).collect();
                    matmul(arch, &x, &weight, &mut buffers, &mut out);
                    assert_eq!(
                        out, expected,
                        "{rows} {inputs} {outputs} {arch:?} {threads}"
                    );
                }
            }
            let mut row = vec![0.0; inputs];
            weight.row(outputs - 1, &mut row);
            assert_eq!(row, matrix[(outputs - 1) * inputs..]);
        }
    }
    #[test]
    fn integers_give_the_bits_of_their_numbers() {
        let mut rng = SplitMix64::new(4);
        for (rows, inputs, outputs) in [(1, 32, 1), (1, 192, 700), (9, 320, 65), (40, 64, 100)] {
            let matrix = Quantised {
                integers: (0..inputs * outputs)
                    .map(|_| rng.below(256) as u8 as i8)
                    .collect(),
                factors: random(inputs / GROUP * outputs, 5),
            };
            let numbers: Vec<f32> = matrix
                .integers
                .iter()
                .enumerate()
                .map(|(at, &q)| f32::from(q) * matrix.factors[at / GROUP])
                .collect();
            let whole = Packed::new(inputs, &[&numbers]);
            let kept = Packed::quantised(inputs, &[&matrix]);
            assert!(kept.bytes() < whole.bytes());
            let x = random(rows * inputs, 6);
            for threads in [1, 2] {
                let product = |weight: &Packed| {
                    let mut buffers: Vec<Buffers> =
                        (0..threads).map(|_| Buffers::default()).collect();
                    let mut out = vec![f32::NAN; rows * outputs];
                    matmul(Arch::new(), &x, weight, &mut buffers, &mut out);
                    out
                };
                assert_eq!(product(&whole), product(&kept));
            }
            let (mut a, mut b) = (vec![0.0; inputs], vec![0.0; inputs]);
            whole.row(outputs - 1, &mut a);
            kept.row(outputs - 1, &mut b);
            assert_eq!(a, b);
        }
    }
}
