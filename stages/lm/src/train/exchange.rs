//! A trainer's state as plain numbers, for a trainer on another device that reads and writes the same files.

use super::trainer::Trainer;

/// Parameters and moments, in the order of the layout.
#[derive(Clone, Debug)]
pub struct TrainerState {
    /// Parameters.
    pub params: Vec<f32>,
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
    /// Updates done so far.
    pub updates: u64,
}

impl Trainer<f32> {
    /// Takes the numbers out.
    pub(crate) fn into_state(self) -> TrainerState {
        TrainerState {
            params: self.decoder.params().to_vec(),
            first: self.optimizer.first,
            second: self.optimizer.second,
            updates: self.optimizer.updates,
        }
    }

    /// Goes on from numbers that a trainer of this configuration has.
    pub(crate) fn put_state(&mut self, state: TrainerState) {
        self.decoder.params_mut().copy_from_slice(&state.params);
        self.optimizer.first = state.first;
        self.optimizer.second = state.second;
        self.optimizer.updates = state.updates;
    }
}
