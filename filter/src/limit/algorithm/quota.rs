//! Quotas: a number of tokens in each calendar minute, hour, day, week, month or year, at a fixed offset from UTC.
//!
//! A quota restarts at the turn of its calendar period, whenever the first request spent. Redis keeps a quota like a
//! fixed window; months and years differ in length. This is the specification; Redis runs `fixed_window.lua` for
//! periods of a fixed length, and `quota.lua` for months and years.

use super::arguments::{Arguments, signed};
use super::bounds::{AlgorithmError, MAX_LIMIT, MAX_OFFSET_MINUTES, limit_within};
use super::civil::{first_day_of, month_of};
use super::fixed_window::Span;
use crate::limit::charge::MAX_AMOUNT;
use crate::units::{Micros, Tokens};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Quota of a number of tokens in each calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    limit: u64,
    period: Period,
    offset_minutes: i32,
}

/// Calendar period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// From second 0.
    Minute,
    /// From minute 0.
    Hour,
    /// From midnight.
    Day,
    /// From Monday (ISO 8601).
    Week,
    /// From the 1st.
    Month,
    /// From January 1st.
    Year,
}

impl Period {
    /// All periods, the shortest first.
    pub const ALL: [Self; 6] = [Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    /// The period's name in configurations and keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    fn length(self) -> Length {
        match self {
            Self::Minute => Length::Micros { length: MINUTE, phase: 0 },
            Self::Hour => Length::Micros { length: HOUR, phase: 0 },
            Self::Day => Length::Micros { length: DAY, phase: 0 },
            // 1970 began on a Thursday.
            Self::Week => Length::Micros { length: 7 * DAY, phase: 3 * DAY },
            Self::Month => Length::Months(1),
            Self::Year => Length::Months(12),
        }
    }
}

/// Length of a period.
enum Length {
    /// Fixed length, in µs. A period began `phase` µs before 1970.
    Micros { length: i64, phase: i64 },
    /// A number of calendar months.
    Months(i64),
}

impl Quota {
    /// Returns a quota of `limit` tokens in each `period` of the time zone that is `offset_minutes` ahead of UTC; 0
    /// blocks every request.
    ///
    /// The offset is fixed: there is no daylight saving time.
    ///
    /// # Errors
    /// Where `limit` is over 2³², or the offset beyond ±14 hours.
    pub fn new(limit: impl Into<u64>, period: Period, offset_minutes: i32) -> Result<Self, AlgorithmError> {
        Self::of_amounts(limit_within(limit.into(), MAX_LIMIT)?, period, offset_minutes)
    }

    /// Returns a quota of `limit` tokens or nano-USD, for a [budget](super::Budget).
    ///
    /// # Errors
    /// Where `limit` is 2⁵³ or more, or the offset beyond ±14 hours.
    pub fn of_amounts(limit: u64, period: Period, offset_minutes: i32) -> Result<Self, AlgorithmError> {
        if !(-MAX_OFFSET_MINUTES..=MAX_OFFSET_MINUTES).contains(&offset_minutes) {
            return Err(AlgorithmError::Offset { found: offset_minutes });
        }
        Ok(Self { limit: limit_within(limit, MAX_AMOUNT)?, period, offset_minutes })
    }

