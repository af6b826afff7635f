//! Slow peers: the harness and the Envoys keep a bounded part of a body for them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use super::connect;
use super::support::{Kind, Proxy, Scenario, cluster, envoys, filter, tcp_server};

/// Length of a body: more than the buffers of a host and of the system.
const LONG: usize = 256 * 1024 * 1024;

/// Writes a long body until its peer takes no more; returns whether that was before its end.
fn is_held_up(stream: &mut TcpStream) -> bool {
    stream.set_write_timeout(Some(Duration::from_secs(3))).expect("a socket");
    let part = vec![b'x'; 1 << 20];
    for _ in 0..LONG / part.len() {
        match stream.write_all(&part) {
            Ok(()) => {}
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
    false
}

fn start(kind: &Kind, guest: &str, upstream: std::net::SocketAddr) -> Proxy {
    let filters = if guest.is_empty() { String::new() } else { filter("guest", "") };
    let routes = r#"- {match: {prefix: "/"}, route: {cluster: up, timeout: 0s}}"#.to_owned();
    let scenario =
        Scenario { guest, filters, routes, clusters: cluster("up", upstream, "http1"), ..Scenario::default() };
    scenario.start_on(kind).unwrap_or_else(|error| panic!("{error:?}"))
}

#[test]
fn an_upstream_waits_while_a_filter_holds_its_response_or_the_client_does_not_read() {
    let headers = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 1))"#;
    for guest in ["", headers] {
        for kind in [Kind::Embedded].into_iter().chain(envoys().into_iter().map(|(_, kind)| kind)) {
            let (told, heard) = mpsc::channel();
            let upstream = tcp_server(move |mut stream| {
                let _ = stream.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes());
                let _ = told.send(is_held_up(&mut stream));
            });
            let proxy = start(&kind, guest, upstream);
            let mut client = connect(&proxy);
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("the request");
            assert_eq!(heard.recv_timeout(Duration::from_secs(100)), Ok(true), "{kind:?}: {guest}");
        }
    }
}

#[test]
fn a_client_waits_while_its_upstream_does_not_read() {
    for kind in [Kind::Embedded].into_iter().chain(envoys().into_iter().map(|(_, kind)| kind)) {
        let (closing, closed) = mpsc::channel::<()>();
        let closed = std::sync::Arc::new(std::sync::Mutex::new(closed));
        let upstream = tcp_server(move |stream| {
            let _ = closed.lock().expect("no panic").recv();
            drop(stream);
        });
        let proxy = start(&kind, "", upstream);
        let mut client = connect(&proxy);
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LONG}\r\n\r\n");
        client.write_all(head.as_bytes()).expect("the head");
        assert!(is_held_up(&mut client), "{kind:?}");
        drop(closing);
    }
}
