//! An object's members: in their order, looked through one by one while they are few.
//!
//! Most objects of a conversation have a handful of members, where comparing names is quicker than hashing them
//! and a plain list takes one allocation. From [`FEW`] members on a table of places is kept beside the list; its
//! hashes are seeded at random, so a text cannot be written to make them collide.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Index;

use hashbrown::HashTable;

use super::Value;

/// So many members are looked through one by one.
const FEW: usize = 16;

/// An object: insertion-ordered; of duplicate keys the last value wins, at the first one's place.
///
/// `==` does not look at the order.
#[derive(Clone, Default)]
pub struct Map {
    entries: Vec<(String, Value)>,
    /// Present exactly while there are more than [`FEW`] members.
    places: Option<Box<Places>>,
}

/// Where members stand, by the hashes of their names.
#[derive(Clone)]
struct Places {
    table: HashTable<usize>,
    hasher: RandomState,
}

impl Places {
    fn of(entries: &[(String, Value)]) -> Self {
        let hasher = RandomState::new();
        let mut table = HashTable::with_capacity(entries.len() * 2);
        for (i, (key, _)) in entries.iter().enumerate() {
            let hash = hasher.hash_one(key.as_str());
            table.insert_unique(hash, i, |&i| hasher.hash_one(entries[i].0.as_str()));
        }
        Self { table, hasher }
    }

    fn find(&self, entries: &[(String, Value)], key: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |&i| entries[i].0 == key).copied()
    }

    /// Notes the last entry.
    fn note_last(&mut self, entries: &[(String, Value)]) {
        let Some((key, _)) = entries.last() else {
            return;
        };
        let hasher = &self.hasher;
        let rehash = |&i: &usize| hasher.hash_one(entries[i].0.as_str());
        let hash = hasher.hash_one(key.as_str());
        let _entry = self.table.insert_unique(hash, entries.len() - 1, rehash);
    }

    /// Forgets the place of an entry.
    fn forget(&mut self, key: &str, place: usize) {
        let hash = self.hasher.hash_one(key);
        if let Ok(found) = self.table.find_entry(hash, |&i| i == place) {
            let _gone = found.remove();
        }
    }

    /// Notes that an entry moved.
    fn moved(&mut self, key: &str, from: usize, to: usize) {
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.table.find_mut(hash, |&i| i == from) {
            *place = to;
        }
    }
}

impl Map {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// An object without members, with room for some.
    pub fn with_capacity(members: usize) -> Self {
        Self {
            entries: Vec::with_capacity(members),
            places: None,
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place of a member.
    pub fn get_index_of(&self, key: &str) -> Option<usize> {
        match &self.places {
            Some(places) => places.find(&self.entries, key),
            None => self.entries.iter().position(|(known, _)| known == key),
        }
    }

    /// The value of a member.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.get_full(key).map(|(_, _, value)| value)
    }

    /// Place, name and value of a member.
    pub fn get_full(&self, key: &str) -> Option<(usize, &String, &Value)> {
        let i = self.get_index_of(key)?;
        let (key, value) = &self.entries[i];
        Some((i, key, value))
    }

    /// The member at a place.
    pub fn get_index(&self, place: usize) -> Option<(&String, &Value)> {
        self.entries.get(place).map(|(key, value)| (key, value))
    }

    /// The value of a member, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let i = self.get_index_of(key)?;
        Some(&mut self.entries[i].1)
    }

