use proptest::prelude::*;

use std::collections::HashSet;

use super::super::Ruling;
use super::*;

const INTERVAL: Micros = Micros::from_secs(5);
/// 2026-11-20 by Redis' clock, in seconds since 1970; [`NOW`] is the same instant by the worker's clock.
const REDIS_TIME: u64 = 1_795_132_800;
const NOW: Micros = Micros::from_secs(77);

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.into())
}

/// A worker that reads pages from the test.
struct Worker {
    refresh: Refresh,
    now: Micros,
}

impl Worker {
    fn awake() -> Self {
        let mut refresh = Refresh::new("weir:", INTERVAL, 1);
        refresh.wake(NOW);
        Self { refresh, now: NOW }
    }

    /// Runs one round of a single page.
    fn reads(&mut self, entries: &[(&str, &str)]) -> Vec<Event> {
        self.page("0", entries)
    }

    /// Reads one page of a round, with HSCAN's cursor for the next.
    fn page(&mut self, cursor: &str, entries: &[(&str, &str)]) -> Vec<Event> {
        self.waits_until_due();
        let page = self.reply(cursor, entries);
        self.refresh.handle(self.now, Ok(page))
    }

    fn waits_until_due(&mut self) {
        self.now = self.refresh.next_tick(self.now).unwrap();
        assert!(self.refresh.due(self.now).is_some());
    }

    /// Returns a page's reply. Redis' clock and the worker's run at the same speed.
    fn reply(&self, cursor: &str, entries: &[(&str, &str)]) -> Reply {
        let micros = i64::try_from(Micros::from_secs(REDIS_TIME).plus(self.now).minus(NOW).0).unwrap();
        let mut elements = vec![Reply::Integer(self.refresh.serial.into()), Reply::Integer(micros)];
        elements.extend([Reply::Integer(i64::try_from(entries.len()).unwrap()), bulk(cursor), bulk("")]);
        elements.extend(entries.iter().flat_map(|(field, value)| [bulk(field), bulk(value)]));
        Reply::Array(elements)
    }

    fn ruling(&self, key: &str) -> Option<Ruling> {
        self.refresh.overrides().of(self.now, "per_user", key.as_bytes()).map(|found| found.ruling)
    }

    fn of_alice(&self) -> Option<Ruling> {
        self.ruling("weir:per_user:alice")
    }
}

#[test]
fn nothing_is_read_until_the_first_request_and_then_at_once() {
    let mut refresh = Refresh::new("weir:", INTERVAL, 1);
    assert!(refresh.next_tick(NOW).is_none() && refresh.due(NOW).is_none());
    refresh.wake(NOW);
    assert_eq!(refresh.next_tick(NOW), Some(NOW));
    assert!(refresh.due(NOW).is_some());
    assert!(refresh.due(NOW).is_none(), "one call at a time");
    refresh.wake(NOW);
    assert!(refresh.due(NOW).is_none(), "a round is already running");
}

#[test]
fn an_override_holds_from_set_to_unset() {
    let mut worker = Worker::awake();
    assert_eq!(worker.reads(&[("per_user:alice", "blocked")]), [Event::Changed]);
    assert_eq!((worker.of_alice(), worker.ruling("weir:per_user:bob")), (Some(Ruling::Blocked), None));
    assert!(worker.refresh.is_loaded());
    assert_eq!(worker.reads(&[("per_user:alice", "blocked")]), []);
    assert_eq!(worker.reads(&[("per_user:alice", "off")]), [Event::Changed]);
    assert_eq!(worker.reads(&[]), [Event::Changed]);
    assert_eq!(worker.of_alice(), None);
}

#[test]
fn an_announced_change_is_read_once_and_is_no_override_of_its_own() {
    let mut worker = Worker::awake();
    let redis_time = |worker: &Worker| Micros::from_secs(REDIS_TIME).plus(worker.now).minus(NOW);
    let change = format!("{}:blocked", redis_time(&worker).0 - 1);
    let fields = [("@per_user:alice", change.as_str()), ("@per_user:bob", "no time"), ("@", "1:off")];
    let first = worker.reads(&fields);
    let expected = Event::KeyChanged {
        redis_time: redis_time(&worker),
        key: b"per_user:alice".to_vec(),
        text: b"blocked".to_vec(),
    };
    assert_eq!((first, worker.of_alice()), (vec![expected], None));
    assert_eq!(worker.reads(&fields), []);
    let removed = format!("{}:", redis_time(&worker).0);
    let again = worker.reads(&[("@per_user:alice", &removed)]);
    assert!(matches!(&again[..], [Event::KeyChanged { text, .. }] if text.is_empty()), "{again:?}");
}

