//! Request bodies that are known from the request's headers.

use super::attributes::Attributes;
use super::body::RequestBody;

impl RequestBody {
    /// Returns the body of a request whose headers do not end the stream, if the headers determine it: an upgrade or a
    /// `CONNECT` has no body, and a body that is encoded or of another type than JSON is unreadable. `None` if the body
    /// is to be read; a body without a content type may be JSON.
    #[must_use]
    pub fn foreseen(request: &dyn Attributes) -> Option<Self> {
        let method = request.header(":method");
        let is_upgrade = request.header("upgrade").is_some();
        // A server that does not support the upgrade reads the body of a POST as usual.
        if method.as_deref() == Some(b"CONNECT") || (is_upgrade && method.as_deref() == Some(b"GET")) {
            return Some(Self::None);
        }
        let is_plain = request.header("content-encoding").is_none_or(|encoding| is_identity(&encoding));
        let is_json = request.header("content-type").is_none_or(|content_type| is_json(&content_type));
        (is_upgrade || !is_plain || !is_json).then_some(Self::Unreadable)
    }
}

fn is_identity(encoding: &[u8]) -> bool {
    let encoding = encoding.trim_ascii();
    encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity")
}

/// Whether a content type is `application/json`, another subtype `json`, or a subtype that ends in `+json`, with any
/// parameters.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ends_in = |suffix: &[u8]| {
        let start = essence.len().checked_sub(suffix.len());
        start.and_then(|start| essence.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
    };
    essence.is_empty() || ends_in(b"/json") || ends_in(b"+json")
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Request;
    use super::*;

    fn of(headers: &[(&str, &str)]) -> &'static str {
        let request = headers.iter().fold(Request::default(), |request, (name, value)| request.header(name, value));
        match RequestBody::foreseen(&request) {
            None => "awaited",
            Some(RequestBody::None) => "none",
            Some(RequestBody::Unreadable) => "unreadable",
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_that_may_be_json_is_awaited() {
        let post = (":method", "POST");
        assert_eq!(of(&[post]), "awaited");
        for json in
            ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json", "text/json", "", " ;q"]
        {
            assert_eq!(of(&[post, ("content-type", json)]), "awaited", "{json}");
        }
        for other in [
            "application/grpc",
            "application/grpc+json-ish",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=json",
            "text/plain",
            "image/png",
            "application/jsonp",
            "json",
        ] {
            assert_eq!(of(&[post, ("content-type", other)]), "unreadable", "{other}");
        }
    }

    #[test]
    fn an_encoded_body_is_unreadable() {
        for encoding in ["gzip", "br", "identity, gzip", "gzip, identity", "deflate", "x"] {
            assert_eq!(of(&[("content-encoding", encoding)]), "unreadable", "{encoding}");
        }
        for encoding in ["identity", " Identity ", ""] {
            assert_eq!(of(&[("content-encoding", encoding)]), "awaited", "{encoding}");
        }
    }

    #[test]
    fn an_upgrade_has_no_body_unless_its_method_has_one() {
        assert_eq!(of(&[(":method", "GET"), ("upgrade", "websocket")]), "none");
        assert_eq!(of(&[(":method", "CONNECT")]), "none");
        assert_eq!(of(&[(":method", "CONNECT"), (":protocol", "websocket")]), "none");
        assert_eq!(of(&[(":method", "POST"), ("upgrade", "websocket")]), "unreadable");
    }
}
