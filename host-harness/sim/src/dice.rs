//! Random choices of a simulation: all of them follow from its seed.

use std::ops::RangeInclusive;

use weir_filter::units::Random;

/// Random choices for one purpose.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Random);

impl Dice {
    /// Choices of `seed` for the purpose `purpose`: the purposes of one seed do not depend on each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut first = Random::new(seed);
        let mut random = Random::new(first.number() ^ purpose.wrapping_mul(0xd134_2543_de82_ef95));
        random.number();
        Self(random)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.number()
    }

    /// Returns a number below `bound`, 0 where `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    pub(crate) fn place(&mut self, places: usize) -> usize {
        self.below(places as u64) as usize
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end().saturating_sub(*range.start()) + 1)
    }

    /// Returns `true` in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.place(items.len())]
    }
}
