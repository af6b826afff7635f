//! Failures of a request to a cluster, and the router's answers to them.

use std::error::Error as _;
use std::io;

use bytes::Bytes;

use crate::bootstrap::Protocol;
use crate::http::{LocalReply, ResponseFlag};

/// Reason why a request has no response, or no complete one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The cluster has no endpoint.
    NoEndpoint,
    /// No connection to the endpoint; the text is the system's.
    Unreachable(String),
    /// No connection within the cluster's `connect_timeout`.
    ConnectTimeout,
    /// The endpoint closed or reset the connection.
    Terminated,
    /// The endpoint reset the HTTP/2 stream.
    Reset,
    /// The endpoint sent what is not HTTP, or less than it announced.
    NotHttp,
    /// An upstream filter reset the stream.
    Filter,
}

impl Failure {
    /// Failure to connect to an endpoint.
    pub(super) fn of_connecting(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut if error.raw_os_error().is_none() => Self::ConnectTimeout,
            io::ErrorKind::AddrNotAvailable if error.raw_os_error().is_none() => Self::NoEndpoint,
            _ => {
                let text = error.to_string();
                Self::Unreachable(text.split(" (os error").next().unwrap_or_default().to_owned())
            }
        }
    }

    /// Failure of a request that was sent and has no response.
    pub(super) fn of_exchange(error: &hyper::Error, protocol: Protocol) -> Self {
        if error.is_parse() { Self::NotHttp } else { Self::of_connection(error, protocol) }
    }

    /// Failure of a response within its body. An HTTP/1 body that is shorter than announced is no HTTP.
    pub(super) fn of_body(error: &hyper::Error, protocol: Protocol) -> Self {
        let is_short = std::iter::successors(error.source(), |source| (*source).source())
            .filter_map(|source| source.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::UnexpectedEof);
        let is_http1 = protocol == Protocol::Http1;
        if is_http1 && (is_short || error.is_incomplete_message() || error.is_parse()) {
            Self::NotHttp
        } else {
            Self::of_connection(error, protocol)
        }
    }

    fn of_connection(error: &hyper::Error, protocol: Protocol) -> Self {
        let is_reset = error
            .source()
            .and_then(|source| source.downcast_ref::<h2::Error>())
            .is_some_and(|error| error.is_reset() && error.is_remote());
        if protocol == Protocol::Http2 && is_reset { Self::Reset } else { Self::Terminated }
    }

    /// Flag of the access log.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::NoEndpoint => ResponseFlag::NoHealthyUpstream,
            Self::Unreachable(_) | Self::ConnectTimeout => ResponseFlag::UpstreamConnectionFailure,
            Self::Terminated | Self::Filter => ResponseFlag::UpstreamConnectionTermination,
            Self::Reset => ResponseFlag::UpstreamRemoteReset,
            Self::NotHttp => ResponseFlag::UpstreamProtocolError,
        }
    }

    /// Envoy's reason of the reset.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoEndpoint => "no healthy upstream",
            Self::Unreachable(_) => "remote connection failure",
            Self::ConnectTimeout => "connection timeout",
            Self::Terminated | Self::Filter => "connection termination",
            Self::Reset => "remote reset",
            Self::NotHttp => "protocol error",
        }
    }

    /// Value of `%RESPONSE_CODE_DETAILS%`.
    pub(crate) fn details(&self, has_begun: bool) -> String {
        if *self == Self::NoEndpoint {
            return "no_healthy_upstream".to_owned();
        }
        let transport = match self {
            Self::Unreachable(text) => format!("|delayed_connect_error: {text}"),
            _ => String::new(),
        };
        let when = if has_begun { "after" } else { "before" };
        format!("upstream_reset_{when}_response_started{{{}{transport}}}", self.reason()).replace(' ', "_")
    }

    /// Local reply of the router.
    pub(crate) fn reply(&self) -> LocalReply {
        let body = match self {
            Self::NoEndpoint => self.reason().to_owned(),
            _ => {
                let reason = self.reason();
                format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
            }
        };
        let status = if *self == Self::NotHttp { 502 } else { 503 };
        LocalReply { status, body: Bytes::from(body), details: self.details(false), ..LocalReply::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_name_the_reason_and_the_systems_error() {
        let refused = Failure::of_connecting(&io::Error::from_raw_os_error(111));
        let details = "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}";
        assert_eq!(refused.details(false), details);
        assert_eq!(Failure::NotHttp.details(true), "upstream_reset_after_response_started{protocol_error}");
        assert_eq!(Failure::of_connecting(&io::ErrorKind::TimedOut.into()), Failure::ConnectTimeout);
    }
}
