//! Slots that a request in flight holds in the buckets of its concurrency limits.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::scripts::Scripts;
use crate::limit::algorithm::SlotOwner;
use crate::redis::Call;
use crate::units::Micros;

/// Slots of one request. The request must release them when it ends, in whatever way, and renew them until then.
///
/// Both calls may be repeated, even when no slot is held any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSlots {
    owner: SlotOwner,
    /// Key and lease of each slot's bucket. Never empty.
    slots: Vec<(Vec<u8>, Micros)>,
}

impl HeldSlots {
    pub(super) fn new(owner: SlotOwner, slots: impl Iterator<Item = (Vec<u8>, Micros)>) -> Option<Self> {
        let slots: Vec<_> = slots.collect();
        (!slots.is_empty()).then_some(Self { owner, slots })
    }

    /// Adds other slots of the same request and owner.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.slots.extend(others.slots);
        self
    }

    /// Owner of the slots.
    #[must_use]
    pub fn owner(&self) -> SlotOwner {
        self.owner
    }

    /// Key and lease of each slot.
    pub fn slots(&self) -> impl Iterator<Item = (&[u8], Micros)> {
        self.slots.iter().map(|(key, lease)| (key.as_slice(), *lease))
    }

    /// Interval between renewals: a third of the shortest lease.
    #[must_use]
    pub fn renew_within(&self) -> Micros {
        let shortest = self.slots.iter().map(|(_, lease)| *lease).min().unwrap_or(Micros::ZERO);
        Micros(shortest.0 / 3)
    }

    /// The call that releases all slots. Redis replies the number of slots that were held.
    #[must_use]
    #[inline(never)]
    pub fn release_call(&self, scripts: &Scripts) -> Call {
        release_call(&self.all(), scripts)
    }

    /// The call that renews the leases of all slots that are still held. Redis replies their number; a slot whose lease
    /// has ended may have gone to another request.
    #[must_use]
    #[inline(never)]
    pub fn renew_call(&self, scripts: &Scripts) -> Call {
        renew_call(&self.all(), scripts)
    }

    fn all(&self) -> Vec<(&[u8], SlotOwner, Micros)> {
        self.slots().map(|(key, lease)| (key, self.owner, lease)).collect()
    }
}

/// The call that releases slots of any owners: each by key, owner and lease. Redis replies the number that were held.
#[must_use]
pub fn release_call(slots: &[(&[u8], SlotOwner, Micros)], scripts: &Scripts) -> Call {
    let names: Vec<Vec<u8>> = slots.iter().map(|(_, owner, lease)| owner.slot(*lease)).collect();
    if let Some((first, ..)) = slots.first()
        && slots.iter().all(|(key, ..)| key == first)
    {
        let names = names.iter().map(Vec::as_slice);
        let parts: Vec<&[u8]> = [b"ZREM".as_slice(), first].into_iter().chain(names).collect();
        return Call::command(&parts);
    }
    let keys: Vec<&[u8]> = slots.iter().map(|(key, ..)| *key).collect();
    Call::script(scripts.release(), &keys, &names)
}

/// The call that renews leases of any owners. Redis replies the number of leases renewed.
#[must_use]
pub fn renew_call(slots: &[(&[u8], SlotOwner, Micros)], scripts: &Scripts) -> Call {
    let leases: Vec<String> = slots.iter().map(|(_, _, lease)| lease.0.to_string()).collect();
    let keys: Vec<&[u8]> = slots.iter().map(|(key, ..)| *key).collect();
    let mut arguments: Vec<&[u8]> = Vec::new();
    for ((_, owner, _), lease) in slots.iter().zip(&leases) {
        arguments.extend([owner.as_bytes(), lease.as_bytes()]);
    }
    Call::script(scripts.renew(), &keys, &arguments)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_renewed_within_a_third_of_the_shortest_lease() {
        let leases = [Micros::from_secs(60), Micros::from_secs(3)];
        let held = HeldSlots::new(SlotOwner::default(), leases.into_iter().map(|lease| (Vec::new(), lease)));
        assert_eq!(held.unwrap().renew_within(), Micros::from_secs(1));
        assert_eq!(HeldSlots::new(SlotOwner::default(), core::iter::empty()), None);
    }
}
