//! Clients that leave in every phase of their request: no slot stays taken, no request stays in flight at the proxy or at
//! its upstream, and the next request is decided.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use redis::Commands;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::{Fault, HostKind, Mesh};

use crate::QUICKSTART;
use crate::upstream::{Upstream, route};

const CLIENTS: usize = 20;
/// Time in which the proxy reads what a client has sent. A client that leaves earlier leaves in an earlier phase.
const READ: Duration = Duration::from_millis(100);
/// Shorter than a lease, so that no slot is free only because its lease has ended.
const SOON: Duration = Duration::from_secs(30);
const LEASE: &str = "60s";

/// Phase in which clients leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// After they have connected.
    Connected,
    /// After half of the request's head.
    HalfHead,
    /// After half of a body that a limit reads.
    HalfBody,
    /// While Redis has their check.
    Check,
    /// While they are held until there is a token.
    Held,
    /// While the upstream has their request.
    Upstream,
    /// After the beginning of the response.
    Response,
    /// After many requests at once on one connection.
    Pipelined,
}

const OVER_HTTP1: [Phase; 8] = [
    Phase::Connected,
    Phase::HalfHead,
    Phase::HalfBody,
    Phase::Check,
    Phase::Held,
    Phase::Upstream,
    Phase::Response,
    Phase::Pipelined,
];
const OVER_HTTP2: [Phase; 4] = [Phase::Check, Phase::Held, Phase::Upstream, Phase::Response];

impl Phase {
    fn path(self) -> &'static str {
        match self {
            Self::HalfBody => "/body",
            Self::Held => "/shaped",
            Self::Upstream => "/held",
            Self::Response => "/streamed",
            _ => "/",
        }
    }
}

weir::on_both_hosts! {
    clients_that_leave_in_any_phase_leave_nothing_behind
}

async fn clients_that_leave_in_any_phase_leave_nothing_behind(host: HostKind) {
    let upstream = Upstream::start().await;
    let concurrency = json!({"concurrency": {"max_requests": 1_000_000, "lease": LEASE}});
    let on = |path: &str| json!([{"path": {"exact": path}}]);
    let mesh = Mesh::on(host, QUICKSTART).patient().workers(1).with_faults().that_sees_bodies().configure(|filter| {
        let bucket = json!({"token_bucket": {"max_tokens": 1, "fill_interval": "1s"}});
        let body = json!([{"request_body": {"json_pointer": "/user"}}]);
        let mut flights = concurrency.clone();
        (flights["name"], flights["descriptor"]) = ("flights".into(), json!([]));
        filter["limits"] = json!([
            flights,
            {"name": "shaped", "descriptor": [], "when": on("/shaped"), "max_delay": "60s",
             "windows": [concurrency, bucket]},
            {"name": "by_body", "descriptor": body, "when": on("/body"),
             "token_bucket": {"max_tokens": 1_000, "fill_interval": "1s"}},
        ]);
    });
    let prefixes = ["/held", "/streamed"];
    let mesh = mesh.edit(|bootstrap| route(bootstrap, &prefixes, upstream.addr, false)).start().await;
    let Some(mesh) = mesh else { return };
    mesh.get("alice").await.admitted();
    for phase in OVER_HTTP1 {
        over_http1(&mesh, &upstream, phase).await;
        nothing_is_left(&mesh, &upstream, &format!("HTTP/1, {phase:?}")).await;
    }
    let mut connection = connect(&mesh).await;
    for phase in OVER_HTTP2 {
        over_http2(&mesh, &upstream, phase, &connection).await;
        nothing_is_left(&mesh, &upstream, &format!("HTTP/2, {phase:?}")).await;
        connection.ready().await.expect("the connection goes on");
        assert_eq!(connection.send_request(get(&mesh, "/")).await.expect("a response").status(), 200);
    }
}

