//! Civil months and their days, in the proleptic Gregorian calendar.
//!
//! Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". Years begin in March there, so that the leap
//! day is the last day of its year.
#![expect(clippy::arithmetic_side_effects, reason = "days of Redis' clock: a million at most")]

use alloc::string::String;

use crate::units::Micros;

/// Days from March 1st of the year 0 to 1970-01-01.
const EPOCH: i64 = 719_468;
const DAYS_IN_400_YEARS: i64 = 146_097;

/// Month of a day, counted in months since January of the year 0. `day` counts from 1970-01-01.
pub(super) fn month_of(day: i64) -> i64 {
    let day = day + EPOCH;
    let era = day.div_euclid(DAYS_IN_400_YEARS);
    let day = day.rem_euclid(DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let months_since_march = (5 * day + 2) / 153;
    (era * 400 + year) * 12 + months_since_march + 2
}

/// First day of a month, both counted as by [`month_of`].
pub(super) fn first_day_of(month: i64) -> i64 {
    let (year, month) = ((month - 2).div_euclid(12), (month - 2).rem_euclid(12));
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 - EPOCH
}

/// Returns a time since 1970-01-01 as a date and a time of day in UTC (RFC 3339), rounded up to seconds.
pub fn rfc_3339(at: Micros) -> String {
    let seconds = i64::try_from(at.to_secs_ceil()).unwrap_or(0);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let month = month_of(day);
    let parts = [
        (month.div_euclid(12), "-"),
        (month.rem_euclid(12) + 1, "-"),
        (day - first_day_of(month) + 1, "T"),
        (second / 3_600, ":"),
        (second / 60 % 60, ":"),
        (second % 60, "Z"),
    ];
    let mut text = String::new();
    for (number, separator) in parts {
        text.push_str(if number < 10 { "0" } else { "" });
        text.push_str(itoa::Buffer::new().format(number));
        text.push_str(separator);
    }
    text
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Date, date};

    use super::*;

    #[test]
    fn dates_are_those_of_jiff() {
        for seconds in (0..4_102_444_800).step_by(39_916_801).chain([1_709_164_799, 1_709_164_800, 1_709_251_199]) {
            let time = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap();
            assert_eq!(rfc_3339(Micros::from_secs(seconds)), time.to_string());
        }
        assert_eq!(rfc_3339(Micros(1)), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn every_day_of_eight_centuries_is_in_the_month_of_jiff() {
        let epoch = date(1970, 1, 1);
        for day in -146_097_i32..=146_097 {
            let day: Date = epoch + jiff::Span::new().days(day);
            let since = i64::from((day - epoch).get_days());
            let month = i64::from(day.year()) * 12 + i64::from(day.month()) - 1;
            assert_eq!(month_of(since), month, "{day}");
            let first = i64::from((day.first_of_month() - epoch).get_days());
            assert_eq!(first_day_of(month), first, "{day}");
        }
    }
}
