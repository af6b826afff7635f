//! Request bodies on both hosts, over HTTP/1.1 and HTTP/2: values in them, timeouts, sizes, and unreadable bodies.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use weir::mesh::MeshBuilder;
use weir::{HostKind, Mesh};

const QUICKSTART: &str = "envoy/quickstart.yaml";
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

weir::on_both_hosts! {
    a_value_is_found_whatever_else_is_in_the_body
    clients_with_unreadable_bodies_share_a_bucket
    limits_skip_or_reject_unreadable_bodies_where_so_configured
    a_limit_in_shadow_mode_rejects_nothing
    a_request_waits_for_its_body_no_longer_than_the_timeout
    large_bodies_are_read_up_to_the_proxys_buffer_limit_and_pass_whole
    no_client_can_make_its_requests_cost_nothing
    a_body_of_unknown_length_is_rejected_or_costs_the_maximum
}

/// Builds a mesh with one limit: one request an hour for each `/user` in the body.
fn by_user(host: HostKind, request_body: &Value) -> MeshBuilder {
    let request_body = request_body.clone();
    limited(host, json!({"descriptor": [{"request_body": {"json_pointer": "/user"}}]})).configure(move |filter| {
        // A stalled machine is not to make a body unreadable.
        filter["request_body"] = json!({"timeout": "60s"});
        filter["request_body"].as_object_mut().unwrap().extend(request_body.as_object().unwrap().clone());
    })
}

/// Builds a mesh with one limit: one request an hour, unless `fields` replace its bucket.
fn limited(host: HostKind, fields: Value) -> MeshBuilder {
    Mesh::on(host, QUICKSTART).patient().workers(1).that_sees_bodies().configure(move |filter| {
        let mut limit = json!({"name": "body", "token_bucket": {"max_tokens": 1, "fill_interval": "3600s"}});
        for (name, value) in fields.as_object().expect("fields") {
            limit[name] = value.clone();
        }
        filter["limits"] = json!([limit]);
    })
}

async fn post(mesh: &Mesh, headers: &[(&str, &str)], body: &str) -> u16 {
    let ask = mesh.ask("/").method(Method::POST).body(body);
    headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await.status
}

/// Sends a request piece by piece on a new connection, and returns the status of the response.
async fn raw(mesh: &Mesh, pieces: &[&str]) -> u16 {
    let mut connection = TcpStream::connect(mesh.ingress()[0]).await.unwrap();
    for piece in pieces {
        connection.write_all(piece.as_bytes()).await.unwrap();
        // After a pause, the proxy reads the next piece separately.
        sleep(Duration::from_millis(50)).await;
    }
    let mut status = [0; 12];
    timeout(ANSWER_WITHIN, connection.read_exact(&mut status)).await.expect("a response within a minute").unwrap();
    str::from_utf8(&status).unwrap().rsplit(' ').next().unwrap().parse().unwrap()
}

