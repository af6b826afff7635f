//! Streams that are open when a root context traps, under each failure policy, on the embedded host and on both Envoys.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::POLICIES;
use super::roots::hosts;
use super::support::{self, Kind, Proxy, Scenario, becomes_true, cluster, eventually, filter, http2_server};
use super::traps::REFUSED;

/// Guest that holds streams by the first letter of their path. A request `/tick` starts ticks.
///
/// Held are: `/a` and `/whole` request headers, `/body` and `/cautious` a body with and without reading it again, `/end`
/// request trailers, `/response` response headers, `/filling` a response body.
const GUEST: &str = r#"
    (data (i32.const 0) ":path")
    (data (i32.const 16) "heldx-seen")
    (global $held (mut i32) (i32.const 0))
    (func $is (param $context i32) (param $letter i32) (result i32)
      (i32.eq (i32.load8_u (i32.add (i32.const 0x1000) (local.get $context))) (local.get $letter)))
    (func $hold (param $is i32) (param $status i32) (result i32)
      (if (i32.eqz (local.get $is)) (then (return (i32.const 0))))
      (call $count (i32.const 16) (i32.const 4))
      (local.get $status))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
      (drop (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
      (if (i32.gt_u (i32.load (i32.const 0x704)) (i32.const 1))
        (then (i32.store8 (i32.add (i32.const 0x1000) (local.get $context))
                          (i32.load8_u (i32.add (i32.load (i32.const 0x700)) (i32.const 1))))))
      (if (call $is (local.get $context) (i32.const 0x74 (; t ;))) (then (drop (call $set_tick_period (i32.const 1)))))
      (if (call $is (local.get $context) (i32.const 0x61 (; a ;)))
        (then (global.set $held (local.get $context)) (return (call $hold (i32.const 1) (i32.const 1)))))
      (call $hold (call $is (local.get $context) (i32.const 0x77 (; w ;))) (i32.const 1)))
    (func (export "proxy_on_request_body") (param $context i32) (param i32 i32) (result i32)
      (if (call $is (local.get $context) (i32.const 0x63 (; c ;)))
        (then (return (call $hold (i32.const 1) (i32.const 2)))))
      (call $hold (call $is (local.get $context) (i32.const 0x62 (; b ;))) (i32.const 1)))
    (func (export "proxy_on_request_trailers") (param $context i32) (param i32) (result i32)
      (call $hold (call $is (local.get $context) (i32.const 0x65 (; e ;))) (i32.const 1)))
    (func (export "proxy_on_response_headers") (param $context i32) (param i32 i32) (result i32)
      (drop (call $add_header (i32.const 2) (i32.const 20) (i32.const 6) (i32.const 0) (i32.const 1)))
      (call $hold (call $is (local.get $context) (i32.const 0x72 (; r ;))) (i32.const 1)))
    (func (export "proxy_on_response_body") (param $context i32) (param i32 i32) (result i32)
      (call $hold (call $is (local.get $context) (i32.const 0x66 (; f ;))) (i32.const 1)))"#;

/// Body whose frames a test sends one by one.
struct Sent(UnboundedReceiver<Frame<Bytes>>);

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}

/// Part of a response that a client has received.
#[derive(Debug, Clone, Default)]
struct Received {
    status: Option<u16>,
    bytes: usize,
    end: &'static str,
}

