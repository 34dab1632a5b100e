//! The kinds that the engine was given.

use std::collections::BTreeMap;

use starling_contract::Kind;

/// The kinds of stage that a pipeline may use, by name.
pub struct Registry {
    kinds: Vec<Box<dyn Kind>>,
    by_name: BTreeMap<&'static str, usize>,
}

impl Registry {
    /// Takes a list of kinds; of two with one name the later is found.
    #[must_use]
    pub fn new(kinds: Vec<Box<dyn Kind>>) -> Self {
        let by_name = kinds.iter().enumerate().map(|(n, k)| (k.name(), n));
        Self {
            by_name: by_name.collect(),
            kinds,
        }
    }

    /// The kind called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&dyn Kind> {
        let number = *self.by_name.get(name)?;
        self.kinds.get(number).map(AsRef::as_ref)
    }

    /// Every kind, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Kind> {
        self.kinds.iter().map(AsRef::as_ref)
    }

    /// Every name, in the same order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|k| k.name())
    }
}
