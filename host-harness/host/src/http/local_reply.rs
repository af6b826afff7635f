//! Local replies, and their rendering as in Envoy.
//!
//! A text body gets `content-type` and `content-length`; a reply without a body has no `content-type`. A gRPC request gets a trailers-only 200 with `grpc-status` and
//! `grpc-message`, whatever the HTTP status of the reply.

use bytes::Bytes;

use super::{HeaderChange, Headers, apply};

/// Local reply of a filter or of the proxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct LocalReply {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Bytes,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) details: String,
    /// Changes of a route that answers itself, applied before the headers of the body are added.
    pub(crate) changes: Vec<HeaderChange>,
}

/// Returns the headers and the body of a reply to this request.
pub(crate) fn render(reply: LocalReply, request: &Headers) -> (Headers, Bytes) {
    let mut headers = Headers::new();
    let grpc = request.is_grpc();
    headers.add(":status", if grpc { "200".to_owned() } else { reply.status.to_string() });
    apply(&reply.changes, &mut headers);
    for (name, value) in reply.headers.iter().filter(|(name, _)| name.first() != Some(&b':')) {
        headers.add(name.clone(), value.clone());
    }
    headers.remove(b"content-length");
    if grpc {
        headers.set("content-type", "application/grpc");
        let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
        headers.set("grpc-status", status.to_string());
        if !reply.body.is_empty() {
            headers.set("grpc-message", percent_encoded(reply.body.trim_ascii_end()));
        }
        return (headers, Bytes::new());
    }
    if !reply.body.is_empty() {
        headers.add("content-length", reply.body.len().to_string());
        if headers.first(b"content-type").is_none() {
            headers.add("content-type", "text/plain");
        }
    } else {
        headers.remove(b"content-type");
    }
    let head = request.first(b":method").is_some_and(|method| method.as_ref() == b"HEAD");
    (headers, if head { Bytes::new() } else { reply.body })
}

/// Returns the gRPC status for an HTTP status without one ("HTTP to gRPC Status Code Mapping"; 429 is UNAVAILABLE, as in
/// Envoy).
pub(crate) fn grpc_status(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Encodes gRPC's `Status-Message`: `%` and all bytes other than printable ASCII as `%XX`.
fn percent_encoded(message: &[u8]) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message {
        match byte {
            b'%' | 0..=0x1f | 0x7f..=0xff => encoded.push_str(&format!("%{byte:02X}")),
            printable => encoded.push(char::from(*printable)),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> LocalReply {
        LocalReply { status: 429, body: Bytes::from_static(b"50% over\n"), ..LocalReply::default() }
    }

    #[test]
    fn a_plain_client_gets_the_status_and_a_text() {
        let (headers, body) = render(denied(), &Headers::new());
        assert_eq!((headers.text(":status"), headers.text("content-length")), (Some("429"), Some("9")));
        assert_eq!(headers.text("content-type"), Some("text/plain"));
        assert_eq!(body.as_ref(), b"50% over\n");
    }

    #[test]
    fn a_grpc_client_gets_trailers_only() {
        let request: Headers = [("content-type", "application/grpc+proto")].into_iter().collect();
        let (headers, body) = render(LocalReply { grpc_status: Some(8), ..denied() }, &request);
        assert_eq!((headers.text(":status"), headers.text("grpc-status")), (Some("200"), Some("8")));
        assert_eq!(headers.text("grpc-message"), Some("50%25 over"));
        assert!(body.is_empty() && headers.first(b"content-length").is_none());
        let (headers, _) = render(denied(), &request);
        assert_eq!(headers.text("grpc-status"), Some("14"));
    }

    #[test]
    fn a_filters_own_content_type_stays() {
        let reply = LocalReply { headers: [("Content-Type", "application/json")].into_iter().collect(), ..denied() };
        assert_eq!(render(reply.clone(), &Headers::new()).0.text("content-type"), Some("application/json"));
        let empty = LocalReply { body: Bytes::new(), ..reply };
        assert_eq!(render(empty, &Headers::new()).0.first(b"content-type"), None);
    }
}
