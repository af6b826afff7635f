//! Models of the original limiters: what they count, and when their windows begin.

use std::collections::HashMap;

/// Counter that a request hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) key: String,
    pub(crate) max: u64,
    pub(crate) seconds: u64,
    pub(crate) cost: u64,
    pub(crate) is_shadow: bool,
}

/// Start of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    /// Multiples of their length since 1970.
    Aligned,
    /// The first request that is counted.
    FirstHit,
}

/// Limiter with counters in windows.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) windows: Windows,
    /// Whether a denied request counts as well.
    pub(crate) counts_denied: bool,
    counters: HashMap<(String, u64), Counter>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    /// Start of the window, in microseconds since 1970.
    start: u64,
    count: u64,
    /// The part of `count` of denied requests.
    of_denied: u64,
}

/// Decision about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) is_admitted: bool,
    /// Whether each limit that denies it would have room without the denied requests that it has counted.
    pub(crate) is_by_denied: bool,
}

impl Limiter {
    pub(crate) fn new(windows: Windows, counts_denied: bool) -> Self {
        Self { windows, counts_denied, counters: HashMap::new() }
    }

    /// Decides about a request at a time in microseconds since 1970, and counts it.
    pub(crate) fn decide(&mut self, hits: &[Hit], now: u64) -> Decision {
        let (mut is_admitted, mut is_by_denied) = (true, true);
        for hit in hits.iter().filter(|hit| !hit.is_shadow) {
            let counter = self.current(hit, now);
            if counter.count + hit.cost > hit.max {
                is_admitted = false;
                is_by_denied &= counter.count - counter.of_denied + hit.cost <= hit.max;
            }
        }
        for hit in hits.iter().filter(|_| is_admitted || self.counts_denied) {
            let counter = self.current(hit, now);
            let of_denied = counter.of_denied + if is_admitted { 0 } else { hit.cost };
            let counted = Counter { count: counter.count + hit.cost, of_denied, ..counter };
            self.counters.insert((hit.key.clone(), hit.seconds), counted);
        }
        Decision { is_admitted, is_by_denied: !is_admitted && is_by_denied }
    }

    /// The counter of the window at a time; a new one if the last window has ended.
    fn current(&self, hit: &Hit, now: u64) -> Counter {
        let length = hit.seconds * 1_000_000;
        let aligned = now / length * length;
        let known = self.counters.get(&(hit.key.clone(), hit.seconds)).copied();
        match self.windows {
            Windows::Aligned => known
                .filter(|counter| counter.start == aligned)
                .unwrap_or(Counter { start: aligned, ..Counter::default() }),
            Windows::FirstHit => known
                .filter(|counter| now < counter.start + length)
                .unwrap_or(Counter { start: now, ..Counter::default() }),
        }
    }
}

#[test]
fn a_window_begins_at_the_first_hit_or_at_a_multiple() {
    let hit = Hit { key: "k".to_owned(), max: 1, seconds: 10, cost: 1, is_shadow: false };
    let decisions = |windows| {
        let mut limiter = Limiter::new(windows, false);
        [8, 9, 12, 17, 18].map(|second| limiter.decide(std::slice::from_ref(&hit), second * 1_000_000).is_admitted)
    };
    assert_eq!(decisions(Windows::Aligned), [true, false, true, false, false]);
    assert_eq!(decisions(Windows::FirstHit), [true, false, false, false, true]);
}

#[test]
fn a_denied_request_counts_in_its_other_limits() {
    let hit = |key: &str, max| Hit { key: key.to_owned(), max, seconds: 10, cost: 1, is_shadow: false };
    let both = [hit("a", 1), hit("b", 2)];
    let mut limiter = Limiter::new(Windows::Aligned, true);
    assert!(limiter.decide(&both, 0).is_admitted);
    assert_eq!(limiter.decide(&both, 1), Decision { is_admitted: false, is_by_denied: false });
    assert_eq!(limiter.decide(&both[1..], 2), Decision { is_admitted: false, is_by_denied: true });
    let mut all_or_nothing = Limiter::new(Windows::Aligned, false);
    assert_eq!([0, 1].map(|now| all_or_nothing.decide(&both, now).is_admitted), [true, false]);
    assert!(all_or_nothing.decide(&both[1..], 2).is_admitted);
}
