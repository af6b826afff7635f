//! HTTP callouts that carry one or more calls: the transport `callout`, and those of [front ends](FrontEnd).
//!
//! With `callout`, each callout has its own TCP connection. The host sends a callout's body as raw TCP and half-closes; Redis answers every command and closes. The body is the
//! handshake, then the commands. A refused `AUTH` therefore keeps the commands from running. A refused `SELECT` does
//! not: Redis runs the commands in database 0, and the calls still fail.
//!
//! A lone call is sent immediately. Calls that arrive while a callout is under way wait for its end and are sent
//! together in the next callout: a connection costs the servers about five times as much as a call. Calls wait for at
//! most [`BATCHING_WAIT`], so that a slow network or a lost packet does not delay them further.
//!
//! A front end keeps its own connections, and needs no handshake. Where its callouts hold one command each, the calls
//! that waited are sent at once in as many callouts as they need.

mod replies;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::front_end::{FlatScripts, FrontEnd};
use super::handshake::Handshake;
use super::host_load::{Extension, HostLoad};
use super::session::in_flight::{Expiry, InFlight};
use super::{Call, Failure, Refusal, Reply, RoundTrips, SessionConfig, SessionEvent, Ticket, Trouble};
use crate::units::Micros;

/// Calls in one callout, at most. Each call can resume a request in the callback with the replies, which uses the
/// proxy's stack.
const MAX_CALLS: usize = 128;
/// Length of the replies in one callout, at most, in bytes. Redis closes the connection when it has read the end of the
/// body: replies that the socket has no room for at once are lost. By its defaults, computed and not measured, a Linux
/// socket has room for about 29 KiB on a network with an MTU of 1,500.
const MAX_REPLIES: usize = 24 * 1024;
/// Longest time that calls wait for the end of the callout under way, to be sent together in the next.
const BATCHING_WAIT: Micros = Micros::from_millis(5);
/// Time for which an answered callout counts as proof that the cluster has a host.
const PROOF: Micros = Micros::from_secs(1);
/// Least time that a callout's timeout adds to the last deadline of its calls: the outcome of tracked calls is still
/// needed.
const GRACE: Micros = Micros::from_secs(1);
/// The same on a busy host, where one turn of the event loop may take seconds: the host's timer counts from the start of
/// the turn that makes the callout, and does not wait for replies that have arrived.
const GRACE_OF_BUSY_HOST: Micros = Micros::from_secs(10);

/// An HTTP callout to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// Identifies the callout's response.
    pub id: u64,
    /// Body of the `POST` request.
    pub body: Vec<u8>,
    /// Timeout of the callout: 1 s to 10 s after the last deadline of its calls. It adds the time since the last tick,
    /// and on a busy host 10 s. [`Callouts::handle_tick`] enforces the deadline of each call.
    pub timeout: Micros,
}

/// State of the `callout` transport: calls that wait, and callouts under way. The host ends each callout with
/// [`Callouts::handle_response`], or with [`Callouts::handle_refused`] if it did not make the callout.
#[derive(Debug)]
pub struct Callouts {
    config: SessionConfig,
    /// The front end that answers; `None`: Redis itself.
    front_end: Option<FrontEnd>,
    /// Scripts in their forms for a front end that needs them.
    flat_scripts: FlatScripts,
    /// Calls of the next callout, and of the callouts after it.
    next: InFlight,
    under_way: Vec<Batch>,
    last_id: u64,
    /// Whether one command may carry several calls; `false` after a cluster has refused such a command.
    joins: bool,
    /// Whether no callout may be made: see [`hold`](Self::hold).
    is_held: bool,
    /// Time of the last response with a body.
    answered: Option<Micros>,
    /// Whether the last callout that ended had a response with a body.
    is_answering: bool,
    /// Round trips of the callouts answered since they were last taken.
    pub(super) round_trips: RoundTrips,
    /// Load of the host. Calls that were due by the last tick are given up at the next tick.
    load: HostLoad,
    events: VecDeque<SessionEvent>,
}

/// The calls of one callout under way.
#[derive(Debug)]
struct Batch {
    id: u64,
    started: Micros,
    /// Last deadline of the calls when the callout was made.
    deadline: Micros,
    calls: InFlight,
}

