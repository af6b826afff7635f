//! Session: one long-lived, pipelined connection to Redis, as a sans-I/O state machine in the manner of quinn-proto.
//!
//! A connection is proven, by handshake and `PING`, before any call is sent on it: no request serves as a probe. The
//! first call opens the connection. After a failure, calls are refused immediately, and the session reconnects by
//! itself.
//!
//! ```text
//!           call                    proven                    old
//!   Idle ─────────▶ Proving ─────────────────▶ Ready ◀──────────────▶ Draining
//!    ▲                ▲  │ refused, silent,      │ │   not drained       │ drained
//!    │                │  │ closed                │ │                     ▼
//!    │   closed, with │  ▼                       │ │                  Proving
//!    └── nothing in ──┼─ Down ◀───── Closing ◀───┘ │
//!        flight       │   │    tick               │
//!                     └───┘◀──────────────────────┘ reset, silent
//!                   backoff
//! ```
//!
//! After every input, the caller polls the events, then sends the bytes of [`Session::take_outgoing`]. Only
//! [`Session::handle_tick`] leads to [`SessionEvent::Open`] and [`SessionEvent::Close`], since the host can open and
//! close streams in ticks only.

mod backoff;
mod calls;
pub(super) mod in_flight;
mod phase;
mod replies;

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use self::backoff::Backoff;
use self::in_flight::{Expiry, InFlight, sooner};
use self::phase::Phase;
use super::{
    Call, Credentials, Failure, Refusal, Reply, RoundTrips, Ticket, Topology, Trouble,
    handshake::Handshake,
    host_load::{Extension, HostLoad},
    resp::Decoder,
};
use crate::units::Micros;

/// Age at which a connection is replaced, to follow changes of DNS and failovers. Jitter shortens it by up to a
/// quarter.
const MAX_AGE: Micros = Micros::from_secs(5 * 60);
/// Time after which draining is tried again, if the connection could not be drained. Jitter shortens it by up to a
/// quarter.
const DRAIN_AGAIN: Micros = Micros::from_secs(15);
/// Least time for the handshake, and least silence after which a connection is closed.
const PATIENCE: Micros = Micros::from_secs(1);
/// Least number of ticks for the handshake: a busy host ticks once per turn of its event loop, and takes several turns
/// to connect.
const PROVING_TICKS: u32 = 8;
/// Number of ticks for which a busy host's delays do not count against the time for the handshake.
const MAX_PROVING_TICKS: u32 = 64;
/// Longest delay of a busy host that does not count as silence of Redis.
const MAX_AWAY: Micros = Micros::from_secs(8);
/// Capacity in bytes to which an empty buffer is shrunk.
const KEPT_BUFFER: usize = 256 * 1024;

/// Configuration of a connection to Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Arguments of `AUTH`; `None` for no `AUTH`.
    pub credentials: Option<Credentials>,
    /// Argument of `SELECT`; 0 for no `SELECT`.
    pub database: u32,
    /// Topology of Redis. In a cluster, no command carries several calls, and an error of one master does not end the
    /// connection.
    pub topology: Topology,
    /// Timeout of a call, from [`Session::submit`] on.
    pub timeout: Micros,
    /// Calls in flight, at most, including abandoned calls that Redis has not answered yet.
    pub max_in_flight: usize,
}

impl SessionConfig {
    /// Returns the timeout of a call that no request waits for: 8 times the timeout, but 2 s at least. Leaves time to
    /// send a script again over a slow network.
    #[must_use]
    pub fn patient_timeout(&self) -> Micros {
        self.timeout.times(8).max(PATIENCE.times(2))
    }
}

/// Event of a session: an action for the caller, or a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent {
    /// Open a stream, or call [`Session::handle_open_failed`]. Results from a tick only.
    Open,
    /// Close the stream, and drop all later events of that stream. Results from a tick only.
    Close,
    /// A call is completed. The reply is never a top-level [`Reply::Error`].
    Completed {
        /// The ticket of [`Session::submit`].
        ticket: Ticket,
        /// The reply or the failure.
        result: Result<Reply, Failure>,
    },
    /// A failure to log as a warning, at a limited rate.
    Trouble(Trouble),
}

