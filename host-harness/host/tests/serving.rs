//! HTTP streams: through filters that change, hold and reply to requests, to the route's cluster and back.

mod support;

use std::io::{Read, Write};

use hyper::Request;
use support::{Scenario, cluster, echo_server, filter, header, http2_server, mirror_server, nobody, text};

/// Returns a route of all paths to the cluster `backend`; `more` are fields of its `route` action.
fn to_cluster(more: &str) -> String {
    format!("- {{match: {{prefix: \"/\"}}, route: {{cluster: backend{more}}}}}")
}

#[test]
fn a_direct_response_has_the_configured_status_and_body() {
    let routes = r#"- {match: {path: "/teapot"}, direct_response: {status: 418, body: {inline_string: "short and stout"}}}
- {match: {prefix: "/empty"}, direct_response: {status: 204}}"#;
    let proxy = Scenario { routes: routes.to_owned(), ..Scenario::default() }.start();
    let teapot = proxy.get("/teapot?milk=yes");
    assert_eq!((teapot.status().as_u16(), text(&teapot).as_str()), (418, "short and stout"));
    assert_eq!(header(&teapot, "content-type"), Some("text/plain"));
    assert_eq!(header(&teapot, "content-length"), Some("15"));
    assert_eq!(proxy.get("/empty/too").status().as_u16(), 204);
    assert_eq!(proxy.get("/nowhere").status().as_u16(), 404);
}