impl Callouts {
    /// Creates the transport, without callouts under way.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self {
            config,
            front_end: None,
            flat_scripts: FlatScripts::default(),
            next: InFlight::default(),
            under_way: Vec::new(),
            last_id: 0,
            joins: true,
            is_held: false,
            answered: None,
            is_answering: false,
            round_trips: RoundTrips::default(),
            load: HostLoad::default(),
            events: VecDeque::new(),
        }
    }

    /// Creates the transport to a front end, without callouts under way. `seed` makes the ids of its callouts differ from
    /// those of other workers.
    #[must_use]
    pub fn through(front_end: FrontEnd, config: SessionConfig, seed: u64) -> Self {
        Self { front_end: Some(front_end), last_id: seed, ..Self::new(config) }
    }

    /// Submits a call, sent in the [next callout](Self::next_callout). The call is completed within the timeout and two
    /// ticks, on a busy host (see `HostLoad`) within the timeout and ten ticks, and as many again if it is sent again. Long
    /// turns of the host count against the timeout only in part (see `Extension`).
    ///
    /// A [tracked](Call::tracked) call that is completed with `Timeout` is completed a second time: with its reply,
    /// however late; with `Unavailable` if Redis has not run it and will not; or with another failure if the outcome is
    /// unknown.
    ///
    /// # Errors
    /// `Overloaded` beyond `max_in_flight` calls or 8 MiB. The call is then over: no event follows.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        self.submit_until(now.plus(self.config.timeout), ticket, call)
    }

    /// Submits a call with a deadline of its own; otherwise like [`submit`](Self::submit).
    ///
    /// # Errors
    /// Like [`submit`](Self::submit).
    pub fn submit_until(&mut self, deadline: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if !self.has_room(call.size()) {
            return Err(Failure::Overloaded);
        }
        self.next.wait(ticket, deadline, call);
        Ok(())
    }

    /// Submits a call that no request waits for, with a [longer timeout](SessionConfig::patient_timeout) and without
    /// the bounds of [`has_room`](Self::has_room). The caller bounds the number of these calls.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) {
        self.next.wait(ticket, now.plus(self.config.patient_timeout()), call);
    }

    /// Returns whether there is room for a call of `bytes` bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let under_way = self.under_way.iter().fold(bytes, |sum, batch| sum.saturating_add(batch.calls.bytes()));
        self.in_flight() < self.config.max_in_flight && self.next.has_room(under_way)
    }

    /// Abandons a call: its reply is dropped. A [tracked](Call::tracked) call that was sent is still completed. Returns
    /// whether no event follows for the call. A call that was sent counts as in flight until its callout ends.
    pub fn abandon(&mut self, ticket: Ticket, is_tracked: bool) -> bool {
        if !is_tracked {
            let is_its =
                |event: &SessionEvent| matches!(event, SessionEvent::Completed { ticket: its, .. } if *its == ticket);
            self.events.retain(|event| !is_its(event));
        }
        let is_unsent = self.next.abandon(ticket);
        for batch in &mut self.under_way {
            batch.calls.abandon(ticket);
        }
        is_unsent || !is_tracked
    }

    /// Returns the callout to make now, if any.
    pub fn next_callout(&mut self, now: Micros) -> Option<Callout> {
        let is_single = self.front_end.is_some_and(FrontEnd::is_single);
        // Calls that waited together are sent together, in several callouts if need be.
        let is_of_now = |batch: &&Batch| is_single && batch.started == now;
        let mut earlier = self.under_way.iter().filter(|batch| !is_of_now(batch));
        let is_batching = earlier.any(|batch| now < batch.started.plus(BATCHING_WAIT));
        if self.is_held || (is_batching && self.next.len() < MAX_CALLS) {
            return None;
        }
        let patient_since = self.load.patient_since();
        expire(&mut self.next, self.load.last_tick(), Extension::default(), patient_since, &mut self.events);
        if self.next.len() == 0 {
            return None;
        }
        self.last_id = self.last_id.wrapping_add(1);
        let most = if is_single { self.next.next_command(self.joins) } else { MAX_CALLS };
        // A front end has read a reply whole before it answers.
        let reply_bytes = if self.front_end.is_some() { usize::MAX } else { MAX_REPLIES };
        let later = self.next.split_waiting(most, reply_bytes, self.joins);
        let mut calls = core::mem::replace(&mut self.next, later);
        let mut body = Vec::new();
        Handshake::begin(self.config.credentials.as_ref(), self.config.database, &mut body);
        if is_single {
            calls.unsent_scripts().for_each(|script| self.flat_scripts.learn(script));
            calls.send_command(now, &mut body);
        } else {
            calls.send_waiting(now, self.joins, &mut body);
        }
        if let Some(front_end) = self.front_end {
            body = front_end.body(self.last_id, &body, &self.flat_scripts);
        }
        let deadline = calls.last_deadline().unwrap_or(now).max(now);
        let is_busy = deadline == now || self.load.patient_since().is_some();
        // The turn began after the last tick.
        let of_turn = now.minus(self.load.last_tick()).max(GRACE).min(GRACE_OF_BUSY_HOST);
        let timeout = deadline.minus(now).plus(if is_busy { GRACE_OF_BUSY_HOST } else { of_turn });
        self.under_way.push(Batch { id: self.last_id, started: now, deadline, calls });
        Some(Callout { id: self.last_id, body, timeout })
    }

    /// Holds callouts back until [`release`](Self::release): within the callback for the end of a callout, the host
    /// would reuse that callout's half-closed connection for a new one.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Allows callouts again, once the host has returned from the callback.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    /// Handles the host's refusal to make a callout. The host gives no further reason: if the cluster is known to have a
    /// host, the proxy's circuit breaker is open.
    pub fn handle_refused(&mut self, now: Micros, id: u64, refusal: Refusal) {
        let is_proven = self.answered.is_some_and(|at| now.minus(at) < PROOF) || self.under_way.len() > 1;
        if refusal == Refusal::Internal && is_proven {
            return self.handle_response(now, id, Err(Failure::CircuitBreaker));
        }
        self.events.push_back(SessionEvent::Trouble(Trouble::new(Failure::Unavailable, refusal.description())));
        self.handle_response(now, id, Err(Failure::Unavailable));
    }

    /// Handles a response without replies: the failure that it stands for.
    pub fn handle_trouble(&mut self, now: Micros, id: u64, trouble: Trouble) {
        let failure = trouble.failure;
        self.events.push_back(SessionEvent::Trouble(trouble));
        self.handle_response(now, id, Err(failure));
    }

    /// Handles the end of a callout: its whole body, or the failure (`Timeout`, `Unavailable`, …).
    pub fn handle_response(&mut self, now: Micros, id: u64, response: Result<&[u8], Failure>) {
        let Some(at) = self.under_way.iter().position(|batch| batch.id == id) else { return };
        let Batch { calls, started, deadline, .. } = self.under_way.swap_remove(at);
        // The host's timer ends a connected callout as a lost connection does, after the last deadline.
        let is_timeout = response == Err(Failure::Reset) && now >= deadline;
        let response = if is_timeout { Err(Failure::Timeout) } else { response };
        let is_answered = response.is_ok_and(|body| !body.is_empty());
        if is_answered {
            self.answered = Some(now);
            self.round_trips.add(now.minus(started));
        }
        // A circuit breaker that refuses callouts says nothing about Redis.
        if response != Err(Failure::CircuitBreaker) {
            self.is_answering = is_answered;
        }
        self.complete_batch(id, calls, response);
    }

    /// Handles a tick: gives up calls that were due by the last tick. Responses that had arrived by then have been
    /// handled in between.
    pub fn handle_tick(&mut self, now: Micros) {
        let Self { next, under_way, events, load, .. } = self;
        let calls = || under_way.iter().map(|batch| &batch.calls).chain([&*next]);
        let earliest = calls().filter_map(InFlight::earliest_deadline).min();
        let extension = Extension::at(now, load.last_tick(), earliest, self.config.timeout);
        let due = load.tick(now, earliest);
        for calls in under_way.iter_mut().map(|batch| &mut batch.calls).chain([next]) {
            expire(calls, due, extension, load.patient_since(), events);
        }
    }

    /// Records a tick at which no deadline has passed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn idle_tick(&mut self, now: Micros) {
        self.load.tick(now, None);
    }

    /// Returns the time of the next [`handle_tick`](Self::handle_tick), if any is needed; call
    /// [`next_callout`](Self::next_callout) after it.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        if !self.events.is_empty() {
            return Some(now);
        }
        // The end of a callout or of the host's turn sends waiting calls sooner.
        let send_at = (self.next.len() > 0).then(|| now.plus(BATCHING_WAIT));
        let deadlines = self.under_way.iter().map(|batch| &batch.calls).chain([&self.next]);
        let deadlines = deadlines.filter_map(InFlight::earliest_deadline).map(|at| at.max(now));
        deadlines.chain(send_at).min()
    }

    /// Returns whether [`poll`](Self::poll) has no event and no call waits to be sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.events.is_empty() && self.next.len() == 0
    }

    /// Returns whether Redis answered the last callout that ended.
    #[must_use]
    pub fn is_answering(&self) -> bool {
        self.is_answering
    }

    /// Returns the next event. After every input, poll until there is none, or until the host has had as many
    /// [`SessionEvent::Completed`] as it can handle in one callback. The other events are kept, and
    /// [`next_tick`](Self::next_tick) asks for a tick.
    pub fn poll(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Returns the number of calls that wait or were sent, including abandoned calls.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.under_way.iter().fold(self.next.len(), |sum, batch| sum.saturating_add(batch.calls.len()))
    }

    fn complete(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        self.events.push_back(SessionEvent::Completed { ticket, result });
    }
}

/// Completes calls that were due by `due` with `Timeout`; tracked calls that were never sent, with `Unavailable` as
/// well.
fn expire(
    calls: &mut InFlight,
    due: Micros,
    extension: Extension,
    patient_since: Option<Micros>,
    events: &mut VecDeque<SessionEvent>,
) {
    calls.expire(due, extension, patient_since, &mut |ticket, expiry| {
        events.push_back(SessionEvent::Completed { ticket, result: Err(Failure::Timeout) });
        if expiry == Expiry::NeverSent {
            events.push_back(SessionEvent::Completed { ticket, result: Err(Failure::Unavailable) });
        }
    });
}
