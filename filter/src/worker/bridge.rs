//! The bridge: an upstream HTTP filter between a gRPC stream and a cluster that sends bodies as raw TCP.
//! It takes the gRPC framing off what goes out, and puts it on what comes back.
//!
//! Where it runs in the VM of the worker whose stream it is, it need not unwrap what that has just wrapped, nor wrap
//! what that would unwrap: it hands over the worker's bytes, and hands it Redis'.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::Worker;
use super::log_error;
use super::wire::Wire;
use crate::host::{self, Action, Buffer, Headers};
use crate::redis::framing::{self, Unframer};

/// The most that a worker is handed at once: the proxy's stack must hold all that its replies lead to (see
/// [`framing::DEFAULT_MAX_FRAME`]), and more is framed, so that it comes piece by piece.
const MAX_AT_ONCE: usize = 2048;

/// One stream to Redis.
#[derive(Default)]
pub(super) struct Bridge {
    /// The worker's end of it, in the same VM.
    wire: Option<Wire>,
    unframer: Unframer,
    /// Reused from one callback to the next.
    out: Vec<u8>,
}

impl Bridge {
    /// The stream begins. `wires` are those of the VM's workers.
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
            // Whoever sent this waits until its own timeout. To end the exchange here, within a callback of a limiter
            // that has called out, has Envoy put off what comes of that again and again, and never return.
            return Action::Pause;
        }
        self.replace(Buffer::RequestBody, size);
        Action::Continue
    }

    pub(super) fn response_headers(&mut self) -> Action {
        let set = host::set_header(Headers::Response, "content-type", "application/grpc");
        debug_assert_eq!(set, Ok(()), "the proxy calls about these headers");
        Action::Continue
    }

    /// Redis has answered something. What is returned is for the worker, once this is no longer in use: it may send.
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
        debug_assert_eq!(replaced, Ok(()), "the proxy calls about this buffer");
        self.out.clear();
    }
}
