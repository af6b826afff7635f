//! Bridge: an upstream HTTP filter between a worker's gRPC stream and a cluster that sends bodies as raw TCP. It
//! removes the gRPC framing from requests to Redis and adds gRPC framing to Redis' replies.
//!
//! Where the bridge runs in the worker's own VM, both directions skip the framing: the bridge sends the worker's
//! unframed bytes, and passes Redis' bytes to the worker directly.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::Worker;
use super::log_error;
use super::wire::Wire;
use crate::host::{self, Action, Buffer, Headers};
use crate::redis::framing::{self, Unframer};

/// Bytes that the bridge passes to a worker directly, at most. Longer bodies are framed and arrive in several
/// callbacks: all requests that the replies in one callback resume use the proxy's stack (see
/// [`framing::DEFAULT_MAX_FRAME`]).
const MAX_AT_ONCE: usize = 2048;

/// The bridge's state for one stream to Redis.
#[derive(Default)]
pub(super) struct Bridge {
    /// The worker's end of the stream, where the worker is in the same VM.
    wire: Option<Wire>,
    unframer: Unframer,
    /// Output buffer, reused from one callback to the next.
    out: Vec<u8>,
}

impl Bridge {
    /// Handles the start of the stream. `wires` are the current streams of the VM's workers.
    pub(super) fn request_headers(&mut self, mut wires: impl Iterator<Item = Wire>) {
        let path = host::header(Headers::Request, ":path");
        self.wire = path.and_then(|path| wires.find(|wire| wire.path().as_bytes() == path));
    }

    pub(super) fn request_body(&mut self, size: usize) -> Action {
        if self.unframer.is_between_messages()
            && let Some(wire) = &self.wire
            && wire.with_sending(|sending| {
                let is_all = framing::framed_size(sending) == size;
                is_all && host::replace_buffer(Buffer::RequestBody, size, sending).is_ok()
            })
        {
            return Action::Continue;
        }
        let body = host::buffer(Buffer::RequestBody, size);
        if let Err(error) = self.unframer.push(&body, &mut self.out) {
            log_error(&format!("bridge: {error}"));
            self.out.clear();
            self.replace(Buffer::RequestBody, size);
            // The sender waits until its own timeout. Closing the stream here can run inside a callback of the limiter:
            // Envoy would then defer the close event again and again, and never return.
            return Action::Pause;
        }
        self.replace(Buffer::RequestBody, size);
        Action::Continue
    }

    pub(super) fn response_headers(&mut self) -> Action {
        let set = host::set_header(Headers::Response, "content-type", "application/grpc");
        debug_assert_eq!(set, Ok(()), "a headers callback has these headers");
        Action::Continue
    }

    /// Handles bytes from Redis. Returns the bytes to pass to the worker directly, if any. The caller passes them after
    /// it has released the bridge: the worker may send at once, which calls the bridge.
    pub(super) fn response_body(&mut self, size: usize) -> Option<(Rc<Worker>, Vec<u8>)> {
        let body = host::buffer(Buffer::ResponseBody, size);
        if let Some(wire) = &self.wire
            && body.len() <= MAX_AT_ONCE
            && wire.is_current()
            && host::replace_buffer(Buffer::ResponseBody, size, &[]).is_ok()
        {
            return Some((wire.worker(), body));
        }
        framing::frame(&body, framing::DEFAULT_MAX_FRAME, &mut self.out);
        self.replace(Buffer::ResponseBody, size);
        None
    }

    fn replace(&mut self, buffer: Buffer, size: usize) {
        let replaced = host::replace_buffer(buffer, size, &self.out);
        debug_assert_eq!(replaced, Ok(()), "a body callback has this buffer");
        self.out.clear();
    }
}
