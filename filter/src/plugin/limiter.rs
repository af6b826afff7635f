//! The limiter's contexts: one root context per worker, one HTTP context per request, sharing one [`Worker`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, GrpcStatusCode, MetricType, Status};

use super::host::{self, Clock, RequestAttributes, on_behalf_of};
use crate::config;
use crate::limiter::{Counters, Decision, Effect, Limiter, Step, Ticker};
use crate::redis::{Callout, Failure, Ticket};
use crate::respond::{self, Header, LocalReply};

/// The root context of one worker.
pub(super) struct Root {
    worker: Rc<RefCell<Worker>>,
}

/// The HTTP context of one request. Its id is also its ticket.
pub(super) struct Request {
    id: u32,
    worker: Rc<RefCell<Worker>>,
}

struct Worker {
    root: u32,
    clock: Clock,
    limiter: Limiter,
    stream: Option<u32>,
    /// Reused from one send to the next.
    outgoing: Vec<u8>,
    ticker: Ticker,
    /// The proxy's ids of the counters, in their order.
    metrics: Vec<u32>,
    /// What admitted requests' responses will carry.
    headers: HashMap<u32, Vec<Header>>,
}

impl Root {
    /// Reads the plugin's configuration. Every error in it is logged, and the proxy refuses to start with it.
    pub(super) fn configure(root: u32, configuration: &[u8]) -> Option<Self> {
        let environment = |name: &str| std::env::var(name).ok();
        let config = match config::parse(configuration, &environment) {
            Ok(config) => config,
            Err(errors) => {
                for error in errors.iter() {
                    log::error!("weir: {error}");
                }
                return None;
            }
        };
        let define = |name: &String| hostcalls::define_metric(MetricType::Counter, name);
        let metrics = Counters::names(&config).iter().map(define).collect::<Result<_, Status>>().ok()?;
        let worker = Worker {
            root,
            clock: Clock::start(),
            limiter: Limiter::new(config, seed(root)),
            stream: None,
            outgoing: Vec::new(),
            ticker: Ticker::default(),
            metrics,
            headers: HashMap::new(),
        };
        Some(Self { worker: Rc::new(RefCell::new(worker)) })
    }

    /// A context for a request.
    pub(super) fn request(&self, id: u32) -> Request {
        Request { id, worker: Rc::clone(&self.worker) }
    }

    pub(super) fn on_tick(&self) {
        let worker = &mut *self.worker.borrow_mut();
        worker.limiter.redis().handle_tick(worker.clock.now());
        worker.report();
        worker.perform_as_root();
    }

    pub(super) fn on_stream_message(&self, token: u32, size: usize) {
        let worker = &mut *self.worker.borrow_mut();
        if worker.stream == Some(token) {
            let bytes = host::buffer(BufferType::GrpcReceiveBuffer, size);
            worker.limiter.redis().handle_bytes(worker.clock.now(), &bytes);
            worker.perform_as_root();
        }
    }

    pub(super) fn on_stream_close(&self, token: u32, _status: u32) {
        let worker = &mut *self.worker.borrow_mut();
        // The proxy keeps the stream's handle until this side has closed it too.
        let closed = hostcalls::close_grpc_stream(token);
        log::debug!("weir: stream {token} closed by the peer, {closed:?}");
        if worker.stream == Some(token) {
            worker.stream = None;
            worker.limiter.redis().handle_closed(worker.clock.now());
            worker.perform_as_root();
        }
    }
}

impl Context for Request {
    fn on_http_call_response(&mut self, _token: u32, _headers: usize, size: usize, _trailers: usize) {
        let worker = &mut *self.worker.borrow_mut();
        let body = host::buffer(BufferType::HttpCallResponseBody, size);
        // A cluster of raw TCP answers 200. Any other status is the proxy's own word on why there is no answer.
        let result = match self.get_http_call_response_header_bytes(":status").as_deref() {
            Some(b"200") => Ok(body.as_slice()),
            Some(b"504") => Err(Failure::Timeout),
            _ => Err(Failure::Unavailable),
        };
        worker.limiter.redis().handle_callout(worker.clock.now(), Ticket(self.id), result);
        if let Some(decision) = worker.perform(self.id) {
            worker.decide(self.id, self.id, decision);
        }
    }

    fn on_done(&mut self) -> bool {
        let worker = &mut *self.worker.borrow_mut();
        worker.headers.remove(&self.id);
        worker.limiter.abandon(Ticket(self.id));
        true
    }
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        let worker = &mut *self.worker.borrow_mut();
        let step = worker.limiter.request(worker.clock.now(), Ticket(self.id), &RequestAttributes);
        match worker.perform(self.id).map_or(step, Step::Decided) {
            Step::Pass => Action::Continue,
            Step::Wait => Action::Pause,
            Step::Decided(Decision::Admit(headers)) => {
                worker.admit(self.id, headers);
                Action::Continue
            }
            Step::Decided(Decision::Answer(reply)) => {
                answer(&reply);
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        for (name, value) in self.worker.borrow_mut().headers.remove(&self.id).into_iter().flatten() {
            self.set_http_response_header(name, Some(&value));
        }
        Action::Continue
    }
}

impl Worker {
    fn perform_as_root(&mut self) {
        let decision = self.perform(self.root);
        debug_assert_eq!(decision, None, "the root context is no request");
    }

    /// Does what the limiter asks for, from within context `own`. A decision on the request of that very context
    /// is left to its callback, which may still be able to return it.
    fn perform(&mut self, own: u32) -> Option<Decision> {
        let mut on_own = None;
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
                Effect::Decide(Ticket(request), decision) if request == own => on_own = Some(decision),
                Effect::Decide(Ticket(request), decision) => self.decide(own, request, decision),
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
        let called = hostcalls::dispatch_http_call(cluster, headers, Some(&callout.body), Vec::new(), timeout);
        if called.is_err() {
            self.limiter.redis().handle_callout(self.clock.now(), ticket, Err(Failure::Unavailable));
        }
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
        None => hostcalls::send_http_response(reply.status.code().into(), headers.collect(), Some(reply.body.as_bytes())),
        Some(status) => {
            let metadata = headers.map(|(name, value)| (name, value.as_bytes())).collect();
            hostcalls::send_grpc_response(grpc_code(status), Some(&reply.body), metadata)
        }
    };
}

fn grpc_code(status: u32) -> GrpcStatusCode {
    match status {
        respond::RESOURCE_EXHAUSTED => GrpcStatusCode::ResourceExhausted,
        _ => GrpcStatusCode::Unavailable,
    }
}

/// Tells workers apart that started in the same instant by their context, and runs by the time.
fn seed(root: u32) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.as_secs().rotate_left(32) ^ u64::from(now.subsec_nanos()) ^ u64::from(root)
}
