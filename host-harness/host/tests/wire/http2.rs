//! Requests of HTTP/2 that Envoy refuses: the harness refuses them as well.

use hyper::Request;

use super::start;
use super::support::{Kind, envoys, send_http2};

/// Returns the outcome of a request with `count` more headers, of which the first has a value of `length` bytes.
fn outcome(address: std::net::SocketAddr, count: usize, length: usize) -> String {
    let mut request = Request::get("http://a.test/");
    for place in 0..count {
        request = request.header("x-a", if place == 0 { "v".repeat(length) } else { "v".to_owned() });
    }
    send_http2(address, request, b"", &[]).map_or_else(str::to_owned, |answer| answer.status.to_string())
}

#[test]
fn too_many_or_too_long_headers_reset_the_stream_on_all_hosts() {
    for (host, kind) in [("the harness", Kind::Embedded)].into_iter().chain(envoys()) {
        let proxy = start(&kind);
        let address = proxy.address();
        let outcomes =
            [(96, 1), (97, 1), (1, 59 * 1024), (1, 62 * 1024)].map(|(count, length)| outcome(address, count, length));
        assert_eq!(outcomes, ["200", "reset", "200", "reset"], "{host}");
    }
}
