//! Places that are to be given back: by key, and when to try next.
//!
//! What was held is owed until Redis has taken it back, or its lease ends: there is no more of it than was held. What a
//! check may have taken whose outcome nobody knows is a guess, given back a few times more: on another connection, the
//! check may yet reach Redis after that.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::limit::Holder;
use crate::table::Keyed;
use crate::units::Micros;

/// Until what failed is tried again.
const TRY_AGAIN: Micros = Micros::from_millis(250);
/// Times that a guess is given back, each twice as long after the last one: for half a minute in all.
const GUESSES: u32 = 8;
/// Guesses that are kept. What is one more ends with its lease, if it is held at all.
const MAX_GUESSES: usize = 16_384;

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Debt {
    pub(super) holder: Holder,
    pub(super) lease: Micros,
    /// When Redis frees it by itself.
    pub(super) ends: Micros,
    /// Of a guess, how often it is to be given back; 0 where it is known to be held.
    pub(super) guesses: u32,
}

/// Debts by key, each with when it is due.
#[derive(Debug, Default)]
pub(super) struct Owed {
    keys: Keyed<Vec<(Micros, Debt)>>,
    /// No later than the first is due.
    next: Option<Micros>,
    guesses: usize,
}

impl Debt {
    /// Of a place that was held until `now`.
    pub(super) fn held(now: Micros, holder: Holder, lease: Micros) -> Self {
        Self { holder, lease, ends: now.plus(lease), guesses: 0 }
    }

    /// Of a place that may be held at `now`.
    pub(super) fn guess(now: Micros, holder: Holder, lease: Micros) -> Self {
        Self { guesses: GUESSES, ..Self::held(now, holder, lease) }
    }

    pub(super) fn is_guess(&self) -> bool {
        self.guesses > 0
    }
}

impl Owed {
    /// It could not be given back.
    pub(super) fn failed(&mut self, now: Micros, key: &[u8], debt: Debt) {
        self.add(now.plus(TRY_AGAIN), key, debt);
    }

    /// It was given back, and nobody knows whether it had been taken by then.
    pub(super) fn guessed(&mut self, now: Micros, key: &[u8], debt: Debt) {
        let guesses = debt.guesses.saturating_sub(1);
        if guesses > 0 {
            let doublings = GUESSES.saturating_sub(debt.guesses);
            let wait = TRY_AGAIN.times(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
            self.add(now.plus(wait), key, Debt { guesses, ..debt });
        }
    }

    /// What is due, with its key, `max` of them at most. What has ended by now is forgotten.
    #[inline(never)]
    pub(super) fn due(&mut self, now: Micros, max: usize) -> Vec<(Vec<u8>, Debt)> {
        let mut due = Vec::new();
        if self.next.is_none_or(|next| next > now) {
            return due;
        }
        let (mut next, mut empty, mut guesses) = (None::<Micros>, Vec::new(), 0_usize);
        for (key, debts) in self.keys.iter_mut() {
            debts.retain(|(at, debt)| {
                if debt.ends <= now {
                    return false;
                }
                if *at <= now && due.len() < max {
                    due.push((key.to_vec(), debt.clone()));
                    return false;
                }
                next = Some(next.map_or(*at, |next| next.min(*at)));
                guesses = guesses.saturating_add(usize::from(debt.is_guess()));
                true
            });
            if debts.is_empty() {
                empty.push(Box::<[u8]>::from(key));
            }
        }
        for key in empty {
            if let Some(place) = self.keys.place(self.keys.hash(&key), &key) {
                self.keys.remove_at(place);
            }
        }
        (self.next, self.guesses) = (next, guesses);
        due
    }

    /// No later than the first is due.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.next
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.iter().map(|(_, debts)| debts.len()).sum()
    }

    #[inline(never)]
    fn add(&mut self, at: Micros, key: &[u8], debt: Debt) {
        if debt.is_guess() {
            if self.guesses >= MAX_GUESSES {
                return;
            }
            self.guesses = self.guesses.saturating_add(1);
        }
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        let hash = self.keys.hash(key);
        match self.keys.place(hash, key).and_then(|place| self.keys.at_mut(place)) {
            Some(debts) => debts.push((at, debt)),
            None => {
                self.keys.push(hash, key.into(), vec![(at, debt)]);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const SEC: fn(u64) -> Micros = Micros::from_secs;

    #[test]
    fn each_is_due_in_its_time_and_keys_without_any_take_no_room() {
        let mut owed = Owed::default();
        let debt = |request| Debt::held(SEC(10), Holder::new(1, request), SEC(60));
        owed.failed(SEC(10), b"one", debt(1));
        owed.failed(SEC(11), b"other", debt(2));
        assert_eq!(owed.due(SEC(10).plus(TRY_AGAIN), 9), [(b"one".to_vec(), debt(1))]);
        assert_eq!((owed.keys.iter().count(), owed.next_due()), (1, Some(SEC(11).plus(TRY_AGAIN))));
        assert_eq!(owed.due(SEC(11).plus(TRY_AGAIN), 9), [(b"other".to_vec(), debt(2))]);
        assert_eq!((owed.keys.iter().count(), owed.next_due()), (0, None));
    }
}
