//! Local reply: a response sent by the filter, in the form of the client's protocol.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::api::ApiError;
use super::client_protocol::ClientProtocol;
use super::grpc_status::GrpcStatus;
use super::headers::Header;
use super::status::ErrorStatus;
use crate::descriptor::push_hex;
use crate::pairs;

/// Header and trailer with the time after which a client may retry (gRFC A6).
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Flags of the last message of a gRPC-Web response, its trailers.
const TRAILERS: u8 = 0x80;
/// Flags of the last message of a Connect stream, an `EndStreamResponse`.
const END_STREAM: u8 = 0x02;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Response sent by the filter in place of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// Status of the reply to an HTTP client.
    pub status: ErrorStatus,
    /// Body; for gRPC requests, the status message.
    pub body: Cow<'static, [u8]>,
    /// gRPC status, for gRPC requests.
    pub grpc_status: Option<u32>,
    /// Reason for the reply: `%RESPONSE_CODE_DETAILS%` in Envoy's access log. Contains no white space, which Envoy
    /// would replace.
    pub details: Cow<'static, str>,
    headers: Vec<u8>,
    protocol: ClientProtocol,
}

impl LocalReply {
    /// Creates a reply with this message. Clients of RPC get `error` beside it, the others `status`; those of an API the
    /// message in an error of this API.
    #[inline(never)]
    pub(super) fn new(
        protocol: ClientProtocol,
        api: Option<&ApiError>,
        (status, error): (ErrorStatus, GrpcStatus),
        mut headers: Vec<Header>,
        message: Cow<'static, str>,
    ) -> Self {
        // The message of a status is one line.
        let line = || message.trim_ascii_end();
        let mut grpc_status = None;
        headers.extend(protocol.content_type().map(|content_type| ("content-type", content_type.to_owned())));
        let body = match protocol {
            ClientProtocol::Http | ClientProtocol::Api(_) => match (api, message) {
                (Some(api), message) => api.body(status, error, message.trim_ascii_end(), &mut headers).into(),
                (None, Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
                (None, Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            },
            ClientProtocol::Grpc => {
                grpc_status = Some(error.code());
                line().as_bytes().to_vec().into()
            }
            ClientProtocol::GrpcWeb(rpc_type) => {
                let trailers = framed(TRAILERS, &trailers(error, line(), &headers));
                if rpc_type.is_text() { base64(&trailers).into() } else { trailers.into() }
            }
            ClientProtocol::ConnectUnary => connect_error(error, line()).into(),
            ClientProtocol::ConnectStream(_) => {
                let json = [b"{\"error\":", &*connect_error(error, line()), b"}"].concat();
                framed(END_STREAM, &json).into()
            }
        };
        let headers = pairs::encode(headers.iter().map(|(name, value)| (*name, value.as_str())));
        Self { status, body, grpc_status, details: Cow::Borrowed(""), headers, protocol }
    }

    /// Sets the details.
    pub(super) fn with_details(self, details: impl Into<Cow<'static, str>>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// HTTP status of the reply: 200 if the error is elsewhere.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.protocol {
            ClientProtocol::Http | ClientProtocol::Api(_) | ClientProtocol::ConnectUnary => self.status.code(),
            ClientProtocol::Grpc | ClientProtocol::GrpcWeb(_) | ClientProtocol::ConnectStream(_) => 200,
        }
    }

    /// Protocol of the clients that the reply is for.
    #[must_use]
    pub fn protocol(&self) -> ClientProtocol {
        self.protocol
    }

    /// Names and values of the headers to add.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
        pairs::decode(&self.headers).map(move |(name, value)| (text(name), text(value)))
    }

    /// Headers to add, as proxy-wasm encodes pairs.
    #[must_use]
    pub fn encoded_headers(&self) -> &[u8] {
        &self.headers
    }
}

/// Error of a Connect response, as JSON.
fn connect_error(error: GrpcStatus, message: &str) -> Vec<u8> {
    let mut json = ["{\"code\":\"", &error.connect_code(), "\",\"message\":\""].concat().into_bytes();
    push_json(&mut json, message);
    json.extend_from_slice(b"\"}");
    json
}

/// Appends the content of a JSON string.
pub(super) fn push_json(json: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => json.extend([b'\\', byte]),
            0..=0x1f => {
                json.extend_from_slice(b"\\u00");
                push_hex(json, byte);
            }
            _ => json.push(byte),
        }
    }
}

