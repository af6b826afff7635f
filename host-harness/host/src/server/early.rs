//! Answers of the connection manager before the first filter.

use crate::http::{LocalReply, ResponseFlag, Stream};

/// HTTP/1 methods that Envoy's parser knows; it answers any other with 400.
const METHODS: &[&str] = &[
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Reason of an answer that no filter sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EarlyAnswer {
    /// The method of an HTTP/1 request is unknown.
    UnknownMethod,
    /// The request is of HTTP/1.0.
    LowVersion,
    /// The request has no host.
    NoHost,
    /// Path normalization refuses the path.
    InvalidPath,
    /// Path normalization redirects to this path.
    Redirect(String),
}

impl EarlyAnswer {
    pub(super) fn knows(method: &hyper::Method) -> bool {
        METHODS.contains(&method.as_str())
    }

    /// Returns the local reply, after its flag has been noted.
    pub(crate) fn reply(self, stream: &Stream) -> LocalReply {
        let of = |status, body: &'static str, details: &str| LocalReply {
            status,
            body: body.into(),
            details: details.to_owned(),
            ..LocalReply::default()
        };
        match self {
            Self::UnknownMethod => {
                stream.info.add_flag(ResponseFlag::DownstreamProtocolError);
                of(400, "Bad Request", "http1.codec_error")
            }
            Self::LowVersion => {
                stream.info.add_flag(ResponseFlag::DownstreamProtocolError);
                of(426, "Upgrade Required", "low_version")
            }
            Self::NoHost => of(400, "", "missing_host_header"),
            Self::InvalidPath => of(400, "", "path_normalization_failed"),
            Self::Redirect(location) => {
                let headers = [("location", location)].into_iter().collect();
                LocalReply { headers, ..of(307, "", "path_normalization_failed") }
            }
        }
    }
}