    /// Whether there is a member of this name.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get_index_of(key).is_some()
    }

    /// The first member.
    pub fn first(&self) -> Option<(&String, &Value)> {
        self.get_index(0)
    }

    /// The last member.
    pub fn last(&self) -> Option<(&String, &Value)> {
        self.entries.last().map(|(key, value)| (key, value))
    }

    /// Adds a member at the end, or changes the value of the one that has the name; the old value comes back.
    pub fn insert(&mut self, key: String, value: Value) -> Option<Value> {
        match self.get_index_of(&key) {
            Some(i) => Some(std::mem::replace(&mut self.entries[i].1, value)),
            None => {
                self.push(key, value);
                None
            }
        }
    }

    /// The value of a member, which is added with [`Value::Null`] when it is not there.
    pub fn or_null(&mut self, key: &str) -> &mut Value {
        let i = match self.get_index_of(key) {
            Some(i) => i,
            None => {
                self.push(key.to_owned(), Value::Null);
                self.entries.len() - 1
            }
        };
        &mut self.entries[i].1
    }

    /// Adds a member whose name is new.
    fn push(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
        match &mut self.places {
            Some(places) => places.note_last(&self.entries),
            None if self.entries.len() > FEW => {
                self.places = Some(Box::new(Places::of(&self.entries)));
            }
            None => {}
        }
    }

    /// Takes a member out; those behind it move up, which takes time by their number.
    pub fn shift_remove(&mut self, key: &str) -> Option<Value> {
        let i = self.get_index_of(key)?;
        let (_, value) = self.entries.remove(i);
        self.note_all();
        Some(value)
    }

    /// Takes a member out; the last one moves to its place.
    pub fn swap_remove(&mut self, key: &str) -> Option<Value> {
        let i = self.get_index_of(key)?;
        let last = self.entries.len() - 1;
        if last <= FEW {
            self.places = None;
        } else if let Some(places) = &mut self.places {
            places.forget(key, i);
            if i < last {
                places.moved(&self.entries[last].0, last, i);
            }
        }
        Some(self.entries.swap_remove(i).1)
    }

    /// Keeps the members that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&String, &mut Value) -> bool) {
        self.entries.retain_mut(|(key, value)| keep(key, value));
        self.note_all();
    }

    /// Takes all members out.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.places = None;
    }

    /// Sorts the members by name.
    pub fn sort_keys(&mut self) {
        self.entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.note_all();
    }

    /// Notes the places of all members anew.
    fn note_all(&mut self) {
        self.places = (self.entries.len() > FEW).then(|| Box::new(Places::of(&self.entries)));
    }

    /// The members in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.entries.iter())
    }

    /// The members in their order, values to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_> {
        IterMut(self.entries.iter_mut())
    }

    /// The names in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &String> + ExactSizeIterator + Clone {
        self.entries.iter().map(|(key, _)| key)
    }

    /// The values in the order of the names.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Value> + ExactSizeIterator + Clone {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The values in the order of the names, to be changed.
    pub fn values_mut(
        &mut self,
    ) -> impl DoubleEndedIterator<Item = &mut Value> + ExactSizeIterator {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// The names, the values left behind.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = String> + ExactSizeIterator {
        self.entries.into_iter().map(|(key, _)| key)
    }

    /// The values, the names left behind.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = Value> + ExactSizeIterator {
        self.entries.into_iter().map(|(_, value)| value)
    }
}

/// Members of a borrowed [`Map`].
#[derive(Clone)]
pub struct Iter<'a>(std::slice::Iter<'a, (String, Value)>);

/// Members of a [`Map`], values to be changed.
pub struct IterMut<'a>(std::slice::IterMut<'a, (String, Value)>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a String, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> Iterator for IterMut<'a> {
    type Item = (&'a String, &'a mut Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (&*key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for IterMut<'_> {}

impl<'a> IntoIterator for &'a Map {
    type Item = (&'a String, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Map {
    type Item = (&'a String, &'a mut Value);
    type IntoIter = IterMut<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Extend<(String, Value)> for Map {
    fn extend<I: IntoIterator<Item = (String, Value)>>(&mut self, members: I) {
        for (key, value) in members {
            let _old = self.insert(key, value);
        }
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let members = members.into_iter();
        let mut map = Self::with_capacity(members.size_hint().0);
        map.extend(members);
        map
    }
}

impl<const N: usize> From<[(String, Value); N]> for Map {
    fn from(members: [(String, Value); N]) -> Self {
        members.into_iter().collect()
    }
}

impl Index<usize> for Map {
    type Output = Value;

    fn index(&self, place: usize) -> &Value {
        &self.entries[place].1
    }
}

impl Index<&str> for Map {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        self.get(key).expect("a member of this name")
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self
                .iter()
                .all(|(key, value)| other.get(key) == Some(value))
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, i64),
        Shift(u8),
        Swap(u8),
        Retain(i64),
        Sort,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0..60_u8, any::<i64>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0..60_u8).prop_map(Step::Shift),
            2 => (0..60_u8).prop_map(Step::Swap),
            1 => (2..9_i64).prop_map(Step::Retain),
            1 => Just(Step::Sort),
        ]
    }

    proptest! {
        /// Below and above the number from which places are noted, and across it both ways.
        #[test]
        fn behaves_as_an_index_map(steps in prop::collection::vec(step(), 0..200)) {
            let (mut ours, mut theirs) = (Map::new(), IndexMap::<String, Value>::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        let (key, value) = (format!("k{key}"), Value::Int(value));
                        let old = ours.insert(key.clone(), value.clone());
                        prop_assert_eq!(old, theirs.insert(key, value));
                    }
                    Step::Shift(key) => {
                        let key = format!("k{key}");
                        prop_assert_eq!(ours.shift_remove(&key), theirs.shift_remove(&key));
                    }
                    Step::Swap(key) => {
                        let key = format!("k{key}");
                        prop_assert_eq!(ours.swap_remove(&key), theirs.swap_remove(&key));
                    }
                    Step::Retain(n) => {
                        let keep = |value: &Value| value.as_i64().is_some_and(|i| i % n != 0);
                        ours.retain(|_, value| keep(value));
                        theirs.retain(|_, value| keep(value));
                    }
                    Step::Sort => {
                        ours.sort_keys();
                        theirs.sort_keys();
                    }
                }
                prop_assert!(ours.iter().eq(theirs.iter()));
                for key in 0..60 {
                    let key = format!("k{key}");
                    prop_assert_eq!(ours.get_index_of(&key), theirs.get_index_of(&key));
                }
                let backwards: Map = theirs.iter().rev().map(|(k, v)| (k.clone(), v.clone())).collect();
                prop_assert_eq!(&ours, &backwards);
            }
        }
    }
}
