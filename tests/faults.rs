//! Failures of Redis on both hosts: requests are answered by the failure mode in bounded time, and limits apply again
//! without intervention when Redis is back.

use std::sync::Arc;
use std::time::Duration;

use redis::Commands;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use weir::{Fault, HostKind, Mesh, MeshBuilder};
use weir_harness::traffic::{self, Pace};

const QUICKSTART: &str = "envoy/quickstart.yaml";
const CALLOUT: &str = "envoy/callout.yaml";
/// Value of `redis.timeout` in these tests.
const TIMEOUT: Duration = Duration::from_millis(100);
/// Delay that a busy machine may add to [`TIMEOUT`].
const GRACE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(60);

weir::on_both_hosts! {
    without_redis_requests_are_allowed_or_denied_as_configured
    a_request_waits_for_a_hanging_redis_no_longer_than_the_timeout
    garbage_lost_replies_and_refused_connections_fail_requests_until_redis_is_back
    redis_stops_and_starts_under_load
    callouts_of_clients_that_left_count_against_max_in_flight
    a_callout_through_the_bridge_fails_in_time
    a_slot_is_renewed_though_redis_forgets_its_scripts_and_answers_after_the_timeout
}

async fn without_redis_requests_are_allowed_or_denied_as_configured(host: HostKind) {
    for (mode, status) in [("allow", 200), ("deny", 503)] {
        let Some(mesh) = impatient(host, mode).start().await else { return };
        until_limiting(&mesh).await;
        mesh.redis().kill();
        until(|| async { mesh.get("alice").await.header("x-ratelimit-limit").is_none() }).await;
        for _ in 0..20 {
            let start = Instant::now();
            mesh.get("alice").await.status(status).without("x-ratelimit-limit");
            assert!(start.elapsed() < TIMEOUT + GRACE, "{:?}", start.elapsed());
        }
        mesh.redis().restart().unwrap();
        until_limiting(&mesh).await;
    }
}

async fn a_request_waits_for_a_hanging_redis_no_longer_than_the_timeout(host: HostKind) {
    let Some(mesh) = impatient(host, "deny").with_faults().start().await else { return };
    until_limiting(&mesh).await;
    let before = mesh.faults().connections();
    mesh.faults().set(Fault::Drop);
    for _ in 0..30 {
        let start = Instant::now();
        mesh.get("alice").await.status(503);
        assert!(start.elapsed() < TIMEOUT + GRACE, "{:?}", start.elapsed());
    }
    mesh.faults().clear();
    until_limiting(&mesh).await;
    assert!(mesh.faults().connections() > before, "a silent connection is replaced");
}

async fn garbage_lost_replies_and_refused_connections_fail_requests_until_redis_is_back(host: HostKind) {
    let Some(mesh) = impatient(host, "deny").with_faults().start().await else { return };
    for (fault, counter) in [
        (Fault::Garbage, "weir_redis_protocol"),
        (Fault::LoseReply, "weir_redis_reset"),
        (Fault::Refuse, "weir_redis_unavailable"),
    ] {
        until_limiting(&mesh).await;
        let before = mesh.counter(counter).await;
        mesh.faults().set(fault);
        until(|| async { mesh.get("alice").await.status == 503 && mesh.counter(counter).await > before }).await;
        mesh.faults().clear();
    }
    until_limiting(&mesh).await;
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(envoy.is_alive());
    }
}

