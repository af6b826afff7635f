//! Requests of HTTP/2 that hyper accepts and Envoy does not: their streams are reset.

use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;

use super::request_head::{MAX_HEAD, MAX_HEADERS};

/// Pseudo-headers of a request, which count as headers.
const PSEUDO_HEADERS: usize = 4;

/// Limit of a head for hyper, which counts 32 bytes more for each header, and answers what is longer with 431.
pub(super) const HYPERS_LIMIT: u32 = 2 * MAX_HEAD as u32;

/// Whether Envoy resets the stream of a request.
pub(super) fn is_reset(parts: &Parts) -> bool {
    let has_host = parts.uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        || parts.headers.contains_key(hyper::header::HOST);
    let is_star = parts.uri.path() == "*" && parts.method != hyper::Method::OPTIONS;
    let length = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    !has_host
        || is_star
        || parts.headers.len() + PSEUDO_HEADERS > MAX_HEADERS
        || length + path > MAX_HEAD
        || parts.headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
}
