//! The learning rate of each update.

use std::f64::consts::PI;

/// What happens past the planned updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PastEnd {
    /// The minimum is held.
    #[default]
    Hold,
    /// The cosine goes on, and so rises again: what the published runs would do.
    Rise,
}

/// Linear warm-up from 0, then a cosine down to a minimum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// The last rate, as a share of the highest.
    pub minimum_share: f64,
    /// Updates of warm-up; the first update's rate is 0 when there are any.
    pub warmup: u64,
    /// Planned updates.
    pub total: u64,
    /// What happens past them.
    pub past_end: PastEnd,
}

impl Schedule {
    /// One rate for all updates.
    pub fn constant(rate: f64) -> Self {
        Self {
            peak: rate,
            minimum_share: 1.0,
            warmup: 0,
            total: 0,
            past_end: PastEnd::Hold,
        }
    }

    /// Warm-up over a share of the planned updates, rounded up; down to a tenth.
    pub fn cosine(peak: f64, warmup_share: f64, total: u64) -> Self {
        let warmup = (warmup_share * total as f64).ceil() as u64;
        Self {
            peak,
            minimum_share: 0.1,
            warmup,
            total,
            past_end: PastEnd::Hold,
        }
    }

    /// The rate of the update with this 0-based number.
    pub fn rate(&self, update: u64) -> f64 {
        if update < self.warmup {
            return self.peak * (update as f64 / self.warmup as f64);
        }
        let span = self.total.saturating_sub(self.warmup).max(1);
        let mut progress = (update - self.warmup) as f64 / span as f64;
        if self.past_end == PastEnd::Hold {
            progress = progress.min(1.0);
        }
        let cosine = 0.5 * (1.0 + (PI * progress).cos());
        self.peak * (cosine * (1.0 - self.minimum_share) + self.minimum_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_falls_and_stays() {
        let schedule = Schedule::cosine(1.0, 0.03, 400);
        assert_eq!(schedule.warmup, 12);
        assert!(schedule.rate(0).abs() < 1e-15);
        assert!((schedule.rate(12) - 1.0).abs() < 1e-15);
        assert!((schedule.rate(206) - 0.55).abs() < 1e-12);
        for update in [400, 401, 600, 1_000_000] {
            assert!((schedule.rate(update) - 0.1).abs() < 1e-12);
        }
        assert!((Schedule::constant(0.3).rate(5) - 0.3).abs() < 1e-15);
    }
}
