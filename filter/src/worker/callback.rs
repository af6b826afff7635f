//! Request attributes, callback state and clock, read through the proxy's host calls.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;

use crate::descriptor::{Attributes, Memo, RequestBody};
use crate::host::{self, Headers};
use crate::limiter::Decision;
use crate::units::Micros;

/// Nanoseconds in a microsecond.
const NANOS_PER_MICRO: u64 = 1_000;

/// Attributes of the effective context's request. Values are bytes: a header need not be UTF-8.
///
/// All headers are read in one host call, once. The host call for a single header returns only the first of several
/// values (observed in Envoy 1.40 over HTTP/1), so a client could hide the relevant value behind another.
#[derive(Default)]
pub(crate) struct RequestAttributes {
    body: RequestBody,
    /// All headers, encoded as [`pairs`](crate::pairs).
    headers: OnceCell<Vec<u8>>,
    memo: Memo,
}

impl RequestAttributes {
    pub(crate) fn with_body(body: RequestBody) -> Self {
        Self { body, ..Self::default() }
    }
}

impl Attributes for RequestAttributes {
    fn headers(&self) -> &[u8] {
        self.headers.get_or_init(|| host::headers(Headers::Request))
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        host::property(path)
    }

    fn body(&self) -> &RequestBody {
        &self.body
    }

    fn memo(&self) -> &Memo {
        &self.memo
    }
}

/// Returns a variable of the VM's environment. `None` where it is unset or not UTF-8.
pub(crate) fn variable(name: &str) -> Option<String> {
    let environment = host::environment();
    let value =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    String::from_utf8(value?.to_vec()).ok()
}

/// Requests that one callback decides, at most; the next callback decides the rest. Envoy nests the resumption of each
/// request in that of the previous request: 2,000 decisions overflowed its stack, 300 did not.
const DECISIONS_PER_CALLBACK: usize = 192;
/// Decisions after which a callback checks no more requests. The difference to [`DECISIONS_PER_CALLBACK`] leaves room
/// for the effects that are already queued.
const CHECKS_PER_CALLBACK: usize = 128;

/// State of one callback: its time, the effective context, and the decisions made in it. The effective context starts
/// as the context that the proxy called; the proxy resets it when the callback returns.
pub(crate) struct Callback {
    /// Time of the callback. The clock is read once per callback: each read is a host call.
    pub(crate) now: Micros,
    own: u32,
    effective: u32,
    decided: Vec<(u32, Decision)>,
}

impl Callback {
    pub(crate) fn of(own: u32, clock: Clock) -> Self {
        Self { now: clock.now(), own, effective: own, decided: Vec::new() }
    }

    /// Returns the context that the proxy called.
    pub(crate) fn own(&self) -> u32 {
        self.own
    }

    /// Queues a decision, carried out at the end of this callback. After a local reply, Envoy stops all filters of this
    /// VM that it calls until the callback returns: the bridge would lose the bytes that are sent in between.
    pub(crate) fn decide(&mut self, request: u32, decision: Decision) {
        self.decided.push((request, decision));
    }

    /// Returns whether this callback may decide one more request.
    pub(crate) fn may_decide(&self) -> bool {
        self.decided.len() < DECISIONS_PER_CALLBACK
    }

    /// Returns whether this callback may check one more request, which may need a decision.
    pub(crate) fn may_check(&self) -> bool {
        self.decided.len() < CHECKS_PER_CALLBACK
    }

    /// Takes the queued decisions, in their order.
    pub(crate) fn take_decided(&mut self) -> Vec<(u32, Decision)> {
        core::mem::take(&mut self.decided)
    }

    /// Makes `context` the effective context. `false` where the context no longer exists: the caller must then make no
    /// host call for it, which would act on another request.
    pub(crate) fn acts_as(&mut self, context: u32) -> bool {
        if self.effective != context {
            if host::set_effective_context(context).is_err() {
                return false;
            }
            self.effective = context;
        }
        true
    }
}

/// The proxy's monotonic clock, counted from [`start`](Self::start).
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    /// Nanoseconds of the proxy's clock at the start.
    zero: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { zero: host::monotonic_nanos() }
    }

    pub(crate) fn now(self) -> Micros {
        Micros(host::monotonic_nanos().saturating_sub(self.zero) / NANOS_PER_MICRO)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Clock {
    /// Time at which the proxy's clock shows `proxy`.
    pub(super) fn of_proxy(self, proxy: Micros) -> Micros {
        Micros(proxy.0.saturating_mul(NANOS_PER_MICRO).saturating_sub(self.zero) / NANOS_PER_MICRO)
    }

    /// Time of the proxy's clock at `own`, or up to a microsecond before it.
    pub(super) fn to_proxy(self, own: Micros) -> Micros {
        own.plus(Micros(self.zero / NANOS_PER_MICRO))
    }
}
