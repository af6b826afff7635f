//! Worker: one limiter's requests, callbacks and ticks, and the calls to the host that carry out its effects.
//!
//! The module plays two roles, which `root_id` tells apart: `limiter` among a listener's HTTP filters, and `bridge` among
//! the upstream HTTP filters of the Redis cluster. [`Contexts`] finds the [`Worker`] or the bridge of a callback.

mod bridge;
mod callback;
mod contexts;
mod effects;
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
use crate::config::Config;
use crate::host::{self, Buffer, Headers, Level};
use crate::limiter::{Batching, BodyWaits, Counters, Limiter, Ticker};
use crate::redis::Failure;
use crate::respond::Header;
use crate::table::Table;

/// One worker: what all contexts of a plugin share within a VM.
pub(crate) struct Worker {
    root: u32,
    clock: Clock,
    /// Where Redis is.
    cluster: String,
    /// A message to itself arrives at the end of the proxy's turn. `None` where the proxy has no queues.
    turn: Option<u32>,
    /// The proxy's ids of the counters, in their order.
    counters: Vec<u32>,
    /// What is being sent at this moment; reused from one send to the next.
    sending: RefCell<Vec<u8>>,
    /// Borrowed across no call that makes something happen: that may call back.
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
    /// The callouts under way: the proxy's tokens, and their own ids.
    callouts: Vec<(u32, u64)>,
    /// What the responses to requests are to carry.
    admitted: Table<Vec<Header>>,
}

impl Worker {
    /// A worker of `config`, its counters made known to the proxy. `None` where the proxy refuses one, or has
    /// no random numbers.
    pub(crate) fn new(root: u32, config: Config) -> Option<Self> {
        // Another for each worker of each proxy.
        let seed = getrandom::u64().ok()?;
        let define = |name: &String| host::define_counter(name).ok();
        let counters = Counters::names(&config).iter().map(define).collect::<Option<_>>()?;
        Some(Self {
            root,
            clock: Clock::start(),
            cluster: config.redis.cluster.clone(),
            turn: host::register_queue(&format!("weir.turn.{seed:016x}")).ok(),
            counters,
            sending: RefCell::new(Vec::new()),
            state: RefCell::new(State {
                body_waits: BodyWaits::new(&config.body),
                limiter: Limiter::new(config, seed),
                stream: None,
                stream_name: seed,
                ticker: Ticker::default(),
                batching: Batching::default(),
                callouts: Vec::new(),
                admitted: Table::new(),
            }),
        })
    }

    pub(crate) fn tick(&self) {
        self.during(self.root, |callback| {
            self.with(|state| state.limiter.tick(callback.now));
            self.report();
            // Should the end of a turn not have been told.
            self.end_turn(callback);
            self.adjust_ticks(callback);
        });
    }

    /// The proxy has been through all that was there to be done.
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

    /// Redis has answered something, on the stream that this worker has now. `context` is the one that was called.
    pub(crate) fn stream_bytes(&self, context: u32, bytes: &[u8]) {
        self.during(context, |callback| {
            self.with(|state| state.limiter.redis().handle_bytes(callback.now, bytes));
            self.perform_background(callback);
        });
    }

    /// The name of the stream that was opened last, or is being opened.
    pub(crate) fn last_stream(&self) -> u64 {
        self.with(|state| state.stream_name)
    }

    /// Whether it is the stream of this name that there is now.
    pub(crate) fn listens_to(&self, stream: u64) -> bool {
        self.with(|state| state.stream.is_some() && state.stream_name == stream)
    }

    /// Shows what is being sent at this moment, if anything; whether `show` took it.
    pub(crate) fn with_sending(&self, show: impl FnOnce(&[u8]) -> bool) -> bool {
        let sending = self.sending.borrow();
        !sending.is_empty() && show(&sending)
    }

    pub(crate) fn stream_close(&self, token: u32) {
        // The proxy keeps the stream's handle until this side has closed it too, and refuses only to close none.
        let _ = host::close_stream(token);
        if self.with(|state| state.stream != Some(token)) {
            return;
        }
        self.during(self.root, |callback| {
            self.with(|state| {
                state.stream = None;
                state.limiter.redis().handle_closed(callback.now);
            });
            self.perform_background(callback);
        });
    }

    /// A callout is over, whatever context it was for: to the proxy, all are of the root context.
    pub(crate) fn callout_response(&self, token: u32, headers: usize, size: usize) {
        self.during(self.root, |callback| {
            self.with(|state| {
                let Some(at) = state.callouts.iter().position(|(known, _)| *known == token) else { return };
                let (_, id) = state.callouts.swap_remove(at);
                let body = callout_body(headers, size);
                let body = body.as_deref().map_err(|failure| *failure);
                state.limiter.redis().handle_callout(callback.now, id, body);
            });
            // The next callout waits for the end of the turn, and for a tick where there are no queues.
            let _ = self.turn.map(host::enqueue);
            self.perform_background(callback);
        });
    }

    /// Hands the proxy what the counters have gained.
    fn report(&self) {
        self.with(|state| {
            for (counter, gained) in state.limiter.counters().take() {
                if let Some(&counter) = self.counters.get(counter) {
                    let _ = host::increment(counter, i64::try_from(gained).unwrap_or(i64::MAX));
                }
            }
        });
    }

    /// Runs a context's callback, then carries out what it has decided.
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

/// The body of the callout's response that is being told, or why there is none.
fn callout_body(headers: usize, size: usize) -> Result<Vec<u8>, Failure> {
    // Without headers, the connection was lost, and the proxy has none to be asked for. Where there are any, a
    // cluster of raw TCP answers 200, and any other status is the proxy's own word on why there is no answer.
    let status = (headers > 0).then(|| host::header(Headers::Callout, ":status")).flatten();
    match status.as_deref() {
        Some(b"200") => Ok(host::buffer(Buffer::CalloutBody, size)),
        Some(b"504") => Err(Failure::Timeout),
        Some(_) if host::header(Headers::Callout, "x-envoy-overloaded").is_some() => Err(Failure::CircuitBreaker),
        Some(_) => Err(Failure::Unavailable),
        None => Err(Failure::Reset),
    }
}

fn log_error(line: &str) {
    log(Level::Error, line);
}

fn log_warning(line: &str) {
    log(Level::Warn, line);
}

#[inline(never)]
fn log(level: Level, line: &str) {
    host::log(level, &["weir: ", line].concat());
}