    /// Returns a quota in the calendar of a script's arguments: periods of `length` µs, each of which begins `phase` µs
    /// before a multiple of `length`; or of `months` months, `offset` µs ahead of UTC. `None` where no quota has these.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::limit) fn of_arguments(letter: &str, limit: u64, more: [i64; 2]) -> Option<Self> {
        // All offsets of one phase have the same calendar: the first is as good as any.
        let offsets = -MAX_OFFSET_MINUTES..=MAX_OFFSET_MINUTES;
        Period::ALL.iter().find_map(|period| {
            let matching = |quota: &Self| {
                let arguments = quota.arguments(Tokens(0));
                arguments.letter == letter && arguments.more == more
            };
            let fits = match (period.length(), more) {
                (Length::Micros { length, .. }, [wanted, _]) => letter == "f" && length == wanted,
                (Length::Months(months), [_, wanted]) => letter == "q" && months == wanted,
            };
            let mut quotas = offsets.clone().filter_map(|minutes| Self::of_amounts(limit, *period, minutes).ok());
            if fits { quotas.find(matching) } else { None }
        })
    }

    /// Tokens in each period.
    #[must_use]
    pub fn limit(&self) -> Tokens {
        Tokens(self.limit)
    }

    /// The calendar period.
    #[must_use]
    pub fn period(&self) -> Period {
        self.period
    }

    /// The calendar's offset from UTC, in minutes; positive is ahead.
    #[must_use]
    pub fn offset_minutes(&self) -> i32 {
        self.offset_minutes
    }

    /// The period that contains `now`, an instant of Unix time.
    pub(in crate::limit) fn span(&self, now: Micros) -> Span {
        let local = signed(now.0).saturating_add(self.offset());
        let (start, end) = match self.period.length() {
            Length::Micros { length, phase } => {
                let start = local.saturating_sub(local.saturating_add(phase).rem_euclid(length));
                (start, start.saturating_add(length))
            }
            Length::Months(months) => {
                let month = month_of(local.div_euclid(DAY));
                let month = month.saturating_sub(month.rem_euclid(months));
                let start_of = |month| first_day_of(month).saturating_mul(DAY);
                (start_of(month), start_of(month.saturating_add(months)))
            }
        };
        let utc = |local: i64| Micros(u64::try_from(local.saturating_sub(self.offset())).unwrap_or(0));
        Span { start: utc(start), end: utc(end) }
    }

    pub(super) fn arguments(&self, cost: Tokens) -> Arguments {
        let (letter, more) = match self.period.length() {
            Length::Micros { length, phase } => ("f", [length, phase.saturating_add(self.offset()).rem_euclid(length)]),
            Length::Months(months) => ("q", [self.offset(), months]),
        };
        Arguments { more, ..Arguments::of_count(letter, cost, self.limit(), [Micros::ZERO; 2]) }
    }

    /// The offset from UTC, in microseconds.
    fn offset(&self) -> i64 {
        i64::from(self.offset_minutes).saturating_mul(MINUTE)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use jiff::civil::{DateTime, Weekday};
    use jiff::tz::Offset;
    use jiff::{Timestamp, ToSpan};
    use proptest::prelude::*;

    use super::*;

    fn span(period: Period, offset_minutes: i32, now: &str) -> (String, String) {
        let now: Timestamp = now.parse().unwrap();
        let quota = Quota::new(1_u64, period, offset_minutes).unwrap();
        let span = quota.span(Micros(u64::try_from(now.as_microsecond()).unwrap()));
        let shown = |micros: Micros| Timestamp::from_microsecond(signed(micros.0)).unwrap().to_string();
        (shown(span.start), shown(span.end))
    }

    #[test]
    fn a_quota_lasts_for_its_calendar_period() {
        let lasts = |period, offset, now, start: &str, end: &str| {
            assert_eq!(span(period, offset, now), (start.to_owned(), end.to_owned()));
        };
        lasts(Period::Month, 0, "2028-02-29T23:59:59.999999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        lasts(Period::Month, 0, "2026-12-31T12:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
        lasts(Period::Year, 0, "2026-11-20T12:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        lasts(Period::Week, 0, "2026-11-22T23:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        lasts(Period::Day, 330, "2026-11-20T18:29:59Z", "2026-11-19T18:30:00Z", "2026-11-20T18:30:00Z");
        lasts(Period::Month, 840, "2026-10-31T10:00:00Z", "2026-10-31T10:00:00Z", "2026-11-30T10:00:00Z");
        lasts(Period::Year, -840, "2027-01-01T13:59:59Z", "2026-01-01T14:00:00Z", "2027-01-01T14:00:00Z");
    }

    fn start_by_jiff(period: Period, local: DateTime) -> DateTime {
        let day = local.date();
        match period {
            Period::Minute => local.with().second(0).subsec_nanosecond(0).build().unwrap(),
            Period::Hour => local.with().minute(0).second(0).subsec_nanosecond(0).build().unwrap(),
            Period::Day => day.to_datetime(jiff::civil::Time::midnight()),
            Period::Week => {
                let since_monday = day.weekday().since(Weekday::Monday);
                (day - i64::from(since_monday).days()).to_datetime(jiff::civil::Time::midnight())
            }
            Period::Month => day.first_of_month().to_datetime(jiff::civil::Time::midnight()),
            Period::Year => day.first_of_year().to_datetime(jiff::civil::Time::midnight()),
        }
    }

    fn next_by_jiff(period: Period, start: DateTime) -> DateTime {
        start
            + match period {
                Period::Minute => 1.minute(),
                Period::Hour => 1.hour(),
                Period::Day => 1.day(),
                Period::Week => 1.week(),
                Period::Month => 1.month(),
                Period::Year => 1.year(),
            }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Periods from 1972 to 2112, at any offset.
        #[test]
        fn periods_are_those_of_jiff(
            now in 63_072_000_000_000_u64..(1 << 52),
            offset_minutes in -840_i32..=840,
            period in proptest::sample::select(&Period::ALL),
        ) {
            let quota = Quota::new(1_u64, period, offset_minutes).unwrap();
            let zone = Offset::from_seconds(offset_minutes * 60).unwrap();
            let local = zone.to_datetime(Timestamp::from_microsecond(signed(now)).unwrap());
            let start = start_by_jiff(period, local);
            let micros = |local| zone.to_timestamp(local).unwrap().as_microsecond();
            let span = quota.span(Micros(now));
            prop_assert_eq!((signed(span.start.0), signed(span.end.0)), (micros(start), micros(next_by_jiff(period, start))));
        }
    }

    #[test]
    fn a_quota_read_from_a_scripts_arguments_has_the_same_calendar() {
        for (period, offset) in Period::ALL.into_iter().flat_map(|period| [-840, 0, 330, 840].map(|at| (period, at))) {
            let Arguments { letter, limit, more, .. } = Quota::new(9_u64, period, offset).unwrap().arguments(Tokens(1));
            let read = Quota::of_arguments(letter, limit, more).unwrap();
            let again = read.arguments(Tokens(1));
            assert_eq!((read.period(), read.limit()), (period, Tokens(9)));
            assert_eq!((again.letter, again.more), (letter, more), "{period:?} at {offset}");
        }
        assert_eq!(Quota::of_arguments("q", 9, [0, 2]), None, "two months");
        assert_eq!(Quota::of_arguments("q", 9, [7, 1]), None, "an offset of 7 µs");
        assert_eq!(Quota::of_arguments("f", 9, [7, 0]), None, "periods of 7 µs");
    }
}
