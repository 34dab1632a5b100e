//! The Mersenne Twister MT19937, seeded and read as CPython's `random` does.

use std::fmt;
use std::sync::OnceLock;

use num_bigint::BigInt;

use crate::bfcl::py::Py;

const SIZE: usize = 624;
const SHIFT: usize = 397;

/// A stream of random numbers.
///
/// It is seeded on first use: most dialogues never draw.
#[derive(Clone)]
pub(super) struct Random {
    key: Vec<u32>,
    state: Option<State>,
}

type Block = [u32; SIZE];

#[derive(Clone)]
struct State {
    words: Words,
    next: usize,
}

/// The block of words that is being read.
#[derive(Clone)]
enum Words {
    /// The first one of a seed that classes have by default.
    Shared(&'static Block),
    Own(Box<Block>),
}

/// Seeds that classes have by default, with the first block of each once it was asked for.
static DEFAULTS: [(u32, OnceLock<Box<Block>>); 3] = [
    (200_191, OnceLock::new()),
    (1_053_520, OnceLock::new()),
    (141_053, OnceLock::new()),
];

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Random")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Random {
    /// The stream of a seed; what is no integer counts as 0.
    pub(super) fn new(seed: &Py) -> Self {
        let key = match seed {
            Py::Int(int) => BigInt::from(*int).magnitude().to_u32_digits(),
            Py::Bool(value) => vec![u32::from(*value)],
            Py::Big(int) => int.magnitude().to_u32_digits(),
            _ => Vec::new(),
        };
        Self {
            key: if key.is_empty() { vec![0] } else { key },
            state: None,
        }
    }

    fn word(&mut self) -> u32 {
        let key = &self.key;
        self.state.get_or_insert_with(|| State::of(key)).word()
    }

    /// `k` random bits, `k` from 1 to 63.
    fn bits(&mut self, k: u32) -> u64 {
        if k <= 32 {
            return u64::from(self.word() >> (32 - k));
        }
        let low = u64::from(self.word());
        low | u64::from(self.word() >> (64 - k)) << 32
    }

    /// An integer from `low` to `high`, both included.
    pub(super) fn int(&mut self, low: i64, high: i64) -> i64 {
        let count = high.abs_diff(low) + 1;
        let bits = u64::BITS - count.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < count {
                return low + drawn as i64;
            }
        }
    }

    /// A float between `low` and `high`.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        let (a, b) = (self.word() >> 5, self.word() >> 6);
        let unit = (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0;
        low + (high - low) * unit
    }
}

fn by_seed(seed: u32) -> Box<Block> {
    let mut words = Box::new([0; SIZE]);
    words[0] = seed;
    for i in 1..SIZE {
        let last: u32 = words[i - 1];
        words[i] = (last ^ (last >> 30))
            .wrapping_mul(1_812_433_253)
            .wrapping_add(i as u32);
    }
    words
}

fn by_key(key: &[u32]) -> Box<Block> {
    let mut words = by_seed(19_650_218);
    let (mut i, mut j) = (1, 0);
    let mix = |word: u32| word ^ (word >> 30);
    for _ in 0..SIZE.max(key.len()) {
        words[i] = (words[i] ^ mix(words[i - 1]).wrapping_mul(1_664_525))
            .wrapping_add(key[j])
            .wrapping_add(j as u32);
        i += 1;
        j = (j + 1) % key.len();
        if i == SIZE {
            words[0] = words[SIZE - 1];
            i = 1;
        }
    }
    for _ in 1..SIZE {
        words[i] =
            (words[i] ^ mix(words[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
        i += 1;
        if i == SIZE {
            words[0] = words[SIZE - 1];
            i = 1;
        }
    }
    words[0] = 0x8000_0000;
    words
}

fn twist(words: &mut Block) {
    for i in 0..SIZE {
        let joined = (words[i] & 0x8000_0000) | (words[(i + 1) % SIZE] & 0x7fff_ffff);
        let twisted = (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
        words[i] = words[(i + SHIFT) % SIZE] ^ twisted;
    }
}

impl State {
    /// The beginning of the stream of a key.
    fn of(key: &[u32]) -> Self {
        let first = || {
            let mut words = by_key(key);
            twist(&mut words);
            words
        };
        let shared = DEFAULTS.iter().find(|(seed, _)| key == [*seed]);
        let words = match shared {
            Some((_, block)) => Words::Shared(block.get_or_init(first)),
            None => Words::Own(first()),
        };
        Self { words, next: 0 }
    }

    fn word(&mut self) -> u32 {
        if self.next >= SIZE {
            let mut words = match &self.words {
                Words::Shared(words) => Box::new(**words),
                Words::Own(words) => words.clone(),
            };
            twist(&mut words);
            *self = Self {
                words: Words::Own(words),
                next: 0,
            };
        }
        let mut word = match &self.words {
            Words::Shared(words) => words[self.next],
            Words::Own(words) => words[self.next],
        };
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_cpythons() {
        // random.Random(141053): randint(100000, 999999), then uniform(-10, 40) of a fresh stream.
        assert_eq!(
            Random::new(&Py::Int(141_053)).int(100_000, 999_999),
            251_675
        );
        let drawn = Random::new(&Py::Int(141_053)).uniform(-10.0, 40.0);
        assert_eq!(drawn.to_string(), "36.63485703790535");
    }
}
