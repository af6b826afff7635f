//! Windows as operators name them: `current`, `previous`, or by a date such as `2026-09`.

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use weir_filter::limit::{Algorithm, Budget, Period};
use weir_filter::units::Micros;

use super::error::BudgetsError;

/// Window of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WindowChoice {
    Current,
    Previous,
    At(Date),
}

/// Date and time to which a number of parts are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Date {
    text: String,
    /// Number of parts: 1 for a year alone, 6 up to seconds.
    parts: usize,
    start: DateTime,
}

impl FromStr for WindowChoice {
    type Err = BudgetsError;

    fn from_str(text: &str) -> Result<Self, BudgetsError> {
        let malformed = || BudgetsError::Window { found: text.to_owned() };
        match text {
            "current" => Ok(Self::Current),
            "previous" => Ok(Self::Previous),
            _ => Date::parse(text).map(Self::At).ok_or_else(malformed),
        }
    }
}

impl Date {
    fn parse(text: &str) -> Option<Self> {
        const WHOLE: &str = "0000-01-01T00:00:00";
        const ENDS: [usize; 6] = [4, 7, 10, 13, 16, 19];
        let parts = ENDS.iter().position(|end| *end == text.len())? + 1;
        let whole = [text, WHOLE.get(text.len()..)?].concat();
        let has_form = |(found, form): (u8, u8)| found.is_ascii_digit() == form.is_ascii_digit();
        let is_whole = whole.bytes().zip(WHOLE.bytes()).all(has_form) && whole.as_bytes().get(10) == Some(&b'T');
        let start: DateTime = whole.parse().ok()?;
        is_whole.then(|| Self { text: text.to_owned(), parts, start })
    }

    /// The text that was given.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the window of a budget that the date names. The error says what windows the budget has.
    pub(super) fn of(&self, budget: &Budget) -> Result<[Micros; 2], String> {
        let expected = expected(budget);
        let (offset, parts): (i32, &[usize]) = match budget.algorithm() {
            Algorithm::Quota(quota) => (quota.offset_minutes(), parts(quota.period())),
            Algorithm::FixedWindow(_) => (0, &[3, 4, 5, 6]),
            _ => return Err(expected),
        };
        let start =
            Offset::from_seconds(offset.saturating_mul(60)).ok().and_then(|it| it.to_timestamp(self.start).ok());
        let start = start.and_then(|start| u64::try_from(start.as_microsecond()).ok()).map(Micros);
        let window = start.and_then(|start| budget.window_at(start));
        let is_week = matches!(budget.algorithm(), Algorithm::Quota(quota) if quota.period() == Period::Week);
        match (window, start) {
            (Some(window), Some(start)) if parts.contains(&self.parts) && (is_week || window[0] == start) => Ok(window),
            _ => Err(expected),
        }
    }
}

/// Numbers of parts that name a period.
fn parts(period: Period) -> &'static [usize] {
    match period {
        Period::Year => &[1],
        Period::Month => &[2],
        Period::Day | Period::Week => &[3],
        Period::Hour => &[4],
        Period::Minute => &[5],
    }
}

/// The windows of a budget, as an operator names them.
fn expected(budget: &Budget) -> String {
    let example = match budget.algorithm() {
        Algorithm::Quota(quota) => match quota.period() {
            Period::Year => "a year such as 2026",
            Period::Month => "a month such as 2026-09",
            Period::Week => "a day of a week, such as 2026-09-14",
            Period::Day => "a day such as 2026-09-14",
            Period::Hour => "an hour such as 2026-09-14T10",
            Period::Minute => "a minute such as 2026-09-14T10:30",
        },
        Algorithm::FixedWindow(fixed) => {
            let window = crate::limits::span::span(fixed.window());
            return format!("current, previous, or the start in UTC of a window of {window}, such as 2026-09-14T10:30");
        }
        Algorithm::SlidingWindow(_) => return "current or previous, of a sliding window".to_owned(),
        _ => return "current, of a token bucket".to_owned(),
    };
    format!("current, previous or {example}")
}

#[cfg(test)]
mod tests {
    use weir_filter::limit::{Charge, Charged, Fallback, FixedWindow, OnLost, Quota, TokenBucket, Weights, WhenShort};

    use super::*;

    fn budget(algorithm: Algorithm) -> Budget {
        let charge = Charge {
            of: Charged::Tokens(Weights::all(1_000, 1_000)),
            reserve: None,
            when_short: WhenShort::Deny,
            lease: Micros::from_secs(60),
            on_lost: OnLost::Estimate,
            on_missing_usage: Fallback::Estimate,
            on_disconnect: Fallback::Seen,
            soft_limit: None,
        };
        match algorithm.reserving(&charge) {
            Some(Algorithm::Budget(budget)) => budget,
            other => panic!("{other:?}"),
        }
    }

    fn quota(period: Period, offset: i32) -> Budget {
        budget(Algorithm::Quota(Quota::of_amounts(10, period, offset).unwrap()))
    }

    fn window(text: &str, budget: &Budget) -> Result<[String; 2], String> {
        match text.parse::<WindowChoice>().unwrap() {
            WindowChoice::At(date) => date.of(budget).map(|window| window.map(weir_filter::limit::rfc_3339)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_date_names_the_window_that_begins_there() {
        let is = |text: &str, budget: Budget, start: &str, end: &str| {
            assert_eq!(window(text, &budget), Ok([start.to_owned(), end.to_owned()]), "{text}");
        };
        is("2026-09", quota(Period::Month, 0), "2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z");
        is("2026-09", quota(Period::Month, 60), "2026-08-31T23:00:00Z", "2026-09-30T23:00:00Z");
        is("2026", quota(Period::Year, 0), "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        is("2026-09-16", quota(Period::Week, 0), "2026-09-14T00:00:00Z", "2026-09-21T00:00:00Z");
        is("2026-09-16T10", quota(Period::Hour, 0), "2026-09-16T10:00:00Z", "2026-09-16T11:00:00Z");
        let fixed = budget(Algorithm::FixedWindow(FixedWindow::of_amounts(1, Micros::from_secs(2)).unwrap()));
        is("2026-09-16T10:30:02", fixed, "2026-09-16T10:30:02Z", "2026-09-16T10:30:04Z");
    }

    #[test]
    fn a_date_of_another_form_is_refused_with_the_form_of_the_limit() {
        let month = quota(Period::Month, 0);
        for text in ["2026", "2026-09-01", "1969-12"] {
            assert_eq!(window(text, &month).unwrap_err(), "current, previous or a month such as 2026-09", "{text}");
        }
        let fixed = budget(Algorithm::FixedWindow(FixedWindow::of_amounts(1, Micros::from_secs(2)).unwrap()));
        assert!(window("2026-09-16T10:30:03", &fixed).unwrap_err().contains("a window of 2s"));
        let n = |n| std::num::NonZeroU64::new(n).unwrap();
        let bucket = budget(Algorithm::TokenBucket(TokenBucket::new(n(5), n(1), Micros(1_000_000)).unwrap()));
        assert_eq!(window("2026-09", &bucket).unwrap_err(), "current, of a token bucket");
    }

    #[test]
    fn a_text_that_names_no_window_is_refused() {
        for text in ["", "last", "2026-13", "2026-9", "2026-02-30", "2026-09-14 10", "2026-09-14T25", "+026-09", "202é"]
        {
            let error = text.parse::<WindowChoice>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {text:?}")), "{error}");
        }
    }
}
