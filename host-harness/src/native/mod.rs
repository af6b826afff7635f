//! The few of Envoy's own HTTP filters that the harness has, because limits are keyed by what they leave.
//!
//! They look at a request's headers once, and let it go on or answer it; nothing of theirs waits.

mod jwt_authn;
mod set_filter_state;

use crate::abi::stream::{LocalReply, Stream};

pub use jwt_authn::{Bypass, Jwks, JwksError, JwtAuthn, Provider, Requirement, Rule};
pub use set_filter_state::{FilterStateValue, SetFilterState};

/// An HTTP filter that is no wasm module.
#[derive(Debug, Clone)]
pub enum NativeFilter {
    /// `envoy.filters.http.jwt_authn`
    JwtAuthn(JwtAuthn),
    /// `envoy.filters.http.set_filter_state`
    SetFilterState(SetFilterState),
}

impl NativeFilter {
    /// The request's headers have come to this filter. `None`: they go on.
    pub(crate) fn on_request_headers(&self, stream: &Stream) -> Option<LocalReply> {
        match self {
            Self::JwtAuthn(filter) => filter.on_request_headers(stream),
            Self::SetFilterState(filter) => {
                filter.on_request_headers(stream);
                None
            }
        }
    }
}
