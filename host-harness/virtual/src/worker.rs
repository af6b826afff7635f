//! Worker of a proxy: the filter in a VM of its own, and the events that follow from its host calls.

mod host;
mod state;

use std::rc::Rc;

use weir_filter::native::{Action, Buffer, Vm};
use weir_filter::units::Micros;

use self::state::{Begun, Event, LIMITER, Phase, QUEUE, Shared, Way};
use crate::exchange::{Answer, Exchange};
use crate::link::{Arrival, Link};
use crate::{Clock, Redis};

/// Start of a worker: its plugin, and where it runs.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// Configuration of the plugin: JSON, or a serialised `Struct`.
    pub configuration: &'a [u8],
    /// Environment of the VM: names and values.
    pub environment: &'a [(String, String)],
    /// Random number of the worker: different for each worker.
    pub seed: u64,
    /// Whether the plugin sees the body of a request whose headers it holds (`allow_on_headers_stop_iteration`).
    pub sees_body_past_headers: bool,
    /// Time from a command to its reply.
    pub round_trip: Micros,
}

/// Worker of a virtual proxy, with requests in flight.
pub struct Worker {
    shared: Rc<Shared>,
    vm: Vm,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// The lines that the filter logged, if it refuses the configuration.
    pub fn start(clock: &Clock, redis: &Redis, start: &Start<'_>) -> Result<Self, Vec<String>> {
        Self::on(clock, Way::Direct(redis.clone()), start)
    }

    /// Starts a worker whose bytes to and from Redis its owner carries: see [`Link`].
    ///
    /// # Errors
    /// The lines that the filter logged, if it refuses the configuration.
    pub fn start_linked(clock: &Clock, link: Rc<dyn Link>, start: &Start<'_>) -> Result<Self, Vec<String>> {
        Self::on(clock, Way::Link(link), start)
    }

    fn on(clock: &Clock, way: Way, start: &Start<'_>) -> Result<Self, Vec<String>> {
        let shared = Rc::new(Shared::new(clock, way, start));
        let vm = Vm::new(Rc::clone(&shared) as Rc<dyn weir_filter::native::Host>);
        let worker = Self { shared, vm };
        worker.shared.show(Buffer::PluginConfiguration, start.configuration.to_vec());
        worker.call(LIMITER, |vm| vm.context_create(LIMITER, 0));
        let is_accepted = worker.call(LIMITER, |vm| vm.configure(LIMITER, start.configuration.len()));
        if is_accepted { Ok(worker) } else { Err(worker.take_log().into_iter().map(|(_, line)| line).collect()) }
    }

    /// Begins a request and returns its id. The request is decided by the events that follow.
    pub fn begin(&self, exchange: Exchange) -> u32 {
        self.begin_in_pieces(exchange, &[usize::MAX])
    }

    /// Begins a request whose body arrives in pieces of these lengths, one after the other and again from the first.
    pub fn begin_in_pieces(&self, exchange: Exchange, lengths: &[usize]) -> u32 {
        let whole = exchange.body.is_none();
        let context = self.shared.add(exchange);
        self.call(context, |vm| vm.context_create(context, LIMITER));
        let action = self.call(context, |vm| vm.request_headers(context, whole));
        let is_held = action != Action::Continue;
        if !whole && (!is_held || self.shared.sees_body_past_headers) {
            self.show_body(context, lengths);
        } else if !is_held {
            self.passes(context);
        }
        context
    }

    /// Shows the body of a request, until the filter needs no more of it.
    fn show_body(&self, context: u32, lengths: &[usize]) {
        let Some(body) = self.shared.with(|state| state.take_body(context)) else { return };
        let mut lengths = lengths.iter().cycle();
        let mut rest = body.as_slice();
        loop {
            let length = lengths.next().map_or(rest.len(), |length| (*length).max(1));
            let piece = rest.split_off(..length.min(rest.len())).unwrap_or_default();
            self.shared.show(Buffer::RequestBody, piece.to_vec());
            let action = self.call(context, |vm| vm.request_body(context, piece.len(), rest.is_empty()));
            if action == Action::Continue {
                return self.passes(context);
            }
            // The rest of a request that the filter has answered is dropped.
            if rest.is_empty() || !self.shared.with(|state| state.is_undecided(context)) {
                return;
            }
        }
    }

