//! An answer that the filter gives itself.

use alloc::borrow::{Cow, ToOwned};
use alloc::vec::Vec;

use super::{GrpcStatus, Header};
use crate::config::ErrorStatus;
use crate::pairs;

/// An answer in place of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// The HTTP status; a proxy answers gRPC requests 200 instead.
    pub status: ErrorStatus,
    /// The body; gRPC's message.
    pub body: Cow<'static, str>,
    /// For gRPC requests, gRPC's status.
    pub grpc_status: Option<u32>,
    /// Why the filter answers: `%RESPONSE_CODE_DETAILS%` in Envoy's access log. Without white space, which Envoy would
    /// replace.
    pub details: Cow<'static, str>,
    headers: Vec<u8>,
}

impl LocalReply {
    pub(super) fn new(
        status: ErrorStatus,
        headers: &[Header],
        body: impl Into<Cow<'static, str>>,
        grpc_status: Option<GrpcStatus>,
    ) -> Self {
        let mut body = body.into();
        if grpc_status.is_some() {
            // gRPC's message is one line, in a header.
            body = Cow::Owned(body.trim_ascii_end().to_owned());
        }
        let headers = pairs::encode(headers.iter().map(|(name, value)| (*name, value.as_str())));
        let grpc_status = grpc_status.map(GrpcStatus::code);
        Self { status, body, grpc_status, details: Cow::Borrowed(""), headers }
    }

    /// The same, with these details.
    pub(super) fn because(self, details: impl Into<Cow<'static, str>>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// Headers to add: names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
        pairs::decode(&self.headers).map(move |(name, value)| (text(name), text(value)))
    }

    /// The same, as proxy-wasm passes them.
    #[must_use]
    pub fn encoded_headers(&self) -> &[u8] {
        &self.headers
    }
}
