//! Pseudo-random numbers for jitter and for samples.

/// Marsaglia's xorshift64, a deterministic generator. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Returns a generator. Generators of different seeds, adjacent ones too, start differently.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The generator never leaves state 0.
        Self((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9).max(1))
    }

    /// Returns the next number. All numbers but 0 are equally likely.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns the next number below `bound`, 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_seeds_start_differently() {
        let first: std::collections::HashSet<u64> = (0..100).map(|seed| Random::new(seed).below(1_000_000)).collect();
        assert!(first.len() > 95, "{} different numbers of 100", first.len());
    }

    #[test]
    fn numbers_below_a_bound_are_about_equally_frequent() {
        let (mut random, mut counts) = (Random::new(7), [0; 10]);
        for _ in 0..10_000 {
            counts[usize::try_from(random.below(10)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
    }
}
