//! The section `response`: what a request is answered.

use std::num::NonZeroU16;

use super::reader::{Node, refuse_duplicates};

const FIELDS: &[&str] = &["status", "body", "headers"];
const DEFAULT_BODY: &str = "rate limited\n";
const MAX_BODY: usize = 4_096;
const HEADERS: &[(&str, Header)] =
    &[("x-ratelimit", Header::XRateLimit), ("ratelimit", Header::RateLimit), ("retry-after", Header::RetryAfter)];

/// What a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseConfig {
    /// The status of a denial. Default 429.
    pub status: ErrorStatus,
    /// The body of a denial, up to 4,096 bytes. Default `rate limited` and a line's end.
    pub body: String,
    /// The headers of denials and of admitted requests' responses.
    pub headers: ResponseHeaders,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        Self {
            status: ErrorStatus::TOO_MANY_REQUESTS,
            body: DEFAULT_BODY.to_owned(),
            headers: ResponseHeaders::default(),
        }
    }
}

/// An HTTP status that says no: 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorStatus(NonZeroU16);

impl ErrorStatus {
    /// 429.
    pub const TOO_MANY_REQUESTS: Self = Self(NonZeroU16::MIN.saturating_add(428));
    /// 503.
    pub const SERVICE_UNAVAILABLE: Self = Self(NonZeroU16::MIN.saturating_add(502));

    /// The status as a number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0.get()
    }
}

/// Which headers tell a client of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeaders {
    /// The legacy triple `x-ratelimit-limit`, `-remaining` and `-reset`. Default.
    pub x_ratelimit: bool,
    /// The IETF draft's `ratelimit-policy` and `ratelimit`. Off by default.
    pub ratelimit: bool,
    /// `retry-after` (RFC 9110, §10.2.3). Default.
    pub retry_after: bool,
}

impl ResponseHeaders {
    const NONE: Self = Self { x_ratelimit: false, ratelimit: false, retry_after: false };
}

impl Default for ResponseHeaders {
    fn default() -> Self {
        Self { x_ratelimit: true, retry_after: true, ..Self::NONE }
    }
}

pub(super) fn read(node: &Node<'_>) -> Option<ResponseConfig> {
    let fields = node.object(FIELDS)?;
    let status = fields.or("status", ErrorStatus::TOO_MANY_REQUESTS, status);
    let body = fields.or("body", DEFAULT_BODY, |node| node.text(0..=MAX_BODY));
    let headers = fields.or("headers", ResponseHeaders::default(), headers);
    Some(ResponseConfig { status: status?, body: body?.to_owned(), headers: headers? })
}

/// A status from 400 to 599.
pub(super) fn status(node: &Node<'_>) -> Option<ErrorStatus> {
    let status = u16::try_from(node.integer(400..=599)?).ok()?;
    NonZeroU16::new(status).map(ErrorStatus)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    XRateLimit,
    RateLimit,
    RetryAfter,
}

fn headers(node: &Node<'_>) -> Option<ResponseHeaders> {
    let nodes = node.list(0..=16)?;
    let named: Vec<Option<Header>> = nodes.iter().map(|node| node.one_of(HEADERS, &[])).collect();
    let keys: Vec<(Header, &Node<'_>)> =
        named.iter().zip(&nodes).filter_map(|(header, node)| Some(((*header)?, node))).collect();
    refuse_duplicates(&keys)?;
    named.into_iter().try_fold(ResponseHeaders::NONE, |headers, header| {
        Some(match header? {
            Header::XRateLimit => ResponseHeaders { x_ratelimit: true, ..headers },
            Header::RateLimit => ResponseHeaders { ratelimit: true, ..headers },
            Header::RetryAfter => ResponseHeaders { retry_after: true, ..headers },
        })
    })
}
