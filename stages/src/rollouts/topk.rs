//! The teacher's likeliest tokens of a position as bytes: 425 of them at `k` = 100 and Qwen3's vocabulary.
//!
//! A row is `k` token ids of as many bits as the vocabulary needs, lowest bit first, filled up to a whole
//! byte; then `k` log-probabilities as little-endian IEEE half floats. Ids are exact. A log-probability
//! x ≥ -65,504 comes back within |x|·2⁻¹¹ + 2⁻²⁵ nats; anything lower comes back as -65,504. For training
//! that is nothing: at the likeliest tokens, where e^x is not small, |x| is.

use half::f16;

/// The rows of one artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec {
    k: usize,
    bits: usize,
}

/// The likeliest tokens at some positions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TopK {
    /// `[positions, k]`, likeliest first.
    pub(crate) ids: Vec<u32>,
    /// Their log-probabilities over the whole vocabulary, nats, `[positions, k]`.
    pub(crate) logprobs: Vec<f32>,
}

impl Codec {
    /// Rows of `k` tokens out of `vocabulary`.
    pub(crate) fn new(k: usize, vocabulary: usize) -> Self {
        let last = vocabulary.saturating_sub(1).max(1);
        Self {
            k,
            bits: (usize::BITS - last.leading_zeros()) as usize,
        }
    }

    /// Listed tokens a position.
    pub(crate) fn k(self) -> usize {
        self.k
    }

    /// Bytes a position.
    pub(crate) fn row_bytes(self) -> usize {
        self.id_bytes() + 2 * self.k
    }

    fn id_bytes(self) -> usize {
        (self.k * self.bits).div_ceil(8)
    }

    /// Appends the rows of `top` to `bytes`.
    pub(crate) fn encode(self, top: &TopK, bytes: &mut Vec<u8>) {
        if self.k == 0 {
            return;
        }
        let rows = top.ids.chunks_exact(self.k);
        for (ids, logprobs) in rows.zip(top.logprobs.chunks_exact(self.k)) {
            let (mut word, mut filled) = (0_u64, 0);
            for id in ids {
                word |= u64::from(*id) << filled;
                filled += self.bits;
                while filled >= 8 {
                    bytes.push(word as u8);
                    word >>= 8;
                    filled -= 8;
                }
            }
            if filled > 0 {
                bytes.push(word as u8);
            }
            let halves = logprobs
                .iter()
                .map(|x| f16::from_f32(x.max(f16::MIN.to_f32())));
            bytes.extend(halves.flat_map(f16::to_le_bytes));
        }
    }

    /// Reads whole rows.
    pub(crate) fn decode(self, bytes: &[u8]) -> TopK {
        let mut top = TopK::default();
        if self.k == 0 {
            return top;
        }
        let mask = (1_u64 << self.bits) - 1;
        for row in bytes.chunks_exact(self.row_bytes()) {
            let (ids, logprobs) = row.split_at(self.id_bytes());
            let (mut word, mut filled, mut next) = (0_u64, 0, ids.iter());
            for _ in 0..self.k {
                while filled < self.bits {
                    word |= u64::from(next.next().copied().unwrap_or(0)) << filled;
                    filled += 8;
                }
                top.ids.push((word & mask) as u32);
                word >>= self.bits;
                filled -= self.bits;
            }
            let halves = logprobs.chunks_exact(2);
            top.logprobs
                .extend(halves.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()));
        }
        top
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_hundred_tokens_of_qwen3_take_425_bytes() {
        assert_eq!(Codec::new(100, 151_936).row_bytes(), 425);
    }

    #[test]
    fn ids_come_back_exactly_and_logprobs_within_the_stated_bound() {
        let mut random = Random::new(1, "codec");
        for (k, vocabulary) in [
            (1, 1),
            (1, 2),
            (3, 257),
            (100, 151_936),
            (7, 1 << 20),
            (32, 600),
        ] {
            let codec = Codec::new(k, vocabulary);
            let top = TopK {
                ids: (0..5 * k)
                    .map(|_| random.below(vocabulary) as u32)
                    .collect(),
                logprobs: (0..5 * k)
                    .map(|_| (-(random.unit() * 30.0 - 20.0).exp()) as f32)
                    .collect(),
            };
            let mut bytes = Vec::new();
            codec.encode(&top, &mut bytes);
            assert_eq!(bytes.len(), 5 * codec.row_bytes());
            let again = codec.decode(&bytes);
            assert_eq!(again.ids, top.ids);
            for (x, y) in top.logprobs.iter().zip(&again.logprobs) {
                let bound = x.abs() * 2_f32.powi(-11) + 2_f32.powi(-25);
                assert!((x - y).abs() <= bound, "{x} came back as {y}");
            }
        }
    }

    #[test]
    fn what_is_impossible_stays_finite() {
        let codec = Codec::new(1, 4);
        let top = TopK {
            ids: vec![3],
            logprobs: vec![f32::NEG_INFINITY],
        };
        let mut bytes = Vec::new();
        codec.encode(&top, &mut bytes);
        assert_eq!(codec.decode(&bytes).logprobs, [-65_504.0]);
    }
}
