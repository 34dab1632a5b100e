//! When a snapshot is due.

/// Decides when a snapshot is due, so that saving never takes more than a twentieth of the time.
pub(crate) struct SnapshotClock {
    interval: f64,
    next: f64,
    asked: f64,
}

impl SnapshotClock {
    /// Starts counting at `now`.
    pub(crate) fn new(now: f64, interval: f64) -> Self {
        Self {
            interval,
            next: now + interval,
            asked: now,
        }
    }

    /// Whether a snapshot is due at `now`.
    pub(crate) fn due(&mut self, now: f64) -> bool {
        self.asked = now;
        now >= self.next
    }

    /// Tells that the snapshot that was due is saved.
    pub(crate) fn saved(&mut self, now: f64) {
        let cost = now - self.asked;
        self.next = now + self.interval.max(20.0 * cost);
    }
}
