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
    /// The bytes are no HTTP/1 request.
    BadRequest,
    /// The method of an HTTP/1 request is unknown.
    UnknownMethod,
    /// The target of an HTTP/1 request is neither a path nor a URL.
    BadTarget,
    /// The host of an HTTP/1 request has a character that no host has.
    BadAuthority,
    /// An HTTP/1 request has a length and a transfer encoding.
    LengthAndEncoding,
    /// `connection` names a header that says where the request is from, or too many headers.
    BadConnection,
    /// The transfer encoding is another than `chunked`.
    UnknownEncoding,
    /// The request line and the headers are too long.
    HeadTooLarge,
    /// There are too many headers.
    TooManyHeaders,
    /// The path has a fragment.
    Fragment,
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
    pub(super) fn knows(method: &[u8]) -> bool {
        METHODS.iter().any(|known| known.as_bytes() == method)
    }

    /// Returns the local reply, after its flag has been noted.
    pub(crate) fn reply(self, stream: &Stream) -> LocalReply {
        let of = |status, body: &'static str, details: &str| LocalReply {
            status,
            body: body.into(),
            details: details.to_owned(),
            ..LocalReply::default()
        };
        let of_parser = |status, body, details| {
            stream.info.add_flag(ResponseFlag::DownstreamProtocolError);
            of(status, body, details)
        };
        match self {
            Self::BadRequest | Self::UnknownMethod => of_parser(400, "Bad Request", "http1.codec_error"),
            Self::BadTarget => of_parser(400, "Bad Request", "http1.invalid_url"),
            Self::BadAuthority => of_parser(400, "Bad Request", "http.invalid_authority"),
            Self::BadConnection => of_parser(400, "Bad Request", "http1.connection_header_rejected"),
            Self::LengthAndEncoding => of_parser(400, "Bad Request", "http1.content_length_and_chunked_not_allowed"),
            Self::UnknownEncoding => of_parser(501, "Not Implemented", "http1.invalid_transfer_encoding"),
            Self::HeadTooLarge => of_parser(431, "Request Header Fields Too Large", "http1.headers_too_large"),
            Self::TooManyHeaders => of_parser(431, "Request Header Fields Too Large", "http1.too_many_headers"),
            Self::LowVersion => of_parser(426, "Upgrade Required", "low_version"),
            Self::Fragment => of(400, "", "path_normalization_failed"),
            Self::NoHost => of(400, "", "missing_host_header"),
            Self::InvalidPath => of(400, "", "path_normalization_failed"),
            Self::Redirect(location) => {
                let headers = [("location", location)].into_iter().collect();
                LocalReply { headers, ..of(307, "", "path_normalization_failed") }
            }
        }
    }
}
