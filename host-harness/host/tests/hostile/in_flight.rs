//! Requests and responses of callouts and gRPC calls in flight: what the host keeps of them has a limit.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use hyper::Request;
use weir_host::GuestLimits;

use super::support::{self, Kind, Proxy, Scenario, cluster};

const MIB: usize = 1024 * 1024;

/// Data of the guests: pairs of a request's headers, of 69 bytes, and a cluster's name.
const DATA: &str = r#"(data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
    (data (i32.const 128) "backendresetdone8")"#;

/// Starts the embedded host with a guest whose requests run `instructions`, of which the host may keep 4 MiB.
fn start(instructions: &str, more: &str, clusters: String) -> Proxy {
    let guest = format!(
        r#"{DATA} {more} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $note {instructions}) (call $reply) (i32.const 1))"#
    );
    let limits = GuestLimits { memory: 4 * MIB, ..GuestLimits::default() };
    let scenario = Scenario { guest: &guest, limits, clusters, ..Scenario::default() };
    scenario.start_on(&Kind::Embedded).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Returns a call with a body of 1 MiB.
fn call(function: &str) -> String {
    let named = "(i32.const 128) (i32.const 7)";
    let body = "(i32.const 0x10000) (i32.const 0x100000)";
    match function {
        "http" => format!(
            "(call $http_call {named} (i32.const 0) (i32.const 69) {body} (i32.const 0) (i32.const 0) (i32.const 0) \
             (i32.const 0x700))"
        ),
        "grpc call" => format!(
            "(call $grpc_call {named} {named} {named} (i32.const 0) (i32.const 0) {body} (i32.const 0) (i32.const 0x700))"
        ),
        _ => format!(
            "(block (result i32)
               (drop (call $grpc_stream {named} {named} {named} (i32.const 0) (i32.const 0) (i32.const 0x700)))
               (call $grpc_send (i32.load (i32.const 0x700)) {body} (i32.const 0)))"
        ),
    }
}

/// Returns a cluster whose connections do not come about: its server does not answer the TLS handshake.
fn silent_cluster(kind: &str) -> String {
    let silent = support::tcp_server(|mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let tls = "{name: tls, typed_config: {\"@type\": \
               type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext}}";
    let cluster = cluster("backend", silent, kind).replace("connect_timeout: 1s", "connect_timeout: 600s");
    format!("{cluster}\n  transport_socket: {tls}")
}

#[test]
fn requests_in_flight_beyond_the_limit_are_refused() {
    for kind in ["http1", "http2", "tcp"] {
        for function in ["http", "grpc call", "grpc stream"] {
            let proxy = start(&call(function), "", silent_cluster(kind));
            let statuses: String = (0..6).map(|_| proxy.text("/")).collect();
            // 10, `InternalFailure`, is a colon.
            assert_eq!(statuses, "000:::", "{function} to {kind}");
        }
    }
}

/// Starts a server that answers a request with bytes, and keeps the connection until the gate opens.
fn unfinished_server(answer: Vec<u8>, gate: Arc<(Mutex<bool>, Condvar)>) -> SocketAddr {
    support::tcp_server(move |mut stream: TcpStream| {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        // The host closes the connection of a callout that ends.
        let _ = stream.write_all(&answer);
        let (is_open, opened) = &*gate;
        let is_open = is_open.lock().expect("no panic");
        drop(opened.wait_while(is_open, |is_open| !*is_open).expect("no panic"));
        let _ = stream.write_all(b"!");
    })
}

#[test]
fn responses_in_flight_beyond_the_limit_end_their_callouts() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MIB + 1);
    let server = unfinished_server([head.as_bytes(), &vec![b'x'; MIB]].concat(), gate.clone());
    let ended = r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (if (i32.eqz (local.get 2))
          (then (call $count (i32.const 135) (i32.const 5)))
          (else (call $count (i32.const 140) (i32.const 4)))))"#;
    let small = call("http").replace("(i32.const 0x100000)", "(i32.const 1)");
    let proxy = start(&small, ended, cluster("backend", server, "http1"));
    for _ in 0..8 {
        assert_eq!(proxy.text("/"), "0");
    }
    // At most three responses fit.
    support::eventually("five callouts are reset", || proxy.metric("reset") >= 5);
    let (is_open, opened) = &*gate;
    *is_open.lock().expect("no panic") = true;
    opened.notify_all();
    support::eventually("the others are answered", || proxy.metric("reset") + proxy.metric("done") == 8);
    assert!(proxy.metric("done") >= 1);
}

#[test]
fn messages_in_flight_beyond_the_limit_end_their_grpc_calls() {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 9999999\r\n\r\n";
    // The start of a message of 2 MiB.
    let server = unfinished_server([head.as_bytes(), b"\0\0\x20\0\0", &vec![b'x'; MIB]].concat(), gate);
    let ended = r#"(func (export "proxy_on_grpc_close") (param i32 i32 i32)
        (if (i32.eq (local.get 2) (i32.const 8)) (then (call $count (i32.const 144) (i32.const 1)))))"#;
    let small = call("grpc call").replace("(i32.const 0x100000)", "(i32.const 1)");
    let proxy = start(&small, ended, cluster("backend", server, "http1"));
    for _ in 0..8 {
        assert_eq!(proxy.send(Request::get("/"), b"").status().as_u16(), 200);
    }
    support::eventually("five calls have ended with status 8", || proxy.metric("8") >= 5);
}
