//! Filter in native builds, over a [`Host`] of the caller: the same worker that runs in wasm.
//!
//! Tests of limits and simulations run workers on a host of their own, with its clock and its Redis. [`Vm`] has the
//! callbacks that `exports` exports from the wasm. Nothing here is compiled for wasm.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

pub use crate::host::{Action, Buffer, Headers, Host, HostError, Level, Metric};

use crate::host::within;
use crate::pairs;
use crate::units::Micros;
use crate::worker::{Contexts, NextDeadline};

/// Encodes headers as the ABI passes them: the form of [`Host::headers`].
#[must_use]
pub fn encode_pairs<T: AsRef<[u8]>>(pairs: impl Iterator<Item = (T, T)> + Clone) -> Vec<u8> {
    pairs::encode(pairs)
}

/// Decodes headers, as a local reply has them. A truncated pair and all pairs after it are left out.
pub fn decode_pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs::decode(bytes)
}

/// VM of one worker thread: the contexts of its plugins, with the callbacks that a proxy calls.
///
/// Ids of contexts are the caller's, unique within the VM and not 0.
pub struct Vm {
    host: Rc<dyn Host>,
    contexts: Contexts,
    /// Root context that had the last callback, a tick, and its next deadline if nothing is due until then.
    idle: Cell<Option<(u32, NextDeadline)>>,
}

impl Vm {
    /// Returns a VM without contexts, whose filter calls `host`.
    #[must_use]
    pub fn new(host: Rc<dyn Host>) -> Self {
        Self { host, contexts: Contexts::new(), idle: Cell::new(None) }
    }

    /// Creates a context: of a request or a stream where `root` is not 0, or else a root context.
    pub fn context_create(&self, context: u32, root: u32) {
        self.run(|contexts| contexts.create(context, root));
    }

    /// Configures a root context with the `size` bytes of [`Buffer::PluginConfiguration`]. The host's property
    /// `plugin_root_id` says which role the plugin has. Returns whether the configuration is accepted; its errors are in
    /// the log.
    #[must_use]
    pub fn configure(&self, root: u32, size: usize) -> bool {
        self.run(|contexts| contexts.configure(root, size))
    }

    /// Ends a context.
    pub fn done(&self, context: u32) {
        self.run(|contexts| contexts.done(context));
    }

    /// Calls the root context at the tick period.
    pub fn tick(&self, root: u32) {
        if let Some((_, next)) = self.idle.get().filter(|(idle, _)| *idle == root) {
            let mut is_handled = false;
            let tick = || self.contexts.with_worker(root, |worker| is_handled = worker.idle_tick(next));
            within(&self.host, tick);
            if is_handled {
                return;
            }
        }
        let mut next = None;
        self.run(|contexts| {
            contexts.with_worker(root, |worker| {
                worker.tick();
                next = worker.idle_until();
            });
        });
        self.idle.set(next.map(|next| (root, next)));
    }

    /// Time of the host's clock before which the ticks of a root context have nothing to do, unless there is another
    /// callback first; [`Micros`] of `u64::MAX` if that is for ever. `None` if its next tick may have something to do.
    #[must_use]
    pub fn idle_until(&self, root: u32) -> Option<Micros> {
        let (_, next) = self.idle.get().filter(|(idle, _)| *idle == root)?;
        let mut until = None;
        self.contexts.with_worker(root, |worker| until = Some(worker.idle_for(next)));
        until
    }

    /// Handles ticks of a root context that have nothing to do, without a call of the host: the one at `first`, and those
    /// that follow it `period` apart, as far as they come before `until` and before [`idle_until`](Self::idle_until). A
    /// tick that changes the period is the last one. Returns the number of ticks, and the new period after the last of
    /// them, if it changes: zero turns ticks off. Times are those of the host's clock.
    pub fn idle_ticks(&self, root: u32, first: Micros, period: Micros, until: Micros) -> (u64, Option<Micros>) {
        let mut handled = (0, None);
        if let Some((_, next)) = self.idle.get().filter(|(idle, _)| *idle == root) {
            self.contexts.with_worker(root, |worker| handled = worker.idle_ticks(next, first, period, until));
        }
        handled
    }

    /// Announces messages of a queue.
    pub fn queue_ready(&self, root: u32, queue: u32) {
        self.run(|contexts| contexts.with_worker(root, |worker| worker.turn_ends(queue)));
    }

    /// Begins a request. `is_whole`: it has neither a body nor trailers.
    pub fn request_headers(&self, context: u32, is_whole: bool) -> Action {
        self.run(|contexts| contexts.request_headers(context, is_whole))
    }

    /// Shows the next `size` bytes of a request's body, in [`Buffer::RequestBody`].
    pub fn request_body(&self, context: u32, size: usize, is_whole: bool) -> Action {
        self.run(|contexts| contexts.request_body(context, size, is_whole))
    }

    /// Ends a request with trailers.
    pub fn request_trailers(&self, context: u32) -> Action {
        self.run(|contexts| contexts.request_trailers(context))
    }

    /// Begins a response. `is_whole`: it has neither a body nor trailers.
    pub fn response_headers(&self, context: u32, is_whole: bool) -> Action {
        self.run(|contexts| contexts.response_headers(context, is_whole))
    }

    /// Shows the next `size` bytes of a response's body, in [`Buffer::ResponseBody`].
    pub fn response_body(&self, context: u32, size: usize, is_whole: bool) -> Action {
        self.run(|contexts| contexts.response_body(context, size, is_whole))
    }

    /// Ends a response with trailers.
    pub fn response_trailers(&self, context: u32) -> Action {
        self.run(|contexts| contexts.response_trailers(context))
    }

    /// Ends a callout: with the number of its response's headers and the size of [`Buffer::CalloutBody`], or with 0
    /// headers where there is no response.
    pub fn http_call_response(&self, root: u32, token: u32, headers: usize, size: usize) {
        self.run(|contexts| contexts.with_worker(root, |worker| worker.callout_response(token, headers, size)));
    }

    /// Shows a message of a stream, the `size` bytes of [`Buffer::StreamMessage`].
    pub fn grpc_receive(&self, root: u32, token: u32, size: usize) {
        self.run(|contexts| contexts.with_worker(root, |worker| worker.stream_message(token, size)));
    }

    /// Announces that the peer has closed a stream.
    pub fn grpc_close(&self, root: u32, token: u32) {
        self.run(|contexts| contexts.with_worker(root, |worker| worker.stream_close(token)));
    }

    fn run<T>(&self, callback: impl FnOnce(&Contexts) -> T) -> T {
        self.idle.set(None);
        within(&self.host, || callback(&self.contexts))
    }
}
