//! One worker's limiter, and the proxy calls that carry out what it asks for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, GrpcStatusCode, MetricType, Status};

use super::host::{self, Clock, RequestAttributes, on_behalf_of};
use crate::config::Config;
use crate::descriptor::RequestBody;
use crate::limiter::{Counters, Decision, Effect, Limiter, RequestId, Step, Ticker};
use crate::redis::{Callout, Failure, Ticket};
use crate::respond::{Header, LocalReply};

/// Requests of others that one callback may decide. Each is resumed within the callback before it: with many more,
/// the proxy's stack overflows (seen with 2,000; 300 were fine). The next tick goes on with the rest.
const DECISIONS_PER_CALLBACK: usize = 128;

/// One worker: what all contexts of a plugin share within a VM.
pub(super) struct Worker {
    root: u32,
    clock: Clock,
    limiter: Limiter,
    stream: Option<u32>,
    /// Reused from one send to the next.
    outgoing: Vec<u8>,
    ticker: Ticker,
    /// Whose the callouts in flight are, by the proxy's tokens.
    callouts: HashMap<u32, Ticket>,
    /// The proxy's ids of the counters, in their order.
    metrics: Vec<u32>,
    /// What admitted requests' responses will carry.
    headers: HashMap<u32, Vec<Header>>,
}

impl Worker {
    /// A worker of `config`, its counters made known to the proxy. `None` where the proxy refuses one.
    pub(super) fn new(root: u32, config: Config) -> Option<Self> {
        let define = |name: &String| hostcalls::define_metric(MetricType::Counter, name);
        let metrics = Counters::names(&config).iter().map(define).collect::<Result<_, Status>>().ok()?;
        Some(Self {
            root,
            clock: Clock::start(),
            limiter: Limiter::new(config, seed()),
            stream: None,
            outgoing: Vec::new(),
            ticker: Ticker::default(),
            callouts: HashMap::new(),
            metrics,
            headers: HashMap::new(),
        })
    }

    pub(super) fn tick(&mut self) {
        self.limiter.tick(self.clock.now());
        self.report();
        self.perform_as_root();
    }

    pub(super) fn stream_message(&mut self, token: u32, size: usize) {
        if self.stream == Some(token) {
            let bytes = host::buffer(BufferType::GrpcReceiveBuffer, size);
            self.limiter.redis().handle_bytes(self.clock.now(), &bytes);
            self.perform_as_root();
        }
    }

    pub(super) fn stream_close(&mut self, token: u32, status: u32) {
        // The proxy keeps the stream's handle until this side has closed it too.
        let closed = hostcalls::close_grpc_stream(token);
        log::debug!("weir: stream {token} closed by the peer with status {status}, {closed:?}");
        if self.stream == Some(token) {
            self.stream = None;
            self.limiter.redis().handle_closed(self.clock.now());
            self.perform_as_root();
        }
    }

    /// A callout of the root context's own is over.
    pub(super) fn callout_response(&mut self, token: u32, headers: usize, size: usize) {
        self.take_callout_response(token, headers, size);
        self.perform_as_root();
    }

    /// A callout of a request's context is over.
    pub(super) fn callout_response_of(&mut self, request: u32, token: u32, headers: usize, size: usize) {
        self.take_callout_response(token, headers, size);
        if let Some(decision) = self.perform(request) {
            self.decide(request, request, decision);
        }
    }

    /// A request's headers have arrived, and its context is the current one. What is to become of it now: `None` where
    /// that depends on its body.
    pub(super) fn request(&mut self, request: u32, is_whole: bool) -> Option<Action> {
        let attributes = RequestAttributes::default();
        if !is_whole && self.limiter.config().needs_body_of(&attributes) {
            return None;
        }
        Some(self.check(request, &attributes))
    }

    /// The body that was waited for is there, or as much of it as is looked at.
    pub(super) fn request_body(&mut self, request: u32, size: usize, is_whole: bool) -> Option<Action> {
        let is_too_large = size > self.limiter.config().max_body_bytes;
        if !is_whole && !is_too_large {
            return None;
        }
        let body = (!is_too_large).then(|| RequestBody::new(host::buffer(BufferType::HttpRequestBody, size)));
        Some(self.check(request, &RequestAttributes::with_body(body)))
    }