/// State machine of one connection. All `now` arguments are instants of the same monotonic clock.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    calls: InFlight,
    decoder: Decoder,
    outgoing: Vec<u8>,
    /// Whether one command may carry several calls; `false` after a cluster has refused such a command.
    joins: bool,
    /// Events that are polled before `completed`: a caller that polls a limited number of completions per callback must
    /// not miss the `Open` of a tick.
    urgent: VecDeque<SessionEvent>,
    completed: VecDeque<(Ticket, Result<Reply, Failure>)>,
    /// Load of the host. Calls that were due by the last tick are given up at the next tick: replies that had arrived
    /// by the last tick have been read in between.
    load: HostLoad,
    /// Sum of the delays of ticks while the oldest call was in flight: this time does not count as silence of Redis.
    away: Micros,
    backoff: Backoff,
    /// Whether the peer or the network closed the connection without a call in flight, since this was last taken.
    is_lost_idle: bool,
    last_trouble: Option<(Failure, Micros)>,
    /// Round trips of the commands answered since they were last taken.
    pub(super) round_trips: RoundTrips,
}

impl Session {
    /// Creates a session without a connection. `seed` varies the jitter: give each worker a different seed.
    #[must_use]
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        Self {
            joins: config.topology == Topology::Single,
            config,
            calls: InFlight::default(),
            phase: Phase::Idle,
            decoder: Decoder::new(),
            outgoing: Vec::new(),
            urgent: VecDeque::new(),
            completed: VecDeque::new(),
            load: HostLoad::default(),
            away: Micros::ZERO,
            backoff: Backoff::new(seed),
            is_lost_idle: false,
            last_trouble: None,
            round_trips: RoundTrips::default(),
        }
    }

    /// Sets the longest time between two attempts to connect, 5 s otherwise. Credentials that Redis refuses are still
    /// tried every 5 s.
    pub fn reconnect_within(&mut self, longest: Micros) {
        self.backoff.set_longest(longest);
    }

    /// Submits a call, sent as soon as there is a proven connection. The call is completed within the timeout and two
    /// ticks, on a busy host (see `HostLoad`) within the timeout and ten ticks, and as many again if it is sent again. Long
    /// turns of the host count against the timeout only in part (see `Extension`).
    ///
    /// A [tracked](Call::tracked) call that is completed with `Timeout` is completed a second time: with its reply,
    /// however late; with `Unavailable` if Redis has not run it and will not; or with another failure if the outcome is
    /// unknown.
    ///
    /// # Errors
    /// `Overloaded` beyond `max_in_flight` calls or 8 MiB; while the connection is down, `Auth` or `NotReady` if Redis
    /// reported that cause, `Unavailable` otherwise. The call is then over: no event follows.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        self.submit_until(now.plus(self.config.timeout), ticket, call)
    }

    /// Submits a call with a deadline of its own; otherwise like [`submit`](Self::submit).
    ///
    /// # Errors
    /// Like [`submit`](Self::submit).
    pub fn submit_until(&mut self, deadline: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if let Some(refusal) = self.phase.refusal() {
            return Err(refusal);
        }
        if !self.has_room(call.size()) {
            return Err(Failure::Overloaded);
        }
        self.calls.wait(ticket, deadline, call);
        Ok(())
    }

    /// Submits a call that no request waits for, with a [longer timeout](SessionConfig::patient_timeout) and without
    /// the bounds of [`has_room`](Self::has_room). The caller bounds the number of these calls.
    ///
    /// # Errors
    /// Like [`submit`](Self::submit), but never `Overloaded`.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if let Some(refusal) = self.phase.refusal() {
            return Err(refusal);
        }
        self.calls.wait(ticket, now.plus(self.config.patient_timeout()), call);
        Ok(())
    }

    /// Returns whether there is room for a call of `bytes` bytes.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.in_flight() < self.config.max_in_flight && self.calls.has_room(bytes)
    }

    /// Abandons a call: its reply is dropped. A [tracked](Call::tracked) call that was sent is still completed. Returns
    /// whether no event follows for the call.
    pub fn abandon(&mut self, ticket: Ticket, is_tracked: bool) -> bool {
        let is_unsent = self.calls.abandon(ticket);
        if !is_tracked {
            self.completed.retain(|(completed, _)| *completed != ticket);
        }
        is_unsent || !is_tracked
    }

    /// Handles the host's failure to open a stream after [`SessionEvent::Open`].
    pub fn handle_open_failed(&mut self, now: Micros, refusal: Refusal) {
        if matches!(self.phase, Phase::Proving { .. }) {
            self.trouble(Failure::Unavailable, refusal.description());
            self.go_down(now, Failure::Unavailable);
        }
    }

    /// Handles bytes from the current stream.
    pub fn handle_bytes(&mut self, now: Micros, bytes: &[u8]) {
        if !self.phase.has_stream() {
            return;
        }
        self.decoder.push(bytes);
        loop {
            match self.decoder.next_reply() {
                Ok(Some(reply)) => self.handle_reply(now, reply),
                Ok(None) => return,
                Err(error) => return self.fail_protocol(error.to_string()),
            }
        }
    }

    /// Handles the end of the current stream, closed by the peer or the network. No [`SessionEvent::Close`] follows.
    pub fn handle_closed(&mut self, now: Micros) {
        match self.phase {
            Phase::Idle | Phase::Down { .. } => {}
            Phase::Closing { cause } => self.go_down(now, cause),
            Phase::Proving { .. } => {
                self.trouble(Failure::Unavailable, "the connection was refused, or closed before it answered");
                self.go_down(now, Failure::Unavailable);
            }
            Phase::Ready { .. } | Phase::Draining { .. } if self.calls.is_any_sent() => {
                let detail = format!("the connection was lost with {} calls in flight", self.calls.sent());
                self.trouble(Failure::Reset, detail);
                self.go_down(now, Failure::Reset);
            }
            // No call is lost. For calls that waited for the drain, the next tick opens a new connection.
            Phase::Ready { .. } | Phase::Draining { .. } => {
                self.forget_stream();
                self.phase = Phase::Idle;
                self.is_lost_idle = true;
            }
        }
    }

    /// Handles a tick: gives up overdue calls; opens, closes or replaces the connection.
    pub fn handle_tick(&mut self, now: Micros) {
        // Evaluated before calls are given up: with ticks longer than the timeout, every call would be given up before
        // the session opens a connection.
        let wanted = self.calls.is_any_waiting();
        let (due, extension) = self.note_tick(now);
        if !self.is_connecting_busily() {
            self.calls.expire(due, extension, self.load.patient_since(), &mut |ticket, expiry| {
                self.completed.push_back((ticket, Err(Failure::Timeout)));
                if expiry == Expiry::NeverSent {
                    self.completed.push_back((ticket, Err(Failure::Unavailable)));
                }
            });
        }
        match self.phase {
            Phase::Idle if wanted => self.open(now, None),
            Phase::Proving { deadline, ticks, .. } if now >= deadline && ticks >= PROVING_TICKS => {
                let detail = format!("no answer to the handshake within {} ms", self.patience(1).to_millis_ceil());
                self.close_for(now, Failure::Unavailable, Some(detail));
            }
            Phase::Closing { cause } => self.close_for(now, cause, None),
            Phase::Down { retry_at, refusal } if now >= retry_at => self.open(now, Some(refusal)),
            Phase::Ready { .. } | Phase::Draining { .. } if self.is_silent(due) => {
                let detail = format!("no reply within {} ms", self.patience(4).to_millis_ceil());
                self.close_for(now, Failure::Timeout, Some(detail));
            }
            Phase::Ready { rotate_at } if now >= rotate_at && self.calls.is_any_sent() => {
                // A quarter of the timeout: calls that wait for the drain need the rest for their own reply.
                self.phase = Phase::Draining { give_up_at: now.plus(Micros(self.config.timeout.0 / 4)) };
            }
            Phase::Ready { rotate_at } if now >= rotate_at => self.rotate(now),
            Phase::Draining { .. } if !self.calls.is_any_sent() => self.rotate(now),
            Phase::Draining { give_up_at } if now >= give_up_at => {
                self.phase = Phase::Ready { rotate_at: now.plus(self.backoff.jittered(DRAIN_AGAIN, 4)) };
            }
            _ => {}
        }
    }

    /// Records a tick. Returns the time of the tick before it, and the extension of the deadlines.
    pub(super) fn note_tick(&mut self, now: Micros) -> (Micros, Extension) {
        let (last, earliest) = (self.load.last_tick(), self.calls.earliest_deadline());
        if self.calls.oldest_sent().is_none_or(|sent| sent >= last) {
            self.away = Micros::ZERO;
        }
        self.load.tick(now, self.silent_at().map_or(earliest, |at| Some(sooner(earliest, at))));
        self.away = self.away.plus(self.load.delay()).min(MAX_AWAY);
        if let Phase::Proving { deadline, ticks: ..MAX_PROVING_TICKS, .. } = &mut self.phase {
            *deadline = deadline.plus(self.load.delay());
        }
        (last, Extension::at(now, last, earliest, self.config.timeout))
    }

    /// Returns whether overdue calls are kept, because a busy host has had fewer than [`PROVING_TICKS`] ticks to
    /// connect.
    fn is_connecting_busily(&mut self) -> bool {
        let Phase::Proving { ticks, is_busy, .. } = &mut self.phase else { return false };
        *ticks = ticks.saturating_add(1);
        *is_busy |= self.load.delay() > Micros::ZERO;
        *is_busy && *ticks < PROVING_TICKS
    }

    /// Returns the time of the next [`handle_tick`](Self::handle_tick): `now` or later, or `None` if no tick is needed.
    /// The time may be earlier than necessary.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        let of_phase = match self.phase {
            Phase::Idle => self.calls.is_any_waiting().then_some(now),
            Phase::Proving { deadline, .. } if now >= deadline => Some(now.plus(Micros::from_millis(1))),
            Phase::Proving { deadline, .. } => Some(deadline),
            Phase::Ready { rotate_at } => Some(rotate_at),
            Phase::Draining { .. } if !self.calls.is_any_sent() => Some(now),
            Phase::Draining { give_up_at } => Some(give_up_at),
            Phase::Closing { .. } => Some(now),
            Phase::Down { retry_at, .. } => Some(retry_at),
        };
        if !self.completed.is_empty() {
            return Some(now);
        }
        [of_phase, self.calls.earliest_deadline(), self.silent_at()].into_iter().flatten().min().map(|at| at.max(now))
    }

    /// Returns the next event. After every input, poll until there is none, or until the host has had as many
    /// [`SessionEvent::Completed`] as it can handle in one callback. The other events are kept, and
    /// [`next_tick`](Self::next_tick) asks for a tick.
    pub fn poll(&mut self) -> Option<SessionEvent> {
        let completed = |(ticket, result)| SessionEvent::Completed { ticket, result };
        self.urgent.pop_front().or_else(|| self.completed.pop_front().map(completed))
    }

    /// Returns whether there are no events to [`poll`](Self::poll) and no bytes to [send](Self::take_outgoing).
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.urgent.is_empty() && self.completed.is_empty() && !self.has_outgoing()
    }

    /// Returns whether [`take_outgoing`](Self::take_outgoing) has bytes to send.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty() || (self.is_ready() && self.calls.is_any_waiting())
    }

    /// Swaps the bytes to send on the current stream into `buffer`, and drops the old contents of `buffer`. Returns
    /// whether there are any bytes.
    ///
    /// One command carries as many calls as can be joined: starting a script costs Redis more than running it. The two
    /// buffers alternate, so that neither is allocated again.
    pub fn take_outgoing(&mut self, now: Micros, buffer: &mut Vec<u8>) -> bool {
        if self.is_ready() {
            self.calls.send_waiting(now, self.joins, &mut self.outgoing);
        }
        buffer.clear();
        buffer.shrink_to(KEPT_BUFFER);
        core::mem::swap(&mut self.outgoing, buffer);
        !buffer.is_empty()
    }

    /// Returns the number of calls in flight, including abandoned calls that Redis has not answered yet, and completed
    /// calls that were not polled yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len().saturating_add(self.completed.len())
    }

    /// Returns whether there is a proven connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. } | Phase::Draining { .. })
    }

    /// Returns whether calls are sent.
    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }
}
