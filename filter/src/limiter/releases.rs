//! Pending releases: slots to be released later, by key, each with the time of the next attempt.
//!
//! The release of a held slot is retried until Redis has released it or its lease ends; there are at most as many as
//! held slots. A slot that a check may have taken, but whose reply was lost, is a guess. It is released several times:
//! the check, sent on another connection, may reach Redis after a release.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::limit::SlotOwner;
use crate::table::Keyed;
use crate::units::Micros;

/// Delay before a failed release is retried.
const TRY_AGAIN: Micros = Micros::from_millis(250);
/// Number of releases of a guess, with delays that double: about half a minute in all.
const GUESSES: u32 = 8;
/// Maximum number of pending guesses. The slot of a further guess, if held at all, ends with its lease.
const MAX_GUESSES: usize = 16_384;

/// Release of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRelease {
    pub(super) owner: SlotOwner,
    pub(super) lease: Micros,
    /// End of the lease, at which Redis frees the slot by itself.
    pub(super) ends: Micros,
    /// Remaining number of releases of a guess; 0 for a slot known to be held.
    pub(super) guesses: u32,
}

/// Pending releases by key, each with its due time.
#[derive(Debug, Default)]
pub(super) struct PendingReleases {
    keys: Keyed<Vec<(Micros, SlotRelease)>>,
    /// Lower bound of the earliest due time.
    next: Option<Micros>,
    guesses: usize,
}

impl SlotRelease {
    /// Creates the release of a slot that was held until `now`.
    pub(super) fn held(now: Micros, owner: SlotOwner, lease: Micros) -> Self {
        Self { owner, lease, ends: now.plus(lease), guesses: 0 }
    }

    /// Creates the release of a slot that may be held at `now`.
    pub(super) fn guess(now: Micros, owner: SlotOwner, lease: Micros) -> Self {
        Self { guesses: GUESSES, ..Self::held(now, owner, lease) }
    }

    pub(super) fn is_guess(&self) -> bool {
        self.guesses > 0
    }
}

impl PendingReleases {
    /// Schedules the retry of a failed release.
    pub(super) fn failed(&mut self, now: Micros, key: &[u8], release: SlotRelease) {
        self.add(now.plus(TRY_AGAIN), key, release);
    }

    /// Schedules the next release of a guess that Redis did not hold, if any remains.
    pub(super) fn guessed(&mut self, now: Micros, key: &[u8], release: SlotRelease) {
        let guesses = release.guesses.saturating_sub(1);
        if guesses > 0 {
            let doublings = GUESSES.saturating_sub(release.guesses);
            let wait = TRY_AGAIN.times(1_u64.checked_shl(doublings).unwrap_or(u64::MAX));
            self.add(now.plus(wait), key, SlotRelease { guesses, ..release });
        }
    }

    /// Removes and returns at most `max` due releases with their keys. Drops those whose lease has ended.
    #[inline(never)]
    pub(super) fn due(&mut self, now: Micros, max: usize) -> Vec<(Vec<u8>, SlotRelease)> {
        let mut due = Vec::new();
        if self.next.is_none_or(|next| next > now) {
            return due;
        }
        let (mut next, mut empty, mut guesses) = (None::<Micros>, Vec::new(), 0_usize);
        for (key, releases) in self.keys.iter_mut() {
            releases.retain(|(at, release)| {
                if release.ends <= now {
                    return false;
                }
                if *at <= now && due.len() < max {
                    due.push((key.to_vec(), release.clone()));
                    return false;
                }
                next = Some(next.map_or(*at, |next| next.min(*at)));
                guesses = guesses.saturating_add(usize::from(release.is_guess()));
                true
            });
            if releases.is_empty() {
                empty.push(Box::<[u8]>::from(key));
            }
        }
        for key in empty {
            if let Some(index) = self.keys.position(self.keys.hash(&key), &key) {
                self.keys.remove_at(index);
            }
        }
        (self.next, self.guesses) = (next, guesses);
        due
    }

    /// Lower bound of the earliest due time.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.next
    }

    /// Number of pending releases.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.iter().map(|(_, releases)| releases.len()).sum()
    }

    #[inline(never)]
    fn add(&mut self, at: Micros, key: &[u8], release: SlotRelease) {
        if release.is_guess() {
            if self.guesses >= MAX_GUESSES {
                return;
            }
            self.guesses = self.guesses.saturating_add(1);
        }
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        let hash = self.keys.hash(key);
        match self.keys.position(hash, key).and_then(|index| self.keys.at_mut(index)) {
            Some(releases) => releases.push((at, release)),
            None => {
                self.keys.push(hash, key.into(), vec![(at, release)]);
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
        let mut pending = PendingReleases::default();
        let release = |request| SlotRelease::held(SEC(10), SlotOwner::new(1, request), SEC(60));
        pending.failed(SEC(10), b"one", release(1));
        pending.failed(SEC(11), b"other", release(2));
        assert_eq!(pending.due(SEC(10).plus(TRY_AGAIN), 9), [(b"one".to_vec(), release(1))]);
        assert_eq!((pending.keys.iter().count(), pending.next_due()), (1, Some(SEC(11).plus(TRY_AGAIN))));
        assert_eq!(pending.due(SEC(11).plus(TRY_AGAIN), 9), [(b"other".to_vec(), release(2))]);
        assert_eq!((pending.keys.iter().count(), pending.next_due()), (0, None));
    }

    #[test]
    fn a_guess_is_released_eight_times_in_all() {
        let mut pending = PendingReleases::default();
        let (mut now, mut release) = (SEC(10), SlotRelease::guess(SEC(10), SlotOwner::new(1, 1), SEC(600)));
        let mut releases = 1;
        loop {
            pending.guessed(now, b"key", release);
            let Some(next) = pending.next_due() else { break };
            now = next;
            release = pending.due(now, 9).remove(0).1;
            releases += 1;
        }
        assert_eq!((releases, pending.len()), (GUESSES, 0));
    }
}
