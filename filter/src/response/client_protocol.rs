//! Protocols of clients, which determine the form of local replies.
//!
//! Sources: grpc.io, "gRPC over HTTP2" and "gRPC Web"; connectrpc.com, "Connect Protocol Reference".

use super::api::Api;
use crate::pairs;

/// Protocol of a request's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientProtocol {
    /// HTTP without RPC.
    Http,
    /// API of language models, where the configuration tells them by their paths.
    Api(Api),
    /// gRPC.
    Grpc,
    /// gRPC-Web, with the content type of requests and responses.
    GrpcWeb(RpcType),
    /// Connect, with one request and one response.
    ConnectUnary,
    /// Connect with streams, with the content type of requests and responses.
    ConnectStream(RpcType),
}

/// Content type of gRPC-Web, or of streams of Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcType {
    /// `application/grpc-web`.
    Web,
    /// `application/grpc-web+proto`.
    WebProto,
    /// `application/grpc-web+json`.
    WebJson,
    /// `application/grpc-web-text`.
    WebText,
    /// `application/grpc-web-text+proto`.
    WebTextProto,
    /// `application/connect+proto`.
    StreamProto,
    /// `application/connect+json`.
    StreamJson,
}

impl RpcType {
    /// Whether messages are encoded as Base64.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::WebText | Self::WebTextProto)
    }
}

/// Protocols by content type, apart from gRPC. Requests of unary Connect have one of two types and another header.
const TYPES: [(&str, ClientProtocol); 9] = [
    ("application/json", ClientProtocol::ConnectUnary),
    ("application/proto", ClientProtocol::ConnectUnary),
    ("application/grpc-web", ClientProtocol::GrpcWeb(RpcType::Web)),
    ("application/grpc-web+proto", ClientProtocol::GrpcWeb(RpcType::WebProto)),
    ("application/grpc-web+json", ClientProtocol::GrpcWeb(RpcType::WebJson)),
    ("application/grpc-web-text", ClientProtocol::GrpcWeb(RpcType::WebText)),
    ("application/grpc-web-text+proto", ClientProtocol::GrpcWeb(RpcType::WebTextProto)),
    ("application/connect+proto", ClientProtocol::ConnectStream(RpcType::StreamProto)),
    ("application/connect+json", ClientProtocol::ConnectStream(RpcType::StreamJson)),
];

impl ClientProtocol {
    /// Returns the protocol of a request with these headers, as proxy-wasm encodes pairs.
    #[must_use]
    #[inline(never)]
    pub fn of(headers: &[u8]) -> Self {
        let (mut path, mut content_type, mut version) = (&[][..], None, None);
        let is_wanted = |size| matches!(size, 5 | 12 | 24);
        let _ = pairs::visit(headers, is_wanted, |name, value| match name {
            // No other name of a pseudo-header has this size; comparing all of it would double the cost of this pass.
            [b':', _, _, _, _] => path = value,
            b"content-type" => content_type = content_type.or(Some(value)),
            b"connect-protocol-version" => version = Some(value),
            _ => {}
        });
        let Some(content_type) = content_type else {
            return if is_connect_get(path) { Self::ConnectUnary } else { Self::Http };
        };
        if is_grpc(content_type) {
            return Self::Grpc;
        }
        let end = content_type.iter().position(|byte| matches!(byte, b';' | b' ')).unwrap_or(content_type.len());
        let essence = content_type.get(..end).unwrap_or_default();
        match TYPES.iter().find(|(known, _)| known.as_bytes() == essence) {
            Some((_, Self::ConnectUnary)) if version != Some(b"1") => Self::Http,
            Some((_, protocol)) => *protocol,
            None => Self::Http,
        }
    }

    /// Returns the API that the path of these headers names, for a client without RPC.
    #[inline(never)]
    pub(super) fn or_api(self, headers: &[u8]) -> Self {
        match self {
            Self::Http => Api::of(headers).map_or(self, Self::Api),
            protocol => protocol,
        }
    }