async fn redis_stops_and_starts_under_load(host: HostKind) {
    let Some(mesh) = impatient(host, "allow").start().await else { return };
    until_limiting(&mesh).await;
    let mut plan = mesh.plan(0);
    plan.duration = Duration::from_secs(4);
    plan.users = vec![
        Mesh::user("alice", Pace::PerSecond(300.0)).connections(8),
        Mesh::user("bob", Pace::PerSecond(300.0)).connections(8),
    ];
    let trouble = async {
        sleep(Duration::from_secs(1)).await;
        mesh.redis().kill();
        sleep(Duration::from_secs(1)).await;
        mesh.redis().restart().unwrap();
    };
    let (report, ()) = tokio::join!(traffic::run(plan, Arc::default()), trouble);
    let together = report.together();
    assert_eq!(together.failed(), 0, "failure mode `allow` admits every request: {:?}", together.failures());
    until_limiting(&mesh).await;
    let before = mesh.counter("weir_requests_failed").await;
    assert!(before > 0, "no check failed while Redis was down");
    for _ in 0..10 {
        mesh.get("carol").await.admitted();
    }
    if let Some(envoy) = mesh.hosts()[0].envoy() {
        assert!(envoy.is_alive());
        assert!(!envoy.log().contains("proxy_on_"), "no trap: {}", envoy.log());
        let warnings = envoy.log().matches("weir: redis").count();
        assert!((1..=20).contains(&warnings), "expected 1 to 20 warnings, found {warnings}");
    }
}

async fn callouts_of_clients_that_left_count_against_max_in_flight(host: HostKind) {
    let mesh = Mesh::on(host, CALLOUT).patient().workers(1).with_faults().configure(|filter| {
        filter["redis"]["max_in_flight"] = 2.into();
        filter["redis"]["timeout"] = "2s".into();
        // A refresh of overrides would be a callout, too.
        filter["overrides"] = json!({"enabled": false});
    });
    let Some(mesh) = mesh.start().await else { return };
    mesh.get("alice").await.admitted();
    // A callout ends a second after its check: on a stalled machine, carol may find room, and times out.
    until(|| async {
        mesh.faults().set(Fault::Drop);
        let before = mesh.faults().connections();
        let leaves = async |user| {
            let both_have_callouts = until(|| async { mesh.faults().connections() >= before + 2 });
            tokio::select! {
                _ = mesh.get(user) => {}
                () = both_have_callouts => {}
            }
        };
        tokio::join!(leaves("alice"), leaves("bob"));
        let start = Instant::now();
        mesh.get("carol").await.status(503);
        assert!(
            start.elapsed() < Duration::from_secs(2) + GRACE,
            "the request waits for room until its timeout: {:?}",
            start.elapsed()
        );
        mesh.faults().clear();
        // Counters are reported within 2 s.
        for _ in 0..30 {
            if mesh.counter("weir_redis_overloaded").await > 0 {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    })
    .await;
    until(|| async { mesh.get("carol").await.status == 200 }).await;
}

/// Callouts through the bridge are a mistake in the configuration: the bridge finds no gRPC in them. Requests fail and
/// do not hang.
async fn a_callout_through_the_bridge_fails_in_time(host: HostKind) {
    let mesh = impatient(host, "deny").workers(1).configure(|filter| {
        filter["redis"]["transport"] = "callout".into();
        filter["redis"]["timeout"] = "0.5s".into();
    });
    let Some(mesh) = mesh.start().await else { return };
    for _ in 0..3 {
        let start = Instant::now();
        mesh.get("alice").await.status(503);
        assert!(start.elapsed() < Duration::from_secs(2) + GRACE, "{:?}", start.elapsed());
    }
}

/// A request lasts until its slot was renewed four times. Meanwhile the round trip to Redis takes longer than a check
/// may, and each renewal has to be sent again with its script.
async fn a_slot_is_renewed_though_redis_forgets_its_scripts_and_answers_after_the_timeout(host: HostKind) {
    // A third of the lease passes until a renewal, and the rest is more than a machine may stall.
    const LEASE: Duration = Duration::from_secs(6);
    for scenario in [QUICKSTART, CALLOUT] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = upstream.local_addr().unwrap().port();
        let mesh = Mesh::on(host, scenario).workers(1).with_faults().configure(|filter| {
            let concurrency = json!({"max_requests": 5, "lease": format!("{}s", LEASE.as_secs())});
            filter["redis"]["timeout"] = "0.05s".into();
            filter["failure_mode"] = "deny".into();
            filter["limits"] = json!([{"name": "flights", "descriptor": [], "concurrency": concurrency}]);
        });
        let mesh = mesh.edit(|bootstrap| {
            let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
            bootstrap.pointer_mut(manager).unwrap()["route_config"]["virtual_hosts"][0]["routes"] =
                json!([{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "60s"}}]);
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
            bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
                "name": "upstream", "type": "STATIC", "load_assignment": {"cluster_name": "upstream",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
            }));
        });
        let Some(mesh) = mesh.start().await else { return };
        let key = format!("{}flights:#concurrency", mesh.key_prefix());
        let mut redis = mesh.redis_connection();

        let (_client, mut request) = with_a_slot(&mesh, &upstream, &key).await;
        mesh.faults().set(Fault::Delay(TIMEOUT));
        let deadline = Instant::now() + SOON;
        let (mut renewals, mut latest) = (0, None);
        while renewals < 4 {
            redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
            let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut redis).unwrap();
            let slots: Vec<(Vec<u8>, f64)> = redis.zrange_withscores(&key, 0, -1).unwrap();
            let now = (seconds * 1_000_000 + micros) as f64;
            let [(_, ends)] = slots[..] else { panic!("{scenario}: {slots:?} at {now}") };
            assert!(ends > now && Instant::now() < deadline, "{scenario}: {slots:?} at {now}, {renewals} renewals");
            renewals += u32::from(latest.replace(ends).is_some_and(|latest| ends > latest));
            sleep(Duration::from_millis(50)).await;
        }
        mesh.faults().clear();
        request.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
        until(|| {
            let left: u64 = redis.zcard(&key).unwrap();
            async move { left == 0 }
        })
        .await;
    }
}

