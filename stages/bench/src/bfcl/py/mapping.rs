//! An insertion-ordered dict with Python's idea of equal keys: `1`, `1.0` and `True` are one key.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use num_traits::ToPrimitive as _;

use super::{Py, Reply, eq};

/// Up to this size a scan is faster than an index.
const SCANNED: usize = 32;

/// An insertion-ordered dict.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dict {
    entries: Vec<(Py, Py)>,
    /// Places of keys by their hash, once there are many.
    index: Option<BTreeMap<u64, Vec<usize>>>,
}

impl Dict {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Py, &Py)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Py> {
        self.entries.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Py> {
        self.entries.iter().map(|(_, value)| value)
    }

    pub(crate) fn first(&self) -> Option<(&Py, &Py)> {
        self.iter().next()
    }

    /// The entry of this place.
    pub(crate) fn at(&self, place: usize) -> Option<(&Py, &Py)> {
        self.entries.get(place).map(|(key, value)| (key, value))
    }

    fn find(&self, key: &Py) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|(found, _)| eq(found, key)),
            Some(index) => {
                let places = index.get(&hash(key))?;
                places
                    .iter()
                    .copied()
                    .find(|at| eq(&self.entries[*at].0, key))
            }
        }
    }

    /// The value of a constant key.
    pub(crate) fn get_str(&self, key: &str) -> Option<&Py> {
        match &self.index {
            None => self
                .entries
                .iter()
                .find(|(found, _)| found.is(key))
                .map(|(_, value)| value),
            Some(_) => {
                let at = self.find(&Py::from(key.to_owned()))?;
                Some(&self.entries[at].1)
            }
        }
    }

    pub(crate) fn get(&self, key: &Py) -> Reply<Option<&Py>> {
        key.require_hashable()?;
        Ok(self.find(key).map(|at| &self.entries[at].1))
    }

    pub(crate) fn get_mut(&mut self, key: &Py) -> Reply<Option<&mut Py>> {
        key.require_hashable()?;
        Ok(self.find(key).map(|at| &mut self.entries[at].1))
    }

    pub(crate) fn contains(&self, key: &Py) -> Reply<bool> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn insert(&mut self, key: Py, value: Py) -> Reply<()> {
        key.require_hashable()?;
        match self.find(&key) {
            Some(at) => self.entries[at].1 = value,
            None => self.push(key, value),
        }
        Ok(())
    }

    /// Appends a key that is not there yet.
    fn push(&mut self, key: Py, value: Py) {
        if let Some(index) = &mut self.index {
            index
                .entry(hash(&key))
                .or_default()
                .push(self.entries.len());
        }
        self.entries.push((key, value));
        if self.index.is_none() && self.entries.len() > SCANNED {
            self.build_index();
        }
    }

    fn build_index(&mut self) {
        let mut index: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, (key, _)) in self.entries.iter().enumerate() {
            index.entry(hash(key)).or_default().push(at);
        }
        self.index = Some(index);
    }

    pub(crate) fn remove(&mut self, key: &Py) -> Option<Py> {
        let (_, value) = self.entries.remove(self.find(key)?);
        if self.index.is_some() {
            self.build_index();
        }
        Some(value)
    }
}

impl FromIterator<(Py, Py)> for Dict {
    /// Collects hashable keys; of equal ones the last value wins, at the first one's place.
    fn from_iter<T: IntoIterator<Item = (Py, Py)>>(entries: T) -> Self {
        let entries = entries.into_iter();
        let mut dict = Self {
            entries: Vec::with_capacity(entries.size_hint().0),
            index: None,
        };
        for (key, value) in entries {
            match dict.find(&key) {
                Some(at) => dict.entries[at].1 = value,
                None => dict.push(key, value),
            }
        }
        dict
    }
}

/// Equal keys have equal hashes.
fn hash(key: &Py) -> u64 {
    let mut hasher = DefaultHasher::new();
    hash_into(key, &mut hasher);
    hasher.finish()
}

fn hash_into(key: &Py, hasher: &mut DefaultHasher) {
    match key {
        Py::Str(text) => (**text).hash(hasher),
        Py::Bytes(bytes) => bytes.hash(hasher),
        Py::Tuple(items) => items.iter().for_each(|item| hash_into(item, hasher)),
        // Numbers by the nearest float, which equal numbers share whatever their type.
        Py::Bool(value) => f64::from(u8::from(*value)).to_bits().hash(hasher),
        Py::Int(int) => (*int as f64 + 0.0).to_bits().hash(hasher),
        Py::Big(int) => int.to_f64().unwrap_or(0.0).to_bits().hash(hasher),
        Py::Float(float) | Py::Complex(float, _) => (float + 0.0).to_bits().hash(hasher),
        _ => key.type_name().hash(hasher),
    }
}
