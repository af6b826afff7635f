//! Owner of a slot of a concurrency limit.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::units::Micros;

/// Owner of a slot: a name that no other request of any worker of any proxy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlotOwner([u8; 16]);

impl SlotOwner {
    /// Returns the owner for request `request` of worker `worker`.
    ///
    /// The worker's number must be random enough to be unique among all workers. A worker must not give one number to
    /// two requests within a lease.
    #[must_use]
    pub fn new(worker: u64, request: u64) -> Self {
        Self(((u128::from(worker) << 64) | u128::from(request)).to_le_bytes())
    }

    /// Returns the owner of a name in Redis.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn of_bytes(name: &[u8]) -> Option<Self> {
        name.try_into().ok().map(Self)
    }

    /// The owner's name in Redis.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name in Redis of the owner's slot with `lease`: the owner's name, then the lease in µs.
    #[must_use]
    pub fn slot(&self, lease: Micros) -> Vec<u8> {
        [self.as_bytes(), lease.0.to_string().as_bytes()].concat()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn two_requests_have_two_names() {
        let names = [SlotOwner::new(1, 2), SlotOwner::new(2, 1), SlotOwner::new(1, 3), SlotOwner::new(0, 0)];
        for (i, one) in names.iter().enumerate() {
            assert!(names[i + 1..].iter().all(|other| other != one));
        }
    }

    #[test]
    fn an_owner_is_read_from_its_own_name_alone() {
        let owner = SlotOwner::new(1, 2);
        assert_eq!(SlotOwner::of_bytes(owner.as_bytes()), Some(owner));
        assert_eq!([&b""[..], b"short", &[7; 17]].map(SlotOwner::of_bytes), [None; 3]);
    }
}
