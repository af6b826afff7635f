//! Bounded map that drops the least recently used entries, in two generations.
//!
//! A used entry moves to the young generation. When the young generation is full it becomes the old one, and the
//! entries of the former old generation are dropped. The map thus has the `max / 2` most recently used keys, and at
//! most `max` keys; an odd `max` is rounded up.

use alloc::boxed::Box;

use super::Keyed;

/// Map of at most `max` values by key, or `max + 1` if `max` is odd.
#[derive(Debug)]
pub(crate) struct Recent<V> {
    generation: usize,
    /// Number of times that entries were dropped.
    drops: u32,
    young: Keyed<V>,
    old: Keyed<V>,
}

impl<V> Recent<V> {
    pub(crate) fn new(max: usize) -> Self {
        let young = Keyed::default();
        Self { generation: max.div_ceil(2), drops: 0, old: young.empty_alike(), young }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// Number of times that entries were dropped for lack of room, modulo 2³².
    pub(crate) fn drops(&self) -> u32 {
        self.drops
    }

    /// Returns the value of a key, which counts as used.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut V> {
        let hash = self.young.hash(key);
        if let Some(place) = self.young.position(hash, key) {
            return self.young.at_mut(place);
        }
        let place = self.old.position(hash, key)?;
        let (key, value) = self.old.remove_at(place);
        self.put(hash, key, value)
    }

    /// Inserts a value, and replaces any other of this key.
    pub(crate) fn insert(&mut self, key: &[u8], value: V) {
        match self.get_mut(key) {
            Some(known) => *known = value,
            None => {
                self.put(self.young.hash(key), key.into(), value);
            }
        }
    }

    /// Visits all entries, in any order. None counts as used.
    pub(crate) fn for_each(&mut self, mut visit: impl FnMut(&[u8], &mut V)) {
        for keyed in [&mut self.young, &mut self.old] {
            keyed.iter_mut().for_each(|(key, value)| visit(key, value));
        }
    }

    pub(crate) fn clear(&mut self) {
        self.young = self.young.empty_alike();
        self.old = self.young.empty_alike();
    }

    fn put(&mut self, hash: u64, key: Box<[u8]>, value: V) -> Option<&mut V> {
        if self.young.len() >= self.generation {
            let young = self.young.empty_alike();
            self.drops = self.drops.wrapping_add((!self.old.is_empty()).into());
            self.old = core::mem::replace(&mut self.young, young);
        }
        (self.generation > 0).then(|| self.young.push(hash, key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_entry_stays_and_an_unused_one_is_dropped() {
        let mut recent = Recent::new(4);
        recent.insert(b"kept", 0);
        for other in 1..100_u32 {
            recent.insert(&other.to_be_bytes(), other);
            assert_eq!(recent.get_mut(b"kept").copied(), Some(0), "after {other}");
            assert!(recent.young.len() + recent.old.len() <= 4);
        }
        assert_eq!(recent.get_mut(&1_u32.to_be_bytes()), None);
    }

    #[test]
    fn a_key_has_one_value() {
        let mut recent = Recent::new(4);
        recent.insert(b"a", 1);
        recent.insert(b"b", 2);
        recent.insert(b"c", 3);
        recent.insert(b"a", 9);
        assert_eq!(recent.get_mut(b"a").copied(), Some(9));
        recent.clear();
        assert!(recent.is_empty());
    }

    #[test]
    fn a_map_of_size_zero_keeps_nothing() {
        let mut recent = Recent::new(0);
        recent.insert(b"a", 1);
        assert!(recent.is_empty() && recent.get_mut(b"a").is_none());
    }
}
