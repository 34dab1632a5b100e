//! Matrices as a product reads them: panels of neighbouring outputs, a line an input.

/// Outputs in a line.
pub(in crate::generate) const WIDTH: usize = 32;

/// Values of neighbouring outputs for one input, aligned for the widest registers.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(in crate::generate) struct Line(pub(in crate::generate) [f32; WIDTH]);

impl Line {
    pub(in crate::generate) const ZERO: Self = Self([0.0; WIDTH]);
}

/// Integers of neighbouring outputs for four inputs: of each output a word, whose bytes are the integers plus 128, the
/// first input's lowest.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Words(pub(super) [u32; WIDTH]);

/// A matrix `[outputs, inputs]` packed in panels of [`WIDTH`] outputs, a line an input; the last panel ends in zeros.
#[derive(Clone, Debug)]
pub(in crate::generate) struct Packed {
    pub(super) inputs: usize,
    outputs: usize,
    pub(super) values: Values,
}

#[derive(Clone, Debug)]
pub(super) enum Values {
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
    pub(in crate::generate) fn new(inputs: usize, matrices: &[&[f32]]) -> Self {
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
    pub(in crate::generate) fn quantised(inputs: usize, matrices: &[&Quantised]) -> Self {
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

    pub(in crate::generate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that a product reads.
    pub(in crate::generate) fn bytes(&self) -> usize {
        match &self.values {
            Values::Whole(lines) => size_of_val(lines.as_slice()),
            Values::Quantised { words, factors } => {
                size_of_val(words.as_slice()) + size_of_val(factors.as_slice())
            }
        }
    }

    /// Copies the row of an output.
    pub(in crate::generate) fn row(&self, output: usize, row: &mut [f32]) {
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
