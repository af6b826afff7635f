//! Calls to the proxy, in the forms that the worker needs.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;

use crate::descriptor::{Attributes, Memo, RequestBody};
use crate::host::{self, Headers};
use crate::limiter::Decision;
use crate::units::Micros;

/// In a microsecond.
const NANOS_PER_MICRO: u64 = 1_000;

/// A request's attributes, as the effective context sees them. Values are bytes: a header need not be UTF-8.
///
/// Headers are read all at once, and once: asked for one by its name, Envoy gives only the first of several values
/// (seen in 1.40 over HTTP/1), behind which the one that counts could hide.
#[derive(Default)]
pub(crate) struct RequestAttributes {
    body: RequestBody,
    /// As the proxy encodes them.
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

/// A variable of the environment that the proxy gives the VM.
pub(crate) fn variable(name: &str) -> Option<String> {
    let environment = host::environment();
    let value =
        environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    String::from_utf8(value?.to_vec()).ok()
}

/// Requests that one callback may decide. Each is resumed within the callback before it: with many more, the proxy's
/// stack overflows (seen with 2,000; 300 were fine). The next callback goes on with the rest.
const DECISIONS_PER_CALLBACK: usize = 192;
/// Decisions up to which it may check one more request: so there is room to do all that comes before those.
const CHECKS_PER_CALLBACK: usize = 128;

/// One callback: when it is, in whose place the proxy takes calls to act, and what it has decided. The place is at
/// first that of the context which the proxy called; it forgets any other when the callback returns.
pub(crate) struct Callback {
    /// The clock is asked once: each time is a call out of the VM.
    pub(crate) now: Micros,
    own: u32,
    effective: u32,
    decided: Vec<(u32, Decision)>,
}

impl Callback {
    pub(crate) fn of(own: u32, clock: Clock) -> Self {
        Self { now: clock.now(), own, effective: own, decided: Vec::new() }
    }

    /// The context whose callback it is.
    pub(crate) fn own(&self) -> u32 {
        self.own
    }

    /// Decides a request, once all else of this callback is done: an answer has Envoy stop the filters of this VM that
    /// are called until the callback is over, so that of what is sent after it the bridge would lose what it passes on.
    pub(crate) fn decide(&mut self, request: u32, decision: Decision) {
        self.decided.push((request, decision));
    }

    /// Whether it may decide one more.
    pub(crate) fn may_decide(&self) -> bool {
        self.decided.len() < DECISIONS_PER_CALLBACK
    }

    /// Whether it may check one more, which it may have to decide.
    pub(crate) fn may_check(&self) -> bool {
        self.decided.len() < CHECKS_PER_CALLBACK
    }

    /// What it has decided.
    pub(crate) fn take_decided(&mut self) -> Vec<(u32, Decision)> {
        core::mem::take(&mut self.decided)
    }

    /// Acts in the place of a context from here on. `false` where it is no more: acting nonetheless would act on
    /// another request.
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

/// The proxy's monotonic clock, counted from when it was first asked: what it was then.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
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
