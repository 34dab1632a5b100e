//! Matrix products whose every number depends on its own row and column alone.
//!
//! An output is one chain of fused multiply-adds over the inputs, first to last, whatever else is computed beside it. So
//! a row gives the same bits alone or in any batch, in a prompt or in a step, with 4, 8 or 16 lanes.

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

/// A matrix `[outputs, inputs]` packed in panels of [`WIDTH`] outputs, a line an input; the last panel ends in zeros.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    inputs: usize,
    outputs: usize,
    lines: Vec<Line>,
}

impl Packed {
    /// Packs row-major matrices of the same `inputs` below each other.
    pub(super) fn new(inputs: usize, matrices: &[&[f32]]) -> Self {
        let outputs = matrices.iter().map(|matrix| matrix.len() / inputs).sum();
        let mut packed = Self {
            inputs,
            outputs,
            lines: vec![Line::ZERO; outputs.div_ceil(WIDTH) * inputs],
        };
        let rows = matrices
            .iter()
            .flat_map(|matrix| matrix.chunks_exact(inputs));
        for (output, row) in rows.enumerate() {
            let (panel, lane) = (output / WIDTH, output % WIDTH);
            let lines = &mut packed.lines[panel * inputs..][..inputs];
            for (line, &value) in lines.iter_mut().zip(row) {
                line.0[lane] = value;
            }
        }
        packed
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Copies the row of an output.
    pub(super) fn row(&self, output: usize, row: &mut [f32]) {
        let (panel, lane) = (output / WIDTH, output % WIDTH);
        let lines = &self.lines[panel * self.inputs..][..self.inputs];
        for (value, line) in row.iter_mut().zip(lines) {
            *value = line.0[lane];
        }
    }
}

/// Buffers that are kept between calls.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// `x`, turned tile by tile
    turned: Vec<f32>,
    /// A line of sums a row
    sums: Vec<Line>,
}

/// `out = x · weightᵀ`.
///
/// # Shapes
/// `x` `[rows, inputs]`, `out` `[rows, outputs]`.
pub(super) fn matmul(
    arch: Arch,
    x: &[f32],
    weight: &Packed,
    buffers: &mut Buffers,
    out: &mut [f32],
) {
    arch.dispatch(MatMul {
        x,
        weight,
        buffers,
        out,
    });
}

struct MatMul<'a> {
    x: &'a [f32],
    weight: &'a Packed,
    buffers: &'a mut Buffers,
    out: &'a mut [f32],
}

impl WithSimd for MatMul<'_> {
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

impl MatMul<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize, const R: usize>(self, simd: S) {
        let Self {
            x,
            weight,
            buffers: Buffers { turned, sums },
            out,
        } = self;
        let (inputs, outputs) = (weight.inputs, weight.outputs);
        let rows = x.len() / inputs;
        turned.resize(x.len(), 0.0);
        for_tiles::<R>(
            rows,
            #[inline(always)]
            |first, count| {
                let tile = first * inputs..(first + count) * inputs;
                turn(&x[tile.clone()], count, &mut turned[tile]);
            },
        );
        sums.resize(rows, Line::ZERO);
        for (panel, lines) in weight.lines.chunks_exact(inputs).enumerate() {
            sums.fill(Line::ZERO);
            for (depth, lines) in lines.chunks(DEPTH).enumerate() {
                for_tiles::<R>(
                    rows,
                    #[inline(always)]
                    |first, count| {
                        let begin = first * inputs + depth * DEPTH * count;
                        let x = &turned[begin..begin + lines.len() * count];
                        let sums = &mut sums[first..first + count];
                        accumulate_any::<S, V>(simd, x, lines, sums);
                    },
                );
            }
            let start = panel * WIDTH;
            let width = WIDTH.min(outputs - start);
            for (sums, out) in sums.iter().zip(out.chunks_exact_mut(outputs)) {
                out[start..start + width].copy_from_slice(&sums.0[..width]);
            }
        }
    }
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
    let mut chains = [[simd.splat_f32s(0.0); V]; R];
    for (chain, sum) in chains.iter_mut().zip(sums.iter()) {
        *chain = *registers::<S, V>(sum);
    }
    let (x, _) = x.as_chunks::<R>();
    for (x, line) in x.iter().zip(lines) {
        let line = registers::<S, V>(line);
        for (chain, &x) in chains.iter_mut().zip(x) {
            let x = simd.splat_f32s(x);
            for (sum, &value) in chain.iter_mut().zip(line) {
                *sum = simd.mul_add_f32s(x, value, *sum);
            }
        }
    }
    for (chain, sum) in chains.iter().zip(sums.iter_mut()) {
        let (stored, _) = S::as_mut_simd_f32s(&mut sum.0);
        stored.copy_from_slice(chain);
    }
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
        for (rows, inputs, outputs) in [(1, 1, 1), (13, 7, 33), (8, 40, 64), (31, 65, 100)] {
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
                let mut out = vec![f32::NAN; rows * outputs];
                matmul(arch, &x, &weight, &mut Buffers::default(), &mut out);
                assert_eq!(out, expected, "{rows} {inputs} {outputs} {arch:?}");
            }
            let mut row = vec![0.0; inputs];
            weight.row(outputs - 1, &mut row);
            assert_eq!(row, matrix[(outputs - 1) * inputs..]);
        }
    }
}
