//! Host load: whether ticks come late, so that replies which have arrived are read late as well.
//!
//! A call takes several turns of the host's event loop: one to connect, one to write, one to read, and as many again
//! where Redis does not have the script. Timeouts by the clock alone would attribute a busy host's delay to Redis.

use crate::units::Micros;

/// Delay of a tick above which the host counts as busy.
const LATE: Micros = Micros::from_millis(20);
/// Ticks that a busy host has to read the reply to a call.
const TICKS: usize = 8;

/// Longest time between two ticks of a host that is not busy, while calls have deadlines.
const PERIOD: Micros = Micros::from_millis(520);

/// Extension of deadlines after a tick: a busy host's turns of the event loop may take longer than the timeout.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Extension {
    /// Time to add to the deadlines.
    pub(crate) by: Micros,
    /// Latest extended deadline: one timeout from the tick.
    latest: Micros,
}

impl Extension {
    /// Returns the extension at a tick. `last` is the time of the tick before it, and `earliest` a lower bound of
    /// the deadlines. The time between two ticks counts against the timeout for 520 ms at most, or for an eighth of the
    /// timeout.
    #[inline(never)]
    pub(crate) fn at(now: Micros, last: Micros, earliest: Option<Micros>, timeout: Micros) -> Self {
        let start = last.max(earliest.unwrap_or(now).minus(timeout));
        let by = now.minus(start).minus(PERIOD.max(Micros(timeout.0 / 8)));
        Self { by, latest: now.plus(timeout) }
    }

    /// Returns the extended deadline.
    pub(crate) fn of(self, deadline: Micros) -> Micros {
        deadline.max(deadline.plus(self.by).min(self.latest))
    }
}

/// Times and delays of the latest ticks.
#[derive(Debug, Default)]
pub(super) struct HostLoad {
    /// Times of the latest ticks, the last tick first.
    ticks: [Micros; TICKS],
    /// Bit set of the late ticks; the last tick's bit is the lowest.
    late: u8,
    /// Delay of the last tick; zero if it was not late.
    delay: Micros,
}

impl HostLoad {
    /// Records a tick, due at `wanted` if at all. Returns the time of the tick before it.
    pub(super) fn tick(&mut self, now: Micros, wanted: Option<Micros>) -> Micros {
        let last = self.last_tick();
        let delay = wanted.map(|at| now.minus(at.max(last))).filter(|delay| *delay > LATE);
        self.late = self.late.wrapping_shl(1) | u8::from(delay.is_some());
        self.delay = delay.unwrap_or_default();
        self.ticks.rotate_right(1);
        if let Some(latest) = self.ticks.first_mut() {
            *latest = now;
        }
        last
    }

    /// Returns the time of the last tick; zero before the first.
    pub(super) fn last_tick(&self) -> Micros {
        self.ticks.first().copied().unwrap_or_default()
    }

    /// Returns the delay of the last tick; zero if it was not late.
    pub(super) fn delay(&self) -> Micros {
        self.delay
    }

    /// Returns the send time after which a call is kept past its deadline: the busy host has had fewer than 8 ticks to
    /// read its reply. `None` where the host is not busy.
    pub(super) fn patient_since(&self) -> Option<Micros> {
        let oldest = self.ticks.last().copied();
        oldest.filter(|_| self.late != 0)
    }

    /// Returns whether a busy host has had too few ticks to read the reply to a call sent at `sent`.
    pub(super) fn awaits(&self, sent: Micros) -> bool {
        self.patient_since().is_some_and(|since| sent > since)
    }

    /// Returns whether a call with this deadline, whose patience began at `sent`, may still be sent again.
    pub(super) fn may_resend(&self, deadline: Micros, sent: Micros) -> bool {
        deadline > self.last_tick() || self.awaits(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Micros {
        Micros::from_millis(millis)
    }

    #[test]
    fn a_host_is_busy_for_eight_ticks_from_a_late_one_on() {
        let mut load = HostLoad::default();
        assert_eq!(load.tick(millis(100), Some(millis(80))), Micros::ZERO);
        assert_eq!(load.patient_since(), None);
        assert_eq!(load.tick(millis(121), Some(millis(80))), millis(100));
        assert_eq!(load.patient_since(), Some(Micros::ZERO));
        for tick in 1..=7 {
            load.tick(millis(121 + tick), Some(millis(80)));
            assert!(load.patient_since().is_some(), "{tick}");
        }
        assert_eq!(load.patient_since(), Some(millis(121)));
        load.tick(millis(129), None);
        assert_eq!(load.patient_since(), None);
    }

    #[test]
    fn a_deadline_is_extended_by_what_a_turn_takes_beyond_an_eighth_of_the_timeout_or_half_a_second() {
        let extended = |now, last, earliest, timeout, deadline| {
            Extension::at(millis(now), millis(last), Some(millis(earliest)), millis(timeout)).of(millis(deadline))
        };
        assert_eq!(extended(520, 0, 50, 50, 50), millis(50));
        assert_eq!(extended(3_000, 0, 50, 50, 50), millis(2_530));
        assert_eq!(extended(3_000, 0, 50, 50, 2_950), millis(3_050), "a timeout from the tick at most");
        assert_eq!(extended(3_000, 0, 5_000, 5_000, 5_000), millis(7_375));
        assert_eq!(extended(3_000, 0, 5_000, 5_000, 9_000), millis(9_000), "never sooner");
        assert_eq!(extended(9_050, 0, 9_050, 50, 9_050), millis(9_050), "no call had a deadline before");
    }

    #[test]
    fn a_tick_without_a_deadline_is_not_late() {
        let mut load = HostLoad::default();
        load.tick(millis(5_000), None);
        assert_eq!(load.patient_since(), None);
    }

    #[test]
    fn a_call_may_be_sent_again_before_its_deadline_or_on_a_busy_host() {
        let mut load = HostLoad::default();
        load.tick(millis(100), Some(millis(100)));
        let sent = millis(50);
        assert!(load.may_resend(millis(101), sent) && !load.may_resend(millis(100), sent));
        load.tick(millis(200), Some(millis(120)));
        assert!(load.may_resend(millis(100), sent));
        for tick in 1..=5 {
            load.tick(millis(200 + tick), Some(millis(120)));
        }
        assert!(load.may_resend(millis(100), sent));
        load.tick(millis(300), Some(millis(120)));
        assert!(!load.may_resend(millis(100), sent), "it has had eight ticks");
    }
}
