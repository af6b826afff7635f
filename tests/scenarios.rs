//! Scenarios of `envoy/`, which users start from, on both hosts.

use std::time::{Duration, Instant};

use hyper::Method;
use redis::Commands;
use serde_json::json;
use weir::{Answer, HostKind, Mesh};
use weir_harness::provider;
use weir_provision::redis::RedisOptions;

weir::on_both_hosts! {
    a_public_api_admits_what_its_rates_say
    a_public_api_limits_users_anonymous_clients_and_addresses_separately
    each_route_has_its_own_limit
    tenants_have_a_monthly_quota_a_rate_and_a_concurrency_limit
    a_fragile_upstream_gets_its_requests_one_by_one
    a_team_of_many_clients_spends_no_more_than_its_budget
    a_password_comes_from_the_environment
}

async fn a_public_api_limits_users_anonymous_clients_and_addresses_separately(host: HostKind) {
    // Nearly no token flows in during the test, and no request leaves a window.
    let daily = |filter: &mut serde_json::Value| {
        for limit in filter["limits"].as_array_mut().unwrap() {
            for (algorithm, span) in [("token_bucket", "fill_interval"), ("sliding_window", "window")] {
                if let Some(fields) = limit.get_mut(algorithm) {
                    fields[span] = "86400s".into();
                }
            }
        }
    };
    let scenario = Mesh::on(host, "envoy/public-api.yaml").patient().configure(daily);
    let Some(mesh) = scenario.start().await else { return };
    for left in (0..10).rev() {
        mesh.ask("/").send().await.admitted().remaining(left);
    }
    let denied = mesh.ask("/").send().await.denied();
    let wait: u64 = denied.number("retry-after").unwrap();
    assert_eq!(denied.body, format!("anonymous clients have 10 requests a minute: come back in {wait} s, or log in\n"));

    // Denied anonymous requests spent nothing from the limit per address: 40 requests remain, which users share.
    for user in ["alice", "bob"] {
        for left in (1..20).rev() {
            mesh.get(user).await.admitted().remaining(left);
        }
    }
    let (mut admitted, mut asked) = (0, 0);
    while mesh.get("carol").await.status == 200 {
        admitted += 1;
        asked += 1;
        assert!(asked < 50, "the flood guard admits more than 50 requests");
    }
    assert_eq!(admitted, 2, "the rest of 50 requests");
    for _ in 0..3 {
        mesh.ask("/healthz").user("carol").send().await.admitted().without("x-ratelimit-limit");
    }
}

/// Rates: 20 at once and 100 a minute per user, 10 a minute per anonymous client, and 50 in any 30 s per address.
async fn a_public_api_admits_what_its_rates_say(host: HostKind) {
    let on_addresses_of_their_own = |filter: &mut serde_json::Value| {
        for limit in filter["limits"].as_array_mut().unwrap() {
            for kind in ["remote_address", "masked_remote_address"] {
                if let Some(entry) = limit["descriptor"][0].get_mut(kind) {
                    entry["trusted_hops"] = 1.into();
                }
            }
        }
    };
    let scenario = Mesh::on(host, "envoy/public-api.yaml").patient().configure(on_addresses_of_their_own);
    let Some(mesh) = scenario.start().await else { return };
    let from = |address: &str| mesh.ask("/").header("x-forwarded-for", format!("{address}, 10.0.0.1"));

    let denied = spend(20, Duration::from_millis(600), async || from("203.0.113.1").user("alice").send().await).await;
    assert_eq!((denied.header("x-ratelimit-limit"), denied.header("retry-after")), (Some("20"), Some("1")));
    let denied = spend(10, Duration::from_secs(6), async || from("203.0.113.2").send().await).await;
    assert_eq!(denied.header("x-ratelimit-limit"), Some("10"));
    let next = std::cell::Cell::new(0);
    let anybody = async || {
        next.set(next.get() + 1);
        from("203.0.113.3").user(&format!("user {}", next.get())).send().await
    };
    let denied = spend(50, Duration::from_secs(30), anybody).await;
    assert_eq!(denied.header("x-ratelimit-limit"), Some("50"));
    from("203.0.113.4").user("alice's friend").send().await.admitted();
}

