//! The scenarios that users start from, as they are in `envoy/`, on both hosts.

use std::time::{Duration, Instant};

use hyper::Method;
use weir::{Answer, HostKind, Mesh};

weir::on_both_hosts! {
    a_public_api_admits_what_its_rates_say
    a_public_api_tells_users_anonymous_clients_and_floods_apart
    routes_have_limits_of_their_own
}

async fn a_public_api_tells_users_anonymous_clients_and_floods_apart(host: HostKind) {
    let Some(mesh) = Mesh::on(host, "envoy/public-api.yaml").patient().start().await else { return };
    for left in (0..10).rev() {
        mesh.ask("/").send().await.admitted().remaining(left);
    }
    let denied = mesh.ask("/").send().await.denied();
    let wait: u64 = denied.number("retry-after").unwrap();
    assert_eq!(denied.body, format!("anonymous clients have 10 requests a minute: come back in {wait} s, or log in\n"));

    // The anonymous ones' denials took nothing from the address: 40 are left to it, and users share them.
    for user in ["alice", "bob"] {
        for left in (1..20).rev() {
            mesh.get(user).await.admitted().remaining(left);
        }
    }
    let (mut admitted, mut asked) = (0, 0);
    while mesh.get("carol").await.status == 200 {
        admitted += 1;
        asked += 1;
        assert!(asked < 50, "the flood guard guards");
    }
    assert_eq!(admitted, 2, "what was left of 50");
    for _ in 0..3 {
        mesh.ask("/healthz").user("carol").send().await.admitted().without("x-ratelimit-limit");
    }
}

/// Users 20 at once and 100 a minute, anonymous clients 10 a minute, an address 50 in any 30 seconds.
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

/// Asks until it is denied, and gives back that answer: a `burst` is admitted, and one more per `emission` that passed.
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

async fn routes_have_limits_of_their_own(host: HostKind) {
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
