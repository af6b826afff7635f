//! Limit algorithms on both hosts: windows, quotas, concurrency and shaping.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use weir::{Answer, HostKind, Mesh, on_both_hosts};

/// Number of attempts to send requests within a time that a stalled machine exceeds.
const ATTEMPTS: usize = 5;

/// Starts a host with these limits, each for requests with its name in `x-case`, keyed by `x-user-id`.
async fn limits(kind: HostKind, limits: &[(&str, Value)]) -> Option<Mesh> {
    let all: Vec<Value> = limits
        .iter()
        .map(|(name, fields)| {
            let mut limit = json!({
                "name": name, "when": [{"header": {"name": "x-case", "exact": name}}],
                "descriptor": [{"request_header": {"name": "x-user-id"}}],
            });
            limit.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            limit
        })
        .collect();
    Mesh::on(kind, "envoy/quickstart.yaml").patient().configure(|filter| filter["limits"] = json!(all)).start().await
}

async fn get(mesh: &Mesh, case: &str, user: &str) -> Answer {
    mesh.ask("/").header("x-case", case).user(user).send().await
}

on_both_hosts! {
    each_window_algorithm_admits_max_requests_and_denies_the_next
    a_sliding_window_admits_again_when_its_oldest_requests_have_left_it
    a_limit_of_zero_denies_every_request_and_spends_nothing
    slots_that_another_proxy_holds_on_longer_leases_stay_taken
    a_request_spends_from_all_windows_of_a_limit_or_from_none
    limits_of_different_algorithms_are_decided_in_one_step
    a_request_keeps_its_slot_until_it_ends
    a_held_request_whose_client_disconnects_returns_its_slot_and_its_token
    requests_are_held_until_their_tokens_exist
}

async fn each_window_algorithm_admits_max_requests_and_denies_the_next(kind: HostKind) {
    let Some(mesh) = limits(
        kind,
        &[
            ("exact", json!({"sliding_window": {"max_requests": 3, "window": "3600s", "mode": "exact"}})),
            ("approximate", json!({"sliding_window": {"max_requests": 3, "window": "315360000s"}})),
            ("fixed", json!({"fixed_window": {"max_requests": 3, "window": "31536000s"}})),
            ("quota", json!({"quota": {"max_requests": 3, "unit": "year", "utc_offset": weir::offset_at_noon()}})),
        ],
    )
    .await
    else {
        return;
    };
    for case in ["exact", "approximate", "fixed", "quota"] {
        for left in [2, 1, 0] {
            get(&mesh, case, "alice").await.admitted().remaining(left);
        }
        let denied = get(&mesh, case, "alice").await.denied().remaining(0);
        assert!(denied.number::<u64>("retry-after").unwrap() >= 1, "{case}: {denied:?}");
        get(&mesh, case, "bob").await.admitted().remaining(2);
    }
}

async fn a_sliding_window_admits_again_when_its_oldest_requests_have_left_it(kind: HostKind) {
    let Some(mesh) =
        limits(kind, &[("exact", json!({"sliding_window": {"max_requests": 2, "window": "2s", "mode": "exact"}}))])
            .await
    else {
        return;
    };
    for nth in 0..ATTEMPTS {
        let user = format!("alice-{nth}");
        let start = Instant::now();
        get(&mesh, "exact", &user).await.admitted();
        get(&mesh, "exact", &user).await.admitted();
        let third = get(&mesh, "exact", &user).await;
        if start.elapsed() >= Duration::from_secs(2) {
            // On a stalled machine, the first request may have left the window before the third.
            continue;
        }
        let wait = third.denied().number::<u64>("retry-after").unwrap();
        assert!((1..=2).contains(&wait), "{wait}");
        tokio::time::sleep(Duration::from_secs(wait)).await;
        if start.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_secs(2) - start.elapsed()).await;
        }
        get(&mesh, "exact", &user).await.admitted();
        return;
    }
    panic!("no three requests within 2 s");
}

