//! Rates of counters over the last minutes, of all proxies together.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::episodes::Millis;
use super::exposition::{Counts, OF_LIMIT, OF_REQUESTS};
use crate::limits::live::LimitName;

/// Time for which points are kept.
const KEPT: Millis = 300_000;
/// Time that a rate is measured over: counters arrive at Envoy's endpoint within seconds.
const OVER: Millis = 10_000;
/// Pause after which earlier points say nothing about now.
const PAUSE: Millis = 15_000;

/// Counters of several proxies.
#[derive(Debug)]
pub(super) struct Rates {
    /// Counters of each proxy as last read; `None` until it answers.
    last: Vec<Option<Counts>>,
    /// Increments since the first reading.
    gained: Counts,
    points: VecDeque<(Millis, Counts)>,
}

impl Rates {
    /// Rates of this number of proxies.
    pub(super) fn of(proxies: usize) -> Self {
        Self { last: vec![None; proxies], gained: Counts::default(), points: VecDeque::new() }
    }

    /// Adds a reading of all proxies; `None` for one that did not answer, whose next counters are a new start.
    pub(super) fn add(&mut self, at: Millis, read: Vec<Option<Counts>>) {
        if self.points.back().is_some_and(|(last, _)| last.saturating_add(PAUSE) < at) {
            self.points.clear();
            self.last.fill(None);
        }
        for (last, now) in self.last.iter_mut().zip(read) {
            if let (Some(last), Some(now)) = (&last, &now) {
                for (limit, counts) in &now.limits {
                    let before = last.limits.get(limit).copied().unwrap_or_default();
                    increase(self.gained.limits.entry(limit.clone()).or_default(), before, *counts);
                }
                increase(&mut self.gained.requests, last.requests, now.requests);
            }
            *last = now;
        }
        self.points.push_back((at, self.gained.clone()));
        while self.points.front().is_some_and(|(first, _)| first.saturating_add(KEPT) < at) {
            self.points.pop_front();
        }
    }

    /// Rates, totals and the last minutes of a limit; null if no proxy counts it.
    pub(super) fn of_limit(&self, limit: &LimitName) -> Value {
        if !self.last.iter().flatten().any(|counts| counts.limits.contains_key(limit)) {
            return Value::Null;
        }
        let of = |counts: &Counts| counts.limits.get(limit).copied().unwrap_or_default();
        let mut json = self.json(&OF_LIMIT, &of);
        json["source"] = "metrics".into();
        json
    }

    /// Rates and totals of all requests; null if no proxy counts them.
    pub(super) fn of_requests(&self) -> Value {
        if !self.last.iter().flatten().any(|counts| counts.is_of_weir) {
            return Value::Null;
        }
        let mut json = self.json(&OF_REQUESTS, &|counts| counts.requests);
        json["source"] = "metrics".into();
        json["connected"] = self.last.iter().flatten().map(|counts| counts.connected).sum::<u64>().into();
        json
    }

    fn json<const N: usize>(&self, names: &[&str; N], of: &dyn Fn(&Counts) -> [u64; N]) -> Value {
        let mut totals = [0_u64; N];
        self.last.iter().flatten().for_each(|counts| increase(&mut totals, [0; N], of(counts)));
        let points: Vec<(Millis, [u64; N])> = self.points.iter().map(|(at, counts)| (*at, of(counts))).collect();
        let per_second = |from: &(Millis, [u64; N]), to: &(Millis, [u64; N]), kind: usize| {
            let number = |point: &(Millis, [u64; N])| point.1.get(kind).copied().unwrap_or_default();
            let seconds = to.0.saturating_sub(from.0) as f64 / 1_000.0;
            (seconds > 0.0).then(|| number(to).saturating_sub(number(from)) as f64 / seconds)
        };
        let now = points.last();
        let before = |now: &(Millis, [u64; N])| points.iter().rev().find(|(at, _)| at.saturating_add(OVER) <= now.0);
        let before = now.and_then(before).or_else(|| points.first());
        let (mut rates, mut all, mut series) = (Map::new(), Map::new(), Map::new());
        for (kind, name) in names.iter().enumerate() {
            let rate = before.zip(now).and_then(|(before, now)| per_second(before, now, kind));
            rates.insert((*name).to_owned(), json!(rate));
            all.insert((*name).to_owned(), json!(totals.get(kind)));
            let each = points.windows(2).filter_map(|pair| per_second(pair.first()?, pair.last()?, kind));
            series.insert((*name).to_owned(), each.collect());
        }
        series.insert("at".to_owned(), points.iter().skip(1).map(|(at, _)| *at).collect());
        json!({ "rates": rates, "totals": all, "series": series })
    }
}

/// Adds what counters have gained. A counter that is less than before has begun anew.
fn increase<const N: usize>(gained: &mut [u64; N], before: [u64; N], now: [u64; N]) {
    for (gained, (before, now)) in gained.iter_mut().zip(before.into_iter().zip(now)) {
        *gained = gained.saturating_add(if now >= before { now.saturating_sub(before) } else { now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> LimitName {
        ("weir:".to_owned(), "per_user".to_owned())
    }

    fn counts(denied: u64) -> Option<Counts> {
        let mut counts = Counts { is_of_weir: true, ..Counts::default() };
        counts.limits.insert(alice(), [0, 0, denied, 0, 0, 0]);
        Some(counts)
    }

    fn denied(rates: &Rates) -> Value {
        rates.of_limit(&alice())["rates"]["denied"].clone()
    }

    #[test]
    fn a_rate_is_that_of_the_last_ten_seconds_of_all_proxies() {
        let mut rates = Rates::of(2);
        assert_eq!(rates.of_limit(&alice()), Value::Null);
        rates.add(0, vec![counts(1_000), counts(500)]);
        assert_eq!(denied(&rates), Value::Null, "one reading has no rate");
        for second in 1..=20 {
            rates.add(second * 1_000, vec![counts(1_000 + second * 2), counts(500 + second)]);
        }
        assert_eq!(denied(&rates), json!(3.0));
        assert_eq!(rates.of_limit(&alice())["totals"]["denied"], 1_000 + 40 + 500 + 20);
        assert_eq!(rates.of_limit(&alice())["series"]["denied"].as_array().map(Vec::len), Some(20));
    }

    #[test]
    fn a_restart_of_a_proxy_and_one_that_is_away_make_no_peak() {
        let mut rates = Rates::of(1);
        rates.add(0, vec![counts(1_000)]);
        rates.add(10_000, vec![counts(10)]);
        assert_eq!(denied(&rates), json!(1.0), "begun anew: 10 in 10 s");
        rates.add(12_000, vec![None]);
        assert_eq!(rates.of_limit(&alice()), Value::Null);
        rates.add(14_000, vec![counts(5_000)]);
        rates.add(24_000, vec![counts(5_010)]);
        assert_eq!(denied(&rates), json!(1.0));
    }

    #[test]
    fn a_pause_begins_anew() {
        let mut rates = Rates::of(1);
        rates.add(0, vec![counts(0)]);
        rates.add(60_000, vec![counts(6_000)]);
        assert_eq!(denied(&rates), Value::Null);
        rates.add(62_000, vec![counts(6_002)]);
        assert_eq!(denied(&rates), json!(1.0));
    }
}
