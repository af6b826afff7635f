//! Host: the functions of the proxy that a worker calls, and their types.
//!
//! Two backends have the same functions. `wasm` calls the proxy over the binary interface of proxy-wasm 0.2.1: with
//! `exports`, it compiles for wasm alone, and all `unsafe` code is in these two. `native` calls a [`Host`] of the caller.
//! In the filter's own tests that is `fake`, which records the calls, and calls back as Envoy does.
//!
//! An SDK exports every callback of the ABI, and each exported callback costs the proxy one call into the VM per
//! request. The filter exports: context_create, configure, tick, queue_ready, done; request headers, body and
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
//!   [`Callback`](crate::worker::Callback) carries decisions out at its end.
//! * Envoy defers the events of callouts and streams while a callback runs, even where a call fails immediately. If a
//!   nested callback ends in the meantime, Envoy tries again, finds the outer callback still running, defers the event
//!   again, and never returns. Therefore no code here closes (`proxy_close_stream`) an exchange that a callback of this
//!   VM has begun.
//!
//! The code does not rely on the third and the last of these: no state stays borrowed across a host call with side
//! effects on streams or requests, only across host calls that read, count or log.

mod abi;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
pub(crate) mod fake;
#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod wasm;

pub use self::abi::{Action, Buffer, Headers, Level, Metric};
#[cfg(not(target_arch = "wasm32"))]
pub use self::native::Host;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm::*;

use core::num::NonZeroU32;

/// Status of the host calls whose arguments were valid, and that failed for another reason.
const INTERNAL_FAILURE: u32 = 10;

/// Error status of a host call: 1 not found, 2 bad argument, 4 parse failure, 10 internal failure, and others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub NonZeroU32);

impl HostError {
    /// Whether the host failed to carry out a call with valid arguments.
    pub(crate) fn is_internal(self) -> bool {
        self.0.get() == INTERNAL_FAILURE
    }
}
