//! The bridge: an upstream HTTP filter between a gRPC stream and a cluster that sends bodies as raw TCP.
//! It takes the gRPC framing off what goes out, and puts it on what comes back.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType};

use super::host;
use crate::redis::framing::{self, Unframer};

/// One stream to Redis.
#[derive(Default)]
pub(super) struct Bridge {
    unframer: Unframer,
    /// Reused from one callback to the next.
    out: Vec<u8>,
}

impl Bridge {
    fn replace(&mut self, kind: BufferType, size: usize) {
        // The proxy refuses only a buffer that it does not have, and it has the one it is calling about.
        let replaced = hostcalls::set_buffer(kind, 0, size, &self.out);
        debug_assert!(replaced.is_ok());
        self.out.clear();
    }
}

impl Context for Bridge {}

impl HttpContext for Bridge {
    fn on_http_request_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        let body = host::buffer(BufferType::HttpRequestBody, size);
        if let Err(error) = self.unframer.push(&body, &mut self.out) {
            log::error!("weir: bridge: {error}");
            self.out.clear();
            self.replace(BufferType::HttpRequestBody, size);
            self.reset_http_request();
            return Action::Pause;
        }
        self.replace(BufferType::HttpRequestBody, size);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        self.set_http_response_header("content-type", Some("application/grpc"));
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, _end_of_stream: bool) -> Action {
        let body = host::buffer(BufferType::HttpResponseBody, size);
        framing::frame(&body, framing::DEFAULT_MAX_FRAME, &mut self.out);
        self.replace(BufferType::HttpResponseBody, size);
        Action::Continue
    }
}
