//! Section `response`: the local reply to denied requests, and response headers.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use super::error::Expected;
use super::reader::{Node, refuse_duplicates};
use crate::respond::{GrpcStatus, Template};

const FIELDS: &[&str] = &["status", "body", "content_type", "headers", "grpc_status", "grpc_message"];
const DEFAULT_BODY: &str = "rate limited\n";
const TEMPLATE: &str = "a text with no other placeholders than {limit}, {retry_after} and {remaining}";
const GRPC_STATUS: &str = "a gRPC status such as RESOURCE_EXHAUSTED, or its number from 1 to 16";
const MAX_GRPC_MESSAGE: usize = 256;
const MAX_BODY: usize = 4_096;
const HEADERS: &[(&str, Header)] =
    &[("x-ratelimit", Header::XRateLimit), ("ratelimit", Header::RateLimit), ("retry-after", Header::RetryAfter)];

/// Local reply to denied requests, and response headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseConfig {
    /// Status of a denial. Default 429.
    pub status: ErrorStatus,
    /// Body of a denial, of up to 4,096 bytes. Default `rate limited` and a newline.
    pub body: Template,
    /// Media type of the body: up to 128 printable characters. The proxy's own default is `text/plain`.
    pub content_type: Option<String>,
    /// Headers of denials and of responses to admitted requests.
    pub headers: ResponseHeaders,
    /// Status of a denial of gRPC requests. Default `RESOURCE_EXHAUSTED`.
    pub grpc_status: GrpcStatus,
    /// Message of a denial of gRPC requests: a line of up to 256 bytes. By default the body.
    pub grpc_message: Option<Template>,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        Self {
            status: ErrorStatus::TOO_MANY_REQUESTS,
            body: Template::literal(DEFAULT_BODY),
            content_type: None,
            headers: ResponseHeaders::default(),
            grpc_status: GrpcStatus::RESOURCE_EXHAUSTED,
            grpc_message: None,
        }
    }
}

/// HTTP status of a denial or an error: 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorStatus(NonZeroU16);

impl ErrorStatus {
    /// 400.
    pub const BAD_REQUEST: Self = Self(NonZeroU16::MIN.saturating_add(399));
    /// 411.
    pub const LENGTH_REQUIRED: Self = Self(NonZeroU16::MIN.saturating_add(410));
    /// 431.
    pub const HEADERS_TOO_LARGE: Self = Self(NonZeroU16::MIN.saturating_add(430));
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

/// Response headers that inform a client of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeaders {
    /// The legacy triple `x-ratelimit-limit`, `-remaining` and `-reset`. On by default.
    pub x_ratelimit: bool,
    /// The IETF draft's `ratelimit-policy` and `ratelimit`. Off by default.
    pub ratelimit: bool,
    /// `retry-after` (RFC 9110, §10.2.3). On by default.
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

/// Reads the section. Absent fields are as in `base`.
pub(super) fn read(node: &Node<'_>, base: &ResponseConfig) -> Option<ResponseConfig> {
    let fields = node.object(FIELDS)?;
    let status = fields.or("status", base.status, status);
    let body = fields.optional("body", |node| node.text(0..=MAX_BODY).and_then(|text| template(node, text)));
    let content_type = fields.optional("content_type", |node| {
        node.text_matching("a media type such as \"application/json\"", |text| {
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        })
    });
    let headers = fields.or("headers", base.headers, headers);
    let grpc_status = fields.or("grpc_status", base.grpc_status, grpc_status);
    let grpc_message = fields.optional("grpc_message", |node| {
        let text = node.text_matching("a line of 1 to 256 bytes", |text| {
            (1..=MAX_GRPC_MESSAGE).contains(&text.len()) && !text.chars().any(char::is_control)
        });
        text.and_then(|text| template(node, text))
    });
    Some(ResponseConfig {
        status: status?,
        body: body?.unwrap_or_else(|| base.body.clone()),
        content_type: content_type?.map(str::to_owned).or_else(|| base.content_type.clone()),
        headers: headers?,
        grpc_status: grpc_status?,
        grpc_message: grpc_message?.or_else(|| base.grpc_message.clone()),
    })
}

fn template(node: &Node<'_>, text: &str) -> Option<Template> {
    Template::parse(text).or_else(|| node.unexpected(Expected::The(TEMPLATE)))
}

/// Reads a gRPC status: a name or a number.
fn grpc_status(node: &Node<'_>) -> Option<GrpcStatus> {
    if node.is_text() {
        return node.parsed(GRPC_STATUS, 64, GrpcStatus::from_name);
    }
    node.integer(1..=16).and_then(GrpcStatus::from_code)
}

/// Reads a status from 400 to 599.
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
