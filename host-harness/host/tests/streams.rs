//! HTTP callouts and gRPC streams of modules; a bridge in the same YAML connects gRPC streams to a raw TCP peer.

mod support;

use std::io::Read;

use support::{Scenario, cluster, echo_server, http2_server, mirror_server, nobody, tcp_server};

/// Guest that sends a callout for each request and replies with its result: whether there are headers, `:status`, body.
const CALLER: &str = r#"
    (data (i32.const 0) "\03\00\00\00\07\00\00\00\04\00\00\00\05\00\00\00\05\00\00\00\0a\00\00\00\04\00\00\00:method\00POST\00:path\00/call\00:authority\00peer\00")
    (data (i32.const 128) "backendask:status")
    (global $waiting (mut i32) (i32.const 0))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
      (local $status i32)
      (global.set $waiting (local.get $context))
      (local.set $status (call $http_call (i32.const 128) (i32.const 7) (i32.const 0) (i32.const 69)
            (i32.const 135) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 200) (i32.const 0x700)))
      (if (local.get $status) (then (call $note (local.get $status)) (call $reply)))
      (i32.const 1))
    (func (export "proxy_on_http_call_response") (param $root i32) (param $token i32) (param $headers i32)
                                                 (param $body i32) (param $trailers i32)
      (call $note (i32.ne (local.get $headers) (i32.const 0)))
      (if (local.get $headers) (then
        (call $note (call $get_header (i32.const 6) (i32.const 138) (i32.const 7) (i32.const 0x700) (i32.const 0x704)))
        (call $note_given)
        (call $note (call $get_buffer (i32.const 4) (i32.const 0) (local.get $body) (i32.const 0x700) (i32.const 0x704)))
        (call $note_given)))
      (drop (call $set_effective_context (global.get $waiting)))
      (call $reply))"#;

fn called(peer: std::net::SocketAddr, kind: &str) -> String {
    let proxy = Scenario { guest: CALLER, clusters: cluster("backend", peer, kind), ..Scenario::default() }.start();
    proxy.text("/")
}

#[test]
fn a_callout_gets_an_http_response() {
    let answer = called(mirror_server(), "http1");
    assert!(answer.starts_with("102000POST /call HTTP/1.1\r\n"), "{answer}");
    assert!(answer.contains("host: peer\r\n") && answer.contains("content-length: 3\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nask"), "{answer}");
}

#[test]
fn a_raw_tcp_callout_sends_its_body_and_receives_until_the_peer_closes() {
    assert_eq!(called(echo_server(), "tcp"), "102000ask");
}

#[test]
fn a_callout_to_an_unreachable_cluster_gets_a_503() {
    for kind in ["http1", "tcp"] {
        let answer = called(nobody(), kind);
        assert!(answer.starts_with("105030upstream connect error"), "{kind}: {answer}");
    }
}

#[test]
fn a_callout_gets_a_504_after_its_timeout() {
    let silent = tcp_server(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        std::thread::sleep(std::time::Duration::from_secs(3));
    });
    assert_eq!(called(silent, "http1"), "105040upstream request timeout");
}

#[test]
fn a_callout_to_an_unknown_cluster_is_a_bad_argument() {
    let proxy = Scenario { guest: CALLER, ..Scenario::default() }.start();
    assert_eq!(proxy.text("/"), "2");
}