#[test]
fn a_request_reaches_its_cluster_with_the_changes_of_the_filter() {
    let guest = r#"(data (i32.const 0) "x-guestwas-herex-answered")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $add_header (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 7) (i32.const 8)))
          (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $add_header (i32.const 2) (i32.const 15) (i32.const 10) (i32.const 7) (i32.const 8)))
          (i32.const 0))"#;
    let clusters = cluster("backend", mirror_server(), "http1");
    let routes = to_cluster(", prefix_rewrite: \"/deep/\"");
    let proxy = Scenario { guest, routes, clusters, ..Scenario::default() }.start();
    for _ in 0..2 {
        let answer = proxy.send(Request::post("/a?b").header("host", "Shop"), b"the body");
        let seen = text(&answer);
        assert!(seen.starts_with("POST /deep/a?b HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains("\r\nhost: Shop\r\n"), "{seen}");
        assert!(seen.contains("\r\nx-guest: was-here\r\n"), "{seen}");
        assert!(seen.contains("\r\nx-request-id: "), "{seen}");
        assert!(seen.contains("\r\nx-forwarded-proto: http\r\n"), "{seen}");
        assert!(seen.ends_with("\r\n\r\nthe body"), "{seen}");
        assert_eq!((header(&answer, "x-answered"), header(&answer, "x-mirror")), (Some("was-here"), Some("yes")));
    }
}

#[test]
fn a_request_reaches_an_http2_cluster_with_its_authority() {
    let clusters = cluster("backend", http2_server(), "http2");
    let proxy = Scenario { routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    for _ in 0..2 {
        let answer = proxy.send(Request::post("/cart").header("host", "shop.test:81"), b"the body");
        assert_eq!((answer.status().as_u16(), text(&answer).as_str()), (200, "the body"));
        assert_eq!((header(&answer, "x-authority"), header(&answer, "x-path")), (Some("shop.test:81"), Some("/cart")));
    }
}

#[test]
fn a_large_response_arrives_complete() {
    let clusters = cluster("backend", http2_server(), "http2");
    let proxy = Scenario { routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert!(proxy.send(Request::post("/"), &body).body().as_ref() == body);
}

#[test]
fn an_unreachable_cluster_is_a_503() {
    let clusters = cluster("backend", nobody(), "http1");
    let proxy = Scenario { routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    let answer = proxy.get("/");
    assert_eq!(answer.status().as_u16(), 503);
    assert!(text(&answer).starts_with("upstream connect error"), "{}", text(&answer));
}

#[test]
fn a_response_after_the_route_timeout_is_a_504() {
    let silent = support::tcp_server(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    });
    let clusters = cluster("backend", silent, "http1");
    let proxy = Scenario { routes: to_cluster(", timeout: 0.1s"), clusters, ..Scenario::default() }.start();
    let answer = proxy.get("/");
    assert_eq!((answer.status().as_u16(), text(&answer).as_str()), (504, "upstream request timeout"));
}

#[test]
fn a_body_reaches_a_raw_tcp_cluster_unchanged() {
    let clusters = cluster("backend", echo_server(), "tcp");
    let proxy = Scenario { routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    let body: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let answer = proxy.send(Request::post("/"), &body);
    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, body.len()));
    assert!(answer.body().as_ref() == body);
}

#[test]
fn a_filter_that_holds_a_body_sees_it_grow_and_can_replace_it() {
    // Holds the body until its end, then puts it in brackets; a body of 70,000 bytes is replaced.
    let guest = r#"(data (i32.const 0) "content-length[whole]")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $remove_header (i32.const 0) (i32.const 0) (i32.const 14))) (i32.const 0))
        (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
          (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
          (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 14) (i32.const 1)))
          (drop (call $set_buffer (i32.const 0) (i32.const 0x7fffffff) (i32.const 0) (i32.const 20) (i32.const 1)))
          (if (i32.eq (local.get $size) (i32.const 70000))
            (then (drop (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0x7fffffff) (i32.const 14) (i32.const 7)))))
          (i32.const 0))"#;
    let clusters = cluster("backend", echo_server(), "tcp");
    let proxy = Scenario { guest, routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    assert_eq!(text(&proxy.send(Request::post("/"), b"abc")), "[abc]");
    assert_eq!(text(&proxy.send(Request::post("/"), &[b'x'; 70_000])), "[whole]");
}

/// Returns a guest that returns `action` for request bodies until `$let_go` is set.
fn that_holds_bodies(action: u32) -> String {
    format!(
        r#"(global $held (mut i32) (i32.const 0))
        (global $let_go (mut i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
        (func (export "proxy_on_request_body") (param $context i32) (param i32 i32) (result i32)
          (if (global.get $let_go) (then (return (i32.const 0))))
          (global.set $held (local.get $context))
          (i32.const {action}))"#
    )
}

#[test]
fn a_body_above_the_buffer_limit_passes_if_its_sender_has_to_wait() {
    // The tenth tick after the first hold resumes the body: 200 ms, in which more than the buffer limit could arrive.
    let tick = r#"(global $ticks (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $set_tick_period (i32.const 20))) (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (if (i32.and (i32.ne (global.get $held) (i32.const 0)) (i32.eqz (global.get $let_go))) (then
            (global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))
            (if (i32.eq (global.get $ticks) (i32.const 10)) (then
              (global.set $let_go (i32.const 1))
              (drop (call $set_effective_context (global.get $held)))
              (drop (call $continue (i32.const 0))))))))"#;
    let guest = that_holds_bodies(2) + tick;
    let clusters = cluster("backend", http2_server(), "http2");
    let body: Vec<u8> = (0..3 << 20_u32).map(|n| (n % 251) as u8).collect();
    let proxy = Scenario { guest: &guest, routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    let answer = proxy.send(Request::post("/"), &body);
    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, body.len()));
    assert!(answer.body().as_ref() == body);
}

#[test]
fn a_body_above_the_buffer_limit_is_a_413_if_the_filter_buffers_it() {
    let guest = that_holds_bodies(1);
    // The server sends no response before it has the whole body.
    let clusters = cluster("backend", mirror_server(), "http1");
    let proxy = Scenario { guest: &guest, routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    assert_eq!(proxy.send(Request::post("/"), &[b'x'; 3 << 20]).status().as_u16(), 413);
}

#[test]
fn the_start_of_a_body_can_be_replaced_but_not_its_middle() {
    let guest = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          (call $note (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))
          (call $note (call $set_buffer (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 0) (i32.const 1)))
          (call $reply) (i32.const 1))"#;
    let clusters = cluster("backend", echo_server(), "tcp");
    let proxy = Scenario { guest, routes: to_cluster(""), clusters, ..Scenario::default() }.start();
    assert_eq!(text(&proxy.send(Request::post("/"), b"abc")), "02");
}

