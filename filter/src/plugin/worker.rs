//! One worker's limiter, and the proxy calls that carry out what it asks for.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

use super::abi::{self, Action, Buffer, Headers};
use super::host::{Acting, Clock, RequestAttributes};
use crate::config::Config;
use crate::descriptor::RequestBody;
use crate::limiter::{Counters, Decision, Effect, Limiter, RequestId, Step, Ticker};
use crate::pairs;
use crate::redis::{Callout, Failure, Ticket};
use crate::respond::{Header, LocalReply};
use crate::table::Table;
use crate::units::Micros;

/// Requests of others that one callback may decide. Each is resumed within the callback before it: with many more,
/// the proxy's stack overflows (seen with 2,000; 300 were fine). The next tick goes on with the rest.
const DECISIONS_PER_CALLBACK: usize = 128;

/// One worker: what all contexts of a plugin share within a VM.
pub(super) struct Worker {
    root: u32,
    clock: Clock,
    /// Where Redis is.
    cluster: String,
    /// The proxy's ids of the counters, in their order.
    counters: Vec<u32>,
    /// Borrowed across no call that makes something happen: that may call back.
    state: RefCell<State>,
}

struct State {
    limiter: Limiter,
    stream: Option<u32>,
    /// Reused from one send to the next.
    outgoing: Vec<u8>,
    ticker: Ticker,
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
    /// A worker of `config`, its counters made known to the proxy. `None` where the proxy refuses one.
    pub(super) fn new(root: u32, config: Config) -> Option<Self> {
        let define = |name: &String| abi::define_counter(name).ok();
        let counters = Counters::names(&config).iter().map(define).collect::<Option<_>>()?;
        Some(Self {
            root,
            clock: Clock::start(),
            cluster: config.redis.cluster.clone(),
            counters,
            state: RefCell::new(State {
                limiter: Limiter::new(config, seed()),
                stream: None,
                outgoing: Vec::new(),
                ticker: Ticker::default(),
                callouts: Vec::new(),
                requests: Table::new(),
            }),
        })
    }

    pub(super) fn tick(&self) {
        self.with(|state, now| state.limiter.tick(now));
        self.report();
        self.perform_as_root();
    }

    pub(super) fn stream_message(&self, token: u32, size: usize) {
        let is_current = self.with(|state, now| {
            let is_current = state.stream == Some(token);
            if is_current {
                state.limiter.redis().handle_bytes(now, &abi::buffer(Buffer::StreamMessage, size));
            }
            is_current
        });
        if is_current {
            self.perform_as_root();
        }
    }

    pub(super) fn stream_close(&self, token: u32) {
        // The proxy keeps the stream's handle until this side has closed it too, and refuses only to close none.
        let _ = abi::close_stream(token);
        let was_current = self.with(|state, now| {
            let was_current = state.stream == Some(token);
            if was_current {
                state.stream = None;
                state.limiter.redis().handle_closed(now);
            }
            was_current
        });
        if was_current {
            self.perform_as_root();
        }
    }

    /// A callout is over, whatever context it was for: to the proxy, all are of the root context.
    pub(super) fn callout_response(&self, token: u32, headers: usize, size: usize) {
        self.with(|state, now| {
            let Some(at) = state.callouts.iter().position(|(known, _)| *known == token) else { return };
            let (_, ticket) = state.callouts.swap_remove(at);
            let body = callout_body(headers, size);
            let body = body.as_deref().map_err(|failure| *failure);
            state.limiter.redis().handle_callout(now, ticket, body);
        });
        self.perform_as_root();
    }

