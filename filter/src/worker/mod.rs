//! Worker: requests, callbacks and ticks of a limiter, and the host calls that carry out its effects.
//!
//! The module has two roles, chosen by `root_id`: `limiter` among a listener's HTTP filters, and `bridge` among the
//! upstream HTTP filters of the Redis cluster. [`Contexts`] finds the [`Worker`] or the bridge of a callback.

mod bridge;
mod callback;
mod charging;
mod contexts;
mod effects;
#[cfg(not(target_arch = "wasm32"))]
mod idle;
mod metrics;
mod requests;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests may overflow: that is how they fail")]
mod tests;
mod wire;

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

pub(crate) use self::callback::Callback;
use self::callback::Clock;
pub(crate) use self::contexts::Contexts;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::idle::NextDeadline;
use self::metrics::Metrics;
use crate::config::Config;
use crate::host::{self, Buffer, Headers, Level};
use crate::limiter::{Batching, BodyWaits, Limiter, Ticker};
use crate::pairs;
use crate::redis::{Failure, Trouble, trouble_of};
use crate::response::Header;
use crate::table::Table;

/// State that all contexts of a plugin share within a VM. The proxy has one VM per worker thread.
pub(crate) struct Worker {
    root: u32,
    clock: Clock,
    /// Envoy cluster of Redis.
    cluster: String,
    /// Headers of callouts, encoded.
    callout_headers: Vec<u8>,
    /// Whether callouts go to a front end, and not to Redis itself.
    has_front_end: bool,
    /// Shared queue: a message that the worker sends to itself arrives at the end of the proxy's event-loop turn.
    /// `None` where the proxy has no queues.
    turn: Option<u32>,
    metrics: Metrics,
    /// Whether any limit charges what responses cost.
    charges: bool,
    /// Names of the headers that mark requests beyond a limit.
    marks: Vec<String>,
    /// Bytes that are being sent now; empty otherwise. The buffer is reused from one send to the next.
    sending: RefCell<Vec<u8>>,
    /// Never borrowed across a host call that may call back.
    state: RefCell<State>,
}

struct State {
    limiter: Limiter,
    stream: Option<u32>,
    /// The name of the last stream that was opened.
    stream_name: u64,
    ticker: Ticker,
    batching: Batching,
    body_waits: BodyWaits,
    /// Callouts under way: the proxy's tokens, and the callouts' ids.
    callouts: Vec<(u32, u64)>,
    /// Whether the gauge of connected workers includes this worker.
    is_connected: bool,
    /// Headers for the responses to admitted requests.
    admitted: Table<Vec<Header>>,
}

impl Worker {
    /// Creates a worker and defines its metrics at the proxy. `None` where the proxy refuses a metric, or has no random
    /// numbers.
    pub(crate) fn new(root: u32, config: Config) -> Option<Self> {
        // Different for each worker of each proxy.
        let seed = host::random()?;
        let metrics = Metrics::define(&config)?;
        Some(Self {
            root,
            clock: Clock::start(),
            cluster: config.redis.cluster.clone(),
            callout_headers: pairs::encode(
                config.redis.callout_headers().iter().map(|(name, value)| (*name, &**value)),
            ),
            has_front_end: config.redis.transport.front_end().is_some(),
            turn: host::register_queue(&format!("weir.turn.{seed:016x}")).ok(),
            metrics,
            charges: config.usage.is_some(),
            marks: config.marks(),
            sending: RefCell::new(Vec::new()),
            state: RefCell::new(State {
                body_waits: BodyWaits::new(&config.body),
                limiter: Limiter::new(config, seed),
                stream: None,
                stream_name: seed,
                ticker: Ticker::default(),
                batching: Batching::default(),
                callouts: Vec::new(),
                is_connected: false,
                admitted: Table::new(),
            }),
        })
    }

    pub(crate) fn tick(&self) {
        self.during(self.root, |callback| {
            self.with(|state| state.limiter.tick(callback.now));
            self.report();
            // In case the proxy lost the message for the end of a turn.
            self.end_turn(callback);
            self.adjust_ticks(callback);
        });
    }

    /// Handles the end of the proxy's turn: the proxy has handled every event that was ready.
    pub(crate) fn turn_ends(&self, queue: u32) {
        while host::dequeue(queue).is_some() {}
        self.with(|state| state.limiter.redis().handle_turn());
        self.during(self.root, |callback| self.end_turn(callback));
    }

    pub(crate) fn stream_message(&self, token: u32, size: usize) {
        if self.with(|state| state.stream == Some(token)) {
            self.stream_bytes(self.root, &host::buffer(Buffer::StreamMessage, size));
        }
    }

