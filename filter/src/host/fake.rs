//! Fake host for native tests: records the calls of the worker, and calls back where Envoy does.
//!
//! It runs the bridge's request callbacks within `send`, refuses calls in the place of a context that is no more, and
//! looks a stream's token up in the effective context, as Envoy 1.40 does. Each thread has a host of its own.

mod functions;
mod headers;
mod metrics;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use core::cell::RefCell;
use core::num::NonZeroU32;

use self::functions::Fake;
pub(crate) use self::metrics::{metric, take_recorded};
use super::{Buffer, Headers, Host, HostError, Level, Metric, within};
use crate::worker::Contexts;
use crate::{pairs, redis::framing};

/// A call of the worker that makes something happen, with the context in whose place it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    SetTickPeriod(u32),
    Enqueue,
    OpenStream(u32),
    CloseStream(u32),
    CancelStream(u32),
    /// Bytes that the bridge has passed on to Redis, and the effective context of the `send` that brought them.
    Send(u32, Vec<u8>),
    Callout(u32),
    Resume(u32),
    ResumeResponse(u32),
    Answer(u32, u32),
    SetHeader(u32, String, String),
    RemoveHeader(u32, String),
    SetProperty(u32, String),
    Log(String),
}

#[derive(Default)]
struct State {
    nanos: u64,
    effective: u32,
    live: BTreeSet<u32>,
    request_headers: BTreeMap<u32, Vec<u8>>,
    root_ids: BTreeMap<u32, &'static str>,
    buffers: BTreeMap<u32, Vec<u8>>,
    /// The open stream's token and the context that opened it.
    stream: Option<(u32, u32)>,
    last_token: u32,
    queued: usize,
    calls: Vec<Call>,
    /// Status with which the host refuses streams and callouts, if it does.
    refusal: Option<NonZeroU32>,
}

/// The root context of the limiter, and the only one that may use the stream.
pub(crate) const LIMITER: u32 = 1;
const BRIDGE: u32 = 2;
/// The request that has the stream opened.
pub(crate) const FIRST: u32 = 9;
/// The bridge's context of the open stream.
const BRIDGED: u32 = 1_000_000;
const QUEUE: u32 = 7;

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    static CONTEXTS: Contexts = const { Contexts::new() };
}

/// Drives a plugin's callbacks, as the proxy does.
pub(crate) struct Proxy;

impl Proxy {
    /// Starts limiter and bridge in one VM, with this configuration of the limiter.
    pub(crate) fn start(configuration: &str) -> Self {
        STATE.replace(State { nanos: 1_000_000_000, ..State::default() });
        metrics::reset();
        for (root, root_id, configuration) in [(LIMITER, "limiter", configuration), (BRIDGE, "bridge", "")] {
            with(|state| {
                state.live.insert(root);
                state.root_ids.insert(root, root_id);
                state.buffers.insert(Buffer::PluginConfiguration as u32, configuration.as_bytes().to_vec());
            });
            let is_accepted = Self::call(root, |contexts| {
                contexts.create(root, 0);
                contexts.configure(root, configuration.len())
            });
            assert!(is_accepted, "{:?}", take_calls());
        }
        Self
    }

    /// The same, connected to a Redis that has answered the handshake and admitted the request [`FIRST`], which `first` begins.
    pub(crate) fn connected(configuration: &str, first: impl FnOnce(&Self)) -> Self {
        let proxy = Self::start(configuration);
        first(&proxy);
        proxy.tick();
        Self::call(BRIDGED, |contexts| contexts.response_headers(BRIDGED, false));
        proxy.redis_says(b"+PONG\r\n");
        proxy.turn();
        proxy.redis_says(b"*2\r\n:1\r\n:0\r\n");
        proxy.turn();
        proxy.done(FIRST);
        proxy.delete(FIRST);
        take_calls();
        proxy
    }

    pub(crate) fn passes(&self, millis: u64) {
        with(|state| state.nanos += millis * 1_000_000);
    }

    pub(crate) fn request(&self, context: u32, headers: &[(&str, &str)], is_whole: bool) -> super::Action {
        with(|state| {
            state.live.insert(context);
            state.request_headers.insert(context, pairs::encode(headers.iter().copied()));
        });
        Self::call(context, |contexts| {
            contexts.create(context, LIMITER);
            contexts.request_headers(context, is_whole)
        })
    }

    pub(crate) fn request_body(&self, context: u32, bytes: &[u8], is_whole: bool) -> super::Action {
        with(|state| state.buffers.insert(Buffer::RequestBody as u32, bytes.to_vec()));
        Self::call(context, |contexts| contexts.request_body(context, bytes.len(), is_whole))
    }

