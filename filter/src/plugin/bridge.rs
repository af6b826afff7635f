//! The bridge: an upstream HTTP filter between a gRPC stream and a cluster that sends bodies as raw TCP.
//! It takes the gRPC framing off what goes out, and puts it on what comes back.

use super::abi::{self, Action, Buffer, Headers};
use super::log_error;
use crate::redis::framing::{self, Unframer};

/// One stream to Redis.
#[derive(Default)]
pub(super) struct Bridge {
    unframer: Unframer,
    /// Reused from one callback to the next.
    out: Vec<u8>,
}

impl Bridge {
    pub(super) fn request_body(&mut self, size: usize) -> Action {
        let body = abi::buffer(Buffer::RequestBody, size);
        if let Err(error) = self.unframer.push(&body, &mut self.out) {
            log_error(&format!("bridge: {error}"));
            self.out.clear();
            self.replace(Buffer::RequestBody, size);
            // The proxy refuses that of no exchange that is there.
            let _ = abi::reset_request();
            return Action::Pause;
        }
        self.replace(Buffer::RequestBody, size);
        Action::Continue
    }

    pub(super) fn response_headers(&mut self) -> Action {
        let set = abi::set_header(Headers::Response, "content-type", "application/grpc");
        debug_assert_eq!(set, Ok(()), "the proxy calls about these headers");
        Action::Continue
    }

    pub(super) fn response_body(&mut self, size: usize) -> Action {
        let body = abi::buffer(Buffer::ResponseBody, size);
        framing::frame(&body, framing::DEFAULT_MAX_FRAME, &mut self.out);
        self.replace(Buffer::ResponseBody, size);
        Action::Continue
    }

    fn replace(&mut self, buffer: Buffer, size: usize) {
        let replaced = abi::replace_buffer(buffer, size, &self.out);
        debug_assert_eq!(replaced, Ok(()), "the proxy calls about this buffer");
        self.out.clear();
    }
}