/// Sends requests until one is denied, and returns its response. Asserts that `burst` requests were admitted, and at
/// most one more per `emission`.
async fn spend(burst: u32, emission: Duration, ask: impl AsyncFn() -> Answer) -> Answer {
    let started = Instant::now();
    let mut admitted = 0;
    loop {
        let answer = ask().await;
        let refilled = u32::try_from(started.elapsed().as_nanos() / emission.as_nanos()).unwrap();
        assert!(admitted <= burst + refilled, "{admitted} admitted of {burst} and {refilled}: {answer:#?}");
        if answer.status == 429 {
            assert!(admitted >= burst, "{admitted} admitted of {burst}: {answer:#?}");
            return answer;
        }
        admitted += 1;
    }
}

async fn each_route_has_its_own_limit(host: HostKind) {
    let Some(mesh) = Mesh::on(host, "envoy/per-route.yaml").patient().start().await else { return };
    for _ in 0..3 {
        mesh.ask("/search?q=weir").user("alice").send().await.admitted();
    }
    mesh.ask("/search?q=weir").user("alice").send().await.denied();
    mesh.ask("/shops").user("alice").send().await.admitted().without("x-ratelimit-limit");

    let order = |shop: &str, items: &str| {
        mesh.ask(&format!("/shops/{shop}/orders?items={items}")).method(Method::POST).user("alice")
    };
    order("north", "30").send().await.admitted();
    order("north", "30").send().await.denied();
    order("south", "30").send().await.admitted();
    order("south", "lots").send().await.status(400);
}

