//! A request and its response, at the filter.

use std::collections::BTreeMap;
use std::rc::Rc;

use weir_filter::units::Micros;

/// Names and values of headers in their order. Names are in lower case; pseudo-headers begin with a colon.
pub type Headers = Vec<(String, Vec<u8>)>;

/// Reads a property of a request by its path; `None` where it is missing.
pub type Properties = Rc<dyn Fn(&[&str]) -> Option<Vec<u8>>>;

/// Request as the filters before Weir leave it, and the response of the upstream.
#[derive(Clone)]
pub struct Exchange {
    /// Headers, pseudo-headers included.
    pub headers: Headers,
    /// Body; `None` where the headers end the request.
    pub body: Option<Vec<u8>>,
    /// Properties: of the request, its addresses, its route, and its metadata.
    pub properties: Properties,
    /// Response of the upstream, if the filter lets the request pass.
    pub upstream: Upstream,
}

/// Response of an upstream.
#[derive(Debug, Clone, Default)]
pub struct Upstream {
    /// HTTP status.
    pub status: u16,
    /// Headers without `:status`.
    pub headers: Headers,
    /// Body, or its first piece.
    pub body: Vec<u8>,
    /// Further pieces of the body, each with the time since the piece before.
    pub later: Vec<(Micros, Vec<u8>)>,
    /// Time from the request's passage to the response. The request is in flight for so long.
    pub takes: Micros,
    /// End of the response.
    pub end: End,
}

/// End of an upstream's response. A local reply ends whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The whole response arrives.
    #[default]
    Whole,
    /// Client or upstream leave behind the body's last piece, before the end of the stream.
    InBody,
    /// The client leaves when the response would begin.
    BeforeHeaders,
}

/// End of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status. Of a gRPC request that the filter answers, too: the proxy would turn it into a gRPC status. 0 where the
    /// client left before it.
    pub status: u16,
    /// Response headers without `:status`, as the filter leaves them.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
    /// gRPC status that the filter gives, if any.
    pub grpc_status: Option<u32>,
    /// Details of a local reply, for the access log.
    pub details: String,
    /// Whether the filter answered the request itself.
    pub is_local: bool,
    /// Request headers as they reached the upstream, or as they were when the filter answered.
    pub request_headers: Headers,
    /// Properties that the filter has set, by name.
    pub filter_state: BTreeMap<String, String>,
    /// Time at which the request arrived.
    pub began: Micros,
    /// Time at which the filter passed the request on or answered it.
    pub decided: Micros,
    /// Time at which the response had been sent.
    pub ended: Micros,
}

impl Answer {
    /// First value of a header, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// First value of a request header, if it is UTF-8.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&str> {
        text(&self.request_headers, name)
    }
}

fn text<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let value = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    std::str::from_utf8(value?).ok()
}

/// Sets the only value of a header.
pub(crate) fn set(headers: &mut Headers, name: &str, value: &[u8]) {
    remove(headers, name);
    headers.push((name.to_ascii_lowercase(), value.to_vec()));
}

/// Removes all values of a header.
pub(crate) fn remove(headers: &mut Headers, name: &str) {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
}
