//! One worker's limiter, and the proxy calls that carry out what it asks for.

mod effects;

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use self::effects::answer;
use super::abi::{self, Action, Buffer, Headers};
use super::host::{Callback, Clock, RequestAttributes};
use crate::config::Config;
use crate::descriptor::RequestBody;
use crate::limiter::{Counters, Decision, Gather, Limiter, RequestId, Step, Ticker};
use crate::redis::{Failure, Ticket};
use crate::respond::Header;
use crate::table::Table;

/// One worker: what all contexts of a plugin share within a VM.
pub(super) struct Worker {
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
    gather: Gather,
    /// Whose the callouts in flight are, by the proxy's tokens.
    callouts: Vec<(u32, Ticket)>,
    requests: Table<Request>,
}

/// What is remembered of a request from one of its callbacks to the next.
enum Request {
    /// Its check needs its body, of which so many bytes have come.
    AwaitsBody(usize),
    /// Its response is to carry these.
    Admitted(Vec<Header>),
}

impl Worker {
    /// A worker of `config`, its counters made known to the proxy. `None` where the proxy refuses one, or has
    /// no random numbers.
    pub(super) fn new(root: u32, config: Config) -> Option<Self> {
        // Another for each worker of each proxy.
        let seed = getrandom::u64().ok()?;
        let define = |name: &String| abi::define_counter(name).ok();
        let counters = Counters::names(&config).iter().map(define).collect::<Option<_>>()?;
        Some(Self {
            root,
            clock: Clock::start(),
            cluster: config.redis.cluster.clone(),
            turn: abi::register_queue(&format!("weir.turn.{seed:016x}")).ok(),
            counters,
            sending: RefCell::new(Vec::new()),
            state: RefCell::new(State {
                limiter: Limiter::new(config, seed),
                stream: None,
                stream_name: seed,
                ticker: Ticker::default(),
                gather: Gather::default(),
                callouts: Vec::new(),
                requests: Table::new(),
            }),
        })
    }

    pub(super) fn tick(&self) {
        let mut callback = self.callback_of(self.root);
        self.with(|state| state.limiter.tick(callback.now));
        self.report();
        self.perform_aside(&mut callback);
        // Should the end of a turn not have been told.
        self.send_now(&mut callback);
        self.adjust_ticks(&mut callback);
    }

    /// The proxy has been through all that was there to be done.
    pub(super) fn turn_ends(&self, queue: u32) {
        while abi::dequeue(queue).is_some() {}
        let mut callback = self.callback_of(self.root);
        self.send_now(&mut callback);
        self.perform_aside(&mut callback);
    }

    pub(super) fn stream_message(&self, token: u32, size: usize) {
        if self.with(|state| state.stream == Some(token)) {
            self.stream_bytes(self.root, &abi::buffer(Buffer::StreamMessage, size));
        }
    }

    /// Redis has answered something, on the stream that this worker has now. `context` is the one that was called.
    pub(super) fn stream_bytes(&self, context: u32, bytes: &[u8]) {
        let mut callback = self.callback_of(context);
        self.with(|state| state.limiter.redis().handle_bytes(callback.now, bytes));
        self.perform_aside(&mut callback);
    }

    /// The name of the stream that was opened last, or is being opened.
    pub(super) fn last_stream(&self) -> u64 {
        self.with(|state| state.stream_name)
    }

    /// Whether it is the stream of this name that there is now.
    pub(super) fn listens_to(&self, stream: u64) -> bool {
        self.with(|state| state.stream.is_some() && state.stream_name == stream)
    }

    /// Shows what is being sent at this moment, if anything; whether `show` took it.
    pub(super) fn with_sending(&self, show: impl FnOnce(&[u8]) -> bool) -> bool {
        let sending = self.sending.borrow();
        !sending.is_empty() && show(&sending)
    }

    pub(super) fn stream_close(&self, token: u32) {
        let mut callback = self.callback_of(self.root);
        // The proxy keeps the stream's handle until this side has closed it too, and refuses only to close none.
        let _ = abi::close_stream(token);
        let was_current = self.with(|state| {
            let was_current = state.stream == Some(token);
            if was_current {
                state.stream = None;
                state.limiter.redis().handle_closed(callback.now);
            }
            was_current
        });
        if was_current {
            self.perform_aside(&mut callback);
        }
    }

    /// A callout is over, whatever context it was for: to the proxy, all are of the root context.
    pub(super) fn callout_response(&self, token: u32, headers: usize, size: usize) {
        let mut callback = self.callback_of(self.root);
        self.with(|state| {
            let Some(at) = state.callouts.iter().position(|(known, _)| *known == token) else { return };
            let (_, ticket) = state.callouts.swap_remove(at);
            let body = callout_body(headers, size);
            let body = body.as_deref().map_err(|failure| *failure);
            state.limiter.redis().handle_callout(callback.now, ticket, body);
        });
        self.perform_aside(&mut callback);
    }

