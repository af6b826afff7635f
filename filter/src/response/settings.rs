//! Settings of local replies and response headers.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::api::Format;
use super::client_protocol::ClientProtocol;
use super::grpc_status::GrpcStatus;
use super::status::ErrorStatus;
use super::template::Template;
use crate::limit::Verdict;

const DEFAULT_BODY: &str = "rate limited\n";

/// Settings of the whole filter and of its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responses {
    /// Settings of the filter.
    pub filter: ResponseConfig,
    /// Settings of each limit, in the order of the limits. `None` for the filter's.
    pub limits: Vec<Option<Box<ResponseConfig>>>,
    /// Status of the local reply when Redis does not decide and the failure mode is `deny`. Default 503.
    pub status_on_error: ErrorStatus,
    /// Whether paths of requests tell APIs.
    has_paths: bool,
}

impl Responses {
    /// Creates settings.
    #[must_use]
    pub fn new(filter: ResponseConfig, limits: Vec<Option<Box<ResponseConfig>>>, status_on_error: ErrorStatus) -> Self {
        let is_auto = |response: &ResponseConfig| response.format == Format::Auto;
        let has_paths = is_auto(&filter) || limits.iter().flatten().any(|own| is_auto(own));
        Self { filter, limits, status_on_error, has_paths }
    }

    /// Returns the protocol of a request with these headers, as proxy-wasm encodes pairs.
    #[must_use]
    #[inline]
    pub fn protocol(&self, headers: &[u8]) -> ClientProtocol {
        let protocol = ClientProtocol::of(headers);
        if self.has_paths { protocol.or_api(headers) } else { protocol }
    }

    /// Settings of the strictest limit, or else of the filter.
    pub(super) fn of(&self, verdict: &Verdict) -> &ResponseConfig {
        let own = verdict.strictest().and_then(|outcome| self.limits.get(outcome.limit));
        own.and_then(Option::as_deref).unwrap_or(&self.filter)
    }
}

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
    /// Form of local replies and of rate-limit headers for clients without RPC. Default `plain`.
    pub format: Format,
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
            format: Format::Plain,
        }
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
    /// No header.
    pub const NONE: Self = Self { x_ratelimit: false, ratelimit: false, retry_after: false };
}

impl Default for ResponseHeaders {
    fn default() -> Self {
        Self { x_ratelimit: true, retry_after: true, ..Self::NONE }
    }
}
