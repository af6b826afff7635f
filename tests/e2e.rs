//! Users' requests, end to end: the same scenarios on the embedded host and on real Envoy, with a real Redis.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use weir::{HostKind, Mesh};
use weir_provision::redis::RedisOptions;

const QUICKSTART: &str = "envoy/quickstart.yaml";
const TWO_LIMITS: &str = "envoy/two-limits.yaml";
const CALLOUT: &str = "envoy/callout.yaml";

weir::on_both_hosts! {
    a_user_spends_the_burst_and_then_gets_429_with_retry_after
    tokens_refill_at_the_configured_rate
    integers_beyond_32_bits_are_read_from_yaml
    users_do_not_share_a_bucket
    a_request_without_the_descriptors_header_is_not_limited
    a_request_that_one_limit_denies_spends_nothing_from_the_other
    the_ietf_headers_list_all_limits
    callouts_decide_as_the_stream_does
    a_denied_grpc_request_gets_a_grpc_status
    a_hits_addend_in_a_header_is_spent
    shadow_mode_counts_denials_and_admits_requests
    a_header_value_that_is_not_utf8_is_a_key_like_any_other
    each_address_behind_trusted_hops_has_its_own_bucket
    a_flushed_script_is_sent_again
    redis_is_used_with_the_configured_password_and_database
    a_wrong_password_fails_requests_and_is_not_logged
    decisions_are_counted
}

async fn a_user_spends_the_burst_and_then_gets_429_with_retry_after(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(3, 1, "60s").start().await else { return };
    for left in [2, 1, 0] {
        mesh.get("alice").await.admitted().remaining(left).without("retry-after");
    }
    let denied = mesh.get("alice").await.denied().remaining(0);
    assert_eq!(denied.header("x-ratelimit-limit"), Some("3"));
    assert_eq!(denied.body, "rate limited\n");
    let (wait, full): (u64, u64) = (denied.number("retry-after").unwrap(), denied.number("x-ratelimit-reset").unwrap());
    assert!((50..=60).contains(&wait) && (170..=180).contains(&full), "{denied:#?}");
}

async fn tokens_refill_at_the_configured_rate(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(2, 10, "1s").start().await else { return };
    let start = Instant::now();
    let mut admitted = 0;
    while admitted < 12 {
        match mesh.get("alice").await.status {
            200 => admitted += 1,
            429 => sleep(Duration::from_millis(10)).await,
            other => panic!("{other}"),
        }
    }
    let least = Duration::from_secs(1);
    assert!(start.elapsed() >= least, "10 tokens beyond the burst were refilled within {:?}", start.elapsed());
}

/// Envoy passes them on as text.
async fn integers_beyond_32_bits_are_read_from_yaml(host: HostKind) {
    let most = u64::from(u32::MAX);
    for max_tokens in [2_147_483_647, 2_147_483_648, most] {
        let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(max_tokens, most, "3600s").start().await else {
            return;
        };
        mesh.get("alice").await.admitted().remaining(max_tokens - 1);
    }
}

async fn users_do_not_share_a_bucket(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s").start().await else { return };
    mesh.get("alice").await.admitted();
    mesh.get("alice").await.denied();
    mesh.get("bob").await.admitted();
    mesh.get("Alice").await.admitted();
}

async fn a_request_without_the_descriptors_header_is_not_limited(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s").start().await else { return };
    for _ in 0..3 {
        mesh.ask("/").send().await.admitted().without("x-ratelimit-limit");
    }
}

async fn a_request_that_one_limit_denies_spends_nothing_from_the_other(host: HostKind) {
    let hourly = |filter: &mut Value| {
        for limit in filter["limits"].as_array_mut().unwrap() {
            limit["token_bucket"]["fill_interval"] = "3600s".into();
        }
    };
    let Some(mesh) = Mesh::on(host, TWO_LIMITS).patient().configure(hourly).start().await else { return };
    for left in [4, 3, 2, 1, 0] {
        mesh.get("alice").await.admitted().remaining(left);
    }
    for _ in 0..10 {
        mesh.get("alice").await.denied();
    }
    let denied = mesh.get("alice").await.denied();
    let fields = denied.header("ratelimit").unwrap();
    let left_to_user: u64 = fields.split("\"per_user\";r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!(
        left_to_user >= 5,
        "requests that the limit per address denies spend nothing from the limit per user: {fields}"
    );
}

