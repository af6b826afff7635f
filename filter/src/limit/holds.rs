//! Places that a request holds, while it is in flight, in the buckets of its concurrency limits.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::scripts::Scripts;
use crate::redis::Call;
use crate::units::Micros;

/// Who holds a place: a name that no other request has, of any worker of any proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Holder([u8; 16]);

impl Holder {
    /// The request `request` of the worker `worker`. The worker must be random enough to be the only one of that
    /// number; it must not give a number to two requests within a lease.
    #[must_use]
    pub fn new(worker: u64, request: u64) -> Self {
        Self(((u128::from(worker) << 64) | u128::from(request)).to_le_bytes())
    }

    /// Its name in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name in Redis of a place that it holds on `lease`: its own, and then the lease.
    #[must_use]
    pub fn place(&self, lease: Micros) -> Vec<u8> {
        [self.as_bytes(), lease.0.to_string().as_bytes()].concat()
    }
}

/// The places of one request. It must give them back when it ends, in whatever way, and renew them until then.
///
/// Both calls may be made again, and by who holds none of the places any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds {
    holder: Holder,
    /// Of each bucket, the key and the lease. Never empty.
    places: Vec<(Vec<u8>, Micros)>,
}

impl Holds {
    pub(super) fn new(holder: Holder, places: impl Iterator<Item = (Vec<u8>, Micros)>) -> Option<Self> {
        let places: Vec<_> = places.collect();
        (!places.is_empty()).then_some(Self { holder, places })
    }

    /// Whose they are.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Each place's key, and its lease.
    pub fn places(&self) -> impl Iterator<Item = (&[u8], Micros)> {
        self.places.iter().map(|(key, lease)| (key.as_slice(), *lease))
    }

    /// How often to renew: three times within the shortest lease.
    #[must_use]
    pub fn renew_within(&self) -> Micros {
        let shortest = self.places.iter().map(|(_, lease)| *lease).min().unwrap_or(Micros::ZERO);
        Micros(shortest.0 / 3)
    }

    /// The call that gives all places back. Redis replies how many it had.
    #[must_use]
    #[inline(never)]
    pub fn release_call(&self, scripts: &Scripts) -> Call {
        release_call(&self.all(), scripts)
    }

    /// The call that renews the leases of those places that have not run out. Redis replies how many; one that has
    /// run out may be another's by now.
    #[must_use]
    #[inline(never)]
    pub fn renew_call(&self, scripts: &Scripts) -> Call {
        renew_call(&self.all(), scripts)
    }

    fn all(&self) -> Vec<(&[u8], Holder, Micros)> {
        self.places().map(|(key, lease)| (key, self.holder, lease)).collect()
    }
}

/// The call that gives places back, whoever holds them: each by key, holder and lease. Redis replies how many it had.
#[must_use]
pub fn release_call(places: &[(&[u8], Holder, Micros)], scripts: &Scripts) -> Call {
    let names: Vec<Vec<u8>> = places.iter().map(|(_, holder, lease)| holder.place(*lease)).collect();
    if let Some((first, ..)) = places.first()
        && places.iter().all(|(key, ..)| key == first)
    {
        let names = names.iter().map(Vec::as_slice);
        let parts: Vec<&[u8]> = [b"ZREM".as_slice(), first].into_iter().chain(names).collect();
        return Call::command(&parts);
    }
    let keys: Vec<&[u8]> = places.iter().map(|(key, ..)| *key).collect();
    Call::script(scripts.release(), &keys, &names)
}

/// The call that renews leases, whoever holds them. Redis replies how many.
#[must_use]
pub fn renew_call(places: &[(&[u8], Holder, Micros)], scripts: &Scripts) -> Call {
    let leases: Vec<String> = places.iter().map(|(_, _, lease)| lease.0.to_string()).collect();
    let keys: Vec<&[u8]> = places.iter().map(|(key, ..)| *key).collect();
    let mut arguments: Vec<&[u8]> = Vec::new();
    for ((_, holder, _), lease) in places.iter().zip(&leases) {
        arguments.extend([holder.as_bytes(), lease.as_bytes()]);
    }
    Call::script(scripts.renew(), &keys, &arguments)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_have_two_names() {
        let names = [Holder::new(1, 2), Holder::new(2, 1), Holder::new(1, 3), Holder::new(0, 0)];
        for (i, one) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn the_shortest_lease_is_renewed_in_time() {
        let leases = [Micros::from_secs(60), Micros::from_secs(3)];
        let holds = Holds::new(Holder::default(), leases.into_iter().map(|lease| (Vec::new(), lease)));
        assert_eq!(holds.unwrap().renew_within(), Micros::from_secs(1));
        assert_eq!(Holds::new(Holder::default(), core::iter::empty()), None);
    }
}
