//! Redis' clock in a simulation: it drifts, and is set forward and back.

use weir_filter::units::Micros;

/// Parts per million.
const MILLION: i128 = 1_000_000;

/// Redis' clock by the true time since the start of the simulation.
#[derive(Debug, Clone)]
pub(crate) struct RedisTime {
    spans: Vec<Span>,
}

/// Span without a change, until the next one begins.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// True time at which it begins.
    from: Micros,
    /// Redis' clock then.
    raw: Micros,
    /// Sum of all forward movement of Redis' clock until then.
    forward: Micros,
    /// Drift in parts per million.
    drift: i64,
}

impl RedisTime {
    pub(crate) fn new(unix: Micros) -> Self {
        Self { spans: vec![Span { from: Micros::ZERO, raw: unix, forward: Micros::ZERO, drift: 0 }] }
    }

    /// Redis' clock, since 1970.
    pub(crate) fn raw(&self, at: Micros) -> Micros {
        let span = self.span(at);
        span.raw.plus(span.gone(at))
    }

    /// Forward movement of Redis' clock since the start: a clock that is set back stands still meanwhile.
    pub(crate) fn forward(&self, at: Micros) -> Micros {
        let span = self.span(at);
        span.forward.plus(span.gone(at))
    }

    /// Sets the clock forward or back.
    pub(crate) fn step(&mut self, at: Micros, micros: i64) {
        let (raw, forward, drift) = (self.raw(at), self.forward(at), self.span(at).drift);
        let size = Micros(micros.unsigned_abs());
        let (raw, forward) = if micros < 0 { (raw.minus(size), forward) } else { (raw.plus(size), forward.plus(size)) };
        self.spans.push(Span { from: at, raw, forward, drift });
    }

    /// Sets the drift, in parts per million.
    pub(crate) fn set_drift(&mut self, at: Micros, drift: i64) {
        let (raw, forward) = (self.raw(at), self.forward(at));
        self.spans.push(Span { from: at, raw, forward, drift });
    }

    /// Forward movement at the time that Redis' clock showed `raw`, between two true times; a span, if the clock was
    /// changed in between.
    pub(crate) fn forward_of(&self, raw: Micros, from: Micros, until: Micros) -> (Micros, Micros) {
        let span = self.span(from);
        if self.spans.iter().any(|other| other.from > from && other.from <= until) {
            return (self.forward(from), self.forward(until));
        }
        let exact = Micros((span.forward.0 + raw.0).saturating_sub(span.raw.0));
        (exact, exact)
    }

    fn span(&self, at: Micros) -> Span {
        let next = self.spans.partition_point(|span| span.from <= at);
        self.spans[next.saturating_sub(1)]
    }
}

impl Span {
    fn gone(&self, at: Micros) -> Micros {
        let gone = i128::from(at.0.saturating_sub(self.from.0));
        let gone = gone * (MILLION + i128::from(self.drift)) / MILLION;
        Micros(gone as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_stands_still_in_the_sum_of_its_forward_movement() {
        let secs = Micros::from_secs;
        let mut time = RedisTime::new(secs(1_000));
        time.step(secs(10), -5_000_000);
        time.step(secs(20), 2_000_000);
        assert_eq!([5, 10, 15, 20, 30].map(|at| time.raw(secs(at))), [1_005, 1_005, 1_010, 1_017, 1_027].map(secs));
        assert_eq!([5, 10, 15, 20, 30].map(|at| time.forward(secs(at))), [5, 10, 15, 22, 32].map(secs));
        assert_eq!(time.forward_of(secs(1_008), secs(11), secs(14)), (secs(13), secs(13)));
        assert_eq!(time.forward_of(secs(1_008), secs(9), secs(14)), (secs(9), secs(14)));
    }

    #[test]
    fn a_clock_that_drifts_gains_or_loses_time() {
        let mut time = RedisTime::new(Micros::from_secs(1_000));
        time.set_drift(Micros::ZERO, 1_000);
        assert_eq!(time.raw(Micros::from_secs(10)), Micros(1_010_010_000));
        time.set_drift(Micros::from_secs(10), 0);
        assert_eq!(time.raw(Micros::from_secs(20)), Micros(1_020_010_000));
    }
}
