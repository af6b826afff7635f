//! Where in a row things lie, by their hashes: open addressing with linear probing, at most half full.

use alloc::vec::Vec;

/// Slots when the first thing comes: a power of two.
const FIRST_SLOTS: usize = 16;
/// 2⁶⁴ divided by the golden ratio: multiples of it fall evenly between 0 and 2⁶⁴ (Knuth, volume 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Of a row that its owner keeps, in step.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Places in the row, counted from 1, and 0 where none is. No slots, or a power of two.
    slots: Vec<usize>,
    /// Of the things, in the order of the row.
    hashes: Vec<u64>,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), hashes: Vec::new() }
    }

    /// The place of the only thing of this hash.
    pub(super) fn find_only(&self, hash: u64) -> Option<usize> {
        self.find(hash, |_| true)
    }

    /// The place of the thing of this hash for whose place `is` holds.
    pub(super) fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        let mut slot = self.home(hash);
        loop {
            let place = self.place(slot)?;
            if self.hashes.get(place) == Some(&hash) && is(place) {
                return Some(place);
            }
            slot = self.after(slot);
        }
    }

    /// The row has got another thing, at its end.
    pub(super) fn push(&mut self, hash: u64) {
        let place = self.hashes.len();
        self.hashes.push(hash);
        if self.hashes.len().saturating_mul(2) <= self.slots.len() {
            return self.put(place);
        }
        self.slots = vec![0; self.slots.len().saturating_mul(2).max(FIRST_SLOTS)];
        (0..=place).for_each(|place| self.put(place));
    }

    /// The row has lost a thing; the last one has taken its place.
    pub(super) fn swap_remove(&mut self, place: usize) {
        let mut slot = self.slot_of(place);
        self.set(slot, 0);
        // What was put behind it because of it moves up: a search ends at the first slot that is empty.
        loop {
            slot = self.after(slot);
            let Some(behind) = self.place(slot) else { break };
            self.set(slot, 0);
            self.put(behind);
        }
        let last = self.hashes.len().saturating_sub(1);
        if place < last {
            self.set(self.slot_of(last), place.saturating_add(1));
        }
        self.hashes.swap_remove(place);
    }

    /// Where what is at this place is found, or else the empty slot where it would be.
    fn slot_of(&self, place: usize) -> usize {
        let hash = self.hashes.get(place).copied().unwrap_or_default();
        let mut slot = self.home(hash);
        while self.place(slot).is_some_and(|other| other != place) {
            slot = self.after(slot);
        }
        slot
    }

    fn put(&mut self, place: usize) {
        self.set(self.slot_of(place), place.saturating_add(1));
    }

    fn set(&mut self, slot: usize, to: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = to;
        }
    }

    #[inline(always)]
    fn place(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot)?.checked_sub(1)
    }

    /// Where a search starts.
    fn home(&self, hash: u64) -> usize {
        // The best mixed bits are the highest, as many as number the slots.
        let unused = u64::BITS.saturating_sub(self.slots.len().trailing_zeros());
        let slot = hash.wrapping_mul(SPREAD).checked_shr(unused).unwrap_or_default();
        self.wrap(usize::try_from(slot).unwrap_or_default())
    }

    #[inline(always)]
    fn after(&self, slot: usize) -> usize {
        self.wrap(slot.wrapping_add(1))
    }

    #[inline(always)]
    fn wrap(&self, slot: usize) -> usize {
        slot & self.slots.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_follow_each_other_do_not_crowd() {
        let mut index = Index::new();
        (1..=10_000).for_each(|id| index.push(id));
        let longest = index.slots.chunk_by(|one, other| *one > 0 && *other > 0).map(<[_]>::len).max();
        assert!(longest.is_some_and(|longest| longest <= 16), "{longest:?}");
    }
}