#[test]
fn a_response_body_is_rewritten_chunk_by_chunk() {
    let guest = r#"(data (i32.const 0) "content-length<>")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $remove_header (i32.const 2) (i32.const 0) (i32.const 14))) (i32.const 0))
        (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
          (drop (call $set_buffer (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 14) (i32.const 1)))
          (drop (call $set_buffer (i32.const 1) (i32.const 0x7fffffff) (i32.const 0) (i32.const 15) (i32.const 1)))
          (i32.const 0))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    assert_eq!(proxy.text("/"), "<hello>");
}

#[test]
fn a_local_reply_passes_the_filters_that_saw_the_request() {
    // The first filter marks responses; the second sends a local reply. The role is the first letter of the root id.
    let guest = r#"(data (i32.const 0) "plugin_root_idx-markseendetailsanswera\00b\00")
        (data (i32.const 64) "\01\00\00\00\01\00\00\00\01\00\00\00a\00b\00")
        (func $role (result i32)
          (drop (call $get_property (i32.const 0) (i32.const 14) (i32.const 0x700) (i32.const 0x704)))
          (i32.load8_u (i32.load (i32.const 0x700))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.eq (call $role) (i32.const 97))
            (then (drop (call $respond (i32.const 403) (i32.const 24) (i32.const 7) (i32.const 31) (i32.const 6)
                                       (i32.const 64) (i32.const 16) (i32.const -1)))
                  (return (i32.const 0))))
          (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $role))
          (drop (call $add_header (i32.const 2) (i32.const 14) (i32.const 6) (i32.load (i32.const 0x700)) (i32.const 1)))
          (i32.const 0))"#;
    let filters = [filter("marker", ""), filter("answerer", ""), filter("never", "")].join("\n");
    let proxy = Scenario { guest, filters, ..Scenario::default() }.start();
    let answer = proxy.get("/");
    assert_eq!((answer.status().as_u16(), text(&answer).as_str()), (403, "answer"));
    assert_eq!(header(&answer, "a"), Some("b"));
    let marks: Vec<&str> = answer.headers().get_all("x-mark").iter().filter_map(|value| value.to_str().ok()).collect();
    assert_eq!(marks, ["a", "m"]);
}

#[test]
fn a_filter_can_replace_a_response_with_a_local_reply() {
    let guest = r#"(data (i32.const 0) "instead")
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (drop (call $respond (i32.const 502) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 7)
                               (i32.const 0) (i32.const 0) (i32.const -1)))
          (i32.const 0))"#;
    let clusters = cluster("backend", mirror_server(), "http1");
    for routes in [Scenario::default().routes, to_cluster("")] {
        let proxy = Scenario { guest, routes, clusters: clusters.clone(), ..Scenario::default() }.start();
        let answer = proxy.get("/");
        assert_eq!((answer.status().as_u16(), text(&answer).as_str()), (502, "instead"));
    }
}

#[test]
fn a_local_reply_to_a_grpc_request_is_trailers_only() {
    let guest = r#"(data (i32.const 0) "too much")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $respond (i32.const 429) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)
                               (i32.const 0) (i32.const 0) (i32.const 8)))
          (i32.const 1))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    let answer = proxy.send(Request::post("/shop.Cart/Add").header("content-type", "application/grpc"), b"");
    assert_eq!((answer.status().as_u16(), header(&answer, "grpc-status")), (200, Some("8")));
    assert_eq!(header(&answer, "grpc-message"), Some("too much"));
    assert_eq!(header(&answer, "content-type"), Some("application/grpc"));
    let plain = proxy.get("/");
    assert_eq!((plain.status().as_u16(), header(&plain, "grpc-status")), (429, None));
}

#[test]
fn released_headers_cannot_be_read_or_changed() {
    let guest = r#"(data (i32.const 0) ":pathx")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
          (call $note (call $get_header (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 0x700) (i32.const 0x704)))
          (call $note (call $add_header (i32.const 0) (i32.const 5) (i32.const 1) (i32.const 5) (i32.const 1)))
          (drop (call $add_header (i32.const 2) (i32.const 5) (i32.const 1) (i32.const 0x800) (global.get $noted)))
          (i32.const 0))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    assert_eq!(header(&proxy.get("/here"), "x"), Some("22"));
}