async fn tenants_have_a_monthly_quota_a_rate_and_a_concurrency_limit(host: HostKind) {
    let scenario = Mesh::on(host, "envoy/tenant-quota.yaml").patient().configure(|filter| {
        let limits = &mut filter["limits"];
        limits[0]["windows"][0]["quota"]["max_requests"] = json!(4);
        limits[0]["windows"][0]["quota"]["utc_offset"] = json!(weir::offset_at_noon());
        // This bucket holds early requests, which are in flight meanwhile.
        limits[0]["windows"][1]["token_bucket"] = json!({"max_tokens": 1, "fill_interval": "2s"});
        limits[0]["max_delay"] = json!("60s");
        limits[1]["concurrency"]["max_requests"] = json!(2);
    });
    let Some(mesh) = scenario.start().await else { return };
    let by = |tenant: &str| mesh.ask("/").header("x-tenant-id", tenant).send();
    let left = |answer: &Answer| answer.header("ratelimit").unwrap().to_owned();

    let mut tenants = (0..5).map(|nth| format!("acme-{nth}"));
    let (tenant, in_flight) = loop {
        let tenant = tenants.next().expect("three requests within 2 s");
        let in_flight = format!("in_flight:{tenant}");
        let first = by(&tenant).await.admitted();
        assert!(left(&first).contains(r#""plan";r=3"#) && left(&first).contains(r#""plan:1";r=0"#), "{first:?}");
        assert!(first.header("ratelimit-policy").unwrap().contains(r#""plan";q=4"#), "{first:?}");
        nobody_is_in_flight(&mesh, &in_flight).await;

        // Two of three requests have a slot and are held for their tokens. The third is denied and spends no quota.
        let (one, two, three) = tokio::join!(by(&tenant), by(&tenant), by(&tenant));
        let (refused, passed): (Vec<Answer>, Vec<Answer>) =
            [one, two, three].into_iter().partition(|answer| answer.status == 503);
        // On a stalled machine, the third may come when the first has its token, and has returned its slot.
        if refused.is_empty() {
            continue;
        }
        assert_eq!((refused.len(), passed.len()), (1, 2), "{refused:?} {passed:?}");
        assert_eq!(refused[0].body, "too many requests at once for this tenant\n");
        break (tenant, in_flight);
    };

    nobody_is_in_flight(&mesh, &in_flight).await;
    by(&tenant).await.admitted();
    nobody_is_in_flight(&mesh, &in_flight).await;
    let denied = by(&tenant).await.denied();
    assert!(left(&denied).contains(r#""plan";r=0"#), "{denied:?}");
    assert!(denied.number::<u64>("retry-after").unwrap() > 0, "{denied:?}");
    by("zenith").await.admitted();
    mesh.ask("/").send().await.admitted().without("ratelimit");
}

/// Waits until no request is in flight: a slot is returned just after the response has ended.
async fn nobody_is_in_flight(mesh: &Mesh, key: &str) {
    let key = format!("{}{key}#concurrency", mesh.key_prefix());
    let deadline = Instant::now() + Duration::from_secs(60);
    while mesh.redis_connection().exists(&key).unwrap() {
        assert!(Instant::now() < deadline, "slots are still taken after a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_fragile_upstream_gets_its_requests_one_by_one(host: HostKind) {
    let Some(mesh) = Mesh::on(host, "envoy/shaping.yaml").patient().start().await else { return };
    let start = Instant::now();
    let by = |path: &'static str| {
        let mesh = &mesh;
        async move { (mesh.ask(path).send().await.admitted(), start.elapsed()) }
    };
    let (one, two, three, four, (healthy, _)) = tokio::join!(by("/"), by("/a"), by("/b"), by("/"), by("/healthz"));
    healthy.without("x-ratelimit-limit");
    let mut passed = [one.1, two.1, three.1, four.1];
    passed.sort();
    for (turn, at) in (0..).zip(passed) {
        assert!(at >= Duration::from_millis(100) * turn, "request {turn} was released too early: {passed:?}");
    }
}

/// Of 2 cents, an answer costs half a cent, and its request reserves more than a whole one.
async fn a_team_of_many_clients_spends_no_more_than_its_budget(host: HostKind) {
    let provider = provider::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let mesh = Mesh::on(host, "envoy/llm.yaml").patient().edit(|bootstrap| {
        let endpoint = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address";
        bootstrap.pointer_mut(endpoint).unwrap()["socket_address"]["port_value"] = provider.addr().port().into();
    });
    let Some(mesh) = mesh.start().await else { return };
    let ask = async |body: &serde_json::Value| {
        let ask = mesh.ask("/v1/chat/completions").method(Method::POST).header("x-team", "red");
        ask.header("content-type", "application/json").body(&body.to_string()).send().await
    };
    let answer = json!({"model": "gpt-4o", "max_tokens": 1000});
    let mut admitted = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    // What is reserved is denied for a while, what is spent for the month.
    loop {
        let (one, two, three, four) = tokio::join!(ask(&answer), ask(&answer), ask(&answer), ask(&answer));
        let all = [one, two, three, four];
        admitted += all.iter().filter(|answer| answer.status == 200).count();
        if all.iter().any(|answer| answer.body.contains("insufficient_quota")) {
            break;
        }
        assert!(Instant::now() < deadline, "{all:?}");
    }
    assert_eq!(admitted, 2);
    // A stream that does not ask for its usage is asked for it.
    let stream = json!({"model": "gpt-4o-mini", "max_tokens": 10, "stream": true});
    let streamed = ask(&stream).await.admitted();
    assert!(streamed.body.contains("word5") && streamed.body.contains("\"completion_tokens\":5"), "{streamed:?}");
}

async fn a_password_comes_from_the_environment(host: HostKind) {
    const PASSWORD: &str = "correct horse";
    let module = if host == HostKind::Envoy { "envoy" } else { "embedded" };
    let test = format!("{module}::a_password_comes_from_the_environment");
    if !tokio::task::spawn_blocking(move || weir::has_variable(&test, "REDIS_PASSWORD", PASSWORD)).await.unwrap() {
        return;
    }
    let scenario = Mesh::on(host, "envoy/redis-password.yaml").patient().bucket(20, 1, "3600s");
    let scenario = scenario.redis(RedisOptions { password: Some(PASSWORD.into()), ..RedisOptions::default() });
    let Some(mesh) = scenario.start().await else { return };
    for left in (10..20).rev() {
        mesh.get("alice").await.admitted().remaining(left);
    }
    mesh.counts("weir_redis_auth", 0).await;
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(!envoy.log().contains(PASSWORD), "{}", envoy.log());
    }
}