/// Guest with two roles.
///
/// The bridge (root id `bridge`) removes the five bytes of framing from each message, and adds five bytes of framing
/// to the response. The other role opens one stream, sends the path of each request on the stream, and replies to the
/// oldest waiting request with each received message. When the stream closes, it replies with the status, and opens
/// another stream for the next request.
const STREAMER: &str = r#"
    (data (i32.const 0) "plugin_root_idbackendservicemethod:path")
    (global $stream (mut i32) (i32.const 0))
    (global $root (mut i32) (i32.const 0))
    (global $first (mut i32) (i32.const 0))
    (global $last (mut i32) (i32.const 0))
    (func $is_bridge (result i32)
      (drop (call $get_property (i32.const 0) (i32.const 14) (i32.const 0x700) (i32.const 0x704)))
      (i32.eq (i32.load8_u (i32.load (i32.const 0x700))) (i32.const 98)))
    (func (export "proxy_on_context_create") (param $context i32) (param $root i32)
      (if (i32.eqz (local.get $root)) (then (global.set $root (local.get $context)))))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
      (if (call $is_bridge) (then (return (i32.const 0))))
      (if (i32.eqz (global.get $stream)) (then
        (if (call $grpc_stream (i32.const 14) (i32.const 7) (i32.const 21) (i32.const 7) (i32.const 28) (i32.const 6)
                               (i32.const 0) (i32.const 0) (i32.const 0x70c))
          (then (call $note (i32.const 9)) (call $reply) (return (i32.const 1))))
        (global.set $stream (i32.load (i32.const 0x70c)))))
      (drop (call $get_header (i32.const 0) (i32.const 34) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
      (drop (call $set_effective_context (global.get $root)))
      (if (call $grpc_send (global.get $stream) (i32.load (i32.const 0x700)) (i32.load (i32.const 0x704)) (i32.const 0))
        (then (unreachable)))
      (drop (call $set_effective_context (local.get $context)))
      (i32.store (i32.add (i32.const 0x2000) (i32.mul (global.get $last) (i32.const 4))) (local.get $context))
      (global.set $last (i32.add (global.get $last) (i32.const 1)))
      (i32.const 1))
    (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
      (if (i32.gt_u (local.get $size) (i32.const 5)) (then
        (drop (call $get_buffer (i32.const 0) (i32.const 5) (local.get $size) (i32.const 0x700) (i32.const 0x704)))
        (drop (call $set_buffer (i32.const 0) (i32.const 0) (local.get $size)
                                (i32.load (i32.const 0x700)) (i32.load (i32.const 0x704))))))
      (i32.const 0))
    (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
      (if (i32.and (call $is_bridge) (i32.ne (local.get $size) (i32.const 0))) (then
        (i32.store8 (i32.const 0x710) (i32.const 0))
        (i32.store (i32.const 0x711) (i32.shl (local.get $size) (i32.const 24)))
        (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0x710) (i32.const 5)))))
      (i32.const 0))
    (func $answer_first
      (if (i32.lt_u (global.get $first) (global.get $last)) (then
        (drop (call $set_effective_context
          (i32.load (i32.add (i32.const 0x2000) (i32.mul (global.get $first) (i32.const 4))))))
        (global.set $first (i32.add (global.get $first) (i32.const 1)))
        (call $reply))))
    (func (export "proxy_on_grpc_receive") (param $root i32) (param $token i32) (param $size i32)
      (drop (call $get_buffer (i32.const 5) (i32.const 0) (local.get $size) (i32.const 0x700) (i32.const 0x704)))
      (call $note_given)
      (call $answer_first))
    (func (export "proxy_on_grpc_close") (param $root i32) (param $token i32) (param $status i32)
      (call $note_bytes (i32.const 14) (i32.const 7))
      (call $note (local.get $status))
      (drop (call $grpc_close (local.get $token)))
      (global.set $stream (i32.const 0))
      (call $answer_first))"#;

fn streamer(peer: std::net::SocketAddr) -> support::Proxy {
    Scenario { guest: STREAMER, clusters: cluster("backend", peer, "bridged"), ..Scenario::default() }.start()
}

#[test]
fn messages_of_a_stream_reach_a_tcp_peer_without_their_framing() {
    let proxy = streamer(echo_server());
    for path in ["/one", "/two", "/three"] {
        assert_eq!(proxy.text(path), path);
    }
}

#[test]
fn a_stream_is_one_connection_for_many_requests() {
    let (sender, connections) = std::sync::mpsc::channel();
    let peer = tcp_server(move |mut stream| {
        let _ = sender.send(());
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = std::io::Write::write_all(&mut stream, &buffer[..count]);
        }
    });
    let proxy = streamer(peer);
    for _ in 0..5 {
        assert_eq!(proxy.text("/x"), "/x");
    }
    assert_eq!(connections.try_iter().count(), 1);
}

#[test]
fn a_peer_that_closes_ends_the_stream_and_the_next_request_opens_another() {
    // The first connection reads once and closes; later connections echo.
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let peer = tcp_server(move |mut stream| {
        let mut buffer = [0; 64];
        let first = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if first {
                return;
            }
            let _ = std::io::Write::write_all(&mut stream, &buffer[..count]);
        }
    });
    let proxy = streamer(peer);
    assert_eq!(proxy.text("/gone"), "backend2");
    assert_eq!(proxy.text("/back"), "/back");
}

#[test]
fn a_stream_to_an_unreachable_peer_closes_with_unavailable() {
    // '>' is 14 after '0'.
    assert_eq!(streamer(nobody()).text("/"), "backend>");
}

#[test]
fn a_stream_to_an_unknown_cluster_fails_at_once() {
    let proxy = Scenario { guest: STREAMER, ..Scenario::default() }.start();
    assert_eq!(proxy.text("/"), "9");
}

#[test]
fn a_stream_to_a_grpc_server_is_framed_both_ways() {
    let clusters = cluster("backend", http2_server(), "http2");
    let proxy = Scenario { guest: STREAMER, clusters, ..Scenario::default() }.start();
    for path in ["/one", "/two"] {
        assert_eq!(proxy.text(path), path);
    }
}

