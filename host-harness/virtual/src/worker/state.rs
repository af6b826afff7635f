//! State of a worker's host: contexts, buffers, events and metrics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weir_filter::native::{Buffer, Level};
use weir_filter::units::Micros;

use super::Start;
use crate::exchange::{Answer, End, Exchange, Headers};
use crate::link::Link;
use crate::resp::Commands;
use crate::{Clock, Redis};

/// Root context of the limiter.
pub(super) const LIMITER: u32 = 1;
/// The worker's only queue.
pub(super) const QUEUE: u32 = 1;

/// Host of a worker: what its VM and its owner share.
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) way: Way,
    pub(super) environment: Vec<u8>,
    pub(super) seed: u64,
    pub(super) sees_body_past_headers: bool,
    pub(super) round_trip: Micros,
    state: RefCell<State>,
}

/// Way of a worker's bytes to Redis.
pub(super) enum Way {
    /// Redis runs commands when they are sent.
    Direct(Redis),
    /// The owner carries the bytes.
    Link(Rc<dyn Link>),
}

#[derive(Default)]
pub(super) struct State {
    pub(super) effective: u32,
    pub(super) last_context: u32,
    pub(super) requests: BTreeMap<u32, Request>,
    pub(super) answers: Vec<(u32, Answer)>,
    pub(super) buffers: BTreeMap<Buffer, Vec<u8>>,
    pub(super) stream: Option<Stream>,
    pub(super) last_token: u32,
    pub(super) callout_status: u16,
    pub(super) queued: usize,
    /// Events by time and serial number.
    pub(super) events: BTreeMap<(Micros, u64), Event>,
    pub(super) last_event: u64,
    /// Period of the ticks, and the time of the next one.
    pub(super) tick: Option<(Micros, Micros)>,
    /// Names and values of metrics; a metric's id is its place, from 1.
    pub(super) metrics: Vec<(String, i64)>,
    pub(super) log: Vec<(Level, String)>,
}

/// Connection to Redis.
pub(super) struct Stream {
    pub(super) token: u32,
    pub(super) commands: Commands,
}

/// Event of the proxy, handled in a callback of its own.
#[derive(Debug)]
pub(super) enum Event {
    /// The turn of the event loop ends: the queue has messages.
    Turn,
    StreamMessage(u32, Vec<u8>),
    StreamClosed(u32),
    CalloutEnds {
        token: u32,
        /// `None`: the connection was lost.
        status: Option<u16>,
        body: Vec<u8>,
    },
    /// The filter has resumed a request.
    Resume(u32),
    /// The response of the upstream, or the filter's own answer, goes back.
    Upstream(u32),
    /// The next piece of a response's body arrives.
    Piece(u32),
    /// The filter has resumed a response.
    ResumeResponse(u32),
}

/// Phase of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The filter has not decided the request.
    Request,
    /// The request is at the upstream, or the filter has answered it.
    Upstream,
    /// The response passes the filter.
    Response,
}

/// Beginning of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// The head, with a body after it.
    Head,
    /// The head is the whole response.
    Whole,
    /// The client has gone.
    Gone,
}

pub(super) struct Request {
    pub(super) exchange: Exchange,
    pub(super) phase: Phase,
    pub(super) filter_state: BTreeMap<String, String>,
    pub(super) response: Headers,
    /// Body as far as it has passed, and the number of its pieces.
    pub(super) passed: (Vec<u8>, usize),
    pub(super) local: Option<LocalReply>,
    pub(super) began: Micros,
    pub(super) decided: Micros,
}

/// The filter's own answer.
pub(super) struct LocalReply {
    pub(super) status: u16,
    pub(super) details: String,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    pub(super) grpc_status: Option<u32>,
}

impl Shared {
    pub(super) fn new(clock: &Clock, way: Way, start: &Start<'_>) -> Self {
        let entry = |(name, value): &(String, String)| format!("{name}={value}\0").into_bytes();
        Self {
            clock: clock.clone(),
            way,
            environment: start.environment.iter().flat_map(entry).collect(),
            seed: start.seed,
            sees_body_past_headers: start.sees_body_past_headers,
            round_trip: start.round_trip,
            state: RefCell::new(State { last_context: LIMITER, ..State::default() }),
        }
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.borrow_mut())
    }

    /// Fills a buffer for the next callback.
    pub(super) fn show(&self, buffer: Buffer, bytes: Vec<u8>) {
        self.with(|state| state.buffers.insert(buffer, bytes));
    }

    /// Adds a request and returns its context.
    pub(super) fn add(&self, exchange: Exchange) -> u32 {
        let now = self.now();
        self.with(|state| {
            // After four billion requests, ids start again behind the root context: the old requests are long over.
            state.last_context = state.last_context.checked_add(1).unwrap_or(LIMITER + 1);
            let request = Request {
                exchange,
                phase: Phase::Request,
                filter_state: BTreeMap::new(),
                response: Headers::new(),
                passed: (Vec::new(), 0),
                local: None,
                began: now,
                decided: now,
            };
            state.requests.insert(state.last_context, request);
            state.last_context
        })
    }
}