/// Trailers of a gRPC-Web response, with the pushback of its headers.
///
/// They are in the body: a reply without a body would have no content type in Envoy, which some clients insist on.
fn trailers(error: GrpcStatus, message: &str, headers: &[Header]) -> Vec<u8> {
    let pushback = headers.iter().find(|(name, _)| *name == PUSHBACK);
    let status = [("grpc-status", error.code().to_string()), ("grpc-message", percent_encoded(message))];
    let mut trailers = Vec::new();
    for (name, value) in status.iter().chain(pushback) {
        for part in [name, ":", value, "\r\n"] {
            trailers.extend_from_slice(part.as_bytes());
        }
    }
    trailers
}

/// Message of a stream: flags, length, and payload.
fn framed(flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[flags][..], &len.to_be_bytes(), payload].concat()
}

/// Encodes bytes as Base64 with padding (RFC 4648).
pub(crate) fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = BASE64.get((bits >> shift & 0x3f) as usize).copied();
            text.extend(if at > chunk.len() { Some(b'=') } else { digit });
        }
    }
    text
}

/// Encodes gRPC's `Status-Message`: `%` and all bytes other than printable ASCII as `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = Vec::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(byte);
        } else {
            encoded.push(b'%');
            push_hex(&mut encoded, byte);
        }
    }
    String::from_utf8(encoded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::client_protocol::RpcType;
    use super::*;

    fn reply(protocol: ClientProtocol, message: &str) -> LocalReply {
        let headers = vec![("retry-after", "7".to_owned())];
        let status = ErrorStatus::TOO_MANY_REQUESTS;
        let error = (status, GrpcStatus::RESOURCE_EXHAUSTED);
        LocalReply::new(protocol, None, error, headers, message.to_owned().into())
    }

    fn lines(reply: &LocalReply) -> Vec<String> {
        reply.headers().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn a_grpc_web_client_gets_trailers_in_the_body() {
        let trailers = "grpc-status:8\r\ngrpc-message:50%25 of \"%C3%A9\"%0Aare used\r\n";
        assert_eq!(trailers.len(), 58);
        let body = [b"\x80\0\0\0\x3a", trailers.as_bytes()].concat();
        let text = b"gAAAADpncnBjLXN0YXR1czo4DQpncnBjLW1lc3NhZ2U6NTAlMjUgb2YgIiVDMyVBOSIlMEFhcmUgdXNlZA0K".to_vec();
        for (rpc_type, content_type, body) in [
            (RpcType::WebJson, "application/grpc-web+json", body),
            (RpcType::WebText, "application/grpc-web-text", text),
        ] {
            let reply = reply(ClientProtocol::GrpcWeb(rpc_type), "50% of \"é\"\nare used\n");
            assert_eq!((reply.http_status(), &*reply.body, reply.grpc_status), (200, &*body, None));
            assert_eq!(lines(&reply), ["retry-after: 7".to_owned(), format!("content-type: {content_type}")]);
        }
    }

    /// The encodings are those of RFC 4648.
    #[test]
    fn base64_is_padded() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded.as_bytes());
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), b"+//+");
    }

    #[test]
    fn a_unary_connect_client_gets_the_status_and_json() {
        let reply = reply(ClientProtocol::ConnectUnary, "a \"b\" \\ é\u{1}\n");
        assert_eq!((reply.http_status(), reply.grpc_status), (429, None));
        let json = r#"{"code":"resource_exhausted","message":"a \"b\" \\ é\u0001"}"#;
        assert_eq!(String::from_utf8_lossy(&reply.body), json);
        assert_eq!(lines(&reply), ["retry-after: 7", "content-type: application/json"]);
    }

    #[test]
    fn a_streaming_connect_client_gets_the_end_of_the_stream() {
        let message = "x".repeat(300);
        let reply = reply(ClientProtocol::ConnectStream(RpcType::StreamProto), &message);
        let json = format!(r#"{{"error":{{"code":"resource_exhausted","message":"{message}"}}}}"#);
        assert_eq!(json.len(), 0x0160);
        assert_eq!(*reply.body, [&[2, 0, 0, 1, 0x60], json.as_bytes()].concat());
        assert_eq!((reply.http_status(), reply.grpc_status), (200, None));
        assert_eq!(lines(&reply), ["retry-after: 7", "content-type: application/connect+proto"]);
    }

    proptest! {
        #[test]
        fn any_message_is_valid_json(message: String) {
            let reply = reply(ClientProtocol::ConnectUnary, &message);
            let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            prop_assert_eq!(json["message"].as_str(), Some(message.trim_ascii_end()));
        }
    }
}
