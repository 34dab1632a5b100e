//! Seeded random numbers whose stream is a promise: it is part of what a version of a stage means.

/// SplitMix64 (Steele, Lea and Flood, 2014), enough for choosing rows and words.
///
/// Written here because the stream reaches artifacts and so must not change with a dependency.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream for `seed` and a purpose; two purposes never share a stream.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
        for byte in purpose.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut random = Self(state);
        let _ = random.next();
        random
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n` (`n > 0`), by multiply-shift; the bias is below 2⁻³² for the sizes used.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One element of `items`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Fisher–Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// What random numbers are for, told apart by attempt; the first is 0.
pub(crate) fn purpose(what: &str, attempt: u64) -> String {
    match attempt {
        0 => what.to_owned(),
        n => format!("{what}, attempt {n}"),
    }
}

/// Endless passes over `0..rows`, each in its own order, which depends on seed and pass only.
#[derive(Debug, Clone)]
pub(crate) struct Epochs {
    seed: u64,
    rows: usize,
    order: Vec<usize>,
    pass: Option<(u64, usize)>,
}

impl Epochs {
    /// Passes over `rows` rows (`rows > 0`).
    pub(crate) fn new(seed: u64, rows: usize) -> Self {
        Self {
            seed,
            rows,
            order: Vec::new(),
            pass: None,
        }
    }

    /// The row at position `position` of the endless sequence of an attempt, from 0: a resumed run asks for the same.
    pub(crate) fn row(&mut self, attempt: u64, position: usize) -> usize {
        let pass = position / self.rows;
        if self.pass != Some((attempt, pass)) {
            self.order = (0..self.rows).collect();
            let purpose = purpose(&format!("pass {pass}"), attempt);
            Random::new(self.seed, &purpose).shuffle(&mut self.order);
            self.pass = Some((attempt, pass));
        }
        self.order[position % self.rows]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_pinned() {
        let mut random = Random::new(42, "test");
        let first: Vec<usize> = (0..4).map(|_| random.below(1000)).collect();
        let mut again = Random::new(42, "test");
        assert_eq!(first, (0..4).map(|_| again.below(1000)).collect::<Vec<_>>());
        assert_ne!(
            Random::new(42, "test").next(),
            Random::new(42, "other").next()
        );
    }

    #[test]
    fn a_pass_visits_every_row_once_and_the_next_in_another_order() {
        let mut epochs = Epochs::new(7, 50);
        let one: Vec<usize> = (0..50).map(|p| epochs.row(0, p)).collect();
        let two: Vec<usize> = (50..100).map(|p| epochs.row(0, p)).collect();
        let mut sorted = one.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_ne!(one, two);
        assert_eq!(epochs.row(0, 3), one[3]);
        let other: Vec<usize> = (0..50).map(|p| epochs.row(1, p)).collect();
        assert_ne!(one, other);
        assert_eq!(epochs.row(0, 3), one[3]);
    }
}