impl State {
    pub(super) fn push(&mut self, at: Micros, event: Event) {
        self.last_event = self.last_event.wrapping_add(1);
        self.events.insert((at, self.last_event), event);
    }

    /// Time of the next event, if any.
    pub(super) fn next_event(&self) -> Option<Micros> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the next event if its time has come.
    pub(super) fn pop_event(&mut self, now: Micros) -> Option<Event> {
        let first = self.events.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Whether a tick is due; sets the time of the next one.
    pub(super) fn pop_tick(&mut self, now: Micros) -> bool {
        match &mut self.tick {
            Some((period, next)) if *next <= now => {
                *next = now.plus(*period);
                true
            }
            _ => false,
        }
    }

    pub(super) fn next_token(&mut self) -> u32 {
        self.last_token = self.last_token.wrapping_add(1);
        self.last_token
    }

    pub(super) fn has_body(&self, context: u32) -> bool {
        self.requests.get(&context).is_some_and(|request| request.exchange.body.is_some())
    }

    /// Takes the body of a request.
    pub(super) fn take_body(&mut self, context: u32) -> Option<Vec<u8>> {
        self.requests.get_mut(&context)?.exchange.body.take()
    }

    /// Returns whether the filter has neither passed the request on nor answered it.
    pub(super) fn is_undecided(&self, context: u32) -> bool {
        self.requests.get(&context).is_some_and(|request| request.phase == Phase::Request)
    }

    /// Puts the headers of a response in place.
    pub(super) fn begin_response(&mut self, context: u32) -> Option<Begun> {
        let request = self.requests.get_mut(&context).filter(|request| request.phase == Phase::Upstream)?;
        request.phase = Phase::Response;
        let (headers, is_empty, end) = match &request.local {
            Some(reply) => (&reply.headers, reply.body.is_empty(), End::Whole),
            None => {
                let upstream = &request.exchange.upstream;
                (&upstream.headers, upstream.body.is_empty() && upstream.later.is_empty(), upstream.end)
            }
        };
        if end == End::BeforeHeaders {
            return Some(Begun::Gone);
        }
        request.response.clone_from(headers);
        Some(if is_empty && end == End::Whole { Begun::Whole } else { Begun::Head })
    }

    /// Takes the next piece of a response's body, and whether it ends the response.
    pub(super) fn take_piece(&mut self, context: u32) -> Option<(Vec<u8>, bool)> {
        let request = self.requests.get_mut(&context)?;
        let (passed, count) = &mut request.passed;
        let upstream = &request.exchange.upstream;
        let (piece, is_last) = match (&request.local, count.checked_sub(1)) {
            (Some(reply), _) => (&reply.body, true),
            (None, None) => (&upstream.body, upstream.later.is_empty()),
            (None, Some(nth)) => (&upstream.later.get(nth)?.1, nth.saturating_add(1) == upstream.later.len()),
        };
        passed.extend_from_slice(piece);
        *count = count.saturating_add(1);
        Some((piece.clone(), is_last && (request.local.is_some() || upstream.end == End::Whole)))
    }

    /// Time until the next piece of a response's body; `None` if there is none.
    pub(super) fn wait_for_piece(&self, context: u32) -> Option<Micros> {
        let request = self.requests.get(&context).filter(|request| request.local.is_none())?;
        let (_, count) = request.passed;
        request.exchange.upstream.later.get(count.checked_sub(1)?).map(|(wait, _)| *wait)
    }

    /// Status of a request's response: the filter's own answer, or the upstream's.
    pub(super) fn status(&self, context: u32) -> Option<u16> {
        let request = self.requests.get(&context)?;
        let upstream = &request.exchange.upstream;
        let of_upstream = if upstream.end == End::BeforeHeaders { 0 } else { upstream.status };
        Some(request.local.as_ref().map_or(of_upstream, |reply| reply.status))
    }

    /// Moves a request to the answers.
    pub(super) fn complete(&mut self, context: u32, now: Micros) {
        let status = self.status(context);
        let Some((request, status)) = self.requests.remove(&context).zip(status) else { return };
        let is_local = request.local.is_some();
        let (details, grpc_status) = request.local.map(|reply| (reply.details, reply.grpc_status)).unwrap_or_default();
        let answer = Answer {
            status,
            headers: request.response,
            body: request.passed.0,
            grpc_status,
            details,
            is_local,
            request_headers: request.exchange.headers,
            filter_state: request.filter_state,
            began: request.began,
            decided: request.decided,
            ended: now,
        };
        self.answers.push((context, answer));
    }
}