/// Sends requests until one has a slot and has reached the upstream; returns the connections of its client and of the
/// upstream. Failure mode `deny` answers requests whose checks were late, and their slots are given back.
async fn with_a_slot(mesh: &Mesh, upstream: &TcpListener, key: &str) -> (TcpStream, TcpStream) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut client = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
        let mut answer = [0; 4096];
        tokio::select! {
            accepted = upstream.accept() => {
                let (mut request, _) = accepted.unwrap();
                assert!(request.read(&mut [0; 4096]).await.unwrap() > 0);
                let mut redis = mesh.redis_connection();
                until(|| {
                    let taken: u64 = redis.zcard(key).unwrap();
                    async move { taken == 1 }
                })
                .await;
                return (client, request);
            }
            read = client.read(&mut answer) => assert!(read.unwrap() > 0),
        }
        assert!(Instant::now() < deadline, "no request has a slot within {SOON:?}");
    }
}

fn impatient(host: HostKind, failure_mode: &str) -> MeshBuilder {
    Mesh::on(host, QUICKSTART).configure(|filter| {
        filter["redis"]["timeout"] = format!("{}s", TIMEOUT.as_secs_f64()).into();
        filter["failure_mode"] = failure_mode.into();
    })
}

/// Waits until 12 requests in a row are limited. Every worker has its own connection to Redis, and the connections of
/// clients are spread over the workers.
async fn until_limiting(mesh: &Mesh) {
    let mut in_a_row = 0;
    let mut user = 0;
    until(|| {
        user += 1;
        let name = format!("warm-up {user}");
        async move { mesh.get(&name).await.header("x-ratelimit-limit").is_some() }
    })
    .await;
    let deadline = Instant::now() + SOON;
    while in_a_row < 12 {
        user += 1;
        let limited = mesh.get(&format!("warm-up {user}")).await.header("x-ratelimit-limit").is_some();
        in_a_row = if limited { in_a_row + 1 } else { 0 };
        assert!(Instant::now() < deadline, "limits do not apply again within {SOON:?}");
        if !limited {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "the condition does not hold within {SOON:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