    /// A request's headers have arrived, and its context is the current one.
    pub(super) fn request(&self, request: u32, is_whole: bool) -> Action {
        let attributes = RequestAttributes::default();
        let awaits_body = !is_whole
            && self.with(|state, _| {
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
        let action = self.with(|state, _| {
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
        let awaited = self.with(|state, _| match state.requests.get(request) {
            Some(Request::AwaitsBody(size)) => Ok(*size),
            _ => Err(state.rest_of(request)),
        });
        match awaited {
            Ok(size) => self.check_with_body(request, size),
            Err(action) => action,
        }
    }

    fn check_with_body(&self, request: u32, size: usize) -> Action {
        let is_too_large = self.with(|state, _| {
            state.requests.remove(request);
            size > state.limiter.config().max_body_bytes
        });
        let body = (!is_too_large).then(|| RequestBody::new(abi::buffer(Buffer::RequestBody, size)));
        self.check(request, &RequestAttributes::with_body(body))
    }

    fn check(&self, request: u32, attributes: &RequestAttributes) -> Action {
        let mut acting = Acting::of(request);
        let step = self.with(|state, now| state.limiter.request(now, RequestId(request), attributes));
        match self.perform(&mut acting).map_or(step, Step::Decided) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Decided(Decision::Admit(headers)) => {
                self.admit(request, headers);
                Action::Continue
            }
            Step::Decided(Decision::Answer(reply)) => {
                if acting.becomes(request) {
                    answer(&reply);
                }
                Action::Pause
            }
        }
    }

    /// The response to a request. Headers are added once.
    pub(super) fn response_headers(&self, request: u32) -> Action {
        let remembered = self.with(|state, _| state.requests.remove(request));
        if let Some(Request::Admitted(headers)) = remembered {
            for (name, value) in headers {
                let set = abi::set_header(Headers::Response, name, &value);
                debug_assert_eq!(set, Ok(()), "the proxy calls about these headers");
            }
        }
        Action::Continue
    }

    /// The request is over, answered or not.
    pub(super) fn done(&self, request: u32) {
        let gave_back = self.with(|state, now| {
            state.requests.remove(request);
            // Nobody waits for the request's callouts any more.
            state.callouts.retain(|(_, ticket)| *ticket != RequestId(request).into());
            state.limiter.done(now, RequestId(request))
        });
        if gave_back {
            let decision = self.perform(&mut Acting::of(request));
            debug_assert_eq!(decision, None, "the request is over");
        }
    }

    fn perform_as_root(&self) {
        let decision = self.perform(&mut Acting::of(self.root));
        debug_assert_eq!(decision, None, "the root context is no request");
    }

    /// Does what the limiter asks for. A decision on the request whose callback runs is left to that callback, which
    /// may still be able to return it.
    fn perform(&self, acting: &mut Acting) -> Option<Decision> {
        let mut on_own = None;
        let mut decisions_left = DECISIONS_PER_CALLBACK;
        while let Some(effect) = self.next_effect(acting) {
            match effect {
                Effect::OpenStream => self.open_stream(acting),
                Effect::CloseStream => {
                    if let Some(token) = self.with(|state, _| state.stream.take())
                        && acting.becomes(self.root)
                    {
                        // The proxy refuses only to cancel what is no more.
                        let _ = abi::cancel_stream(token);
                    }
                }
                Effect::CallOut(ticket, callout) => self.call_out(acting, ticket, &callout),
                Effect::Annotate(RequestId(request), notes) => {
                    if acting.becomes(request) {
                        for (name, note) in notes {
                            // A proxy that keeps no such state (filter state, named `wasm.{name}` in Envoy) loses a
                            // line of the access log, and nothing else.
                            let _ = abi::set_property(name, &note);
                        }
                    }
                }
                Effect::Decide(RequestId(request), decision) if request == acting.own() => on_own = Some(decision),
                Effect::Decide(RequestId(request), decision) => {
                    self.decide(acting, request, decision);
                    decisions_left = decisions_left.saturating_sub(1);
                    if decisions_left == 0 {
                        break;
                    }
                }
                Effect::Warn(line) => abi::log(abi::Level::Warn, &format!("weir: {line}")),
            }
        }
        let period = self.with(|state, now| {
            let wanted = state.limiter.next_tick(now);
            state.ticker.adjust(now, wanted)
        });
        if let Some(period) = period
            && acting.becomes(self.root)
        {
            let set = abi::set_tick_period(u32::try_from(period.as_millis()).unwrap_or(u32::MAX));
            debug_assert_eq!(set, Ok(()), "any period is one");
        }
        on_own
    }

    /// Sends what there is to send once nothing else is left to do. A failure to send leaves something to do.
    fn next_effect(&self, acting: &mut Acting) -> Option<Effect> {
        let effect = self.with(|state, now| state.limiter.poll(now));
        if effect.is_some() {
            return effect;
        }
        self.send(acting);
        self.with(|state, now| state.limiter.poll(now))
    }

    fn open_stream(&self, acting: &mut Acting) {
        let opened = acting.becomes(self.root).then(|| abi::open_stream(&self.cluster, "weir.Redis", "Pipeline"));
        self.with(|state, now| match opened {
            Some(Ok(token)) => state.stream = Some(token),
            _ => state.limiter.redis().handle_open_failed(now),
        });
    }

    fn send(&self, acting: &mut Acting) {
        let (stream, outgoing) = self.with(|state, _| {
            let has_any = state.limiter.redis().take_outgoing(&mut state.outgoing);
            (state.stream, has_any.then(|| std::mem::take(&mut state.outgoing)))
        });
        let Some(outgoing) = outgoing else { return };
        // The proxy looks the token up in the effective context: the stream is the root context's.
        let sent = stream.is_some_and(|token| acting.becomes(self.root) && abi::send(token, &outgoing).is_ok());
        self.with(|state, now| {
            state.outgoing = outgoing;
            if !sent {
                state.stream = None;
                state.limiter.redis().handle_closed(now);
            }
        });
    }

    fn call_out(&self, acting: &mut Acting, ticket: Ticket, callout: &Callout) {
        let headers = [(":method", "POST"), (":path", "/"), (":authority", self.cluster.as_str())];
        let headers = pairs::encode(headers.into_iter());
        let timeout = u32::try_from(callout.timeout_ms).unwrap_or(u32::MAX);
        let called = acting.becomes(self.root).then(|| abi::http_call(&self.cluster, &headers, &callout.body, timeout));
        self.with(|state, now| match called {
            Some(Ok(token)) => state.callouts.push((token, ticket)),
            _ => state.limiter.redis().handle_callout(now, ticket, Err(Failure::Unavailable)),
        });
    }

    fn decide(&self, acting: &mut Acting, request: u32, decision: Decision) {
        match decision {
            Decision::Admit(headers) => {
                self.admit(request, headers);
                if acting.becomes(request) {
                    // The proxy refuses that of no request that is there.
                    let _ = abi::resume_request();
                }
            }
            Decision::Answer(reply) => {
                if acting.becomes(request) {
                    answer(&reply);
                }
            }
        }
    }

    fn admit(&self, request: u32, headers: Vec<Header>) {
        if !headers.is_empty() {
            self.with(|state, _| state.requests.insert(request, Request::Admitted(headers)));
        }
    }

    /// Hands the proxy what the counters have gained.
    fn report(&self) {
        self.with(|state, _| {
            for (counter, gained) in state.limiter.counters().take() {
                if let Some(&counter) = self.counters.get(counter) {
                    let _ = abi::increment(counter, i64::try_from(gained).unwrap_or(i64::MAX));
                }
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, Micros) -> T) -> T {
        act(&mut self.state.borrow_mut(), self.clock.now())
    }
}

impl State {
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

/// Answers the request of the effective context.
fn answer(reply: &LocalReply) {
    let headers = pairs::encode(reply.headers.iter().map(|(name, value)| (*name, value.as_str())));
    // The proxy's status of an answer to gRPC is 200 whatever is said here.
    let status = if reply.grpc_status.is_some() { 200 } else { reply.status.code() };
    // The proxy does not refuse it: the request is there, and not answered yet.
    let _ = abi::send_local_response(status, &headers, &reply.body, reply.grpc_status);
}

/// Another for each worker of each proxy: the proxy's random numbers, which std's hash maps start from.
fn seed() -> u64 {
    RandomState::new().hash_one(())
}
