//! Random numbers that belong to a place, not to an order of drawing.

use crate::rng::SplitMix64;

/// Uniform in `[0, 1)`: the number of one token of one sample of one request, whoever asks, whenever.
pub(super) fn uniform(seed: u64, request: u64, sample: u64, position: u64) -> f64 {
    let words = [request, sample, position];
    let start = SplitMix64::new(seed).next_u64();
    let mixed = words.into_iter().fold(start, |state, word| {
        SplitMix64::new(state ^ word).next_u64()
    });
    SplitMix64::new(mixed).uniform()
}

/// A request key made of a name (FNV-1a, 64 bits).
pub fn key_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_places_are_independent_and_uniform() {
        let mut buckets = [0_u32; 16];
        let mut serial = 0.0;
        let mut last = 0.5;
        for request in 0..20 {
            for sample in 0..20 {
                for position in 0..50 {
                    let draw = uniform(3, request, sample, position);
                    assert!((0.0..1.0).contains(&draw));
                    buckets[(draw * 16.0) as usize] += 1;
                    serial += (draw - 0.5) * (last - 0.5);
                    last = draw;
                }
            }
        }
        assert!(
            buckets.iter().all(|&n| (1100..1400).contains(&n)),
            "{buckets:?}"
        );
        assert!((serial / 20_000.0).abs() < 0.003, "{serial}");
        assert_ne!(uniform(3, 1, 2, 0).to_bits(), uniform(3, 2, 1, 0).to_bits());
    }

    #[test]
    fn keys_are_the_published_ones() {
        assert_eq!(key_of(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(key_of("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