/// Each client has a connection, which it closes.
async fn over_http1(mesh: &Mesh, upstream: &Upstream, phase: Phase) {
    begin(mesh, phase);
    let head = format!("GET {} HTTP/1.1\r\nhost: weir\r\n\r\n", phase.path());
    let sent = match phase {
        Phase::Connected => String::new(),
        Phase::HalfHead => head[..head.len() / 2].to_owned(),
        Phase::HalfBody => {
            let head = head.replacen("GET", "POST", 1).replacen("\r\n\r\n", "\r\ncontent-length: 100\r\n\r\n", 1);
            head + r#"{"user": "ali"#
        }
        Phase::Pipelined => head.repeat(CLIENTS),
        _ => head,
    };
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
        client.write_all(sent.as_bytes()).await.unwrap();
        clients.push(client);
    }
    if phase == Phase::Response {
        for client in &mut clients {
            let mut response = Vec::new();
            while !response.ends_with(b"hello\r\n") {
                response.push(client.read_u8().await.expect("the begin of a response"));
            }
        }
    }
    until_reached(mesh, upstream, phase).await;
    drop(clients);
    mesh.faults().clear();
}

/// Each client has a stream of one connection, which it resets.
async fn over_http2(mesh: &Mesh, upstream: &Upstream, phase: Phase, connection: &SendRequest<Empty<Bytes>>) {
    begin(mesh, phase);
    let mut clients = JoinSet::new();
    let (begun, mut responses) = tokio::sync::mpsc::channel(CLIENTS);
    for _ in 0..CLIENTS {
        let (mut connection, request, begun) = (connection.clone(), get(mesh, phase.path()), begun.clone());
        clients.spawn(async move {
            let mut response = connection.send_request(request).await.expect("a response");
            response.frame().await.expect("a part of the body").expect("a part of the body");
            let _ = begun.send(()).await;
            // The response does not end.
            std::future::pending::<()>().await;
            drop(response);
        });
    }
    if phase == Phase::Response {
        for _ in 0..CLIENTS {
            responses.recv().await.expect("the begin of a response");
        }
    }
    until_reached(mesh, upstream, phase).await;
    clients.shutdown().await;
    mesh.faults().clear();
}

fn begin(mesh: &Mesh, phase: Phase) {
    if phase == Phase::Check {
        mesh.faults().set(Fault::Delay(5 * READ));
    }
}

/// Waits until all requests are in their phase.
async fn until_reached(mesh: &Mesh, upstream: &Upstream, phase: Phase) {
    match phase {
        // Requests that begin together: one gets the token at once, and a second passes until the next.
        Phase::Held => until(|| slots(mesh) >= CLIENTS, || "requests are not held".to_owned()).await,
        Phase::Upstream | Phase::Response => {
            until(|| upstream.in_flight() == CLIENTS, || format!("{} requests arrived", upstream.in_flight())).await;
            assert_eq!(slots(mesh), CLIENTS);
        }
        Phase::Pipelined => {}
        _ => sleep(READ).await,
    }
}

async fn nothing_is_left(mesh: &Mesh, upstream: &Upstream, what: &str) {
    let left = || format!("{what}: {} slots are taken, {} requests at the upstream", slots(mesh), upstream.in_flight());
    until(|| slots(mesh) == 0 && upstream.in_flight() == 0, left).await;
    let deadline = Instant::now() + SOON;
    while requests_in_flight(mesh).await > 0 {
        assert!(Instant::now() < deadline, "{what}: {} requests in flight", requests_in_flight(mesh).await);
        sleep(Duration::from_millis(20)).await;
    }
    mesh.get("alice").await.admitted();
}

/// Number of requests that the listener's manager has in flight. The embedded host does not count them.
async fn requests_in_flight(mesh: &Mesh) -> u64 {
    let Some(envoy) = mesh.hosts()[0].envoy() else { return 0 };
    let stats = tokio::task::block_in_place(|| envoy.admin_get("/stats")).expect("the admin answers");
    let value = stats.lines().find_map(|line| line.strip_prefix("http.ingress.downstream_rq_active: ")?.parse().ok());
    value.unwrap_or_else(|| panic!("no downstream_rq_active in:\n{stats}"))
}

/// Number of slots that are taken, of all limits.
fn slots(mesh: &Mesh) -> usize {
    let mut redis = mesh.redis_connection();
    let limits: Vec<String> = redis.keys(format!("{}*#concurrency", mesh.key_prefix())).unwrap();
    limits.iter().map(|key| redis.zcard::<_, usize>(key).unwrap()).sum()
}

async fn connect(mesh: &Mesh) -> SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    let (sender, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    sender
}

fn get(mesh: &Mesh, path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{}{path}", mesh.ingress()[0])).body(Empty::new()).expect("a request")
}

async fn until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{} within {SOON:?}", what());
        sleep(Duration::from_millis(20)).await;
    }
}