    /// A request's headers have arrived, and its context is the current one.
    pub(super) fn request(&self, request: u32, is_whole: bool) -> Action {
        let attributes = RequestAttributes::default();
        let awaits_body = !is_whole
            && self.with(|state| {
                let awaits_body = state.limiter.config().needs_body_of(&attributes);
                if awaits_body {
                    state.requests.insert(request, Request::AwaitsBody(0));
                }
                awaits_body
            });
        if awaits_body { Action::Pause } else { self.check(request, &attributes) }
    }

    /// Some of a request's body is there: `size` bytes with what was held of it before.
    pub(super) fn request_body(&self, request: u32, size: usize, is_whole: bool) -> Action {
        let action = self.with(|state| {
            let Some(Request::AwaitsBody(before)) = state.requests.get_mut(request) else {
                return Some(state.rest_of(request));
            };
            *before = size;
            let is_enough = is_whole || size > state.limiter.config().max_body_bytes;
            (!is_enough).then_some(Action::Pause)
        });
        action.unwrap_or_else(|| self.check_with_body(request, size))
    }

    /// A request's trailers are there, so its body is whole.
    pub(super) fn request_trailers(&self, request: u32) -> Action {
        let awaited = self.with(|state| match state.requests.get(request) {
            Some(Request::AwaitsBody(size)) => Ok(*size),
            _ => Err(state.rest_of(request)),
        });
        match awaited {
            Ok(size) => self.check_with_body(request, size),
            Err(action) => action,
        }
    }

    fn check_with_body(&self, request: u32, size: usize) -> Action {
        let is_too_large = self.with(|state| {
            state.requests.remove(request);
            size > state.limiter.config().max_body_bytes
        });
        let body = (!is_too_large).then(|| RequestBody::new(abi::buffer(Buffer::RequestBody, size)));
        self.check(request, &RequestAttributes::with_body(body))
    }

    fn check(&self, request: u32, attributes: &RequestAttributes) -> Action {
        let mut callback = self.callback_of(request);
        let step = self.with(|state| state.limiter.request(callback.now, RequestId(request), attributes));
        // Who is decided at once most often leaves nothing to be done but to count, which a tick brings.
        let is_done = !matches!(step, Step::Wait) && self.with(|state| state.is_at_rest());
        let on_own = if is_done { None } else { self.perform(&mut callback) };
        match on_own.map_or(step, Step::Decided) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Decided(Decision::Admit(headers)) => {
                self.admit(request, headers);
                Action::Continue
            }
            Step::Decided(Decision::Answer(reply)) => {
                if callback.acts_as(request) {
                    answer(&reply);
                }
                Action::Pause
            }
        }
    }

    /// The response to a request. Headers are added once.
    pub(super) fn response_headers(&self, request: u32) -> Action {
        let headers = self.with(|state| match state.requests.get_mut(request) {
            Some(Request::Admitted(headers)) => core::mem::take(headers),
            _ => Vec::new(),
        });
        for (name, value) in headers {
            let set = abi::set_header(Headers::Response, name, &value);
            debug_assert_eq!(set, Ok(()), "the proxy calls about these headers");
        }
        Action::Continue
    }

    /// The request is over, answered or not.
    pub(super) fn done(&self, request: u32) {
        let holds_any = self.with(|state| {
            state.requests.remove(request);
            state.limiter.has_any_of(RequestId(request))
        });
        if !holds_any {
            return;
        }
        let mut callback = self.callback_of(request);
        let gave_back = self.with(|state| state.limiter.done(callback.now, RequestId(request)));
        if gave_back {
            let decision = self.perform(&mut callback);
            debug_assert_eq!(decision, None, "the request is over");
        }
    }

    /// Hands the proxy what the counters have gained.
    fn report(&self) {
        self.with(|state| {
            for (counter, gained) in state.limiter.counters().take() {
                if let Some(&counter) = self.counters.get(counter) {
                    let _ = abi::increment(counter, i64::try_from(gained).unwrap_or(i64::MAX));
                }
            }
        });
    }

    fn callback_of(&self, context: u32) -> Callback {
        Callback::of(context, self.clock)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.borrow_mut())
    }
}

impl State {
    /// Whether there is nothing to do before the next tick, and one will come.
    fn is_at_rest(&mut self) -> bool {
        self.ticker.is_running() && self.limiter.is_at_rest()
    }

    /// What follows a request's headers is held with them until the request is decided.
    fn rest_of(&self, request: u32) -> Action {
        if self.limiter.is_waiting(RequestId(request)) { Action::Pause } else { Action::Continue }
    }
}

/// The body of the callout's response that is being told, or why there is none.
fn callout_body(headers: usize, size: usize) -> Result<Vec<u8>, Failure> {
    // Without headers, the connection was lost, and the proxy has none to be asked for. Where there are any, a
    // cluster of raw TCP answers 200, and any other status is the proxy's own word on why there is no answer.
    let status = (headers > 0).then(|| abi::header(Headers::Callout, ":status")).flatten();
    match status.as_deref() {
        Some(b"200") => Ok(abi::buffer(Buffer::CalloutBody, size)),
        Some(b"504") => Err(Failure::Timeout),
        Some(_) => Err(Failure::Unavailable),
        None => Err(Failure::Reset),
    }
}
