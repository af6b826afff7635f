//! Decisions on requests, and the actions that carry them out.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::request_id::RequestId;
use crate::limit::Mark;
use crate::redis::Callout;
use crate::response::{Header, LocalReply};

/// First step for a request that has just arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No limit applies: let the request pass, and leave its response unchanged.
    Pass,
    /// Hold the request: an [`Effect::Decide`] follows.
    Wait,
    /// The request is decided immediately.
    Decided(Decision),
}

/// Decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Let the request pass, and add these headers to its response.
    Admit(Vec<Header>),
    /// Send this local reply. Requests denied from the deny cache may share one reply.
    Answer(Rc<LocalReply>),
    /// Let the end of the response pass, which was [held](super::Limiter::holds_response).
    EndResponse,
}

/// Action that the limiter requests from the proxy.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream to Redis. Occurs only after a tick.
    OpenStream,
    /// Close the stream. Occurs only after a tick.
    CloseStream,
    /// Send this callout to Redis.
    CallOut(Callout),
    /// Set these names and values in the request's filter state, for its access log. Precedes the request's decision.
    Annotate(RequestId, Vec<(&'static str, String)>),
    /// Set this header of the request, which is beyond a limit. Precedes the request's decision.
    Mark(RequestId, Arc<Mark>),
    /// Apply this decision to a request that was held.
    Decide(RequestId, Decision),
    /// Log this as a warning.
    Warn(String),
    /// Log this as information.
    Info(String),
}