    /// What follows a request's headers is held with them until the request is decided.
    pub(super) fn rest_of(&self, request: u32) -> Action {
        if self.limiter.is_waiting(RequestId(request)) { Action::Pause } else { Action::Continue }
    }

    fn check(&mut self, request: u32, attributes: &RequestAttributes) -> Action {
        let step = self.limiter.request(self.clock.now(), RequestId(request), attributes);
        match self.perform(request).map_or(step, Step::Decided) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Decided(Decision::Admit(headers)) => {
                self.admit(request, headers);
                Action::Continue
            }
            Step::Decided(Decision::Answer(reply)) => {
                answer(&reply);
                Action::Pause
            }
        }
    }

    /// What the response of an admitted request is to carry. Given once.
    pub(super) fn response_headers(&mut self, request: u32) -> Vec<Header> {
        self.headers.remove(&request).unwrap_or_default()
    }

    /// The request is over, answered or not.
    pub(super) fn done(&mut self, request: u32) {
        self.headers.remove(&request);
        // The proxy cancels the request's callouts with it, and does not report them.
        self.callouts.retain(|_, ticket| *ticket != Ticket::from(RequestId(request)));
        self.limiter.done(self.clock.now(), RequestId(request));
        let decision = self.perform(request);
        debug_assert_eq!(decision, None, "the request is over");
    }

    fn perform_as_root(&mut self) {
        let decision = self.perform(self.root);
        debug_assert_eq!(decision, None, "the root context is no request");
    }

    /// Does what the limiter asks for, from within context `own`. A decision on the request of that very context
    /// is left to its callback, which may still be able to return it.
    fn perform(&mut self, own: u32) -> Option<Decision> {
        let mut on_own = None;
        let mut decisions_left = DECISIONS_PER_CALLBACK;
        while let Some(effect) = self.next_effect(own) {
            match effect {
                Effect::OpenStream => self.open_stream(),
                Effect::CloseStream => {
                    if let Some(token) = self.stream.take() {
                        let cancelled = hostcalls::cancel_grpc_stream(token);
                        log::debug!("weir: stream {token} rotated, {cancelled:?}");
                    }
                }
                Effect::CallOut(ticket, callout) => self.call_out(ticket, &callout),
                Effect::Annotate(RequestId(request), notes) => {
                    on_behalf_of(request, own, || {
                        notes.iter().for_each(|(name, note)| host::annotate(name, note));
                    });
                }
                Effect::Decide(RequestId(request), decision) if request == own => on_own = Some(decision),
                Effect::Decide(RequestId(request), decision) => {
                    self.decide(own, request, decision);
                    decisions_left = decisions_left.saturating_sub(1);
                    if decisions_left == 0 {
                        break;
                    }
                }
                Effect::Warn(line) => log::warn!("weir: {line}"),
            }
        }
        let now = self.clock.now();
        let wanted = self.limiter.next_tick(now);
        if let Some(period) = self.ticker.adjust(now, wanted) {
            on_behalf_of(self.root, own, || hostcalls::set_tick_period(period));
        }
        on_own
    }

    /// Sends what there is to send once nothing else is left to do. A failure to send leaves something to do.
    fn next_effect(&mut self, own: u32) -> Option<Effect> {
        let now = self.clock.now();
        if let Some(effect) = self.limiter.poll(now) {
            return Some(effect);
        }
        self.send(own);
        self.limiter.poll(now)
    }

    fn open_stream(&mut self) {
        let cluster = &self.limiter.config().redis.cluster;
        match hostcalls::open_grpc_stream(cluster, "weir.Redis", "Pipeline", Vec::new()) {
            Ok(token) => self.stream = Some(token),
            Err(_) => self.limiter.redis().handle_open_failed(self.clock.now()),
        }
    }

    fn send(&mut self, own: u32) {
        if !self.limiter.redis().take_outgoing(&mut self.outgoing) {
            return;
        }
        // The proxy looks the token up in the effective context: the stream is the root context's.
        let (stream, bytes) = (self.stream, &self.outgoing);
        let send = |token| {
            on_behalf_of(self.root, own, || hostcalls::send_grpc_stream_message(token, Some(bytes), false).is_ok())
        };
        if stream.and_then(send) != Some(true) {
            self.stream = None;
            self.limiter.redis().handle_closed(self.clock.now());
        }
    }

    fn call_out(&mut self, ticket: Ticket, callout: &Callout) {
        let cluster = self.limiter.config().redis.cluster.as_str();
        let headers = vec![(":method", "POST"), (":path", "/"), (":authority", cluster)];
        let timeout = Duration::from_millis(callout.timeout_ms);
        match hostcalls::dispatch_http_call(cluster, headers, Some(&callout.body), Vec::new(), timeout) {
            Ok(token) => {
                self.callouts.insert(token, ticket);
            }
            Err(_) => self.limiter.redis().handle_callout(self.clock.now(), ticket, Err(Failure::Unavailable)),
        }
    }

    fn take_callout_response(&mut self, token: u32, headers: usize, size: usize) {
        let Some(ticket) = self.callouts.remove(&token) else { return };
        // Without headers, the connection was lost, and the proxy has none to be asked for. Where there are any, a
        // cluster of raw TCP answers 200, and any other status is the proxy's own word on why there is no answer.
        let status = (headers > 0).then(|| host::callout_header(":status")).flatten();
        let body = match status.as_deref() {
            Some(b"200") => Ok(host::buffer(BufferType::HttpCallResponseBody, size)),
            Some(b"504") => Err(Failure::Timeout),
            Some(_) => Err(Failure::Unavailable),
            None => Err(Failure::Reset),
        };
        let body = body.as_deref().map_err(|failure| *failure);
        self.limiter.redis().handle_callout(self.clock.now(), ticket, body);
    }

    fn decide(&mut self, own: u32, request: u32, decision: Decision) {
        match decision {
            Decision::Admit(headers) => {
                self.admit(request, headers);
                on_behalf_of(request, own, hostcalls::resume_http_request);
            }
            Decision::Answer(reply) => {
                on_behalf_of(request, own, || answer(&reply));
            }
        }
    }

    fn admit(&mut self, request: u32, headers: Vec<Header>) {
        if !headers.is_empty() {
            self.headers.insert(request, headers);
        }
    }

    /// Hands the proxy what the counters have gained.
    fn report(&mut self) {
        for (counter, gained) in self.limiter.counters().take() {
            if let Some(&metric) = self.metrics.get(counter) {
                let _ = hostcalls::increment_metric(metric, i64::try_from(gained).unwrap_or(i64::MAX));
            }
        }
    }
}

