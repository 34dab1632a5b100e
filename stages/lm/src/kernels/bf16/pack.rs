//! Panels of word pairs from matrices.

use pulp::{Simd, WithSimd};

use super::{BLOCK_COLUMNS, BLOCK_ROWS};

/// Lanes of the widest block.
const MOST_LANES: usize = if BLOCK_COLUMNS > BLOCK_ROWS {
    BLOCK_COLUMNS
} else {
    BLOCK_ROWS
};
/// Values of a lane that are rounded before they are turned.
const TURNED: usize = 32;

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
pub(super) fn rounded(value: f32) -> f32 {
    f32::from_bits(round(value) << 16)
}

#[inline(always)]
fn pair(even: f32, odd: f32) -> u32 {
    round(even) | (round(odd) << 16)
}

/// Where a panel's lines come from: lane l, inner index k at `l * lane + k * inner`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) data: &'a [f32],
    pub(super) lane: usize,
    pub(super) inner: usize,
}

/// Packs `lanes` lines of `depth` inner values in panels of `W`, zeros beyond either.
pub(super) struct Pack<'a, const W: usize> {
    pub(super) source: Source<'a>,
    pub(super) lanes: usize,
    pub(super) first: usize,
    pub(super) depth: usize,
    pub(super) panels: &'a mut [u32],
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

impl<'a> Source<'a> {
    /// Without the first lanes.
    pub(super) fn after(self, lanes: usize) -> Self {
        Self {
            data: self.data.get(lanes * self.lane..).unwrap_or_default(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

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
