//! Round trips: the times from sending a command to its reply, until the host records them.
//!
//! Each command is recorded, which costs an admitted request about 100 instructions of 20,400 (`cargo test --test fuel`).

use alloc::vec::Vec;

use crate::units::Micros;

/// Round trips kept until they are taken, at most; further ones are dropped.
const MAX_KEPT: usize = 1024;

/// Round trips since they were last taken.
#[derive(Debug, Default)]
pub(super) struct RoundTrips(Vec<Micros>);

impl RoundTrips {
    #[inline]
    pub(super) fn add(&mut self, round_trip: Micros) {
        if self.0.len() < MAX_KEPT {
            self.0.push(round_trip);
        }
    }

    /// Takes one of the round trips.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Micros> {
        self.0.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_that_nobody_takes_are_bounded() {
        let mut round_trips = RoundTrips::default();
        (0..5_000).for_each(|nth| round_trips.add(Micros(nth)));
        assert_eq!(core::iter::from_fn(|| round_trips.pop()).count(), MAX_KEPT);
    }
}