#[test]
fn nothing_changes_before_the_last_page() {
    let mut worker = Worker::awake();
    assert_eq!(worker.page("17", &[("per_user:alice", "blocked")]), []);
    assert_eq!(worker.of_alice(), None);
    assert_eq!(worker.refresh.next_tick(worker.now), Some(worker.now), "the next page is due at once");
    assert_eq!(worker.page("0", &[("per_user:bob", "off")]), [Event::Changed]);
    assert_eq!((worker.of_alice(), worker.ruling("weir:per_user:bob")), (Some(Ruling::Blocked), Some(Ruling::Off)));
}

#[test]
fn an_override_expires_by_redis_clock_without_another_round() {
    let mut worker = Worker::awake();
    let (past, future) = (REDIS_TIME, REDIS_TIME + 3);
    let value = |until: u64| format!(r#"{{"is": "blocked", "until": {until}}}"#);
    worker.reads(&[("per_user:alice", &value(future)), ("per_user:bob", &value(past))]);
    assert_eq!(worker.ruling("weir:per_user:bob"), None);
    let of_alice = worker.refresh.overrides().of(NOW, "per_user", b"weir:per_user:alice").unwrap();
    assert_eq!(of_alice.until, Some(NOW.plus(Micros::from_secs(3))));
    worker.now = NOW.plus(Micros::from_secs(3));
    assert_eq!(worker.of_alice(), None);
}

#[test]
fn without_redis_the_last_overrides_hold() {
    let mut worker = Worker::awake();
    worker.reads(&[("per_user:alice", "blocked")]);
    for failure in Failure::ALL {
        worker.waits_until_due();
        assert_eq!(worker.refresh.handle(worker.now, Err(failure)), []);
        assert_eq!(worker.of_alice(), Some(Ruling::Blocked));
    }
    worker.waits_until_due();
    assert!(matches!(worker.refresh.handle(worker.now, Ok(Reply::Nil))[..], [Event::Ignored(Ignored::Reply(_))]));
    assert_eq!(worker.page("5", &[]), [], "half a round changes nothing");
    worker.waits_until_due();
    worker.refresh.handle(worker.now, Err(Failure::Reset));
    assert_eq!(worker.of_alice(), Some(Ruling::Blocked));
    assert_eq!(worker.reads(&[]), [Event::Changed]);
}

#[test]
fn a_worker_without_overrides_retries_sooner_than_the_interval() {
    let mut worker = Worker::awake();
    worker.waits_until_due();
    worker.refresh.handle(NOW, Err(Failure::Timeout));
    assert!(worker.refresh.next_tick(NOW).unwrap() <= NOW.plus(Micros::from_millis(500)));
}

#[test]
fn workers_do_not_read_at_the_same_time() {
    let next = |seed| {
        let mut worker = Worker { refresh: Refresh::new("weir:", INTERVAL, seed), now: NOW };
        worker.refresh.wake(NOW);
        worker.reads(&[]);
        worker.refresh.next_tick(NOW).unwrap().minus(NOW)
    };
    let spans: HashSet<Micros> = (0..100).map(next).collect();
    assert!(spans.len() > 90, "{} different spans of 100", spans.len());
    assert!(spans.iter().all(|span| *span <= INTERVAL && *span >= Micros::from_millis(3_750)), "{spans:?}");
}

#[test]
fn a_malformed_entry_is_reported_once_until_it_changes() {
    let mut worker = Worker::awake();
    let reported = |events: Vec<Event>| -> Vec<String> {
        events.iter().filter(|event| **event != Event::Changed).map(text).collect()
    };
    let entries = [("per_user:alice", "blokced"), ("per_user:alice", "blokced"), ("per_user:bob", "blocked")];
    assert_eq!(
        reported(worker.reads(&entries)),
        [
            "override ignored (field hash a9bb3094adaafdf1): expected unlimited, blocked, shadow, off, or a JSON object; `weir limits list` shows the override"
        ]
    );
    assert_eq!((worker.of_alice(), worker.ruling("weir:per_user:bob")), (None, Some(Ruling::Blocked)));
    assert_eq!(reported(worker.reads(&entries)).len(), 0);
    worker.waits_until_due();
    worker.refresh.handle(worker.now, Err(Failure::Reset));
    assert_eq!(reported(worker.reads(&entries)).len(), 0);
    assert_eq!(reported(worker.reads(&[("per_user:alice", "bloked")])).len(), 1);
    assert_eq!(reported(worker.reads(&[])).len(), 0);
    assert_eq!(reported(worker.reads(&[("per_user:alice", "bloked")])).len(), 1, "the entry was gone in between");
    assert_eq!(reported(worker.reads(&[(&"x".repeat(257), "off")])).len(), 1);
}

#[test]
fn a_thousand_malformed_entries_are_not_a_thousand_warnings() {
    let mut worker = Worker::awake();
    let names: Vec<String> = (0..1_000).map(|n| format!("limit{n}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "?")).collect();
    let events = worker.reads(&entries);
    assert_eq!(events.len(), MAX_NAMED + 1);
    assert_eq!(events.last(), Some(&Event::Ignored(Ignored::Others(1_000 - 64))));
    assert_eq!(worker.reads(&entries), []);
}

#[test]
fn more_overrides_than_are_kept_are_reported_once() {
    let mut worker = Worker::awake();
    let names: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("limit{n}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "off")).collect();
    let too_many = Event::Ignored(Ignored::TooMany { found: 10_001 });
    assert_eq!(worker.reads(&entries), [too_many.clone(), Event::Changed]);
    assert_eq!(worker.refresh.overrides().len(), MAX_ENTRIES);
    assert_eq!(worker.reads(&entries), []);
    assert_eq!(worker.reads(&entries[1..]), [Event::Changed]);
    assert_eq!(worker.reads(&entries), [too_many, Event::Changed]);
}

#[test]
fn a_call_without_a_reply_is_repeated_and_its_late_reply_is_ignored() {
    let mut worker = Worker::awake();
    worker.waits_until_due();
    let late = worker.reply("0", &[("per_user:alice", "blocked")]);
    worker.waits_until_due();
    assert_eq!(worker.now, NOW.plus(GIVE_UP));
    assert_eq!(worker.refresh.handle(worker.now, Ok(late)), []);
    assert_eq!(worker.of_alice(), None);
    let reply = worker.reply("0", &[("per_user:alice", "off")]);
    assert_eq!(worker.refresh.handle(worker.now, Ok(reply)), [Event::Changed]);
}

fn text(event: &Event) -> String {
    match event {
        Event::Changed => "changed".to_owned(),
        Event::KeyChanged { key, .. } => String::from_utf8_lossy(key).into_owned(),
        Event::Prices(models) => models.iter().map(|model| model.name.clone()).collect::<Vec<_>>().join(" "),
        Event::Ignored(ignored) => ignored.to_string(),
    }
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Reply::Integer),
        (0_i64..3).prop_map(Reply::Integer),
        bytes().prop_map(Reply::Bulk),
        "0|[0-9]{1,22}|per_user|blocked|off|\\{\"is\": \"off\", \"until\": [0-9]{1,20}\\}".prop_map(|text| bulk(&text)),
        bytes().prop_map(Reply::Simple),
        bytes().prop_map(Reply::Error),
        Just(Reply::Nil),
    ];
    leaf.prop_recursive(2, 40, 20, |inner| proptest::collection::vec(inner, 0..20).prop_map(Reply::Array))
}

fn any_page() -> impl Strategy<Value = Reply> {
    let strings = proptest::collection::vec(
        "0|1|per_user|per_user:alice|blocked|off|\\{\"is\": \"off\", \"until\": [0-9]{1,20}\\}",
        0..9,
    );
    (0_i64..4, any::<i64>(), any::<i64>(), strings).prop_map(|(serial, now, total, strings)| {
        let integers = [serial, now, total].map(Reply::Integer);
        Reply::Array(integers.into_iter().chain(strings.iter().map(|text| bulk(text))).collect())
    })
}

proptest! {
    #[test]
    fn no_reply_is_too_strange(
        replies in proptest::collection::vec((prop_oneof![any_reply(), any_page()], 0_u64..9_000_000), 0..20),
    ) {
        let mut refresh = Refresh::new("weir:", INTERVAL, 1);
        let mut now = NOW;
        refresh.wake(now);
        for (reply, pause) in replies {
            now = now.plus(Micros(pause));
            let _ = refresh.due(now);
            let is_in_flight = matches!(refresh.phase, Phase::InFlight { .. });
            let events = refresh.handle(now, Ok(reply));
            prop_assert!(is_in_flight || events.is_empty());
            prop_assert!(refresh.next_tick(now).is_some(), "refreshing never stops");
            let found = refresh.overrides().of(now, "per_user", b"weir:per_user:alice");
            prop_assert!(found.is_none_or(|found| found.until.is_none_or(|until| until > now)));
        }
    }
}

/// Reads one round of overrides, which are none, and a page of prices.
fn reads_prices(worker: &mut Worker, entries: &[(&str, &str)]) -> Vec<Event> {
    let before = worker.reads(&[]);
    [before, worker.reads(entries)].concat()
}

fn names(events: &[Event]) -> Vec<String> {
    events.iter().map(text).collect()
}

#[test]
fn prices_are_read_after_the_overrides_and_reported_when_they_change() {
    let mut worker = Worker::awake();
    worker.refresh = Refresh::new("weir:", INTERVAL, 1).with_prices();
    worker.refresh.wake(NOW);
    assert_eq!(reads_prices(&mut worker, &[]), []);
    let (mini, claude) = (("exact:mini", r#"{"input": 1}"#), ("prefix:claude-", r#"{"input": 3}"#));
    assert_eq!(names(&reads_prices(&mut worker, &[mini, claude])), ["mini claude-"]);
    assert_eq!(reads_prices(&mut worker, &[claude, mini]), [], "the same");
    assert_eq!(names(&reads_prices(&mut worker, &[claude, ("exact:mini", r#"{"input": 2}"#)])), ["claude- mini"]);
    let malformed = names(&reads_prices(&mut worker, &[mini, ("claude-", "3")]));
    assert_eq!(malformed.len(), 2, "{malformed:?}");
    assert!(malformed[0].starts_with("price ignored: field claude-: expected exact: or prefix:"), "{malformed:?}");
    assert_eq!(reads_prices(&mut worker, &[mini, ("claude-", "3")]), [], "it was warned about");
    assert_eq!(names(&reads_prices(&mut worker, &[])), [""], "those of the configuration hold");
}

#[test]
fn prices_come_in_several_pages_and_a_failed_round_changes_none() {
    let mut worker = Worker::awake();
    worker.refresh = Refresh::new("weir:", INTERVAL, 1).with_prices();
    worker.refresh.wake(NOW);
    let price = r#"{"input": 1}"#;
    assert_eq!(worker.reads(&[]), []);
    assert_eq!(worker.page("7", &[("exact:a", price)]), []);
    assert_eq!(names(&worker.page("0", &[("exact:b", price)])), ["a b"]);
    assert_eq!(worker.reads(&[]), []);
    assert_eq!(worker.page("7", &[("exact:a", price)]), []);
    worker.waits_until_due();
    assert_eq!(worker.refresh.handle(worker.now, Err(Failure::Timeout)), []);
    let before = worker.now;
    assert_eq!(reads_prices(&mut worker, &[("exact:a", price), ("exact:b", price)]), [], "they are known still");
    assert!(worker.now.minus(before) > INTERVAL.minus(Micros(INTERVAL.0 / 2)), "a round begins with the overrides");
}

#[test]
fn prices_beyond_the_bounds_are_ignored_with_one_warning() {
    let mut worker = Worker::awake();
    worker.refresh = Refresh::new("weir:", INTERVAL, 1).with_prices();
    worker.refresh.wake(NOW);
    let value = format!("{{\"input\": 1{}}}", " ".repeat(900));
    let fields: Vec<String> = (0..100).map(|nth| format!("exact:{nth}")).collect();
    let entries: Vec<(&str, &str)> = fields.iter().map(|field| (field.as_str(), value.as_str())).collect();
    let events = reads_prices(&mut worker, &entries);
    let [Event::Ignored(Ignored::TooManyPrices { found: 100 }), Event::Prices(models)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(models.len(), 71);
    assert_eq!(reads_prices(&mut worker, &entries), []);
}
