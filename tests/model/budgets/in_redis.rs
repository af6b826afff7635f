//! Ledger, sweeps and expiry of budgets in a real Redis.

use redis::Commands;

use super::*;

#[test]
fn each_request_has_one_entry_in_the_ledger_however_often_it_is_settled() {
    let Some(mut store) = Store::start() else { return };
    let both = [month(1_000), tokens(500)];
    let (check, verdict) = ask(&mut store, &both, 1, 300);
    let own = check.reservations(&verdict).unwrap();
    let fields = vec![("id", b"1".to_vec()), ("model", b"any".to_vec())];
    let ledger = Ledger { stream: b"ledger", max_len: 1_000, fields };
    let call = own.settle_call(&|limit| [120, 400][limit], false, Some(&ledger), &store.scripts.clone());
    assert_eq!(store.run(&call), Reply::Bulk(b"OV".to_vec()));
    for _ in 0..3 {
        assert_eq!(store.run(&call), Reply::Bulk(b"--".to_vec()));
    }
    let entries: Vec<Entry> = redis::cmd("XRANGE").arg("ledger").arg("-").arg("+").query(&mut store.redis).unwrap();
    let state: String = store.redis.hget("limit0#budgetmonth0", "w").unwrap();
    let state: Vec<&str> = state.split_whitespace().collect();
    assert_eq!(state[1..], ["120", "0", "0"]);
    // A token bucket has no windows.
    let charged = format!("{}:120 0:400 ", state[0]);
    let expected = [("reserved", "300 300 "), ("outcome", "OV"), ("charged", &charged), ("id", "1"), ("model", "any")];
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].1, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_lost_reservation_has_an_entry_once_a_settlement_has_told_the_ledger() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    store.set_clock(Micros(TODAY));
    let month = month(1_000);
    let (check, verdict) = ask(&mut store, &[month], 1, 300);
    ask(&mut store, &[month], 0x0a0b, 200);
    let own = check.reservations(&verdict).unwrap();
    let ledger = Ledger { stream: b"the ledger", max_len: 1_000, fields: vec![("id", b"1".to_vec())] };
    let call = own.settle_call(&|_| 120, false, Some(&ledger), &store.scripts.clone());
    store.run(&call);
    store.set_clock(Micros(TODAY + 61_000_000));
    ask(&mut store, &[month], 3, 1);
    ask(&mut store, &[month], 4, 1);
    let entries: Vec<Entry> = redis::cmd("XRANGE").arg("the ledger").arg("-").arg("+").query(&mut store.redis).unwrap();
    let text = entries[1].1.iter().map(|(name, value)| format!("{name}={value};")).collect::<String>();
    let expected = "source=lost;key=limit0#budgetmonth0;reserved=200 ;amounts=200 ;charged=1793491200000000:200;";
    assert_eq!((entries.len(), text), (2, format!("id=0b0a0000000000000100000000000000;{expected}")));
}

/// Entries of the stream `events`, each with its names and values as text.
fn events(store: &mut Store) -> Vec<String> {
    let entries: Vec<Entry> = redis::cmd("XRANGE").arg("events").arg("-").arg("+").query(&mut store.redis).unwrap();
    let text = |(_, entry): &Entry| entry.iter().map(|(name, value)| format!("{name}={value};")).collect();
    entries.iter().map(text).collect()
}

#[test]
fn a_window_beyond_its_soft_limit_has_one_event() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    let day = Micros::from_secs(86_400);
    let of_a_day = [
        Algorithm::Quota(Quota::of_amounts(1_000, Period::Day, 0).unwrap()),
        Algorithm::FixedWindow(FixedWindow::of_amounts(1_000, day).unwrap()),
        Algorithm::SlidingWindow(SlidingWindow::of_amounts(1_000, day).unwrap()),
    ];
    for algorithm in of_a_day {
        store.clear();
        store.set_clock(Micros(TODAY));
        let charge = charge(Micros::from_secs(60), OnLost::Estimate, WhenShort::Deny);
        let limit = algorithm.reserving(&Charge { soft_limit: NearLimit::new(0.8), ..charge }).unwrap();
        let spend = |store: &mut Store, request, cost: u64, has_stream: bool| {
            let (check, verdict) = ask(store, &[limit], request, 10);
            let own = check.reservations(&verdict).unwrap();
            let stream = Ledger { stream: b"events", max_len: 1_000, fields: Vec::new() };
            let call = own.settle_call(&|_| cost, false, has_stream.then_some(&stream), &store.scripts.clone());
            (store.run(&call), call)
        };
        spend(&mut store, 1, 800, true);
        assert_eq!(events(&mut store), [""; 0], "no more than the share");
        let (reply, call) = spend(&mut store, 2, 1, true);
        assert_eq!((reply, store.run(&call)), (Reply::Bulk(b"O".to_vec()), Reply::Bulk(b"-".to_vec())));
        spend(&mut store, 3, 9, true);
        let key = format!("limit0#{}", limit.tag());
        assert_eq!(events(&mut store), [format!("source=soft_limit;key={key};settled=801;soft_limit=801;")]);
        let state: Vec<String> = redis::cmd("HMGET").arg(&key).arg("w").arg("s").query(&mut store.redis).unwrap();
        assert_eq!(state[0].split_whitespace().last(), Some("0"), "the state is as without a soft limit");
        assert_eq!(state[1], "0");
        // The next window has its own; without a stream of events it has none.
        store.set_clock(Micros(TODAY + 2 * 86_400_000_000));
        spend(&mut store, 4, 850, false);
        assert_eq!(events(&mut store).len(), 1);
        spend(&mut store, 5, 1, true);
        spend(&mut store, 6, 1, true);
        assert_eq!(events(&mut store).len(), 2, "{algorithm:?}");
    }
}

