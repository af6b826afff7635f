//! Native HTTP filters: Envoy's filters whose metadata and filter state limits can use as keys.
//!
//! A native filter handles the request headers only: it continues or sends a local reply, and never pauses.

mod jwt_authn;
mod set_filter_state;

use crate::http::{LocalReply, Stream};

pub use jwt_authn::{Bypass, Jwks, JwksError, JwtAuthn, Provider, Requirement, Rule};
pub use set_filter_state::{FilterStateValue, SetFilterState};

/// HTTP filter implemented by the harness instead of a wasm module.
#[derive(Debug, Clone)]
pub enum NativeFilter {
    /// `envoy.filters.http.jwt_authn`
    JwtAuthn(JwtAuthn),
    /// `envoy.filters.http.set_filter_state`
    SetFilterState(SetFilterState),
}

impl NativeFilter {
    /// Handles the request headers; returns the local reply, or `None` to continue.
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
