//! Host: the proxy's functions that a worker calls, and its types.
//!
//! Two backends have the same functions. `wasm` calls the proxy over the binary interface of proxy-wasm 0.2.1: it is the
//! only room that compiles for wasm alone, and all that is unsafe is in it. `fake` records the calls in native tests, and
//! calls back as Envoy does.
//!
//! An SDK would export every callback that there is, and each costs the proxy a call into the VM for each request,
//! wanted or not. These are exported: context_create, configure, tick, queue_ready, done; request headers, body and
//! trailers; response headers, body and trailers; what callouts and streams bring. `proxy_on_delete` follows
//! `proxy_on_done` at once, so there is nothing left for it to do.
//!
//! # Who calls back, and when
//!
//! A host may call into the module while the module waits for one of its functions to return:
//!
//! * Each function that hands over bytes calls `proxy_on_memory_allocate`, which touches no state of the filter's.
//! * `send` runs the bridge's request callbacks at once, in Envoy and in the harness alike. The bridge is a context of
//!   another root, of the same VM or of another one.
//! * `resume_request` and `send_local_response` are put off until the callback has returned, by both.
//!   What they lead to (a local reply's response headers, the end of the request, the next one's beginning) is then
//!   called from within the host's return, one inside the other, with nothing of the module's on the stack between.
//! * In Envoy, the end of a callback within a callback, as of the bridge's within `send`, carries out what was put off
//!   so far; and after `send_local_response`, whatever a filter's callback of this VM returns is taken for a pause, until
//!   one has ended (a bridge then loses what it was to pass on). So [`Callback`](crate::worker::Callback) keeps decisions
//!   for the end.
//! * Envoy puts off what callouts and streams bring while a callback runs, even where they fail on the spot. Should a
//!   callback within that callback end meanwhile, it tries again, finds the first one running still, puts it off again,
//!   and so for ever: so nothing here ends an exchange (`proxy_close_stream`) that a callback of this VM has begun.
//!
//! Nothing here relies on the third and the last of these: no state stays borrowed across a call that makes something
//! happen, only across those that read, count, or log.

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
pub(crate) mod fake;
#[cfg(target_arch = "wasm32")]
mod wasm;

#[cfg(test)]
pub(crate) use self::fake::*;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::wasm::*;

use core::num::NonZeroU32;

/// The host did not do it. The status says why: 1 not found, 2 bad argument, 10 internal failure, and others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) NonZeroU32);

/// How serious a line of the log is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Warn = 3,
    Error = 4,
    #[cfg(target_arch = "wasm32")]
    Critical = 5,
}

/// Bytes that the host holds for the time of a callback.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Buffer {
    RequestBody = 0,
    ResponseBody = 1,
    CalloutBody = 4,
    StreamMessage = 5,
    PluginConfiguration = 7,
}

/// Headers that the host holds for the time of a callback.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Headers {
    Request = 0,
    Response = 2,
    Callout = 6,
}

/// What becomes of what a callback told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
    /// It goes on its way.
    #[default]
    Continue = 0,
    /// It is held until it is resumed or answered. Of a body, the proxy keeps as much as it keeps of any, and answers
    /// 413 where there is more.
    Pause = 1,
    /// Of a body: it is held, and its sender waits with what is more than the proxy keeps. What was shown of it is not
    /// shown again, and must not be read once the callback has returned.
    HoldBack = 2,
}

impl Action {
    /// The same of a body that is not waited for.
    pub(crate) fn of_body(self) -> Self {
        if self == Self::Pause { Self::HoldBack } else { self }
    }
}
