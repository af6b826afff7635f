//! Callbacks into a VM, each with the data that the module can read during it.

use std::rc::Rc;

use bytes::Bytes;

use super::exports::HeadersExport;
use super::instance::{Called, Vm, VmFailed};
use crate::abi::state::CalloutResponse;
use crate::http::{Direction, Headers};

/// Status `BrokenConnection` of proxy-wasm.
const BROKEN_CONNECTION: u32 = 11;

/// Result of a headers callback. (Envoy: `FilterHeadersStatus`.)
///
/// Proxy-wasm's values are 0 `Continue`, 1 `StopIteration`, 2 `ContinueAndEndStream`, 3 `StopAllIterationAndBuffer` and
/// 4 `StopAllIterationAndWatermark`. Envoy's host makes 1 and every value above 4 a `StopAllIterationAndWatermark`; with
/// `allow_on_headers_stop_iteration`, 1 stays `StopIteration`, and the filter sees the body. Here, every value but 0 is
/// `StopIteration`, and the chain looks up whether the plugin sees the body past paused headers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadersStatus {
    #[default]
    Continue,
    /// The headers wait until the filter resumes.
    StopIteration,
}

/// Result of a body callback. (Envoy: `FilterDataStatus`; proxy-wasm's values are 0 to 3, in this order.)
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataStatus {
    #[default]
    Continue,
    /// The body is kept, and the filter sees it grow; a local reply refuses a body above the buffer limit.
    StopIterationAndBuffer,
    /// The body is kept, and the filter sees each part once; the sender waits above the buffer limit.
    StopIterationAndWatermark,
    /// The part of the body that the filter could read is dropped.
    StopIterationNoBuffer,
}

/// Result of a trailers callback. (Envoy: `FilterTrailersStatus`; proxy-wasm's values are 0 and 1.)
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrailersStatus {
    #[default]
    Continue,
    StopIteration,
}

impl HeadersStatus {
    fn of(called: Called<u32>) -> Self {
        if called.stopped || called.value != 0 { Self::StopIteration } else { Self::Continue }
    }
}

impl DataStatus {
    fn of(called: Called<u32>) -> Self {
        match called.value {
            _ if called.stopped => Self::StopIterationNoBuffer,
            0 => Self::Continue,
            2 => Self::StopIterationAndWatermark,
            3 => Self::StopIterationNoBuffer,
            _ => Self::StopIterationAndBuffer,
        }
    }
}

impl TrailersStatus {
    fn of(called: Called<u32>) -> Self {
        if called.stopped || called.value != 0 { Self::StopIteration } else { Self::Continue }
    }
}

impl Vm {
    pub(crate) fn on_headers(
        self: &Rc<Self>,
        context: u32,
        direction: Direction,
        count: usize,
        end: bool,
    ) -> Result<HeadersStatus, VmFailed> {
        let [request, response] = &self.exports.headers;
        let export = if direction == Direction::Request { request } else { response };
        let count = count as u32;
        let called = match export {
            None if self.is_failed() => Err(VmFailed),
            None => Ok(Called::default()),
            Some(HeadersExport::WithEnd(export)) => self.enter(context, export, (context, count, u32::from(end))),
            Some(HeadersExport::WithoutEnd(export)) => self.enter(context, export, (context, count)),
        };
        called.map(HeadersStatus::of)
    }

    pub(crate) fn on_body(
        self: &Rc<Self>,
        context: u32,
        direction: Direction,
        size: usize,
        end: bool,
    ) -> Result<DataStatus, VmFailed> {
        let [request, response] = &self.exports.body;
        let export = if direction == Direction::Request { request } else { response };
        self.ask(context, export, (context, size as u32, u32::from(end)), 0).map(DataStatus::of)
    }

    pub(crate) fn on_trailers(
        self: &Rc<Self>,
        context: u32,
        direction: Direction,
        count: usize,
    ) -> Result<TrailersStatus, VmFailed> {
        let [request, response] = &self.exports.trailers;
        let export = if direction == Direction::Request { request } else { response };
        self.ask(context, export, (context, count as u32), 0).map(TrailersStatus::of)
    }

