//! CPython's `random.Random`: the Mersenne Twister and what `shuffle` and `sample` draw from it.

const N: usize = 624;
const M: usize = 397;

/// A generator that gives the numbers of CPython's `random` for the same integer seed.
///
/// # Source
/// M. Matsumoto, T. Nishimura, "Mersenne Twister", 1998, with their `init_by_array` seeding.
#[derive(Debug, Clone)]
pub struct PythonRandom {
    state: Box<[u32; N]>,
    next: usize,
}

impl PythonRandom {
    /// `random.seed(seed)` of a non-negative integer.
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        if high == 0 {
            Self::from_key(&[low])
        } else {
            Self::from_key(&[low, high])
        }
    }

    fn from_key(key: &[u32]) -> Self {
        let mut state = Box::new([0_u32; N]);
        state[0] = 19_650_218;
        for i in 1..N {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = previous.wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        let mut i = 1;
        for k in 0..N.max(key.len()) {
            let j = k % key.len();
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ previous.wrapping_mul(1_664_525))
                .wrapping_add(key[j])
                .wrapping_add(j as u32);
            i = wrap(&mut state, i + 1);
        }
        for _ in 1..N {
            let previous = state[i - 1] ^ (state[i - 1] >> 30);
            state[i] = (state[i] ^ previous.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = wrap(&mut state, i + 1);
        }
        state[0] = 0x8000_0000;
        Self { state, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// The next 32 bits: `getrandbits(32)`.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// `random()`: uniform in [0, 1), 53 bits.
    pub fn random(&mut self) -> f64 {
        let (a, b) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `getrandbits(bits)` for at most 64 bits; more are cut to 64.
    pub fn bits(&mut self, bits: u32) -> u64 {
        match bits {
            0 => 0,
            1..=32 => u64::from(self.next_u32() >> (32 - bits)),
            _ => {
                let low = u64::from(self.next_u32());
                let high = u64::from(self.next_u32() >> (64 - bits.min(64)));
                high << 32 | low
            }
        }
    }

    /// Uniform in `0..n`; 0 for `n = 0`.
    pub fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let bits = u64::BITS - n.leading_zeros();
        loop {
            let drawn = self.bits(bits);
            if drawn < n.max(1) {
                return drawn as usize;
            }
        }
    }

    /// `shuffle(items)`.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }

    /// The positions that `sample(items, count)` takes out of `length` items, in its order. A count above the
    /// length, which Python refuses, takes all.
    pub fn sample(&mut self, length: usize, count: usize) -> Vec<usize> {
        let count = count.min(length);
        let mut table = 21;
        if count > 5 {
            // Python grows its table to the power of four that holds three times the sample.
            table += (0..)
                .map(|power| 4_usize.saturating_pow(power))
                .find(|&n| n >= 3 * count)
                .unwrap_or(0);
        }
        if length <= table {
            let mut pool: Vec<usize> = (0..length).collect();
            return (0..count)
                .map(|i| {
                    let j = self.below(length - i);
                    let drawn = pool[j];
                    pool[j] = pool[length - i - 1];
                    drawn
                })
                .collect();
        }
        let mut taken = std::collections::BTreeSet::new();
        (0..count)
            .map(|_| {
                loop {
                    let j = self.below(length);
                    if taken.insert(j) {
                        break j;
                    }
                }
            })
            .collect()
    }
}

fn wrap(state: &mut [u32; N], i: usize) -> usize {
    if i < N {
        return i;
    }
    state[0] = state[N - 1];
    1
}
