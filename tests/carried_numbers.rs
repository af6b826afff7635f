//! Limits whose numbers requests carry (`envoy/plan-claims.yaml`), on both hosts.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::header::{HeaderName, HeaderValue};
use redis::Commands;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use weir::{Answer, HostKind, Mesh, MeshBuilder};
use weir_filter::overrides::{SET_SCRIPT, hash_key, override_key};
use weir_harness::traffic::Flood;
use weir_host::jws::{self, Algorithm, EncodingKey, TRIAL_KEY};

weir::on_both_hosts! {
    the_number_in_a_claim_is_the_limit
    a_claim_that_is_no_number_is_the_default
    the_trial_tokens_of_the_scenario_are_valid
    tokens_spent_under_one_number_stay_spent_under_another
    a_denial_under_a_small_number_denies_no_request_with_a_greater_number
    every_algorithm_has_the_number_of_the_request
    a_request_takes_a_slot_of_the_number_that_it_carries
    tokens_spent_from_leases_stay_spent_under_another_number
    an_override_of_a_key_goes_before_the_number_of_the_request
    a_crowd_with_two_numbers_gets_what_each_admits
    a_held_request_that_leaves_returns_its_token_of_the_number_in_its_claim
    of_two_held_requests_with_two_claims_that_leave_the_last_returns_its_token
}

const SCENARIO: &str = "envoy/plan-claims.yaml";

async fn the_number_in_a_claim_is_the_limit(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    for (user, rpm) in [("alice", 30_u64), ("bob", 2), ("carol", 1_000)] {
        let answer = ask(&mesh, user, rpm.into()).await.admitted().remaining(rpm - 1);
        assert_eq!(answer.number("x-ratelimit-limit"), Some(rpm));
    }
    ask(&mesh, "bob", 2.into()).await.admitted();
    // A token in 30 s.
    let wait = ask(&mesh, "bob", 2.into()).await.denied().number::<u64>("retry-after").unwrap();
    assert!((20..=30).contains(&wait), "{wait} s");
    ask(&mesh, "dave", 1_001.into()).await.admitted().remaining(999);
    // A limit of zero has no retry-after.
    for _ in 0..2 {
        let answer = ask(&mesh, "eve", 0.into()).await.denied().without("retry-after");
        assert_eq!(answer.header("x-ratelimit-limit"), Some("0"));
    }
}

async fn a_claim_that_is_no_number_is_the_default(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    let values =
        [Value::Null, json!("many"), json!(-5), json!(2.5), json!(true), json!([50]), json!(0.999_999_999_999_999_9)];
    for (nth, value) in values.into_iter().enumerate() {
        let answer = ask(&mesh, &format!("user {nth}"), value.clone()).await.admitted();
        assert_eq!(answer.header("x-ratelimit-limit"), Some("10"), "{value}");
    }
    for value in [json!("20"), json!(20.0), json!("20.0"), json!("2e1")] {
        assert_eq!(ask(&mesh, "alice", value).await.header("x-ratelimit-limit"), Some("20"));
    }
    let powers = [json!(9_223_372_036_854_775_808_u64), json!(u64::MAX), json!(1e19), json!(1e20), json!(1e300)];
    for (nth, value) in powers.into_iter().chain(["1e20", "18446744073709551616", "1e400"].map(Value::from)).enumerate()
    {
        let answer = ask(&mesh, &format!("power {nth}"), value.clone()).await.admitted();
        assert_eq!(answer.header("x-ratelimit-limit"), Some("1000"), "{value}");
    }
}

async fn the_trial_tokens_of_the_scenario_are_valid(host: HostKind) {
    let text = std::fs::read_to_string(weir_provision::checkout::root().unwrap().join(SCENARIO)).unwrap();
    let tokens = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(": ").map(|(_, token)| token));
    let tokens: Vec<&str> = tokens.filter(|token| token.starts_with("ey")).collect();
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().start().await else { return };
    assert_eq!(tokens.len(), 2, "{text}");
    for (token, left) in tokens.into_iter().zip([29, 9]) {
        mesh.ask("/").header("authorization", format!("Bearer {token}")).send().await.admitted().remaining(left);
    }
}

async fn tokens_spent_under_one_number_stay_spent_under_another(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().workers(1).configure(hourly).start().await else { return };
    for left in (15..20).rev() {
        ask(&mesh, "alice", 20.into()).await.admitted().remaining(left);
    }
    ask(&mesh, "alice", 5.into()).await.denied();
    ask(&mesh, "alice", 6.into()).await.admitted().remaining(0);
    ask(&mesh, "alice", 20.into()).await.admitted().remaining(13);
    let keys: Vec<String> = mesh.redis_connection().keys(format!("{}per_user*", mesh.key_prefix())).unwrap();
    assert_eq!(keys, [format!("{}per_user:alice", mesh.key_prefix())]);
}