    pub(crate) fn on_tick(self: &Rc<Self>, root: u32) -> Result<(), VmFailed> {
        self.notify(root, &self.exports.tick, root)
    }

    pub(crate) fn on_queue_ready(self: &Rc<Self>, root: u32, queue: u32) {
        let _ = self.notify(root, &self.exports.queue_ready, (root, queue));
    }

    /// Delivers the response of a callout; `None` if the callout was reset before its response was complete.
    pub(crate) fn on_http_call_response(self: &Rc<Self>, root: u32, token: u32, response: Option<CalloutResponse>) {
        let known = self.with_root(root, |root| {
            let known = root.calls.remove(&token);
            root.status = if response.is_some() { (0, String::new()) } else { (BROKEN_CONNECTION, "reset".to_owned()) };
            root.response = response;
            let count = |headers: &Headers| headers.len() as u32;
            let shown = root.response.as_ref();
            let sizes = shown.map(|shown| {
                (count(&shown.headers), shown.body.len() as u32, shown.trailers.as_ref().map_or(0, count))
            });
            known.then(|| sizes.unwrap_or_default())
        });
        if let Some(Some((headers, body, trailers))) = known {
            let arguments = (root, token, headers, body, trailers);
            let _ = self.notify(root, &self.exports.http_call_response, arguments);
        }
        self.with_root(root, |root| root.response = None);
    }

    pub(crate) fn on_grpc_initial_metadata(self: &Rc<Self>, root: u32, token: u32, metadata: Headers) {
        let count = metadata.len() as u32;
        self.with_root(root, |root| root.grpc.initial = Some(metadata));
        let _ = self.notify(root, &self.exports.grpc_initial_metadata, (root, token, count));
        self.with_root(root, |root| root.grpc.initial = None);
    }

    pub(crate) fn on_grpc_receive(self: &Rc<Self>, root: u32, token: u32, message: Bytes) {
        let size = message.len() as u32;
        self.with_root(root, |root| root.grpc.message = message);
        let _ = self.notify(root, &self.exports.grpc_receive, (root, token, size));
        self.with_root(root, |root| root.grpc.message = Bytes::new());
    }

    pub(crate) fn on_grpc_trailing_metadata(self: &Rc<Self>, root: u32, token: u32, metadata: Headers) {
        let count = metadata.len() as u32;
        self.with_root(root, |root| root.grpc.trailing = Some(metadata));
        let _ = self.notify(root, &self.exports.grpc_trailing_metadata, (root, token, count));
        self.with_root(root, |root| root.grpc.trailing = None);
    }

    /// Delivers the upstream's close of a gRPC stream or call.
    ///
    /// The handle of a stream lasts until the module closes its side too, as in Envoy.
    pub(crate) fn on_grpc_close(self: &Rc<Self>, root: u32, token: u32, status: u32, message: &str) {
        self.with_root(root, |root| {
            root.status = (status, message.to_owned());
            if let Some(handle) = root.streams.get_mut(&token) {
                handle.remote_closed = true;
            }
        });
        let _ = self.notify(root, &self.exports.grpc_close, (root, token, status));
        self.with_root(root, |root| {
            root.status.1.clear();
            if root.streams.get(&token).is_some_and(|handle| handle.local_closed || handle.unary) {
                root.streams.remove(&token);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_that_of_proxy_wasm_unless_a_local_reply_was_sent() {
        use DataStatus::{Continue, StopIterationAndBuffer, StopIterationAndWatermark, StopIterationNoBuffer};
        let data = |stopped| [0, 1, 2, 3].map(|value| DataStatus::of(Called { value, stopped }));
        assert_eq!(data(false), [Continue, StopIterationAndBuffer, StopIterationAndWatermark, StopIterationNoBuffer]);
        assert_eq!(data(true), [StopIterationNoBuffer; 4]);
        for (value, stopped, stops) in [(0, false, false), (1, false, true), (4, false, true), (0, true, true)] {
            let called = || Called { value, stopped };
            assert_eq!(HeadersStatus::of(called()) == HeadersStatus::StopIteration, stops, "{value}");
            assert_eq!(TrailersStatus::of(called()) == TrailersStatus::StopIteration, stops, "{value}");
        }
    }
}