async fn a_limit_of_zero_denies_every_request_and_spends_nothing(kind: HostKind) {
    let bucket = json!({"max_tokens": 0, "tokens_per_fill": 5, "fill_interval": "60s"});
    let cases = [
        ("bucket", json!({"token_bucket": bucket})),
        ("leased", json!({"token_bucket": bucket, "lease": {"max": 5}})),
        ("exact", json!({"sliding_window": {"max_requests": 0, "window": "60s", "mode": "exact"}})),
        ("approximate", json!({"sliding_window": {"max_requests": 0, "window": "60s"}})),
        ("fixed", json!({"fixed_window": {"max_requests": 0, "window": "60s"}})),
        ("quota", json!({"quota": {"max_requests": 0, "unit": "month"}})),
        ("slots", json!({"concurrency": {"max_requests": 0}})),
        ("costless", json!({"token_bucket": bucket, "hits_addend": 0})),
        ("second", json!({"windows": [{"quota": {"max_requests": 9, "unit": "year"}}, {"token_bucket": bucket}]})),
        ("shadow", json!({"fixed_window": {"max_requests": 0, "window": "60s"}, "shadow_mode": true})),
    ];
    let Some(mesh) = limits(kind, &cases).await else { return };
    for (case, _) in &cases[..9] {
        let denied = get(&mesh, case, "alice").await.denied().remaining(0);
        assert_eq!((denied.header("retry-after"), denied.header("x-ratelimit-limit")), (None, Some("0")), "{case}");
    }
    let passed = get(&mesh, "shadow", "alice").await.admitted();
    assert_eq!(passed.header("x-ratelimit-limit"), None);
    mesh.counts("weir_limit_shadow_shadow_denied", 1).await;
    mesh.counts("weir_requests_denied", 9).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut mesh.redis_connection()).unwrap();
    assert_eq!(keys, [""; 0], "no key is written");
}

async fn slots_that_another_proxy_holds_on_longer_leases_stay_taken(kind: HostKind) {
    let Some(mesh) = limits(kind, &[("flights", json!({"concurrency": {"max_requests": 4, "lease": "1s"}}))]).await
    else {
        return;
    };
    let mut redis = mesh.redis_connection();
    let key = format!("{}flights:alice#concurrency", mesh.key_prefix());
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
    let ends = (seconds + 60) * 1_000_000 + micros;
    for owner in ["a canary with 1.", "a canary with 2.", "a canary with 3.", "a canary with 4."] {
        let _: () = redis::cmd("ZADD").arg(&key).arg(ends).arg(format!("{owner}60000000")).query(&mut redis).unwrap();
    }
    get(&mesh, "flights", "alice").await.denied();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    get(&mesh, "flights", "alice").await.denied();
    let _: () = redis::cmd("ZREM").arg(&key).arg("a canary with 1.60000000").query(&mut redis).unwrap();
    get(&mesh, "flights", "alice").await.admitted();
    until(|| redis::cmd("ZCARD").arg(&key).query::<u64>(&mut mesh.redis_connection()).unwrap() == 3).await;
    get(&mesh, "flights", "alice").await.admitted();
    let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut redis).unwrap();
    assert!(ttl > 20_000, "expected the key to outlive leases of 60 s, found a time to live of {ttl} ms");
}

