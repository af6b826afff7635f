//! Timers of an HTTP stream.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::bootstrap::{HttpManager, Route};
use crate::http::{LocalReply, ResponseFlag};

/// Timers of a stream; `None`: off.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timers {
    /// End of the route's `timeout`, which begins with the end of the request.
    pub(super) response: Option<Instant>,
    /// Longest time without any event: `stream_idle_timeout`, or the route's `idle_timeout`.
    idle: Option<Duration>,
    /// End of the route's `max_stream_duration`.
    duration: Option<Instant>,
    /// End of `request_timeout`, within which the request has to be complete.
    pub(super) request: Option<Instant>,
}

/// Timer that has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expiry {
    Response,
    Idle,
    Duration,
    Request,
}

impl Timers {
    /// Timers of a stream that begins now.
    pub(super) fn start(manager: &HttpManager, route: Option<&Route>) -> Self {
        let now = Instant::now();
        let (of_route, duration) = route.map(Route::timers).unwrap_or_default();
        let is_on = |span: &Duration| !span.is_zero();
        Self {
            response: None,
            idle: Some(of_route.unwrap_or(manager.stream_idle_timeout)).filter(is_on),
            duration: duration.filter(is_on).map(|span| now + span),
            request: Some(manager.request_timeout).filter(is_on).map(|span| now + span),
        }
    }

    /// Returns the first timer that runs out if nothing happens.
    pub(super) async fn expired(&self) -> Expiry {
        let idle = self.idle.map(|span| Instant::now() + span);
        let ends = [
            (self.response, Expiry::Response),
            (idle, Expiry::Idle),
            (self.duration, Expiry::Duration),
            (self.request, Expiry::Request),
        ];
        match ends.into_iter().filter_map(|(end, which)| Some((end?, which))).min_by_key(|(end, _)| *end) {
            Some((end, which)) => {
                sleep_until(end).await;
                which
            }
            None => pending().await,
        }
    }

    /// Turns a timer off that has run out.
    pub(super) fn clear(&mut self, expiry: Expiry) {
        match expiry {
            Expiry::Response => self.response = None,
            Expiry::Idle => {}
            Expiry::Duration => self.duration = None,
            Expiry::Request => self.request = None,
        }
    }
}

impl Expiry {
    /// Flag and local reply; a timer that runs out before the request is complete is the client's fault.
    pub(super) fn reply(self, is_request_complete: bool) -> (Option<ResponseFlag>, LocalReply) {
        let status = if is_request_complete { 504 } else { 408 };
        let (flag, status, body, details) = match self {
            Self::Response => {
                (Some(ResponseFlag::UpstreamRequestTimeout), 504, "upstream request timeout", "response_timeout")
            }
            Self::Idle => (Some(ResponseFlag::StreamIdleTimeout), status, "stream timeout", "stream_idle_timeout"),
            // As in Envoy, the stream has no flag then.
            Self::Duration => (None, status, "downstream duration timeout", "max_duration_timeout"),
            Self::Request => (None, 408, "request timeout", "request_overall_timeout"),
        };
        (flag, super::sink::reply(status, body, details))
    }
}