    /// Ends a request whose client has gone. It has no answer.
    pub fn leave(&self, context: u32) {
        self.call(context, |vm| vm.done(context));
        self.shared.with(|state| state.requests.remove(&context));
    }

    /// Takes the answers since the last time, with the ids of their requests.
    pub fn take_answers(&self) -> Vec<(u32, Answer)> {
        self.shared.with(|state| std::mem::take(&mut state.answers))
    }

    /// Number of requests without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.with(|state| state.requests.len())
    }

    /// Takes the lines logged since the last time.
    pub fn take_log(&self) -> Vec<(weir_filter::native::Level, String)> {
        self.shared.with(|state| std::mem::take(&mut state.log))
    }

    /// Value of a counter or a gauge, by its name with the `stat_prefix`; as of the last tick. `None` where the filter
    /// has no such metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<i64> {
        self.shared.with(|state| state.metrics.iter().find(|(known, _)| known == name).map(|(_, value)| *value))
    }

    /// Calls the filter's tick at once, which brings its metrics up to date.
    pub fn tick(&self) {
        self.call(LIMITER, |vm| vm.tick(LIMITER));
    }

    /// Has something of a [`Link`] arrive at `at`, by the clock. Of two arrivals at one time, the first one given comes
    /// first.
    pub fn arrives(&self, at: Micros, arrival: Arrival) {
        let event = match arrival {
            Arrival::Bytes { stream, bytes } => Event::StreamMessage(stream, bytes),
            Arrival::Closed { stream } => Event::StreamClosed(stream),
            Arrival::Response { callout, response } => {
                let (status, body) = response.map_or((None, Vec::new()), |(status, body)| (Some(status), body));
                Event::CalloutEnds { token: callout, status, body }
            }
        };
        self.shared.with(|state| state.push(at, event));
    }

    /// Closes the connection to Redis, as Redis does when it stops.
    pub(crate) fn lose_connection(&self) {
        self.shared.with(|state| {
            if let Some(stream) = state.stream.take() {
                state.push(self.shared.now(), Event::StreamClosed(stream.token));
            }
        });
    }

    /// Time of the next event or tick, if any.
    #[must_use]
    pub fn next_at(&self) -> Option<Micros> {
        self.shared.with(|state| {
            let tick = state.tick.map(|(_, next)| next);
            state.next_event().into_iter().chain(tick).min()
        })
    }

    /// Time of the next tick, if any.
    #[must_use]
    pub fn next_tick(&self) -> Option<Micros> {
        self.shared.with(|state| state.tick.map(|(_, next)| next))
    }

    /// Time of the next event, or before which no tick has anything to do, if any. [`skip_ticks`](Self::skip_ticks)
    /// handles the ticks before it.
    #[must_use]
    pub fn next_busy_at(&self) -> Option<Micros> {
        let idle_until = self.vm.idle_until(LIMITER).unwrap_or_default();
        self.shared.with(|state| {
            let tick = state.tick.map(|(_, next)| next.max(idle_until));
            state.next_event().into_iter().chain(tick).min()
        })
    }

    /// Handles the ticks before `until` and before the next event, as far as they have nothing to do: all at once, and
    /// without the clock. Returns their number.
    pub fn skip_ticks(&self, until: Micros) -> u64 {
        self.shared.with(|state| {
            let until = state.next_event().map_or(until, |event| until.min(event));
            let mut skipped = 0;
            while let Some((period, next)) = state.tick.filter(|(_, next)| *next < until) {
                let (ticks, changed) = self.vm.idle_ticks(LIMITER, next, period, until);
                let Some(others) = ticks.checked_sub(1) else { break };
                skipped += ticks;
                let (last, period) = (next.plus(period.times(others)), changed.unwrap_or(period));
                state.tick = (period > Micros::ZERO).then(|| (period, last.plus(period)));
            }
            skipped
        })
    }

    /// Handles the next event, or else the tick that is due. The clock shows its time. Returns whether there was any.
    pub fn handle_next(&self) -> bool {
        let now = self.shared.now();
        let event = self.shared.with(|state| state.pop_event(now));
        match event {
            Some(event) => {
                self.handle(event);
                true
            }
            None => {
                let is_due = self.shared.with(|state| state.pop_tick(now));
                if is_due {
                    self.tick();
                }
                is_due
            }
        }
    }

    fn handle(&self, event: Event) {
        match event {
            Event::Turn => self.call(LIMITER, |vm| vm.queue_ready(LIMITER, QUEUE)),
            Event::StreamMessage(token, bytes) => {
                let size = bytes.len();
                self.shared.show(Buffer::StreamMessage, bytes);
                self.call(LIMITER, |vm| vm.grpc_receive(LIMITER, token, size));
            }
            Event::StreamClosed(token) => self.call(LIMITER, |vm| vm.grpc_close(LIMITER, token)),
            Event::CalloutEnds { token, status, body } => {
                let (headers, size) = (usize::from(status.is_some()), body.len());
                self.shared.with(|state| state.callout_status = status.unwrap_or_default());
                self.shared.show(Buffer::CalloutBody, body);
                self.call(LIMITER, |vm| vm.http_call_response(LIMITER, token, headers, size));
            }
            Event::Resume(context) => {
                let waits_for_body = self.shared.with(|state| state.has_body(context));
                if waits_for_body { self.show_body(context, &[usize::MAX]) } else { self.passes(context) }
            }
            Event::Upstream(context) => self.respond(context),
            Event::Piece(context) => self.pass_piece(context),
            Event::ResumeResponse(context) => self.complete(context),
        }
    }

    /// Sends a request on to the upstream.
    fn passes(&self, context: u32) {
        let now = self.shared.now();
        self.shared.with(|state| {
            let Some(request) = state.requests.get_mut(&context).filter(|request| request.phase == Phase::Request)
            else {
                return;
            };
            request.phase = Phase::Upstream;
            request.decided = now;
            let at = now.plus(request.exchange.upstream.takes);
            state.push(at, Event::Upstream(context));
        });
    }

    /// Passes a response's head through the filter, and what has come of its body.
    fn respond(&self, context: u32) {
        let Some(begun) = self.shared.with(|state| state.begin_response(context)) else { return };
        let is_whole = begun == Begun::Whole;
        if begun != Begun::Gone && self.call(context, |vm| vm.response_headers(context, is_whole)) != Action::Continue {
            return;
        }
        if begun == Begun::Head { self.pass_piece(context) } else { self.complete(context) }
    }

    /// Passes the next piece of a response's body through the filter.
    fn pass_piece(&self, context: u32) {
        let now = self.shared.now();
        let Some((piece, is_last)) = self.shared.with(|state| state.take_piece(context)) else { return };
        let size = piece.len();
        self.shared.show(Buffer::ResponseBody, piece);
        if self.call(context, |vm| vm.response_body(context, size, is_last)) != Action::Continue {
            return;
        }
        let is_waiting = self.shared.with(|state| {
            let wait = state.wait_for_piece(context);
            wait.inspect(|wait| state.push(now.plus(*wait), Event::Piece(context))).is_some()
        });
        if !is_waiting {
            self.complete(context);
        }
    }

    /// Ends an exchange whose response has been sent.
    fn complete(&self, context: u32) {
        let now = self.shared.now();
        self.call(context, |vm| vm.done(context));
        self.shared.with(|state| state.complete(context, now));
    }

    /// Runs a callback of a context. Local replies are carried out when it returns, as Envoy does.
    fn call<T>(&self, context: u32, callback: impl FnOnce(&Vm) -> T) -> T {
        let before = self.shared.with(|state| std::mem::replace(&mut state.effective, context));
        let result = callback(&self.vm);
        self.shared.with(|state| state.effective = before);
        result
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
