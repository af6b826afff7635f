//! Local reply: a response sent by the filter.

use alloc::borrow::{Cow, ToOwned};
use alloc::vec::Vec;

use super::{GrpcStatus, Header};
use crate::config::ErrorStatus;
use crate::pairs;

/// Response sent by the filter in place of the upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// HTTP status; for gRPC requests a proxy sends 200 instead.
    pub status: ErrorStatus,
    /// Body; for gRPC requests, the status message.
    pub body: Cow<'static, str>,
    /// gRPC status, for gRPC requests.
    pub grpc_status: Option<u32>,
    /// Reason for the reply: `%RESPONSE_CODE_DETAILS%` in Envoy's access log. Contains no white space, which Envoy
    /// would replace.
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
            // A gRPC status message is one line, in a header.
            body = Cow::Owned(body.trim_ascii_end().to_owned());
        }
        let headers = pairs::encode(headers.iter().map(|(name, value)| (*name, value.as_str())));
        let grpc_status = grpc_status.map(GrpcStatus::code);
        Self { status, body, grpc_status, details: Cow::Borrowed(""), headers }
    }

    /// Sets the details.
    pub(super) fn with_details(self, details: impl Into<Cow<'static, str>>) -> Self {
        Self { details: details.into(), ..self }
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