/// The worker remembers a denial for up to a second.
async fn a_denial_under_a_small_number_denies_no_request_with_a_greater_number(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().workers(1).configure(hourly).start().await else { return };
    ask(&mesh, "alice", 1.into()).await.admitted();
    for left in (0..8).rev() {
        ask(&mesh, "alice", 1.into()).await.denied();
        ask(&mesh, "alice", 9.into()).await.admitted().remaining(left);
    }
    ask(&mesh, "alice", 9.into()).await.denied();
    // Without the time to ask Redis each time.
    for _ in 0..20 {
        ask(&mesh, "alice", 9.into()).await.denied();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while mesh.counter("weir_deny_cache_hits").await == 0 {
        assert!(Instant::now() < deadline, "repeats with the same number are denied from memory");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn every_algorithm_has_the_number_of_the_request(host: HostKind) {
    let number = json!({"request_header": {"name": "x-limit", "default": 2, "max": 50}});
    let windows = json!([
        {"token_bucket": {"max_tokens": number, "tokens_per_fill": 1, "fill_interval": "3600s"}},
        {"sliding_window": {"max_requests": number, "window": "315360000s"}},
        {"sliding_window": {"max_requests": number, "window": "3600s", "mode": "exact"}},
        {"fixed_window": {"max_requests": number, "window": "315360000s"}},
        {"quota": {"max_requests": number, "unit": "year", "utc_offset": weir::offset_at_noon()}},
    ]);
    let all = windows.as_array().unwrap().clone();
    let mesh = by_header(Mesh::on(host, "envoy/quickstart.yaml"), |limits| {
        for (nth, window) in all.iter().enumerate() {
            limits.push(limit(&format!("kind_{nth}"), window));
        }
        limits.push(limit("windows", &json!({ "windows": windows })));
        let mut leased = limit("leased", &all[0]);
        leased["lease"] = json!({"max": 10});
        limits.push(leased);
    });
    let Some(mesh) = mesh.start().await else { return };
    let limits = ["kind_0", "kind_1", "kind_2", "kind_3", "kind_4", "windows", "leased"];
    for name in limits {
        let ask = async |value: &str| mesh.ask("/").header("x-kind", name).header("x-limit", value).send().await;
        for left in (0..4).rev() {
            ask("4").await.admitted().remaining(left);
        }
        ask("4").await.denied();
        ask("none").await.denied();
        assert_eq!(ask("none").await.header("x-ratelimit-limit"), Some("2"), "{name}");
        ask("0").await.denied().without("retry-after");
        ask("6").await.admitted().remaining(1);
        ask("99").await.admitted().remaining(44);
    }
}

async fn a_request_takes_a_slot_of_the_number_that_it_carries(host: HostKind) {
    let number = json!({"request_header": {"name": "x-limit", "default": 2, "max": 50}});
    let slots = json!({"concurrency": {"max_requests": number}});
    let mesh = by_header(Mesh::on(host, "envoy/quickstart.yaml"), |limits| limits.push(limit("slots", &slots)));
    let Some(mesh) = mesh.start().await else { return };
    let ask = async |value: &str| mesh.ask("/").header("x-kind", "slots").header("x-limit", value).send().await;
    // A proxy that has died holds three slots.
    let mut redis = mesh.redis_connection();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
    let key = format!("{}slots:#concurrency", mesh.key_prefix());
    for owner in ["a dead proxy, 1.60000000", "a dead proxy, 2.60000000", "a dead proxy, 3.60000000"] {
        let _: () = redis.zadd(&key, owner, (seconds + 60) * 1_000_000).unwrap();
    }
    for (value, status, left) in [("5", 200, 1), ("3", 429, 0), ("x", 429, 0), ("4", 200, 0), ("0", 429, 0)] {
        let answer = ask(value).await.status(status).remaining(left);
        let shown = value.replace('x', "2");
        assert_eq!(answer.header("x-ratelimit-limit"), Some(shown.as_str()));
    }
}

/// A small bucket counts as empty, not as overdrawn: it has the unused tokens of a lease that the worker returns.
async fn tokens_spent_from_leases_stay_spent_under_another_number(host: HostKind) {
    let number = json!({"request_header": {"name": "x-limit", "default": 2, "max": 5_000}});
    let mut bucket = json!({"token_bucket": {"max_tokens": number, "tokens_per_fill": 1, "fill_interval": "3600s"}});
    bucket["lease"] = json!({"max": 50, "ttl": "10s"});
    let mesh = by_header(Mesh::on(host, "envoy/quickstart.yaml"), |limits| limits.push(limit("leased", &bucket)));
    let Some(mesh) = mesh.start().await else { return };
    let ask = async |value: &str| mesh.ask("/").header("x-kind", "leased").header("x-limit", value).send().await;
    let mut admitted = 0;
    for round in 0..200 {
        let answer = ask(if round > 100 && round % 2 == 0 { "100" } else { "4000" }).await;
        admitted += u64::from(answer.status == 200);
        if answer.header("x-ratelimit-limit") == Some("4000") {
            assert!(answer.admitted().number::<u64>("x-ratelimit-remaining").unwrap() <= 4_000 - admitted);
        }
    }
    ask("100").await.denied();
    let deadline = Instant::now() + Duration::from_secs(20);
    while mesh.counter("weir_leases_hits").await < 10 {
        assert!(Instant::now() < deadline, "requests spend leased tokens");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn an_override_of_a_key_goes_before_the_number_of_the_request(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().workers(1).configure(hourly).start().await else { return };
    let mut redis = mesh.redis_connection();
    let mut set = |text: &str| {
        let bucket = format!("{}per_user:alice", mesh.key_prefix());
        let _: redis::Value = redis::cmd("EVAL")
            .arg(SET_SCRIPT)
            .arg(3)
            .arg(&bucket)
            .arg(override_key(bucket.as_bytes()))
            .arg(hash_key(mesh.key_prefix()))
            .arg(text)
            .arg(0)
            .arg("per_user:alice")
            .query(&mut redis)
            .unwrap();
    };
    for (text, rpm, shown) in [
        ("", 20, "20"),
        (r#"{"max": 7}"#, 20, "7"),
        (r#"{"times": 2}"#, 20, "40"),
        (r#"{"times": 2}"#, 30, "60"),
        (r#"{"max": 7}"#, 0, "7"),
        ("", 20, "20"),
    ] {
        set(text);
        if rpm == 0 {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(ask(&mesh, "alice", rpm.into()).await.header("x-ratelimit-limit"), Some(shown), "{text} of {rpm}");
    }
    // The first request with a zero finds an override that the worker does not know yet.
    set("unlimited");
    sleep(Duration::from_secs(1)).await;
    ask(&mesh, "alice", 0.into()).await.admitted().without("x-ratelimit-limit");
}

/// A crowd gets as many requests as the greater number admits, however requests with both numbers arrive.
async fn a_crowd_with_two_numbers_gets_what_each_admits(host: HostKind) {
    let number = json!({"request_header": {"name": "x-limit", "default": 2, "max": 500}});
    let bucket = json!({"token_bucket": {"max_tokens": number, "tokens_per_fill": 1, "fill_interval": "3600s"}});
    let mesh = by_header(Mesh::on(host, "envoy/quickstart.yaml"), |limits| limits.push(limit("crowd", &bucket)));
    let Some(mesh) = mesh.workers(1).start().await else { return };
    mesh.ask("/").header("x-kind", "crowd").header("x-limit", "300").send().await.admitted();
    let flood = Flood { target: mesh.ingress()[0], connections: 4, streams: 125, limit: Duration::from_secs(60) };
    let headers = |nth: usize| {
        let limit = if nth % 5 < 2 { "5" } else { "300" };
        let name = |name: &'static str| HeaderName::from_static(name);
        [(name("x-kind"), "crowd"), (name("x-limit"), limit)]
            .into_iter()
            .map(|(name, value)| (name, HeaderValue::from_static(value)))
            .collect()
    };
    let statuses = flood.send(headers).await.unwrap();
    assert_eq!(statuses, BTreeMap::from([(200, 299), (429, 201)]));
}

async fn a_held_request_that_leaves_returns_its_token_of_the_number_in_its_claim(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().workers(1).configure(holding).start().await else { return };
    for (user, rpm) in [("alice", 2_u64), ("bob", 3)] {
        for left in (0..rpm).rev() {
            ask(&mesh, user, rpm.into()).await.admitted().remaining(left);
        }
        let held = hold(&mut pin!(ask(&mesh, user, rpm.into())), &mesh, user, rpm).await;
        assert_eq!(held.per_token * rpm, held.per_micro * 100_000_000, "{user}: the rate is that of the claim");
        returns_one_token(&mesh, user, held).await;
        // A larger number finds the tokens of the admitted requests spent, and no more.
        ask(&mesh, user, (rpm + 1).into()).await.admitted().remaining(0);
    }
}

async fn of_two_held_requests_with_two_claims_that_leave_the_last_returns_its_token(host: HostKind) {
    let Some(mesh) = Mesh::on(host, SCENARIO).patient().workers(1).configure(holding).start().await else { return };
    for left in [1, 0] {
        ask(&mesh, "alice", 2.into()).await.admitted().remaining(left);
    }
    let last = {
        let mut first = pin!(ask(&mesh, "alice", 2.into()));
        hold(&mut first, &mesh, "alice", 2).await;
        hold(&mut pin!(ask(&mesh, "alice", 3.into())), &mesh, "alice", 3).await
    };
    returns_one_token(&mesh, "alice", last).await;
    ask(&mesh, "alice", 4.into()).await.admitted().remaining(0);
}

/// Requests wait for a token for up to a minute. The claim is the number of tokens in 100 s.
fn holding(filter: &mut Value) {
    filter["limits"][0]["token_bucket"]["fill_interval"] = "100s".into();
    filter["limits"][0]["max_delay"] = "60s".into();
}

/// State of a user's bucket in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spent {
    /// Time of the last spend, in µs.
    at: u64,
    /// Units spent at that time.
    units: u64,
    per_token: u64,
    per_micro: u64,
}

impl Spent {
    fn of(mesh: &Mesh, user: &str) -> Self {
        let state: Vec<u8> = mesh.redis_connection().get(format!("{}per_user:{user}", mesh.key_prefix())).unwrap();
        let numbers: Vec<i64> =
            state.chunks_exact(8).map(|number| i64::from_be_bytes(number.try_into().unwrap())).collect();
        // A bucket that holds requests has its units of a token negated.
        let [at, units, per_token, per_micro] = numbers[..] else { panic!("a state of four numbers: {numbers:?}") };
        let [at, units, per_token, per_micro] = [at, units, per_token, per_micro].map(i64::unsigned_abs);
        Self { at, units, per_token, per_micro }
    }
}

/// Drives a request until it has spent a token beyond the `rpm` tokens of its user's bucket: until the proxy holds it.
async fn hold(request: &mut Pin<&mut impl Future<Output = Answer>>, mesh: &Mesh, user: &str, rpm: u64) -> Spent {
    loop {
        if let Ok(answer) = timeout(Duration::from_millis(20), request.as_mut()).await {
            panic!("{user}'s request is not held: {}", answer.status);
        }
        let spent = Spent::of(mesh, user);
        if spent.units > rpm * spent.per_token {
            return spent;
        }
    }
}

/// Waits until the bucket has one token more than after the request that spent last, and nobody has spent since.
async fn returns_one_token(mesh: &Mesh, user: &str, spent: Spent) {
    let expected = Spent { units: spent.units - spent.per_token, ..spent };
    let deadline = Instant::now() + Duration::from_secs(10);
    while Spent::of(mesh, user) != expected {
        assert!(Instant::now() < deadline, "{user}: expected {expected:?}, found {:?}", Spent::of(mesh, user));
        sleep(Duration::from_millis(20)).await;
    }
}

fn by_header(mesh: MeshBuilder, add: impl Fn(&mut Vec<Value>)) -> MeshBuilder {
    mesh.patient().workers(1).configure(move |filter| {
        let mut limits = Vec::new();
        add(&mut limits);
        filter["limits"] = Value::Array(limits);
    })
}

/// Limit for requests with its name in `x-kind`.
fn limit(name: &str, algorithm: &Value) -> Value {
    let mut limit = json!({
        "name": name, "descriptor": [], "when": [{"header": {"name": "x-kind", "exact": name}}],
    });
    limit.as_object_mut().unwrap().extend(algorithm.as_object().unwrap().clone());
    limit
}

/// Nearly no token flows in during a test.
fn hourly(filter: &mut Value) {
    filter["limits"][0]["token_bucket"]["fill_interval"] = "86400s".into();
}

async fn ask(mesh: &Mesh, user: &str, rpm: Value) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "https://issuer.example", "aud": "weir", "sub": user, "rpm": rpm, "exp": now + 600});
    let section = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", section(&json!({"alg": "ES256", "kid": "try-out"})), section(&claims));
    let key = EncodingKey::from_ec_der(&URL_SAFE_NO_PAD.decode(TRIAL_KEY).unwrap());
    let signature = jws::sign(&message, &key, Algorithm::ES256).unwrap();
    mesh.ask("/").header("authorization", format!("Bearer {message}.{signature}")).send().await
}
