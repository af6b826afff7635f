//! Proxy-wasm ABI 0.2.1: the part that the filter uses. All `unsafe` code but the allocator's is here.
//!
//! An SDK exports every callback of the ABI, and each exported callback costs the proxy one call into the VM per
//! request. This module exports: context_create, configure, tick, queue_ready, done; request headers, body and
//! trailers; response headers, body and trailers; http_call_response, grpc_receive, grpc_close. `proxy_on_delete` is
//! not exported: it follows `proxy_on_done` at once.
//!
//! # Reentrancy
//!
//! A host may call into the module while the module waits for a host call to return:
//!
//! * Each host call that returns bytes calls `proxy_on_memory_allocate`, which touches no state of the filter.
//! * `send` runs the bridge's request callbacks before it returns, in Envoy and in the harness. The bridge's context
//!   has another root context, of the same VM or of another VM.
//! * `resume_request` and `send_local_response` are deferred until the callback has returned, by Envoy and the harness.
//!   The callbacks that follow from them (a local reply's response headers, the end of the request, the start of the
//!   next request) then run nested in each other on the host's stack, with no frame of the module in between.
//! * In Envoy, the end of a nested callback (the bridge's within `send`) carries out the calls deferred so far. After
//!   `send_local_response`, Envoy treats every action that a filter callback of this VM returns as a pause, until a
//!   callback has ended: a bridge then loses the bytes that it should pass on. Therefore
//!   [`Callback`](super::host::Callback) carries decisions out at its end.
//! * Envoy defers the events of callouts and streams while a callback runs, even where a call fails immediately. If a
//!   nested callback ends in the meantime, Envoy tries again, finds the outer callback still running, defers the event
//!   again, and never returns. Therefore no code here closes (`proxy_close_stream`) an exchange that a callback of this
//!   VM has begun.
//!
//! The code does not rely on the third and the last of these: no state stays borrowed across a host call with side
//! effects on streams or requests, only across host calls that read, count or log.

mod calls;
mod exports;
mod given;
mod imports;
mod one_thread;
mod panic;

pub(super) use self::calls::*;
pub(super) use self::one_thread::OneThread;

/// Return value of a stream callback: what the proxy does with the headers, the body or the trailers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Action {
    /// Passes them on.
    #[default]
    Continue = 0,
    /// Holds them until the request is resumed or answered. The proxy buffers a body up to its limit, and answers 413
    /// beyond it.
    Pause = 1,
    /// Holds a body with back-pressure: the sender waits while the proxy's buffer is full. Each callback shows only new
    /// bytes, which must not be read after the callback has returned.
    HoldBack = 2,
}

impl Action {
    /// Returns the action for a body whose bytes the filter does not need: `HoldBack` in place of `Pause`.
    pub(super) fn of_body(self) -> Self {
        if self == Self::Pause { Self::HoldBack } else { self }
    }
}
