//! Host load: whether ticks come late, so that replies which have arrived are read late as well.
//!
//! A call takes several turns of the host's event loop: one to connect, one to write, one to read, and as many again
//! where Redis does not have the script. Timeouts by the clock alone would attribute a busy host's delay to Redis.

use crate::units::Micros;

/// Delay of a tick above which the host counts as busy.
pub(super) const LATE: Micros = Micros::from_millis(20);
/// Ticks that a busy host has to read the reply to a call.
const TICKS: usize = 8;

/// Times and delays of the latest ticks.
#[derive(Debug, Default)]
pub(super) struct HostLoad {
    /// Times of the latest ticks, the last tick first.
    ticks: [Micros; TICKS],
    /// Bit set of the late ticks; the last tick's bit is the lowest.
    late: u8,
}

impl HostLoad {
    /// Records a tick, due at `wanted` if at all. Returns the time of the tick before it.
    pub(super) fn tick(&mut self, now: Micros, wanted: Option<Micros>) -> Micros {
        let last = self.last_tick();
        let is_late = wanted.is_some_and(|at| now.minus(at.max(last)) > LATE);
        self.late = self.late.wrapping_shl(1) | u8::from(is_late);
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

    /// Returns the send time after which a call is kept past its deadline: the busy host has had fewer than 8 ticks to
    /// read its reply. `None` where the host is not busy.
    pub(super) fn patient_since(&self) -> Option<Micros> {
        let oldest = self.ticks.last().copied();
        oldest.filter(|_| self.late != 0)
    }

    /// Returns whether a call with this deadline, whose patience began at `sent`, may still be sent again.
    pub(super) fn may_resend(&self, deadline: Micros, sent: Micros) -> bool {
        deadline > self.last_tick() || self.patient_since().is_some_and(|since| sent > since)
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