    pub(crate) fn request_trailers(&self, context: u32) -> super::Action {
        Self::call(context, |contexts| contexts.request_trailers(context))
    }

    pub(crate) fn response_headers(&self, context: u32) -> super::Action {
        Self::call(context, |contexts| contexts.response_headers(context, false))
    }

    pub(crate) fn response_trailers(&self, context: u32) -> super::Action {
        Self::call(context, |contexts| contexts.response_trailers(context))
    }

    /// Has the host refuse streams and callouts with this status; 0 for none.
    pub(crate) fn refuses(&self, status: u32) {
        with(|state| state.refusal = NonZeroU32::new(status));
    }

    /// Ends the last callout: with a body, or without a response.
    pub(crate) fn callout_ends(&self, body: Option<&[u8]>) {
        let token = with(|state| {
            state.buffers.insert(Buffer::CalloutBody as u32, body.unwrap_or_default().to_vec());
            state.last_token
        });
        let (headers, size) = (usize::from(body.is_some()), body.map_or(0, <[u8]>::len));
        Self::call(LIMITER, |contexts| {
            contexts.with_worker(LIMITER, |worker| worker.callout_response(token, headers, size));
        });
    }

    /// Ends a request. Its context looks alive until [`delete`](Self::delete), as Envoy defers that.
    pub(crate) fn done(&self, context: u32) {
        Self::call(context, |contexts| contexts.done(context));
    }

    pub(crate) fn delete(&self, context: u32) {
        with(|state| state.live.remove(&context));
    }

    pub(crate) fn tick(&self) {
        self.passes(1);
        Self::call(LIMITER, |contexts| contexts.with_worker(LIMITER, |worker| worker.tick()));
    }

    /// Ends the turn of the proxy's loop: tells of the messages in the queue.
    pub(crate) fn turn(&self) {
        while with(|state| state.queued > 0) {
            Self::call(LIMITER, |contexts| contexts.with_worker(LIMITER, |worker| worker.turn_ends(QUEUE)));
        }
    }

    /// Bytes of Redis on the open stream, in one callback of the bridge, and in as many of the limiter as it frames.
    pub(crate) fn redis_says(&self, bytes: &[u8]) {
        with(|state| state.buffers.insert(Buffer::ResponseBody as u32, bytes.to_vec()));
        Self::call(BRIDGED, |contexts| contexts.response_body(BRIDGED, bytes.len(), false));
        let framed = with(|state| state.buffers.remove(&(Buffer::ResponseBody as u32))).unwrap_or_default();
        let mut rest = framed.as_slice();
        while let Some(([_, size @ ..], after)) = rest.split_first_chunk::<5>() {
            let (message, behind) = after.split_at(u32::from_be_bytes(*size) as usize);
            self.stream_says(message);
            rest = behind;
        }
    }

    /// A message on the open stream, in one callback.
    pub(crate) fn stream_says(&self, message: &[u8]) {
        let (token, _) = with(|state| state.stream).expect("a stream is open");
        with(|state| state.buffers.insert(Buffer::StreamMessage as u32, message.to_vec()));
        Self::call(LIMITER, |contexts| {
            contexts.with_worker(LIMITER, |worker| worker.stream_message(token, message.len()));
        });
    }

    /// The peer closes the open stream.
    pub(crate) fn redis_closes(&self) -> u32 {
        let (token, _) = with(|state| state.stream.take()).expect("a stream is open");
        Self::call(LIMITER, |contexts| contexts.with_worker(LIMITER, |worker| worker.stream_close(token)));
        token
    }

    /// Runs a callback of a context: its effective context is its own, and is forgotten when the callback returns.
    fn call<T>(context: u32, run: impl FnOnce(&Contexts) -> T) -> T {
        let before = with(|state| core::mem::replace(&mut state.effective, context));
        let host: Rc<dyn Host> = Rc::new(Fake);
        let result = within(&host, || CONTEXTS.with(run));
        with(|state| state.effective = before);
        result
    }
}

/// The calls since the last time.
pub(crate) fn take_calls() -> Vec<Call> {
    with(|state| core::mem::take(&mut state.calls))
}

fn with<T>(act: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(act)
}

fn record(call: impl FnOnce(u32) -> Call) {
    with(|state| {
        let call = call(state.effective);
        state.calls.push(call);
    });
}

fn done(is_done: bool) -> Result<(), HostError> {
    if is_done { Ok(()) } else { Err(HostError(NonZeroU32::MIN)) }
}

fn refused() -> Result<(), HostError> {
    with(|state| state.refusal).map_or(Ok(()), |status| Err(HostError(status)))
}
