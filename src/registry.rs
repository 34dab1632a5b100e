//! The kinds that the engine was given.

use std::collections::BTreeMap;

use starling_contract::Kind;

/// The kinds of stage that a pipeline may use, by name.
pub struct Registry {
    kinds: BTreeMap<&'static str, Box<dyn Kind>>,
}

impl Registry {
    /// Takes a list of kinds; of two with one name the later wins, which the tests of the list forbid.
    #[must_use]
    pub fn new(kinds: Vec<Box<dyn Kind>>) -> Self {
        Self {
            kinds: kinds.into_iter().map(|k| (k.name(), k)).collect(),
        }
    }

    /// The kind called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Kind> {
        self.kinds.get(name).map(AsRef::as_ref)
    }

    /// Every kind, in name order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Kind> {
        self.kinds.values().map(AsRef::as_ref)
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }
}
