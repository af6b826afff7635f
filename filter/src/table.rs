//! A map by ids that the proxy gives, or tickets made of them. It counts them up, and nobody else chooses them.

use std::iter::repeat_with;

/// Slots when the first value comes: a power of two.
const FIRST: usize = 16;
/// 2⁶⁴ divided by the golden ratio: multiples of it fall evenly between 0 and 2⁶⁴ (Knuth, volume 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Open addressing with linear probing, at most half full.
#[derive(Debug)]
pub(crate) struct Table<T> {
    /// None, or a power of two.
    slots: Vec<Option<(u64, T)>>,
    taken: usize,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), taken: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    pub(crate) fn contains(&self, id: impl Into<u64>) -> bool {
        self.get(id).is_some()
    }

    pub(crate) fn get_mut(&mut self, id: impl Into<u64>) -> Option<&mut T> {
        let at = self.find(id.into());
        self.slots.get_mut(at)?.as_mut().map(|(_, value)| value)
    }

    pub(crate) fn get(&self, id: impl Into<u64>) -> Option<&T> {
        self.slots.get(self.find(id.into()))?.as_ref().map(|(_, value)| value)
    }

    /// Sets the value of an id.
    pub(crate) fn insert(&mut self, id: impl Into<u64>, value: T) {
        let id = id.into();
        if self.taken.saturating_mul(2) >= self.slots.len() {
            self.grow();
        }
        let at = self.find(id);
        if let Some(slot) = self.slots.get_mut(at)
            && slot.replace((id, value)).is_none()
        {
            self.taken = self.taken.saturating_add(1);
        }
    }

    pub(crate) fn remove(&mut self, id: impl Into<u64>) -> Option<T> {
        let mut at = self.find(id.into());
        let (_, value) = self.slots.get_mut(at)?.take()?;
        self.taken = self.taken.saturating_sub(1);
        // What was put behind it because of it moves up: a search ends at the first slot that is empty.
        loop {
            at = self.after(at);
            let Some((id, value)) = self.slots.get_mut(at).and_then(Option::take) else { return Some(value) };
            let place = self.find(id);
            if let Some(slot) = self.slots.get_mut(place) {
                *slot = Some((id, value));
            }
        }
    }

    /// Where an id is, or else the empty slot where it would be.
    fn find(&self, id: u64) -> usize {
        // The best mixed bits are the highest.
        let [a, b, c, d, ..] = id.wrapping_mul(SPREAD).to_be_bytes();
        let mut at = self.wrap(usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default());
        while self.slots.get(at).is_some_and(|slot| slot.as_ref().is_some_and(|(known, _)| *known != id)) {
            at = self.after(at);
        }
        at
    }

    fn after(&self, at: usize) -> usize {
        self.wrap(at.wrapping_add(1))
    }

    fn wrap(&self, at: usize) -> usize {
        at & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let size = self.slots.len().saturating_mul(2).max(FIRST);
        let old = std::mem::replace(&mut self.slots, repeat_with(|| None).take(size).collect());
        self.taken = 0;
        old.into_iter().flatten().for_each(|(id, value)| self.insert(id, value));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_would(steps: Vec<(bool, u8, u16)>, first in 0..u32::MAX - 300) {
            let (mut table, mut map) = (Table::new(), HashMap::new());
            for (inserts, id, value) in steps {
                let id = u64::from(first.wrapping_add(id.into()));
                if inserts {
                    table.insert(id, value);
                    map.insert(id, value);
                } else {
                    prop_assert_eq!(table.remove(id), map.remove(&id));
                }
                prop_assert_eq!(table.len(), map.len());
                for id in u64::from(first)..u64::from(first.wrapping_add(256)) {
                    prop_assert_eq!(table.get(id), map.get(&id));
                    prop_assert_eq!(table.get_mut(id), map.get_mut(&id));
                }
            }
        }
    }

    #[test]
    fn ids_that_follow_each_other_do_not_crowd() {
        let mut table = Table::new();
        (1..=10_000_u32).for_each(|id| table.insert(id, ()));
        let longest = table.slots.chunk_by(|one, other| one.is_some() && other.is_some()).map(<[_]>::len).max();
        assert!(longest.is_some_and(|longest| longest <= 16), "{longest:?}");
    }
}
