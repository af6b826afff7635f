//! Tick period of the proxy: as short as deadlines need, and long or none when idle.

use core::time::Duration;

use crate::units::Micros;

/// Period while a deadline has passed.
const URGENT: Micros = Micros::from_millis(1);
/// Period while a deadline is within [`NEAR`]. A request waits at most this much longer than its timeout.
const BUSY: Micros = Micros::from_millis(5);
/// Period while all deadlines are further ahead than [`NEAR`].
const CALM: Micros = Micros::from_millis(500);
/// Span within which a deadline is near; also the time for which a shorter period than needed is kept, so that the
/// period does not change with each request.
const NEAR: Micros = Micros::from_secs(1);

/// Chooses the tick period. Starts without ticks.
#[derive(Debug, Default)]
pub struct Ticker {
    period: Option<Micros>,
    /// Time at which the present period, or a shorter one, was last needed.
    needed: Micros,
}

impl Ticker {
    /// Whether the proxy ticks.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.period.is_some()
    }

    /// Whether the period is short enough for every deadline that has not passed.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.period.is_some_and(|period| period <= BUSY)
    }

    /// Returns the new period, if it should change. `wanted` is the time of the next deadline. A period of zero means
    /// no ticks.
    pub fn adjust(&mut self, now: Micros, wanted: Option<Micros>) -> Option<Duration> {
        let needed = wanted.map(|at| match at.minus(now) {
            Micros::ZERO => URGENT,
            ahead if ahead <= NEAR => BUSY,
            _ => CALM,
        });
        if self.is_quick_enough(needed) && !self.is_needlessly_quick(now, needed) {
            return None;
        }
        self.period = needed;
        self.needed = now;
        Some(needed.unwrap_or_default().into())
    }

    fn is_quick_enough(&self, needed: Option<Micros>) -> bool {
        match (self.period, needed) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(period), Some(needed)) => period <= needed,
        }
    }

    fn is_needlessly_quick(&mut self, now: Micros, needed: Option<Micros>) -> bool {
        if self.period == needed {
            self.needed = now;
            return false;
        }
        // The passed deadline is handled: the period can grow at once.
        self.period == Some(URGENT) || now.minus(self.needed) > NEAR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Micros = Micros::from_millis;

    fn millis(n: u64) -> Option<Duration> {
        Some(Duration::from_millis(n))
    }

    #[test]
    fn an_idle_worker_does_not_tick() {
        assert_eq!(Ticker::default().adjust(MS(1), None), None);
    }

    #[test]
    fn a_passed_deadline_needs_the_shortest_period_only_until_it_is_handled() {
        let mut ticker = Ticker::default();
        assert_eq!(ticker.adjust(MS(10), Some(MS(10))), millis(1));
        assert_eq!(ticker.adjust(MS(11), Some(MS(60))), millis(5));
    }

    #[test]
    fn a_steady_load_keeps_the_period() {
        let mut ticker = Ticker::default();
        assert_eq!(ticker.adjust(MS(0), Some(MS(50))), millis(5));
        for now in 1..5_000 {
            assert_eq!(ticker.adjust(MS(now), Some(MS(now + 50))), None);
            assert_eq!(ticker.adjust(MS(now), None), None, "between two requests");
        }
    }

    #[test]
    fn the_period_grows_a_second_after_the_last_request() {
        let mut ticker = Ticker::default();
        assert_eq!(ticker.adjust(MS(0), Some(MS(50))), millis(5));
        assert_eq!(ticker.adjust(MS(900), Some(MS(300_000))), None);
        assert_eq!(ticker.adjust(MS(1_000), Some(MS(300_000))), None);
        assert_eq!(ticker.adjust(MS(1_001), Some(MS(300_000))), millis(500));
        assert_eq!(ticker.adjust(MS(1_002), Some(MS(1_050))), millis(5));
        assert_eq!(ticker.adjust(MS(2_100), None), millis(0));
    }

    #[test]
    fn the_proxy_ticks_from_the_first_deadline_on_until_there_is_none() {
        let mut ticker = Ticker::default();
        assert!(!ticker.is_running());
        ticker.adjust(MS(0), Some(MS(50)));
        assert!(ticker.is_running() && ticker.is_quick());
        ticker.adjust(MS(1_001), None);
        assert!(!ticker.is_running());
    }
}
