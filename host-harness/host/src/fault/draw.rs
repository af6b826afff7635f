//! Seeded choices: which commands and connections a fault strikes.

use std::time::Duration;

use super::{Fault, Faults, Rule};

/// Sequence of choices for one connection (SplitMix64): the same seed, cluster, endpoint and number of the connection
/// give the same choices.
#[derive(Debug, Clone)]
pub(super) struct Draws(u64);

/// Faults of one command.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Struck {
    pub(super) delay: Option<Duration>,
    /// The first other fault that strikes the command.
    pub(super) fault: Option<Fault>,
}

impl Draws {
    pub(super) fn new(seed: u64, proxy: &str, connection: u64) -> Self {
        // FNV-1a.
        let name = proxy
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut draws = Self(seed ^ name);
        let mixed = draws.next();
        Self(mixed ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Draws the time that passes before a new connection reaches its endpoint.
    pub(super) fn opening(&mut self, faults: &Faults) -> Duration {
        let mut time = Duration::ZERO;
        for rule in &faults.0 {
            if let Fault::SlowOpen(slow) = rule.fault
                && self.strikes(rule)
            {
                time = time.max(slow);
            }
        }
        time
    }

    /// Draws the faults that strike the connection after a number of bytes; the earliest is first.
    pub(super) fn armed(&mut self, faults: &Faults) -> Vec<(u64, Fault)> {
        let mut armed = Vec::new();
        for rule in &faults.0 {
            if let Some(bytes) = rule.after
                && self.strikes(rule)
            {
                armed.push((bytes, rule.fault));
            }
        }
        armed.sort_by_key(|(bytes, _)| *bytes);
        armed
    }

    /// Draws the faults of the next command.
    pub(super) fn command(&mut self, faults: &Faults) -> Struck {
        let mut struck = Struck::default();
        for rule in faults.0.iter().filter(|rule| rule.after.is_none()) {
            match rule.fault {
                Fault::SlowOpen(_) | Fault::Refuse => {}
                Fault::Delay(time) if self.strikes(rule) => struck.delay = struck.delay.max(Some(time)),
                Fault::Delay(_) => {}
                fault if self.strikes(rule) => struck.fault = struck.fault.or(Some(fault)),
                _ => {}
            }
        }
        struck
    }

    fn strikes(&mut self, rule: &Rule) -> bool {
        // 53 bits are a fraction of an f64 without rounding.
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < rule.probability
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(seed: u64, proxy: &str, connection: u64) -> Vec<Struck> {
        let delay = Rule::from(Fault::Delay(Duration::from_millis(20))).with_probability(0.1);
        let faults: Faults = [delay, Rule::from(Fault::Reset).with_probability(0.05)].into_iter().collect();
        let mut draws = Draws::new(seed, proxy, connection);
        (0..1000).map(|_| draws.command(&faults)).collect()
    }

    #[test]
    fn a_seed_repeats_its_choices_and_others_differ() {
        let first = struck(7, "redis", 1);
        assert_eq!(first, struck(7, "redis", 1));
        for other in [struck(8, "redis", 1), struck(7, "other", 1), struck(7, "redis", 2)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn faults_strike_with_their_probability() {
        let struck = struck(1, "redis", 1);
        let delays = struck.iter().filter(|struck| struck.delay.is_some()).count();
        let resets = struck.iter().filter(|struck| struck.fault == Some(Fault::Reset)).count();
        assert!((70..130).contains(&delays) && (30..75).contains(&resets), "{delays} delays, {resets} resets of 1000");
    }

    #[test]
    fn nothing_strikes_with_probability_0_and_everything_with_1() {
        let mut draws = Draws::new(1, "redis", 1);
        let never: Faults = Rule::from(Fault::Garbage).with_probability(0.0).into();
        let always = Faults::from(Fault::Garbage);
        for _ in 0..1000 {
            assert_eq!(draws.command(&never), Struck::default());
            assert_eq!(draws.command(&always).fault, Some(Fault::Garbage));
        }
    }

    #[test]
    fn a_fault_after_bytes_is_drawn_once_for_a_connection() {
        let faults: Faults =
            [Rule::from(Fault::Reset).after(9), Rule::from(Fault::Drop).after(3)].into_iter().collect();
        let mut draws = Draws::new(1, "redis", 1);
        assert_eq!(draws.armed(&faults), [(3, Fault::Drop), (9, Fault::Reset)]);
        assert_eq!(draws.command(&faults), Struck::default());
    }
}