/// Guest with both roles in one VM. A tick opens the stream. The letters of a request's path are steps in order: `s`
/// sends the path on the stream, `a` sends a local reply.
const TURNS: &str = r#"
    (data (i32.const 0) "plugin_root_idbackendservicemethod:path")
    (global $stream (mut i32) (i32.const 0))
    (global $root (mut i32) (i32.const 0))
    (func $is_bridge (result i32)
      (drop (call $get_property (i32.const 0) (i32.const 14) (i32.const 0x700) (i32.const 0x704)))
      (i32.eq (i32.load8_u (i32.load (i32.const 0x700))) (i32.const 98)))
    (func (export "proxy_on_configure") (param $root i32) (param i32) (result i32)
      (if (i32.eqz (call $is_bridge)) (then
        (global.set $root (local.get $root))
        (drop (call $set_tick_period (i32.const 5)))))
      (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
      (if (i32.eqz (global.get $stream)) (then
        (drop (call $grpc_stream (i32.const 14) (i32.const 7) (i32.const 21) (i32.const 7) (i32.const 28) (i32.const 6)
                                 (i32.const 0) (i32.const 0) (i32.const 0x70c)))
        (global.set $stream (i32.load (i32.const 0x70c))))))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
      (local $at i32)
      (local $end i32)
      (if (call $is_bridge) (then (return (i32.const 0))))
      (drop (call $get_header (i32.const 0) (i32.const 34) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
      (local.set $at (i32.load (i32.const 0x700)))
      (local.set $end (i32.add (local.get $at) (i32.load (i32.const 0x704))))
      (loop $steps
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (if (i32.lt_u (local.get $at) (local.get $end)) (then
          (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 97)) (then (call $reply)))
          (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 115)) (then
            (drop (call $set_effective_context (global.get $root)))
            (drop (call $grpc_send (global.get $stream) (i32.load (i32.const 0x700)) (i32.load (i32.const 0x704)) (i32.const 0)))
            (drop (call $set_effective_context (local.get $context)))))
          (br $steps))))
      (i32.const 1))
    (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
      (if (i32.gt_u (local.get $size) (i32.const 5)) (then
        (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0)))))
      (i32.const 0))"#;

#[test]
fn a_bridge_in_the_same_vm_loses_the_first_message_after_a_local_reply() {
    let (sender, received) = std::sync::mpsc::channel();
    let peer = tcp_server(move |mut stream| {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let _ = sender.send(buffer[..count].to_vec());
        }
    });
    let clusters = cluster("backend", peer, "bridged").replace("vm_id: bridge", "vm_id: guest");
    let proxy = Scenario { guest: TURNS, clusters, ..Scenario::default() }.start();
    support::eventually("the stream has its connection", || {
        proxy.text("/sa");
        received.try_iter().count() > 0
    });
    for path in ["/as", "/ass", "/ssa", "/sas", "/sa-end"] {
        proxy.text(path);
    }
    let mut all = Vec::new();
    while !all.ends_with(b"/sa-end") {
        all.extend(received.recv_timeout(std::time::Duration::from_secs(30)).expect("all messages up to the last"));
    }
    let all = String::from_utf8_lossy(&all);
    assert_eq!(all.trim_start_matches("/sa"), "/ass/ssa/ssa/sas/sa-end");
}

#[test]
fn a_grpc_call_gets_one_message_or_a_status() {
    let guest = r#"(data (i32.const 0) "backendshopaddmessage")
        (global $waiting (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
          (global.set $waiting (local.get $context))
          (call $note (call $grpc_call (i32.const 0) (i32.const 7) (i32.const 7) (i32.const 4) (i32.const 11) (i32.const 3)
            (i32.const 0) (i32.const 0) (i32.const 14) (i32.const 7) (i32.const 20000) (i32.const 0x70c)))
          (i32.const 1))
        (func $answer (drop (call $set_effective_context (global.get $waiting))) (call $reply))
        (func (export "proxy_on_grpc_receive") (param i32) (param i32) (param $size i32)
          (drop (call $get_buffer (i32.const 5) (i32.const 0) (local.get $size) (i32.const 0x700) (i32.const 0x704)))
          (call $note_given) (call $answer))
        (func (export "proxy_on_grpc_close") (param i32) (param i32) (param $status i32)
          (call $note (local.get $status)) (call $answer))"#;
    let called = |peer, kind| {
        Scenario { guest, clusters: cluster("backend", peer, kind), ..Scenario::default() }.start().text("/")
    };
    assert_eq!(called(http2_server(), "http2"), "0message");
    assert_eq!(called(nobody(), "http2"), "0>");
}

#[test]
fn each_worker_has_a_stream_of_its_own() {
    let clusters = cluster("backend", echo_server(), "bridged");
    let proxy = Scenario { guest: STREAMER, clusters, workers: 2, ..Scenario::default() }.start();
    for n in 0..16 {
        assert_eq!(proxy.text(&format!("/{n}")), format!("/{n}"));
    }
}
