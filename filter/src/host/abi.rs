//! Values of the ABI of proxy-wasm 0.2.1, as the host reads and returns them.

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Information.
    Info = 2,
    /// Warning.
    Warn = 3,
    /// Error.
    Error = 4,
    /// Error that stops the filter.
    Critical = 5,
}

/// A buffer that the host holds during a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Buffer {
    /// Request body, in a callback of it.
    RequestBody = 0,
    /// Response body, in a callback of it.
    ResponseBody = 1,
    /// Body of a callout's response.
    CalloutBody = 4,
    /// Message of a gRPC stream.
    StreamMessage = 5,
    /// Plugin's configuration.
    PluginConfiguration = 7,
}

/// A header map that the host holds during a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Headers {
    /// Request headers.
    Request = 0,
    /// Response headers.
    Response = 2,
    /// Headers of a callout's response.
    Callout = 6,
}

/// A direction of a request's stream, to resume.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "native hosts have two functions"))]
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Request = 0,
    Response = 1,
}

/// Kind of a metric.
#[derive(Debug, Clone, Copy)]
pub enum Metric {
    /// Number that only grows.
    Counter = 0,
    /// Number that grows and shrinks.
    Gauge = 1,
    /// Distribution of values.
    Histogram = 2,
}

/// Return value of a stream callback: what the proxy does with the headers, the body or the trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// Passes them on.
    #[default]
    Continue = 0,
    /// Holds them until the request is resumed or answered. The proxy buffers a body up to its limit, and answers 413
    /// beyond it.
    Pause = 1,
    /// Holds a body with back-pressure: the sender waits while the proxy's buffer is full. Each callback shows only new
    /// bytes, which must not be read after the callback has returned. Not in the crate `proxy-wasm`.
    HoldBack = 2,
}

impl Action {
    /// Returns the action for a body whose bytes the filter does not need: `HoldBack` in place of `Pause`.
    pub(crate) fn of_body(self) -> Self {
        if self == Self::Pause { Self::HoldBack } else { self }
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    use proxy_wasm::types::{
        self as sdk, BufferType, GrpcStatusCode, LogLevel, MapType, MetricType, Status, StreamType,
    };

    use super::*;
    use crate::response::GrpcStatus;

    /// Asserts that each of our values is that of the crate `proxy-wasm`.
    macro_rules! assert_same {
        ($($ours:path = $theirs:path),+ $(,)?) => {
            $(assert_eq!($ours as u32, $theirs as u32, stringify!($ours));)+
        };
    }

    #[test]
    fn values_are_those_of_the_sdk() {
        assert_same! {
            Level::Info = LogLevel::Info,
            Level::Warn = LogLevel::Warn,
            Level::Error = LogLevel::Error,
            Level::Critical = LogLevel::Critical,
            Buffer::RequestBody = BufferType::HttpRequestBody,
            Buffer::ResponseBody = BufferType::HttpResponseBody,
            Buffer::CalloutBody = BufferType::HttpCallResponseBody,
            Buffer::StreamMessage = BufferType::GrpcReceiveBuffer,
            Buffer::PluginConfiguration = BufferType::PluginConfiguration,
            Headers::Request = MapType::HttpRequestHeaders,
            Headers::Response = MapType::HttpResponseHeaders,
            Headers::Callout = MapType::HttpCallResponseHeaders,
            Stream::Request = StreamType::HttpRequest,
            Stream::Response = StreamType::HttpResponse,
            Metric::Counter = MetricType::Counter,
            Metric::Gauge = MetricType::Gauge,
            Metric::Histogram = MetricType::Histogram,
            Action::Continue = sdk::Action::Continue,
            Action::Pause = sdk::Action::Pause,
        }
        assert_eq!(NonZeroU32::new(Status::Ok as u32), None, "every other status is an error");
    }

    #[test]
    fn grpc_statuses_are_those_of_the_sdk() {
        for (ours, theirs) in [
            (GrpcStatus::INVALID_ARGUMENT, GrpcStatusCode::InvalidArgument),
            (GrpcStatus::RESOURCE_EXHAUSTED, GrpcStatusCode::ResourceExhausted),
            (GrpcStatus::UNAVAILABLE, GrpcStatusCode::Unavailable),
        ] {
            assert_eq!(ours.code(), theirs as u32, "{theirs:?}");
        }
    }
}