#[test]
fn an_event_that_is_refused_is_written_later() {
    let Some(mut store) = Store::start() else { return };
    let charge = charge(Micros::from_secs(60), OnLost::Estimate, WhenShort::Deny);
    let quota = Algorithm::Quota(Quota::of_amounts(100, Period::Year, 0).unwrap());
    let limit = quota.reserving(&Charge { soft_limit: NearLimit::new(0.5), ..charge }).unwrap();
    let spend = |store: &mut Store, request| {
        let (check, verdict) = ask(store, &[limit], request, 10);
        let stream = Ledger { stream: b"events", max_len: 1_000, fields: Vec::new() };
        let own = check.reservations(&verdict).unwrap();
        let call = own.settle_call(&|_| 30, false, Some(&stream), &store.scripts.clone());
        read_results(&store.run(&call)).unwrap().1
    };
    store.command(&["SET", "events", "no stream"]);
    assert!(!spend(&mut store, 1) && spend(&mut store, 2));
    store.command(&["DEL", "events"]);
    assert!(!spend(&mut store, 3));
    assert_eq!(events(&mut store).len(), 1);
}

#[test]
fn a_ledger_that_refuses_its_entry_does_not_keep_a_request_from_being_settled() {
    let Some(mut store) = Store::start() else { return };
    let (check, verdict) = ask(&mut store, &[month(1_000)], 1, 300);
    let ledger = Ledger { stream: b"ledger", max_len: 1_000, fields: vec![("id", b"1".to_vec())] };
    store.command(&["SET", "ledger", "no stream"]);
    let scripts = store.scripts.clone();
    let call = check.reservations(&verdict).unwrap().settle_call(&|_| 120, false, Some(&ledger), &scripts);
    assert_eq!(read_results(&store.run(&call)), Some((vec![SettleResult::Within], true)));
    assert_eq!(read_results(&store.run(&call)), Some((vec![SettleResult::Nothing], false)));
}

#[test]
fn a_request_that_another_limit_denies_reserves_nothing() {
    let Some(mut store) = Store::start() else { return };
    let both = [month(1_000), tokens(500)];
    let (check, verdict) = ask(&mut store, &both, 1, 600);
    assert!(!verdict.admitted && check.reservations(&verdict).is_none());
    let keys: Vec<String> = store.redis.keys("*").unwrap();
    assert_eq!(keys, [""; 0]);
}

/// The leases of 1,000 requests of a proxy that has died end at once: later calls sweep them in steps.
#[test]
fn a_thousand_lost_reservations_are_swept_in_steps_and_charged_once() {
    let Some(mut store) = Store::with_settable_clock() else { return };
    store.forget_shadow();
    for algorithm in [month(1_000_000), tokens(1_000_000)] {
        store.clear();
        store.set_clock(Micros(TODAY));
        for request in 0..1_000 {
            assert!(ask(&mut store, &[algorithm], request, 7).1.admitted);
        }
        store.set_clock(Micros(TODAY + 61_000_000));
        // Meanwhile others reserve, too.
        let mut calls = 0;
        loop {
            let (_, verdict) = ask(&mut store, &[algorithm], 5_000 + calls, 7);
            calls += 1;
            if verdict.outcomes[0].held == Tokens(7 * (calls - 1)) {
                break;
            }
            assert!(calls < 30, "{:?} are left", verdict.outcomes[0].held);
        }
        assert!(calls > 5, "{calls} calls have swept all");
        let left = 1_000_000 - 7 * (1_000 + calls);
        let (_, verdict) = ask(&mut store, &[algorithm], 9_000, left + 1);
        assert!(!verdict.admitted, "what is lost is charged");
        let (check, verdict) = ask(&mut store, &[algorithm], 9_001, left);
        assert!(verdict.admitted, "once: {verdict:?}");
        settle(&mut store, &check.reservations(&verdict).unwrap(), &|_| 0, false);
        // Their leases end as well.
        store.set_clock(Micros(TODAY + 123_000_000));
        let held = (0..30).map(|nth| ask(&mut store, &[algorithm], 9_100 + nth, 0).1.outcomes[0].held);
        assert_eq!(held.last(), Some(Tokens(0)));
    }
}

#[test]
fn a_budget_is_kept_an_hour_beyond_its_last_lease() {
    let Some(mut store) = Store::start() else { return };
    for (algorithm, key, least) in [
        (tokens(60), "limit0#budgettoken", 3_660),
        (
            budget(Algorithm::FixedWindow(FixedWindow::of_amounts(60, Micros::from_secs(9)).unwrap())),
            "limit0#budgetfixed9000000",
            3_660,
        ),
        (
            budget(Algorithm::SlidingWindow(SlidingWindow::of_amounts(60, Micros::from_secs(40_000)).unwrap())),
            "limit0#budgetsliding40000000000",
            40_000,
        ),
        (month(60), "limit0#budgetmonth0", 28 * 86_400),
    ] {
        let (check, verdict) = ask(&mut store, &[algorithm], 1, 60);
        let ttl = |store: &mut Store| store.redis.pttl::<_, i64>(key).unwrap() / 1_000;
        let found = ttl(&mut store);
        assert!((least - 2..=least + 40_000 + 62 * 86_400).contains(&found), "{key}: {found} s");
        store.command(&["PEXPIRE", key, "9000"]);
        let own = check.reservations(&verdict).unwrap();
        assert_eq!(store.count(&renewal(&own, &store)), 1);
        assert!(ttl(&mut store) >= 3_658, "{key}");
    }
}
