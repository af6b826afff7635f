//! A map by bytes that clients may choose.

use std::hash::{BuildHasher, RandomState};

use super::index::Index;

/// Hashed in a way that nobody knows outside, so that no one can make up keys that are slow to find.
#[derive(Debug, Clone)]
pub(crate) struct Keyed<T> {
    hasher: RandomState,
    index: Index,
    entries: Vec<(Box<[u8]>, T)>,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), index: Index::new(), entries: Vec::new() }
    }
}

impl<T> Keyed<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        let place = self.find(self.hash(key), key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        let place = self.find(self.hash(key), key)?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: Box<[u8]>, value: T) {
        let hash = self.hash(&key);
        match self.find(hash, &key).and_then(|place| self.entries.get_mut(place)) {
            Some((_, known)) => *known = value,
            None => {
                self.index.push(hash);
                self.entries.push((key, value));
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<(Box<[u8]>, T)> {
        let place = self.find(self.hash(key), key)?;
        self.index.swap_remove(place);
        Some(self.entries.swap_remove(place))
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Box<[u8]>, T)> {
        self.entries.iter()
    }

    /// Keys, and values to change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut T)> {
        self.entries.iter_mut().map(|(key, value)| (&**key, value))
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |place| self.entries.get(place).is_some_and(|(known, _)| **known == *key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(steps: Vec<(bool, u8, u16)>) {
            let (mut keyed, mut map) = (Keyed::default(), HashMap::new());
            for (inserts, key, value) in steps {
                let key = vec![key; usize::from(key % 3)];
                if inserts {
                    keyed.insert(key.as_slice().into(), value);
                    map.insert(key, value);
                } else {
                    prop_assert_eq!(keyed.remove(&key).map(|(_, value)| value), map.remove(&key));
                }
                prop_assert_eq!((keyed.len(), keyed.is_empty()), (map.len(), map.is_empty()));
                for (key, mut value) in map.clone() {
                    prop_assert_eq!(keyed.get(&key), Some(&value));
                    prop_assert_eq!(keyed.get_mut(&key), Some(&mut value));
                    prop_assert!(keyed.iter().any(|entry| *entry == (key.as_slice().into(), value)));
                }
            }
        }
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut index = Index::new();
        (0..3).for_each(|_| index.push(7));
        for place in 0..3 {
            assert_eq!(index.find(7, |at| at == place), Some(place));
        }
        index.swap_remove(0);
        assert_eq!([0, 1, 2].map(|place| index.find(7, |at| at == place)), [Some(0), Some(1), None]);
    }
}
