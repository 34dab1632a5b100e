//! Matrix products whose every number depends on its own row and column alone.
//!
//! An output is one chain of fused multiply-adds over the inputs, first to last, whatever else is computed beside it. So
//! a row gives the same bits alone or in any batch, in a prompt or in a step, with 4, 8 or 16 lanes.

mod lanes;
mod packed;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use lanes::{accumulate_words, numbers, turn};
use packed::Values;

pub(super) use lanes::{accumulate_any, for_tiles};
pub(crate) use packed::{GROUP, Quantised};
pub(super) use packed::{Line, Packed, WIDTH};

/// Inputs that all rows pass before the next ones, so that the lines stay in the nearest cache.
const DEPTH: usize = 128;

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
    let (inputs, outputs) = (weight.inputs, weight.outputs());
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