/// Client that has sent a part of its request over HTTP/2.
struct Client {
    body: Option<UnboundedSender<Frame<Bytes>>>,
    received: Arc<Mutex<Received>>,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    /// Sends headers and the first half of the body `body`; for the paths `/end` and `/whole` the whole request.
    async fn start(address: SocketAddr, path: &str) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("a handshake");
        let (body, frames) = unbounded_channel();
        if path != "/whole" {
            let _ = body.send(Frame::data(Bytes::from_static(b"bo")));
        }
        let mut client = Self { body: Some(body), received: Arc::default(), task: tokio::spawn(async {}) };
        match path {
            "/end" => client.finish(),
            "/whole" => client.body = None,
            _ => {}
        }
        let request = Request::post(format!("http://{address}{path}")).body(Sent(frames)).expect("a request");
        let received = client.received.clone();
        client.task = tokio::spawn(async move {
            let note = |change: &dyn Fn(&mut Received)| change(&mut received.lock().expect("no panic"));
            let exchange = async {
                let Ok(mut response) = sender.send_request(request).await else {
                    return note(&|it| it.end = "reset");
                };
                note(&|it| it.status = Some(response.status().as_u16()));
                let mut end = "no trailers";
                // Envoy and the harness reset a response with different codes; a client takes Envoy's for an end.
                while let Some(Ok(frame)) = response.frame().await {
                    end = if frame.is_trailers() { "trailers" } else { end };
                    note(&|it| it.bytes += frame.data_ref().map_or(0, Bytes::len));
                }
                note(&|it| it.end = end);
            };
            tokio::select! {
                () = exchange => {}
                _ = connection => {}
            }
        });
        client
    }

    /// Sends the rest of the body and trailers.
    fn finish(&mut self) {
        let Some(body) = self.body.take() else { return };
        let mut trailers = HeaderMap::new();
        trailers.insert("x-last", hyper::header::HeaderValue::from_static("yes"));
        // A stream that is over takes no more.
        let _ = body.send(Frame::data(Bytes::from_static(b"dy")));
        let _ = body.send(Frame::trailers(trailers));
    }

    fn outcome(&self) -> String {
        let Received { status, bytes, end } = self.received.lock().expect("no panic").clone();
        match status {
            None if end.is_empty() => "nothing".to_owned(),
            None => end.to_owned(),
            Some(status) => format!("{status}, {bytes} bytes, {}", if end.is_empty() { "open" } else { end }),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn start(kind: &Kind, guest: &str, policy: &str) -> Proxy {
    let scenario = Scenario {
        guest,
        filters: filter("guest", policy),
        routes: r#"- {name: echo, match: {prefix: "/"}, route: {cluster: echo, timeout: 60s}}"#.to_owned(),
        clusters: cluster("echo", http2_server(), "http2"),
        ..Scenario::default()
    };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{policy}: {error:?}"))
}

/// Whether the filter has seen the response to a request.
fn is_seen(proxy: &Proxy) -> bool {
    let request = Request::get(format!("http://{}/", proxy.address()));
    support::send_http2(proxy.address(), request, b"", &[])
        .is_ok_and(|exchange| exchange.headers.contains_key("x-seen"))
}

/// Stream of a client: its path, and the outcomes before the trap and after the rest of the request was sent.
type Open<'a> = (&'static str, &'a str, &'a str);

/// Opens streams, lets the root context trap, and sends the rest of the requests; asserts the outcomes, and that the host
/// goes on after the clients have left.
fn assert_outcomes(kind: &Kind, tick: &str, policy: &str, streams: &[Open<'_>]) {
    let guest = format!(r#"{GUEST} (func (export "proxy_on_tick") (param i32) {tick} (unreachable))"#);
    let mut proxy = start(kind, &guest, policy);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let open = |(path, ..): &Open<'_>| runtime.block_on(Client::start(proxy.address(), path));
    let mut clients: Vec<Client> = streams.iter().map(open).collect();
    let outcomes = |clients: &[Client]| clients.iter().map(Client::outcome).collect::<Vec<_>>();
    let (before, after): (Vec<&str>, Vec<&str>) = streams.iter().map(|(_, before, after)| (*before, *after)).unzip();
    let held = streams.iter().filter(|(path, ..)| *path != "/passing").count() as u64;
    let is_held = becomes_true(|| proxy.metric("held") == held && outcomes(&clients) == before);
    assert!(is_held, "{kind:?}: {policy}: {:?} for {streams:?}", outcomes(&clients));
    let arm = Request::get(format!("http://{}/tick", proxy.address()));
    // The tick may come before the response to this request.
    let _ = support::send_http2(proxy.address(), arm, b"", &[]);
    eventually("the tick has trapped", || !is_seen(&proxy));
    clients.iter_mut().for_each(Client::finish);
    becomes_true(|| outcomes(&clients) == after);
    // What a host does not answer it does not answer later either.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(outcomes(&clients), after, "{kind:?}: {policy}: {tick}: {streams:?}");
    drop(clients);
    assert!(!is_seen(&proxy), "{kind:?}: {policy}");
    assert!(proxy.is_alive(), "{kind:?}: {policy}");
}

/// Interval in which `FAIL_RELOAD` does not start the plugin again.
const LATER: &str = "\nreload_config: {backoff: {base_interval: 60s}}";

/// Runs a test with each failure policy, and whether it passes streams of a failed VM on.
fn for_each_policy(test: impl Fn(&Kind, &str, bool)) {
    for policy in POLICIES {
        let later = if policy.contains("RELOAD") { LATER } else { "" };
        for kind in hosts() {
            test(&kind, &format!("{policy}{later}"), policy == "fail_open: true");
        }
    }
}

#[test]
fn the_next_callback_of_a_stream_meets_the_trap_of_a_root_context() {
    for_each_policy(|kind, policy, passes| {
        let rest = if passes { "200, 4 bytes, trailers" } else { "200, 0 bytes, no trailers" };
        let streams = [
            ("/a", "nothing", "nothing"),
            ("/body", "200, 0 bytes, open", rest),
            ("/cautious", "200, 0 bytes, open", rest),
            ("/end", "200, 4 bytes, open", "200, 4 bytes, open"),
            ("/response", "nothing", if passes { "nothing" } else { REFUSED }),
            ("/filling", "200, 0 bytes, open", rest),
            ("/passing", "200, 2 bytes, open", if passes { rest } else { "200, 2 bytes, no trailers" }),
            ("/whole", "nothing", "nothing"),
        ];
        assert_outcomes(kind, "", policy, &streams);
    });
}

#[test]
fn a_body_past_paused_headers_meets_the_trap_of_a_root_context() {
    for_each_policy(|kind, policy, passes| {
        let (begun, nothing) = ("200, 2 bytes, open", "nothing");
        let rest = if passes { "200, 4 bytes, trailers" } else { "200, 2 bytes, no trailers" };
        let policy = format!("{policy}\nallow_on_headers_stop_iteration: true");
        let streams = [("/a", begun, rest), ("/response", begun, rest), ("/whole", nothing, nothing)];
        assert_outcomes(kind, "", &policy, &streams);
    });
}

#[test]
fn a_callback_that_traps_has_resumed_or_answered_a_stream_before() {
    let of_held = "(drop (call $set_effective_context (global.get $held)))";
    let resume = format!("{of_held} (drop (call $continue (i32.const 0)))");
    let answer = format!(
        "{of_held} (drop (call $respond (i32.const 418) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5)
                                        (i32.const 0) (i32.const 0) (i32.const -1)))"
    );
    for_each_policy(|kind, policy, passes| {
        for (tick, passed) in [(&resume, "200, 4 bytes, trailers"), (&answer, "418, 5 bytes, no trailers")] {
            let expected = if passes { passed } else { REFUSED };
            assert_outcomes(kind, tick, policy, &[("/a", "nothing", expected)]);
        }
    });
}
