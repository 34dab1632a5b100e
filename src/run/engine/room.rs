//! Room: whether threads, memory and cards last for one more stage.

use std::collections::BTreeMap;

use super::Engine;
use crate::pipeline::Device;
use crate::plan::ResolvedAction;
use crate::run::active::Active;
use crate::run::state::State;

impl Engine<'_> {
    /// The threads that a stage gets. One that says nothing gets all; where cards are counted and it computes on
    /// them, its share for each that it gets.
    pub(super) fn threads_of(&self, index: usize) -> usize {
        let asked = self.pipeline.stages[index].threads;
        let share = || {
            let each = (self.budget / self.cards.all().len().max(1)).max(1);
            let cards = self.shards_of(index).min(self.free_cards().max(1));
            each.saturating_mul(cards)
        };
        let asked = asked.or_else(|| self.takes_cards(index).then(share));
        asked.unwrap_or(self.budget).clamp(1, self.budget)
    }

    /// What a stage declares; more than all stages share means that nothing else that declares any runs beside it.
    pub(super) fn memory_of(&self, index: usize) -> u64 {
        let asked = self.pipeline.stages[index].memory.unwrap_or(0);
        self.memory.map_or(asked, |all| asked.min(all))
    }

    pub(super) fn shards_of(&self, index: usize) -> usize {
        self.pipeline.stages[index].shards.unwrap_or(1)
    }

    /// Whether each worker of a stage needs a card of its own.
    pub(super) fn takes_cards(&self, index: usize) -> bool {
        self.cards.are_counted() && self.pipeline.stages[index].device == Device::Cuda
    }

    /// How many workers of a stage that gets so many threads work at once.
    pub(super) fn at_once(&self, index: usize, threads: usize) -> usize {
        let most = self.shards_of(index).min(threads);
        if self.takes_cards(index) {
            most.min(self.free_cards()).max(1)
        } else {
            most
        }
    }

    fn active(&self) -> impl Iterator<Item = &Active> {
        let running = self.running.iter();
        running.filter_map(|&index| match &self.states[index] {
            State::Running(active) => Some(&**active),
            _ => None,
        })
    }

    fn taken_cards(&self) -> Vec<usize> {
        self.active().flat_map(Active::cards).collect()
    }

    pub(super) fn free_cards(&self) -> usize {
        self.cards.free(&self.taken_cards())
    }

    /// A card that no worker has.
    pub(super) fn next_card(&self) -> Option<usize> {
        self.cards.next(&self.taken_cards())
    }

    fn threads_left(&self) -> usize {
        let taken: usize = self.active().map(Active::threads).sum();
        self.budget.saturating_sub(taken)
    }

    pub(super) fn fits(&self, index: usize) -> bool {
        let memory = self.active().fold(self.memory_of(index), |sum, active| {
            sum.saturating_add(active.errand.memory)
        });
        let cuda = self.pipeline.stages[index].device == Device::Cuda;
        let room_on_device = if self.takes_cards(index) {
            self.free_cards() > 0
        } else {
            !(cuda && self.active().any(|active| active.errand.cuda))
        };
        self.threads_of(index) <= self.threads_left()
            && self.memory.is_none_or(|all| memory <= all)
            && room_on_device
            && self.is_first_of_line(index)
    }

    /// A running stage whose next share of chunks could have a card that nobody has.
    pub(super) fn widens(&self) -> Option<usize> {
        if self.free_cards() == 0 {
            return None;
        }
        let left = self.threads_left();
        let wider = |&&index: &&usize| {
            let State::Running(active) = &self.states[index] else {
                return false;
            };
            let each = active.errand.each;
            let more = each.saturating_mul(active.members() + 1);
            let declared = self.pipeline.stages[index].threads;
            self.takes_cards(index)
                && !active.shards.is_empty()
                && each <= left
                && declared.is_none_or(|declared| more <= declared)
        };
        self.running.iter().find(wider).copied()
    }

    /// Whether no stage that goes the same way and stops elsewhere runs, or should go first because it stops earlier:
    /// this one goes on from where that one stops, instead of doing the same beside it.
    fn is_first_of_line(&self, index: usize) -> bool {
        let kind = self.registry.get(&self.pipeline.stages[index].kind);
        let Some(stop) = kind.and_then(|kind| kind.stops().first().copied()) else {
            return true;
        };
        let State::Ready(action) = &self.states[index] else {
            return true;
        };
        let same = |other: &ResolvedAction| other.line == action.line && other.key != action.key;
        let end = |action: &ResolvedAction| {
            let end = action.fields.params.get(stop);
            end.and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX)
        };
        let runs = self.active().any(|active| same(&active.errand.action));
        let earlier = self.ready.iter().any(|&i| match &self.states[i] {
            State::Ready(other) => same(other) && end(other) < end(action),
            _ => false,
        });
        !runs && !earlier
    }

    /// The numerics classes of what a stage would put side by side, if they differ and nobody said that they may.
    pub(super) fn mixed_classes(&self, index: usize) -> Option<String> {
        let stage = &self.pipeline.stages[index];
        let compares = self
            .registry
            .get(&stage.kind)
            .is_some_and(|kind| kind.compares());
        if !compares || self.options.mixed {
            return None;
        }
        let mut classes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for input in &stage.inputs {
            let record = self.states[input.stage].record()?;
            let name = input.name.as_deref().unwrap_or(&input.port);
            classes.entry(&record.numerics).or_default().push(name);
        }
        let told = classes
            .iter()
            .map(|(class, names)| format!("`{class}` ({})", names.join(", ")));
        (classes.len() > 1).then(|| told.collect::<Vec<_>>().join(" and "))
    }
}