fn answer(reply: &LocalReply) {
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str()));
    // The proxy refuses neither: the request is there, and not answered yet.
    let _ = match reply.grpc_status {
        None => {
            hostcalls::send_http_response(reply.status.code().into(), headers.collect(), Some(reply.body.as_bytes()))
        }
        Some(status) => {
            let metadata = headers.map(|(name, value)| (name, value.as_bytes())).collect();
            hostcalls::send_grpc_response(grpc_code(status), Some(&reply.body), metadata)
        }
    };
}

fn grpc_code(status: u32) -> GrpcStatusCode {
    match status {
        1 => GrpcStatusCode::Cancelled,
        3 => GrpcStatusCode::InvalidArgument,
        4 => GrpcStatusCode::DeadlineExceeded,
        5 => GrpcStatusCode::NotFound,
        6 => GrpcStatusCode::AlreadyExists,
        7 => GrpcStatusCode::PermissionDenied,
        8 => GrpcStatusCode::ResourceExhausted,
        9 => GrpcStatusCode::FailedPrecondition,
        10 => GrpcStatusCode::Aborted,
        11 => GrpcStatusCode::OutOfRange,
        12 => GrpcStatusCode::Unimplemented,
        13 => GrpcStatusCode::Internal,
        14 => GrpcStatusCode::Unavailable,
        15 => GrpcStatusCode::DataLoss,
        16 => GrpcStatusCode::Unauthenticated,
        _ => GrpcStatusCode::Unknown,
    }
}

/// Another for each worker of each proxy: the proxy's random numbers, which std's hash maps start from.
fn seed() -> u64 {
    RandomState::new().hash_one(())
}