    /// Content type of responses, if the protocol determines it.
    pub(super) fn content_type(self) -> Option<&'static str> {
        TYPES.iter().find(|(_, protocol)| *protocol == self).map(|(content_type, _)| *content_type)
    }

    /// Whether clients call remote procedures, in whose form they are answered.
    pub(super) fn is_rpc(self) -> bool {
        !matches!(self, Self::Http | Self::Api(_))
    }

    /// Whether clients heed `grpc-retry-pushback-ms` (gRFC A6).
    pub(super) fn has_pushback(self) -> bool {
        matches!(self, Self::Grpc | Self::GrpcWeb(_))
    }
}

/// Whether a request with this content type gets a gRPC status from the proxy.
///
/// Matches exactly the content types that Envoy considers gRPC: `application/grpc`, and `application/grpc+` followed by
/// anything. Types with parameters after `;` do not match: Envoy would send those 200 without a gRPC status.
fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

/// Whether the query string has the parameter `connect=v1`, as in Connect requests without a body.
fn is_connect_get(path: &[u8]) -> bool {
    let query = path.iter().position(|byte| *byte == b'?').and_then(|at| path.get(at.saturating_add(1)..));
    query.is_some_and(|query| query.split(|byte| *byte == b'&').any(|parameter| parameter == b"connect=v1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&str, &str)]) -> ClientProtocol {
        ClientProtocol::of(&pairs::encode(headers.iter().copied()))
    }

    fn of_type(content_type: &str) -> ClientProtocol {
        of(&[(":path", "/"), ("content-type", content_type)])
    }

    #[test]
    fn grpc_content_types_are_those_of_envoy() {
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc+json"] {
            assert_eq!(of_type(grpc), ClientProtocol::Grpc, "{grpc}");
        }
        for other in ["application/grpc;x=1", "application/GRPC", "application/grpcx", "application/json", ""] {
            assert_eq!(of_type(other), ClientProtocol::Http, "{other}");
        }
    }

    #[test]
    fn grpc_web_is_answered_with_the_content_type_of_the_request() {
        for known in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
            for content_type in [known, &format!("{known}; charset=utf-8")] {
                let protocol = of_type(content_type);
                assert!(matches!(protocol, ClientProtocol::GrpcWeb(_)), "{protocol:?}");
                assert_eq!(protocol.content_type(), Some(known));
            }
        }
        assert_eq!(of_type("application/grpc-web+x"), ClientProtocol::Http);
    }

    #[test]
    fn a_unary_connect_request_has_a_version() {
        let version =
            |content_type, version| of(&[("content-type", content_type), ("connect-protocol-version", version)]);
        for unary in ["application/json", "application/proto", "application/json; charset=utf-8"] {
            assert_eq!(version(unary, "1"), ClientProtocol::ConnectUnary, "{unary}");
            assert_eq!(version(unary, "1").content_type(), Some("application/json"), "{unary}");
            assert_eq!(version(unary, "2"), ClientProtocol::Http, "{unary}");
            assert_eq!(of_type(unary), ClientProtocol::Http, "{unary}");
        }
        assert_eq!(version("text/plain", "1"), ClientProtocol::Http);
        assert_eq!(version("application/grpc", "1"), ClientProtocol::Grpc);
    }

    #[test]
    fn a_connect_request_without_a_body_has_the_version_in_its_query_string() {
        let get = |path| of(&[(":method", "GET"), (":path", path)]);
        for path in ["/s.S/M?connect=v1", "/s.S/M?encoding=json&message=%7B%7D&connect=v1", "/?connect=v1&x"] {
            assert_eq!(get(path), ClientProtocol::ConnectUnary, "{path}");
        }
        for path in ["/", "/connect=v1", "/?connect=v2", "/?xconnect=v1", "/?connect=v11", "/?"] {
            assert_eq!(get(path), ClientProtocol::Http, "{path}");
        }
        assert_eq!(of(&[]), ClientProtocol::Http);
    }

    #[test]
    fn connect_streams_are_answered_with_the_content_type_of_the_request() {
        for known in ["application/connect+proto", "application/connect+json"] {
            let protocol = of_type(known);
            assert!(matches!(protocol, ClientProtocol::ConnectStream(_)), "{protocol:?}");
            assert_eq!(protocol.content_type(), Some(known));
        }
        assert_eq!(of_type("application/connect+xml"), ClientProtocol::Http);
    }
}
