//! Framing of a request's body and lifetime of its connection, as an HTTP/1 client declares them.

use std::error::Error as _;
use std::io;

use hyper::HeaderMap;
use hyper::header::CONNECTION;

/// Whether the body of a request of HTTP/1 is malformed, rather than cut off.
pub(super) fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// Whether a client of HTTP/1 wants its connection to end with the response.
pub(super) fn asks_to_close(headers: &HeaderMap) -> bool {
    [CONNECTION.as_str(), "proxy-connection"].into_iter().any(|name| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
    })
}