async fn the_ietf_headers_list_all_limits(host: HostKind) {
    let Some(mesh) = Mesh::on(host, TWO_LIMITS).patient().start().await else { return };
    let answer = mesh.get("alice").await.admitted();
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""per_user";q=10;w=10, "per_address";q=5;w=10"#));
    assert_eq!(answer.header("ratelimit"), Some(r#""per_user";r=9;t=1, "per_address";r=4;t=2"#));
}

async fn callouts_decide_as_the_stream_does(host: HostKind) {
    let Some(mesh) = Mesh::on(host, CALLOUT).patient().bucket(3, 1, "60s").start().await else { return };
    for left in [2, 1, 0] {
        mesh.get("alice").await.admitted().remaining(left);
    }
    mesh.get("alice").await.denied();
    mesh.get("bob").await.admitted().remaining(2);
}

async fn a_denied_grpc_request_gets_a_grpc_status(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s").start().await else { return };
    mesh.get("alice").await.admitted();
    let denied = mesh.ask("/pkg.Service/Call").user("alice").header("content-type", "application/grpc").send().await;
    assert_eq!(denied.status, 200, "{denied:#?}");
    assert_eq!(denied.header("grpc-status"), Some("8"), "RESOURCE_EXHAUSTED: {denied:#?}");
    assert_eq!(denied.header("grpc-message"), Some("rate limited"));
    assert!(denied.number::<u64>("retry-after").is_some());
}

async fn a_hits_addend_in_a_header_is_spent(host: HostKind) {
    let by_header = json!({"request_header": {"name": "x-cost"}});
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(10, 1, "60s");
    let Some(mesh) = mesh.configure(|filter| filter["limits"][0]["hits_addend"] = by_header.clone()).start().await
    else {
        return;
    };
    mesh.ask("/").user("alice").header("x-cost", "7").send().await.admitted().remaining(3);
    mesh.ask("/").user("alice").header("x-cost", "4").send().await.denied().remaining(3);
    mesh.ask("/").user("alice").header("x-cost", "nonsense").send().await.admitted().remaining(2);
    mesh.ask("/").user("alice").header("x-cost", "11").send().await.denied().without("retry-after");
}

async fn shadow_mode_counts_denials_and_admits_requests(host: HostKind) {
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s");
    let Some(mesh) = mesh.configure(|filter| filter["limits"][0]["shadow_mode"] = true.into()).start().await else {
        return;
    };
    for _ in 0..3 {
        mesh.get("alice").await.admitted().without("x-ratelimit-limit");
    }
    mesh.counts("weir_limit_per_user_shadow_denied", 2).await;
}

async fn a_header_value_that_is_not_utf8_is_a_key_like_any_other(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s").start().await else { return };
    let odd = || mesh.ask("/").header("x-user-id", b"\xff\xfe\x80");
    odd().send().await.admitted();
    odd().send().await.denied();
    mesh.ask("/").header("x-user-id", b"\xff\xfe\x81").send().await.admitted();
}

async fn each_address_behind_trusted_hops_has_its_own_bucket(host: HostKind) {
    let by_address = json!([{"remote_address": {"trusted_hops": 1}}]);
    let mesh = Mesh::on(host, QUICKSTART).patient().bucket(1, 1, "60s");
    let Some(mesh) = mesh.configure(|filter| filter["limits"][0]["descriptor"] = by_address.clone()).start().await
    else {
        return;
    };
    // Without use_remote_address, Envoy takes the rightmost address of x-forwarded-for for the peer.
    let from = |address: &str| mesh.ask("/").header("x-forwarded-for", format!("{address}, 10.0.0.1"));
    from("203.0.113.9").send().await.admitted();
    from("203.0.113.9").send().await.denied();
    from("6.6.6.6, 203.0.113.9").send().await.denied();
    from("2001:db8::1").send().await.admitted();
    from("2001:DB8:0::1").send().await.denied();
}

async fn a_flushed_script_is_sent_again(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(5, 1, "60s").workers(1).start().await else { return };
    mesh.get("alice").await.admitted().remaining(4);
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query(&mut mesh.redis_connection()).unwrap();
    mesh.get("alice").await.admitted().remaining(3);
    mesh.counts("weir_requests_failed", 0).await;
}

async fn redis_is_used_with_the_configured_password_and_database(host: HostKind) {
    let with_password = RedisOptions { password: Some("correct horse".into()), ..RedisOptions::default() };
    for scenario in [QUICKSTART, CALLOUT] {
        let mesh = Mesh::on(host, scenario).patient().redis(with_password.clone()).configure(|filter| {
            filter["redis"]["password"] = json!({"inline": "correct horse"});
            filter["redis"]["database"] = 3.into();
        });
        let Some(mesh) = mesh.start().await else { return };
        mesh.get("alice").await.admitted().remaining(19);
        let mut redis = mesh.redis_connection();
        let _: () = redis::cmd("SELECT").arg(3).query(&mut redis).unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
        assert_eq!(keys, [format!("{}per_user:alice", mesh.key_prefix())]);
    }
}

async fn a_wrong_password_fails_requests_and_is_not_logged(host: HostKind) {
    let with_password = RedisOptions { password: Some("correct horse".into()), ..RedisOptions::default() };
    let mesh = Mesh::on(host, QUICKSTART).patient().redis(with_password).configure(|filter| {
        filter["redis"]["password"] = json!({"inline": "battery staple"});
        filter["redis"]["timeout"] = "10s".into();
    });
    let Some(mesh) = mesh.workers(1).start().await else { return };
    let start = Instant::now();
    for _ in 0..5 {
        mesh.get("alice").await.status(503);
    }
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "no request waits for its timeout: the first waits for Redis to refuse the password"
    );
    mesh.counts("weir_redis_auth", 5).await;
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(!envoy.log().contains("battery staple"), "{}", envoy.log());
        assert_eq!(envoy.log().matches("redis auth:").count(), 1, "{}", envoy.log());
    }
}

async fn decisions_are_counted(host: HostKind) {
    let Some(mesh) = Mesh::on(host, QUICKSTART).patient().bucket(2, 1, "60s").start().await else { return };
    for _ in 0..5 {
        mesh.get("alice").await;
    }
    mesh.counts("weir_requests_admitted", 2).await;
    mesh.counts("weir_requests_denied", 3).await;
    mesh.counts("weir_limit_per_user_admitted", 2).await;
    mesh.counts("weir_limit_per_user_denied", 3).await;
    mesh.counts("weir_requests_failed", 0).await;
}