#[test]
fn the_context_of_a_stream_is_logged_done_and_deleted_once() {
    let guest = r#"(data (i32.const 0) "logdonedeleteopened")
        (func (export "proxy_on_context_create") (param $context i32) (param $root i32)
          (if (local.get $root) (then (call $count (i32.const 13) (i32.const 6)))))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (i32.const 0))
        (func (export "proxy_on_log") (param i32) (call $count (i32.const 0) (i32.const 3)))
        (func (export "proxy_on_done") (param i32) (result i32) (call $count (i32.const 3) (i32.const 4)) (i32.const 1))
        (func (export "proxy_on_delete") (param i32) (call $count (i32.const 7) (i32.const 6)))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    for _ in 0..3 {
        proxy.get("/");
    }
    for name in ["log", "delete"] {
        proxy.metric_becomes(name, 3);
    }
    assert_eq!((proxy.metric("opened"), proxy.metric("done")), (3, 3));
}

#[test]
fn a_downstream_that_disconnects_ends_its_held_stream() {
    let guest = r#"(data (i32.const 0) "deletedheld")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $count (i32.const 7) (i32.const 4)) (i32.const 1))
        (func (export "proxy_on_delete") (param i32) (call $count (i32.const 0) (i32.const 7)))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    let mut client = std::net::TcpStream::connect(proxy.address()).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.metric_becomes("held", 1);
    assert_eq!(proxy.metric("deleted"), 0);
    drop(client);
    proxy.metric_becomes("deleted", 1);
}

#[test]
fn a_tick_resumes_a_held_request() {
    // The root context stores the id of the last request, and resumes that request at the next tick.
    let guest = r#"(global $waiting (mut i32) (i32.const 0))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $set_tick_period (i32.const 20))) (i32.const 1))
        (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
          (global.set $waiting (local.get $context)) (i32.const 1))
        (func (export "proxy_on_tick") (param i32)
          (if (global.get $waiting)
            (then (if (i32.eqz (call $set_effective_context (global.get $waiting)))
                    (then (drop (call $continue (i32.const 0)))))
                  (global.set $waiting (i32.const 0)))))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    assert_eq!(proxy.text("/"), "hello");
    assert_eq!(proxy.text("/"), "hello");
}

#[test]
fn a_filter_can_close_a_stream_without_a_response() {
    let guest = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $close (i32.const 0))) (i32.const 1))"#;
    let proxy = Scenario { guest, ..Scenario::default() }.start();
    assert!(support::try_send(proxy.address(), Request::get("/"), b"").is_err());
}

#[test]
fn two_workers_serve_one_address() {
    let proxy = Scenario { workers: 2, ..Scenario::default() }.start();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let address = proxy.address();
            std::thread::spawn(move || text(&support::send(address, Request::get("/"), b"")))
        })
        .collect();
    assert!(clients.into_iter().all(|client| client.join().is_ok_and(|body| body == "hello")));
}

#[test]
fn the_source_address_is_the_hop_before_the_trusted_proxies() {
    let guest = r#"(data (i32.const 0) "source\00address")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (drop (call $get_property (i32.const 0) (i32.const 14) (i32.const 0x700) (i32.const 0x704)))
          (call $note_given) (call $reply) (i32.const 1))"#;
    let seen = |manager: &str| {
        let proxy = Scenario { guest, manager, ..Scenario::default() }.start();
        text(&proxy.send(Request::get("/").header("x-forwarded-for", "7.7.7.7, 8.8.8.8"), b""))
    };
    assert!(seen("use_remote_address: true").starts_with("127.0.0.1:"));
    assert_eq!(seen("use_remote_address: true\nxff_num_trusted_hops: 1"), "8.8.8.8:0");
    assert_eq!(seen("xff_num_trusted_hops: 1"), "7.7.7.7:0");
    assert_eq!(seen("use_remote_address: false"), "8.8.8.8:0");
}
