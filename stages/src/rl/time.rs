//! Where the time of reinforcement learning goes. Times are told and kept in no output.

use starling_contract::StageContext;

/// Seconds by what they were spent on.
pub(super) struct Times<'a> {
    clock: &'a dyn Fn() -> f64,
    last: f64,
    generation: f64,
    reward: f64,
    scoring: f64,
    training: f64,
}

impl<'a> Times<'a> {
    /// Starts counting; `clock` tells seconds.
    pub(super) fn new(clock: &'a dyn Fn() -> f64) -> Self {
        Self {
            last: clock(),
            clock,
            generation: 0.0,
            reward: 0.0,
            scoring: 0.0,
            training: 0.0,
        }
    }

    fn lap(&mut self) -> f64 {
        let now = (self.clock)();
        now - std::mem::replace(&mut self.last, now)
    }

    /// What passed since the last call was generation.
    pub(super) fn generation(&mut self) {
        self.generation += self.lap();
    }

    /// … was judging answers.
    pub(super) fn reward(&mut self) {
        self.reward += self.lap();
    }

    /// … was reading answers with the reference, and making a batch of them.
    pub(super) fn scoring(&mut self) {
        self.scoring += self.lap();
    }

    /// … was the update, with its snapshot.
    pub(super) fn training(&mut self) {
        self.training += self.lap();
    }

    /// Forgets what passed since the last call.
    pub(super) fn skip(&mut self) {
        let _ = self.lap();
    }

    /// Tells the shares.
    pub(super) fn tell(&self, context: &StageContext<'_>) {
        let all = self.generation + self.reward + self.scoring + self.training;
        if all <= 0.0 {
            return;
        }
        let part = |name: &str, seconds: f64| {
            format!("{name} {:.2} % ({seconds:.3} s)", 100.0 * seconds / all)
        };
        context.info(format!(
            "time of updates: {}, {}, {}, {}",
            part("generation", self.generation),
            part("reward", self.reward),
            part("reference", self.scoring),
            part("training", self.training),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_second_belongs_somewhere() {
        let now = Cell::new(5.0);
        let clock = || now.get();
        let mut times = Times::new(&clock);
        let pass = |seconds: f64| now.set(now.get() + seconds);
        pass(7.0);
        times.skip();
        for _ in 0..2 {
            pass(3.0);
            times.generation();
            pass(0.5);
            times.reward();
            pass(1.0);
            times.scoring();
            pass(2.0);
            times.training();
        }
        let found = [
            times.generation,
            times.reward,
            times.scoring,
            times.training,
        ];
        let right = found.iter().zip([6.0, 1.0, 2.0, 4.0]);
        assert!(
            right.into_iter().all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
    }
}
