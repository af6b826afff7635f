//! Hash map with byte keys that clients may choose.

use alloc::boxed::Box;
use alloc::vec::Vec;

use siphasher::sip::SipHasher13;

use super::index::Index;

/// Hash map from byte keys, with a secret SipHash key: a client cannot choose keys that collide.
#[derive(Debug, Clone)]
pub(crate) struct Keyed<T> {
    hasher: SipHasher13,
    index: Index,
    entries: Vec<(Box<[u8]>, T)>,
}

impl<T> Default for Keyed<T> {
    fn default() -> Self {
        Self { hasher: secret(), index: Index::new(), entries: Vec::new() }
    }
}

impl<T> Keyed<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns an empty map with the same hash key: a hash of either map is valid in both.
    pub(crate) fn empty_alike(&self) -> Self {
        Self { hasher: self.hasher, index: Index::new(), entries: Vec::new() }
    }

    /// Returns the hash of a key, as [`position`](Self::position) and [`push`](Self::push) take it.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Returns the position of a key's value. Valid until the next removal.
    pub(crate) fn position(&self, hash: u64, key: &[u8]) -> Option<usize> {
        self.index.find(hash, |place| self.entries.get(place).is_some_and(|(known, _)| is_same(known, key)))
    }

    pub(crate) fn at_mut(&mut self, place: usize) -> Option<&mut T> {
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    pub(crate) fn remove_at(&mut self, place: usize) -> (Box<[u8]>, T) {
        self.index.swap_remove(place);
        self.entries.swap_remove(place)
    }

    /// Adds a key, which must be absent.
    pub(crate) fn push(&mut self, hash: u64, key: Box<[u8]>, value: T) -> &mut T {
        self.index.push(hash);
        &mut self.entries.push_mut((key, value)).1
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&T> {
        let place = self.position(self.hash(key), key)?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: Box<[u8]>, value: T) {
        let hash = self.hash(&key);
        match self.position(hash, &key).and_then(|place| self.at_mut(place)) {
            Some(known) => *known = value,
            None => {
                self.push(hash, key, value);
            }
        }
    }

    /// Iterates over keys and values, in any order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Box<[u8]>, T)> {
        self.entries.iter()
    }

    /// Iterates over keys and mutable values, in any order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut T)> {
        self.entries.iter_mut().map(|(key, value)| (&**key, value))
    }
}

/// Whether two keys are equal. Compares eight bytes at a time: the `memcmp` of wasm compares one.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ((chunks, rest), (other_chunks, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    // The last chunk overlaps others, and spares a loop over the rest.
    let ends_alike = match (one.last_chunk(), other.last_chunk()) {
        (Some(last), Some(other)) => number(last) == number(other),
        _ => rest == other_rest,
    };
    one.len() == other.len() && ends_alike && chunks.iter().map(number).eq(other_chunks.iter().map(number))
}

fn number(chunk: &[u8; 8]) -> u64 {
    u64::from_ne_bytes(*chunk)
}

/// Returns a hasher with a random key. Without random numbers the key would be all zeros, but then no worker starts.
fn random() -> SipHasher13 {
    let mut key = [0; 16];
    let _ = getrandom::fill(&mut key);
    SipHasher13::new_with_key(&key)
}

#[cfg(target_arch = "wasm32")]
use random as secret;

/// Returns the hasher of this thread. A simulation makes thousands of maps, each of which would need a system call.
#[cfg(not(target_arch = "wasm32"))]
fn secret() -> SipHasher13 {
    thread_local! {
        static SECRET: SipHasher13 = random();
    }
    SECRET.with(|secret| *secret)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_keyed_map_behaves_like_a_hash_map(steps: Vec<(bool, u8, u16)>) {
            let (mut keyed, mut map) = (Keyed::default(), HashMap::new());
            for (inserts, key, value) in steps {
                let key = vec![key; usize::from(key % 3)];
                if inserts {
                    keyed.insert(key.as_slice().into(), value);
                    map.insert(key, value);
                } else {
                    let place = keyed.position(keyed.hash(&key), &key);
                    prop_assert_eq!(place.map(|place| keyed.remove_at(place).1), map.remove(&key));
                }
                prop_assert_eq!((keyed.len(), keyed.is_empty()), (map.len(), map.is_empty()));
                for (key, value) in map.clone() {
                    prop_assert_eq!(keyed.get(&key), Some(&value));
                    prop_assert!(keyed.iter().any(|entry| *entry == (key.as_slice().into(), value)));
                }
            }
        }
    }

    #[test]
    fn keys_that_differ_in_one_byte_or_in_length_are_different() {
        for length in 0..40 {
            let key: Vec<u8> = (0..length).collect();
            assert!(is_same(&key, &key.clone()));
            assert!(!is_same(&key, &[key.as_slice(), b"x"].concat()));
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x80;
                assert!(!is_same(&key, &other), "{length} {at}");
            }
        }
    }

    #[test]
    fn entries_with_the_same_hash_are_distinguished() {
        let mut index = Index::new();
        (0..3).for_each(|_| index.push(7));
        for place in 0..3 {
            assert_eq!(index.find(7, |at| at == place), Some(place));
        }
        index.swap_remove(0);
        assert_eq!([0, 1, 2].map(|place| index.find(7, |at| at == place)), [Some(0), Some(1), None]);
    }
}
