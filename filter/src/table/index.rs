//! Hash index over a dense `Vec`: open addressing with linear probing, load factor at most ½.

use alloc::vec::Vec;

/// Slots after the first insertion: a power of two.
const FIRST_SLOTS: usize = 16;
/// 2⁶⁴ divided by the golden ratio: multiples of it fall evenly between 0 and 2⁶⁴ (Knuth, volume 3, section 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Positions in a `Vec` of entries that the owner keeps in step with the index.
#[derive(Debug, Clone)]
pub(super) struct Index {
    /// Positions in the `Vec`, counted from 1; 0 in an empty slot. The length is 0 or a power of two.
    slots: Vec<usize>,
    /// Hashes of the entries, in the order of the `Vec`.
    hashes: Vec<u64>,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), hashes: Vec::new() }
    }

    /// Returns the position of the only entry with this hash.
    pub(super) fn find_only(&self, hash: u64) -> Option<usize> {
        self.find(hash, |_| true)
    }

    /// Returns the position of the first entry with this hash whose position satisfies `is`.
    pub(super) fn find(&self, hash: u64, is: impl Fn(usize) -> bool) -> Option<usize> {
        let mut slot = self.home(hash);
        loop {
            let position = self.position(slot)?;
            if self.hashes.get(position) == Some(&hash) && is(position) {
                return Some(position);
            }
            slot = self.after(slot);
        }
    }

    /// Records an entry that the owner appended to the `Vec`.
    pub(super) fn push(&mut self, hash: u64) {
        let position = self.hashes.len();
        self.hashes.push(hash);
        if self.hashes.len().saturating_mul(2) <= self.slots.len() {
            return self.put(position);
        }
        self.slots = vec![0; self.slots.len().saturating_mul(2).max(FIRST_SLOTS)];
        (0..=position).for_each(|position| self.put(position));
    }

    /// Records that the owner removed an entry with [`Vec::swap_remove`].
    pub(super) fn swap_remove(&mut self, position: usize) {
        let mut slot = self.slot_of(position);
        self.set(slot, 0);
        // Entries in the slots that follow are inserted again: a search ends at the first empty slot.
        loop {
            slot = self.after(slot);
            let Some(behind) = self.position(slot) else { break };
            self.set(slot, 0);
            self.put(behind);
        }
        let last = self.hashes.len().saturating_sub(1);
        if position < last {
            self.set(self.slot_of(last), position.saturating_add(1));
        }
        self.hashes.swap_remove(position);
    }

    /// Returns the slot of the entry at `position`, or the empty slot where a search for it ends.
    fn slot_of(&self, position: usize) -> usize {
        let hash = self.hashes.get(position).copied().unwrap_or_default();
        let mut slot = self.home(hash);
        while self.position(slot).is_some_and(|other| other != position) {
            slot = self.after(slot);
        }
        slot
    }

    fn put(&mut self, position: usize) {
        self.set(self.slot_of(position), position.saturating_add(1));
    }

    fn set(&mut self, slot: usize, to: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = to;
        }
    }

    #[inline(always)]
    fn position(&self, slot: usize) -> Option<usize> {
        self.slots.get(slot)?.checked_sub(1)
    }

    /// Returns the slot where a search for `hash` starts.
    fn home(&self, hash: u64) -> usize {
        // Multiplication mixes the highest bits best: log2(slots) of these are the slot's number.
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
    fn consecutive_ids_do_not_cluster() {
        let mut index = Index::new();
        (1..=10_000).for_each(|id| index.push(id));
        let longest = index.slots.chunk_by(|one, other| *one > 0 && *other > 0).map(<[_]>::len).max();
        assert!(longest.is_some_and(|longest| longest <= 16), "{longest:?}");
    }
}