    /// Handles bytes from Redis on the current stream. `context` is the context that the proxy called.
    pub(crate) fn stream_bytes(&self, context: u32, bytes: &[u8]) {
        self.during(context, |callback| {
            self.with(|state| {
                state.limiter.redis().handle_bytes(callback.now, bytes);
                self.record_round_trips(state);
            });
            self.perform_background(callback);
        });
    }

    /// Returns the name of the stream that was opened last, or is being opened.
    pub(crate) fn last_stream(&self) -> u64 {
        self.with(|state| state.stream_name)
    }

    /// Returns whether the worker's current stream has this name.
    pub(crate) fn listens_to(&self, stream: u64) -> bool {
        self.with(|state| state.stream.is_some() && state.stream_name == stream)
    }

    /// Calls `show` with the bytes that are being sent now, if any. Returns whether `show` accepted them.
    pub(crate) fn with_sending(&self, show: impl FnOnce(&[u8]) -> bool) -> bool {
        let sending = self.sending.borrow();
        !sending.is_empty() && show(&sending)
    }

    pub(crate) fn stream_close(&self, token: u32) {
        // The proxy keeps the stream's handle until this side has closed it too. Closing a missing stream is harmless.
        let _ = host::close_stream(token);
        if self.with(|state| state.stream != Some(token)) {
            return;
        }
        self.during(self.root, |callback| {
            self.with(|state| {
                state.stream = None;
                state.limiter.redis().handle_closed(callback.now);
            });
            self.report_connection();
            self.perform_background(callback);
        });
    }

    /// Handles a callout's response, or its failure. All callouts belong to the root context.
    pub(crate) fn callout_response(&self, token: u32, headers: usize, size: usize) {
        self.during(self.root, |callback| {
            self.with(|state| {
                let Some(at) = state.callouts.iter().position(|(known, _)| *known == token) else { return };
                let (_, id) = state.callouts.swap_remove(at);
                let redis = state.limiter.redis();
                match callout_body(headers, size, self.has_front_end) {
                    Response::Body(body) => redis.handle_callout(callback.now, id, Ok(&body)),
                    Response::Failed(failure) => redis.handle_callout(callback.now, id, Err(failure)),
                    Response::Trouble(trouble) => redis.handle_callout_trouble(callback.now, id, trouble),
                }
                self.record_round_trips(state);
            });
            self.report_connection();
            // The next callout waits for the end of the turn, or for a tick where the proxy has no queues.
            let _ = self.turn.map(host::enqueue);
            self.perform_background(callback);
        });
    }

    /// Runs a context's callback, then carries out its decisions.
    fn during<T>(&self, context: u32, run: impl FnOnce(&mut Callback) -> T) -> T {
        let mut callback = Callback::of(context, self.clock);
        let result = run(&mut callback);
        for (request, decision) in callback.take_decided() {
            self.carry_out(&mut callback, request, decision);
        }
        result
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.borrow_mut())
    }
}

/// Response to a callout.
enum Response {
    /// The body with the replies.
    Body(Vec<u8>),
    /// No response of Redis, or of the front end.
    Failed(Failure),
    /// A response of the front end without replies, or of the proxy in its place.
    Trouble(Trouble),
}

/// Returns the callout's response in the current callback.
fn callout_body(headers: usize, size: usize, has_front_end: bool) -> Response {
    // No headers: the connection was lost. Otherwise a cluster of raw TCP answers 200, and any other status comes from
    // the proxy and gives the reason for the missing response.
    let status = (headers > 0).then(|| host::header(Headers::Callout, ":status")).flatten();
    let body = || host::buffer(Buffer::CalloutBody, size);
    let failure = match status.as_deref() {
        Some(b"200") => return Response::Body(body()),
        Some(b"504") => Failure::Timeout,
        Some(_) if host::header(Headers::Callout, "x-envoy-overloaded").is_some() => Failure::CircuitBreaker,
        Some(status) if has_front_end => {
            let status = str::from_utf8(status).ok().and_then(|status| status.parse().ok());
            return Response::Trouble(trouble_of(status.unwrap_or_default(), &body()));
        }
        Some(_) => Failure::Unavailable,
        None => Failure::Reset,
    };
    Response::Failed(failure)
}

fn log_error(line: &str) {
    log(Level::Error, line);
}

fn log_warning(line: &str) {
    log(Level::Warn, line);
}

fn log_info(line: &str) {
    log(Level::Info, line);
}

#[inline(never)]
fn log(level: Level, line: &str) {
    host::log(level, &["weir: ", line].concat());
}