async fn a_request_spends_from_all_windows_of_a_limit_or_from_none(kind: HostKind) {
    let Some(mesh) = limits(
        kind,
        &[(
            "both",
            json!({"windows": [
        {"token_bucket": {"max_tokens": 2, "tokens_per_fill": 1, "fill_interval": "3600s"}},
        {"quota": {"max_requests": 5, "unit": "year"}},
    ], "response": {"headers": ["ratelimit", "retry-after"]}}),
        )],
    )
    .await
    else {
        return;
    };
    let states = |answer: &Answer| answer.header("ratelimit").unwrap().to_owned();
    get(&mesh, "both", "alice").await.admitted();
    let second = states(&get(&mesh, "both", "alice").await.admitted());
    assert!(second.contains(r#""both";r=0"#) && second.contains(r#""both:1";r=3"#), "{second}");
    for _ in 0..3 {
        let denied = states(&get(&mesh, "both", "alice").await.denied());
        assert!(denied.contains(r#""both:1";r=3"#), "a request that the bucket denies spends no quota: {denied}");
    }
}

async fn limits_of_different_algorithms_are_decided_in_one_step(kind: HostKind) {
    let Some(mesh) = Mesh::on(kind, "envoy/quickstart.yaml")
        .patient()
        .configure(|filter| {
            filter["limits"] = json!([
                {"name": "wide", "descriptor": [], "fixed_window": {"max_requests": 100, "window": "31536000s"}},
                {"name": "narrow", "descriptor": [{"request_header": {"name": "x-user-id"}}],
                 "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}},
            ])
        })
        .configure(|filter| filter["response"]["headers"] = json!(["ratelimit"]))
        .start()
        .await
    else {
        return;
    };
    mesh.get("alice").await.admitted();
    for _ in 0..3 {
        mesh.get("alice").await.denied();
    }
    let states = mesh.get("bob").await.admitted().header("ratelimit").unwrap().to_owned();
    assert!(states.contains(r#""wide";r=98"#), "denied requests spend nothing from the wide limit: {states}");
}

async fn a_request_keeps_its_slot_until_it_ends(kind: HostKind) {
    // Held requests are in flight, too: the bucket of `slow` holds the second request for 2 s.
    let Some(mesh) = limits(
        kind,
        &[
            ("flights", json!({"concurrency": {"max_requests": 2}, "hits_addend": 1})),
            (
                "slow",
                json!({"windows": [
            {"concurrency": {"max_requests": 2}},
            {"token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "2s"}},
        ], "max_delay": "30s"}),
            ),
        ],
    )
    .await
    else {
        return;
    };
    for _ in 0..10 {
        get(&mesh, "flights", "alice").await.admitted();
    }
    for nth in 0..ATTEMPTS {
        let user = format!("user-{nth}");
        let key = format!("{}slow:{user}#concurrency", mesh.key_prefix());
        let taken = || redis::cmd("ZCARD").arg(&key).query::<u64>(&mut mesh.redis_connection()).unwrap();
        let start = Instant::now();
        // Neither of the two held requests ends before.
        let is_early = || start.elapsed() < Duration::from_secs(2);
        get(&mesh, "slow", &user).await.admitted();
        let third = async {
            until(|| taken() == 2 || !is_early()).await;
            let answer = get(&mesh, "slow", &user).await;
            is_early().then_some(answer.status)
        };
        let (first, second, third) = tokio::join!(get(&mesh, "slow", &user), get(&mesh, "slow", &user), third);
        // A run of a stalled machine shows nothing.
        let Some(third) = third else { continue };
        assert_eq!([first.status, second.status, third], [200, 200, 429], "two slots");
        get(&mesh, "slow", &user).await.admitted();
        return;
    }
    panic!("no third request within 2 s");
}

async fn a_held_request_whose_client_disconnects_returns_its_slot_and_its_token(kind: HostKind) {
    let Some(mesh) = limits(
        kind,
        &[(
            "slow",
            json!({"windows": [
        {"concurrency": {"max_requests": 1, "lease": "3600s"}},
        {"token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "20s"}},
    ], "max_delay": "60s"}),
        )],
    )
    .await
    else {
        return;
    };
    get(&mesh, "slow", "alice").await.admitted();
    let place = || {
        let held: u64 = redis::cmd("ZCARD")
            .arg(format!("{}slow:alice#concurrency", mesh.key_prefix()))
            .query(&mut mesh.redis_connection())
            .unwrap();
        held
    };
    until(|| place() == 0).await;
    let leaver = tokio::time::timeout(Duration::from_millis(700), get(&mesh, "slow", "alice"));
    assert!(leaver.await.is_err(), "the request is held until its client disconnects");
    until(|| place() == 0).await;
    // One token is 20 million of the units that the bucket's state counts.
    let spent = || {
        let mut redis = mesh.redis_connection();
        let state: Vec<u8> =
            redis::cmd("GET").arg(format!("{}slow:alice#token", mesh.key_prefix())).query(&mut redis).unwrap();
        i64::from_be_bytes(state[8..16].try_into().unwrap())
    };
    until(|| spent() <= 20_000_000).await;
}

async fn requests_are_held_until_their_tokens_exist(kind: HostKind) {
    let Some(mesh) = limits(
        kind,
        &[(
            "shaped",
            json!({
                "token_bucket": {"max_tokens": 1, "tokens_per_fill": 10, "fill_interval": "1s"}, "max_delay": "0.55s",
            }),
        )],
    )
    .await
    else {
        return;
    };
    let mesh = std::sync::Arc::new(mesh);
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..12 {
        let mesh = std::sync::Arc::clone(&mesh);
        requests.spawn(async move { (get(&mesh, "shaped", "alice").await.status, start.elapsed()) });
    }
    let answers = requests.join_all().await;
    let mut passed: Vec<Duration> = answers.iter().filter(|(status, _)| *status == 200).map(|(_, at)| *at).collect();
    passed.sort();
    // One request passes at once and one each 100 ms. A request that would wait for more than 550 ms is denied.
    for (turn, at) in passed.iter().enumerate() {
        assert!(
            *at >= Duration::from_millis(100) * u32::try_from(turn).unwrap(),
            "request {turn} was released too early: {passed:?}"
        );
    }
    assert!((6..=12).contains(&passed.len()), "{passed:?}");
    let denied = answers.iter().filter(|(status, _)| *status == 429).count();
    assert_eq!(passed.len() + denied, 12);
    // A request that arrives late may find a token, and is not delayed. Where a request is denied, five are waiting.
    let delayed = if denied > 0 { 5 } else { 0 }..=u64::try_from(passed.len()).unwrap() - 1;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let counted = mesh.counter("weir_requests_delayed").await;
        if delayed.contains(&counted) {
            break;
        }
        assert!(Instant::now() < deadline && counted <= *delayed.end(), "{counted} of {delayed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `is` returns true, for at most a minute.
async fn until(is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "the condition does not hold within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