async fn a_value_is_found_whatever_else_is_in_the_body(host: HostKind) {
    let Some(mesh) = by_user(host, &json!({"on_unreadable": "reject"})).start().await else { return };
    let lists = ["[".repeat(130), "]".repeat(130)].concat();
    for (nth, other) in ["1e400", lists.as_str(), r#""\ud800""#, "1", r#"{"user": "x"}"#].into_iter().enumerate() {
        let before = format!(r#"{{"x": {other}, "user": "user-{nth}"}}"#);
        let after = format!("\u{feff}{{\"\\u0075ser\": \"user-{nth}\", \"x\": {other}}}");
        assert_eq!(
            [post(&mesh, &[], &before).await, post(&mesh, &[], &after).await],
            [200, 429],
            "{other} on {host:?}"
        );
    }
    let twice = [r#"{"user": "first", "user": "last"}"#, r#"{"user": "last"}"#, r#"{"user": "first"}"#];
    for (body, status) in twice.into_iter().zip([200, 429, 200]) {
        assert_eq!(post(&mesh, &[("content-type", "application/json")], body).await, status, "{body} on {host:?}");
    }
    let body = [r#"{"user": "#, r#""pie"#, r#"ces"}"#];
    let head = "POST / HTTP/1.1\r\nhost: weir\r\ncontent-length: 18\r\n\r\n";
    for status in [200, 429] {
        assert_eq!(raw(&mesh, &[&[head], &body[..]].concat()).await, status, "in pieces on {host:?}");
    }
}

const UNREADABLE: [(&[(&str, &str)], &str); 6] = [
    (&[("content-encoding", "gzip")], r#"{"user": "gzip"}"#),
    (&[("content-type", "application/x-www-form-urlencoded")], "user=form"),
    (&[("content-type", "application/grpc")], r#"{"user": "grpc"}"#),
    (&[("content-type", "text/plain")], r#"{"user": "text"}"#),
    (&[], "no json"),
    (&[], r#"{"user": "cut"#),
];

async fn clients_with_unreadable_bodies_share_a_bucket(host: HostKind) {
    let Some(mesh) = by_user(host, &json!({})).start().await else { return };
    for (nth, (headers, body)) in UNREADABLE.into_iter().enumerate() {
        // A gRPC response has HTTP status 200, whether the request is admitted or denied.
        let status = if nth == 0 || body.contains("grpc") { 200 } else { 429 };
        assert_eq!(post(&mesh, headers, body).await, status, "{body} on {host:?}");
    }
    assert_eq!(post(&mesh, &[], r#"{"user": "alice"}"#).await, 200);
    mesh.counts("weir_body_unreadable", 6).await;
}

async fn limits_skip_or_reject_unreadable_bodies_where_so_configured(host: HostKind) {
    for (policy, status) in [("skip", 200), ("reject", 400)] {
        let Some(mesh) = by_user(host, &json!({"on_unreadable": policy})).start().await else { return };
        for (headers, body) in UNREADABLE {
            let status = if body.contains("grpc") { 200 } else { status };
            assert_eq!(post(&mesh, headers, body).await, status, "{body} on {host:?}, on_unreadable: {policy}");
        }
        // A readable body without a value for the limit, and a request without a body.
        assert_eq!([post(&mesh, &[], r#"{"user": null}"#).await, mesh.get("alice").await.status], [200, 200]);
        mesh.counts("weir_body_unreadable", 6).await;
        mesh.counts("weir_requests_rejected", if policy == "reject" { 6 } else { 0 }).await;
    }
}

async fn a_limit_in_shadow_mode_rejects_nothing(host: HostKind) {
    let mesh = by_user(host, &json!({"on_unreadable": "reject"})).configure(|filter| {
        filter["limits"][0]["shadow_mode"] = true.into();
        filter["limits"][0]["hits_addend"] = json!({"content_length": {"on_invalid": "reject"}});
    });
    let Some(mesh) = mesh.start().await else { return };
    for _ in 0..2 {
        for (headers, body) in UNREADABLE {
            assert_eq!(post(&mesh, headers, body).await, 200, "{body} on {host:?}");
        }
        let chunked = "POST / HTTP/1.1\r\nhost: weir\r\ntransfer-encoding: chunked\r\n\r\n\
            13\r\n{\"user\": \"chunked\"}\r\n0\r\n\r\n";
        assert_eq!(raw(&mesh, &[chunked]).await, 200, "without a length, on {host:?}");
    }
}

async fn a_request_waits_for_its_body_no_longer_than_the_timeout(host: HostKind) {
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nhost: weir\r\ncontent-length: 1000\r\n{headers}\r\n");
    let Some(mesh) = by_user(host, &json!({"timeout": "0.2s"})).start().await else { return };
    assert_eq!(raw(&mesh, &[&post(""), r#"{"user":"#]).await, 200);
    assert_eq!(
        raw(&mesh, &[&post(""), r#"{"user": "alice", "#]).await,
        429,
        "a body that is not complete in time is unreadable, even if it has a value"
    );
    assert_eq!(raw(&mesh, &[&post("")]).await, 429);
    for pieces in [&[][..], &[r#"{"user": "alice", "#]] {
        assert_eq!(in_pieces_over_http2(&mesh, pieces, false).await, 429, "{pieces:?} over HTTP/2");
    }
    mesh.counts("weir_body_unreadable", 5).await;

    let Some(mesh) = by_user(host, &json!({"timeout": "60s"})).start().await else { return };
    for (nth, headers) in ["content-type: text/plain\r\n", "content-encoding: br\r\n"].into_iter().enumerate() {
        assert_eq!(raw(&mesh, &[&post(headers)]).await, if nth == 0 { 200 } else { 429 }, "{headers} on {host:?}");
    }
    // The bytes that have arrived are enough to decide: a complete document, and a body that is not JSON.
    assert_eq!(raw(&mesh, &[&post(""), r#"{"user": "bob"} "#]).await, 200);
    assert_eq!(raw(&mesh, &[&post(""), "user=bob"]).await, 429);
    for status in [200, 429] {
        assert_eq!(in_pieces_over_http2(&mesh, &[r#"{"user": "#, r#""carol"}"#], false).await, status, "over HTTP/2");
        assert_eq!(in_pieces_over_http2(&mesh, &[r#"{"user": "#, r#""dave"}"#], true).await, status, "over HTTP/2");
    }
    assert_eq!(in_pieces_over_http2(&mesh, &["user=", "carol"], false).await, 429, "over HTTP/2");
}

/// The embedded host does not support upgrades.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_not_held_for_a_body_on_envoy() {
    let mesh = by_user(HostKind::Envoy, &json!({"timeout": "60s"})).edit(|bootstrap| {
        bootstrap.pointer_mut(MANAGER).unwrap()["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    });
    let Some(mesh) = mesh.start().await else { return };
    let upgrade = "host: weir\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(raw(&mesh, &[&format!("GET / HTTP/1.1\r\n{upgrade}")]).await, 200);
    }
    let post = format!("POST / HTTP/1.1\r\n{upgrade}");
    assert_eq!(
        [raw(&mesh, &[&post]).await, raw(&mesh, &[&post]).await],
        [200, 429],
        "an upgrade by POST may have a body, which is unreadable"
    );
}

/// A tunnel has no end before the client closes it, and no body. The embedded host does not support `CONNECT`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_request_is_decided_on_its_headers_on_envoy() {
    let by_user = json!({
        "descriptor": [{"request_body": {"json_pointer": "/user", "default": "none"}}],
        "token_bucket": {"max_tokens": 2, "fill_interval": "3600s"},
    });
    let mesh = limited(HostKind::Envoy, by_user)
        .configure(|filter| filter["request_body"] = json!({"timeout": "60s", "on_unreadable": "reject"}))
        .edit(|bootstrap| {
            let manager = bootstrap.pointer_mut(MANAGER).unwrap();
            manager["upgrade_configs"] = json!([{"upgrade_type": "CONNECT"}]);
            let tunnels = json!({"match": {"connect_matcher": {}}, "direct_response": {"status": 200}});
            manager["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap().insert(0, tunnels);
        });
    let Some(mesh) = mesh.start().await else { return };
    for status in [200, 429] {
        let tunnel = "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n";
        assert_eq!(raw(&mesh, &[tunnel]).await, status, "HTTP/1.1");
        let tunnel = Request::connect("shop.test:443").body(Full::default()).unwrap();
        assert_eq!(answer_over_http2(mesh.ingress()[0], tunnel).await.status(), status, "HTTP/2");
    }
    mesh.counts("weir_body_unreadable", 0).await;
}

/// Starts an upstream whose response is the size of the request's body, and whether the body equals that of [`large`].
async fn measuring_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let measure = |request: Request<Incoming>| async move {
                let body = request.into_body().collect().await?.to_bytes();
                let is_ours = large(&user_of(&body), body.len()).as_bytes() == body;
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(format!("{} {is_ours}", body.len())))))
            };
            let serving = hyper::server::conn::http1::Builder::new();
            tokio::spawn(serving.serve_connection(TokioIo::new(connection), service_fn(measure)));
        }
    });
    address
}

/// Returns a JSON body of `size` bytes with this `user`.
fn large(user: &str, size: usize) -> String {
    let (start, end) = (format!(r#"{{"user": "{user}", "pad": ""#), r#""}"#);
    let pad = (0..size.saturating_sub(start.len() + end.len())).map(|nth| char::from(b'a' + (nth % 23) as u8));
    start + &pad.collect::<String>() + end
}

fn user_of(body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(64)]).into_owned();
    start.split('"').nth(3).unwrap_or_default().to_owned()
}

/// Sends a POST over HTTP/2, and returns the status and the body of the response.
async fn over_http2(ingress: SocketAddr, body: String) -> (u16, String) {
    let post = Request::post("http://weir.test/").body(Full::new(Bytes::from(body))).unwrap();
    let answer = answer_over_http2(ingress, post).await;
    let status = answer.status().as_u16();
    (status, String::from_utf8_lossy(&answer.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

/// Sends a request over HTTP/2 on a new connection.
async fn answer_over_http2<B>(ingress: SocketAddr, request: Request<B>) -> Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let io = TokioIo::new(TcpStream::connect(ingress).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    timeout(ANSWER_WITHIN, sender.send_request(request)).await.expect("a response within a minute").unwrap()
}

/// Body of unknown length in pieces. Unless it `ends`, more seems to follow.
struct Pieces {
    left: VecDeque<Bytes>,
    ends: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.left.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Sends a POST over HTTP/2 without `content-length`, and returns the status of the response.
async fn in_pieces_over_http2(mesh: &Mesh, pieces: &[&str], ends: bool) -> u16 {
    let left = pieces.iter().map(|piece| Bytes::from((*piece).to_owned())).collect();
    let post = Request::post("http://weir.test/").body(Pieces { left, ends }).unwrap();
    answer_over_http2(mesh.ingress()[0], post).await.status().as_u16()
}

async fn large_bodies_are_read_up_to_the_proxys_buffer_limit_and_pass_whole(host: HostKind) {
    let upstream = measuring_upstream().await;
    for limit in [1_024, 8_192, 16_384, 32_768, 1_048_576] {
        let mesh = by_user(host, &json!({"timeout": "60s", "on_unreadable": "reject"})).edit(|bootstrap| {
            bootstrap["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = limit.into();
            let manager = bootstrap.pointer_mut(MANAGER).unwrap();
            let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}});
            manager["route_config"]["virtual_hosts"][0]["routes"] = json!([route]);
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}});
            bootstrap["static_resources"]["clusters"].as_array_mut().unwrap().push(json!({
                "name": "upstream", "type": "STATIC", "load_assignment": {"cluster_name": "upstream",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
            }));
        });
        let Some(mesh) = mesh.start().await else { return };
        for size in [9_000, 40_000, 100_000, 1_500_000] {
            let passed = (200, format!("{size} true"));
            let user = |protocol: &str| format!("{protocol}-{size}");
            let answer = mesh.ask("/").method(Method::POST).body(&large(&user("h1"), size)).send().await;
            assert_eq!((answer.status, answer.body), passed, "HTTP/1.1, buffer limit {limit}, on {host:?}");
            let answer = mesh.ask("/").method(Method::POST).body(&large(&user("h1"), size)).send().await;
            assert_eq!(answer.status, 429, "{size} bytes over HTTP/1.1, buffer limit {limit}, on {host:?}");
            let answer = over_http2(mesh.ingress()[0], large(&user("h2"), size)).await;
            assert_eq!(answer, passed, "HTTP/2, buffer limit {limit}, on {host:?}");
            let answer = over_http2(mesh.ingress()[0], large(&user("h2"), size)).await;
            assert_eq!(answer.0, 429, "{size} bytes over HTTP/2, buffer limit {limit}, on {host:?}");
        }
    }
}

async fn no_client_can_make_its_requests_cost_nothing(host: HostKind) {
    let by_body = |hits: Value| json!({"descriptor": [], "hits_addend": hits});
    let cost = json!({"request_body": {"json_pointer": "/n", "max": 100}});
    for bodies in [["0", "0"], ["-1", "1.5"], ["1e400", "1"], ["\"0\"", "{}"], ["null", "\"x\""]] {
        let Some(mesh) = limited(host, by_body(cost.clone())).start().await else { return };
        let [first, second] = bodies.map(|n| format!(r#"{{"n": {n}}}"#));
        // The first request costs more than the bucket holds and is denied, so that the next request gets the token.
        let statuses = if bodies[0] == "1e400" { [429, 200] } else { [200, 429] };
        assert_eq!(
            [post(&mesh, &[], &first).await, post(&mesh, &[], &second).await],
            statuses,
            "{bodies:?} on {host:?}"
        );
    }
    for hits in [json!({"request_header": {"name": "x-cost"}}), json!({"content_length": {}})] {
        let Some(mesh) = limited(host, by_body(hits.clone())).start().await else { return };
        let zero = [("x-cost", "0")];
        assert_eq!([post(&mesh, &zero, "").await, post(&mesh, &zero, "").await], [200, 429], "{hits} on {host:?}");
    }
}

async fn a_body_of_unknown_length_is_rejected_or_costs_the_maximum(host: HostKind) {
    let chunked = "POST / HTTP/1.1\r\nhost: weir\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for (on_invalid, status) in [("reject", 411), ("max", 429)] {
        let hits = json!({"content_length": {"max": 100, "on_invalid": on_invalid}});
        let bucket = json!({"max_tokens": 10, "fill_interval": "3600s"});
        let Some(mesh) =
            limited(host, json!({"descriptor": [], "token_bucket": bucket, "hits_addend": hits})).start().await
        else {
            return;
        };
        assert_eq!(raw(&mesh, &[chunked]).await, status, "{on_invalid} on {host:?}");
        for pieces in [&["{}"][..], &[]] {
            assert_eq!(in_pieces_over_http2(&mesh, pieces, true).await, status, "{on_invalid}, HTTP/2, on {host:?}");
        }
        // A request without a body has length 0.
        assert_eq!(mesh.get("alice").await.remaining(9).status, 200, "{on_invalid} on {host:?}");
        assert_eq!(post(&mesh, &[], "123456789").await, 200);
        assert_eq!(post(&mesh, &[], "1").await, 429);
    }
}
