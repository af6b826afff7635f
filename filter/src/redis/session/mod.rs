//! One long-lived, pipelined connection to Redis, as a state machine in the manner of quinn-proto.
//!
//! A connection is proven, by handshake and `PING`, before any call is sent on it: no user's request is ever
//! the probe. The first call opens it. Once it has failed, calls are refused at once, and it comes back by itself.
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
//! After every event, the caller polls the effects, then sends what [`Session::take_outgoing`] has. Only
//! [`Session::handle_tick`] makes it ask for [`Effect::Open`] and [`Effect::Close`], since the host can do neither
//! elsewhere.

mod backoff;
pub(super) mod in_flight;
mod phase;
mod replies;

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use self::backoff::Backoff;
use self::in_flight::{Given, InFlight};
use self::phase::Phase;
use super::{
    Call, Credentials, Failure, Reply, Ticket, Trouble, handshake::Handshake, host_load::HostLoad, resp::Decoder,
};
use crate::units::Micros;

/// Age at which a connection is replaced, so that it follows DNS and failovers. Up to a quarter less by jitter.
const MAX_AGE: Micros = Micros::from_secs(5 * 60);
/// Until a connection that could not be drained is tried again.
const DRAIN_AGAIN: Micros = Micros::from_secs(15);
/// The least time that a peer has to answer a handshake, and to be called silent.
const PATIENCE: Micros = Micros::from_secs(1);
/// Ticks that it has to answer a handshake, at least: a busy host ticks once in each turn of its loop, and takes several
/// turns to connect.
const PROVING_TICKS: u32 = 8;
/// A host is busy whose tick comes so much later than it was wanted.
const LATE: Micros = Micros::from_millis(20);
/// Capacity beyond which a buffer is given back once it is empty.
const KEPT_BUFFER: usize = 256 * 1024;

/// What a session must know of its Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Sent as `AUTH`, if any.
    pub credentials: Option<Credentials>,
    /// Sent as `SELECT`, unless it is 0.
    pub database: u32,
    /// A call's whole budget, from [`Session::submit`] on.
    pub timeout: Micros,
    /// Calls accepted and not yet answered by Redis, those included that nobody waits for any more.
    pub max_in_flight: usize,
}

impl SessionConfig {
    /// The budget of a call that no request waits for: long enough for a script to be sent once more over a slow
    /// network.
    #[must_use]
    pub fn patient_timeout(&self) -> Micros {
        self.timeout.times(8).max(PATIENCE.times(2))
    }
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Open a stream, or call [`Session::handle_open_failed`]. Comes from a tick only.
    Open,
    /// Close the stream. What still comes from it is none of the session's events. Comes from a tick only.
    Close,
    /// A call is over. A reply here is never a top-level [`Reply::Error`].
    Settled {
        /// As submitted.
        ticket: Ticket,
        /// The reply, or why there is none.
        result: Result<Reply, Failure>,
    },
    /// Worth a warning, if there was none for some time.
    Trouble(Trouble),
}

/// The state machine. `now` is an instant of one monotonic clock throughout.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    phase: Phase,
    calls: InFlight,
    decoder: Decoder,
    outgoing: Vec<u8>,
    /// Whether one command may tell of several calls. Not of a cluster, after it has refused one.
    joins: bool,
    /// Ahead of `settled`: a caller that takes only so many of those at a time must not miss a tick's `Open`.
    urgent: VecDeque<Effect>,
    settled: VecDeque<(Ticket, Result<Reply, Failure>)>,
    /// What was due by the last tick, and has not come since, is given up at the next one: in between, the host has read
    /// what was there to be read.
    load: HostLoad,
    backoff: Backoff,
    last_trouble: Option<(Failure, Micros)>,
}

impl Session {
    /// A session without a connection. `seed` decides its jitter: give each worker another one.
    #[must_use]
    pub fn new(config: SessionConfig, seed: u64) -> Self {
        Self {
            config,
            calls: InFlight::default(),
            phase: Phase::Idle,
            decoder: Decoder::new(),
            outgoing: Vec::new(),
            joins: true,
            urgent: VecDeque::new(),
            settled: VecDeque::new(),
            load: HostLoad::default(),
            backoff: Backoff::new(seed),
            last_trouble: None,
        }
    }

    /// Sends a call, or holds it back until there is a connection. It is settled within the timeout and two ticks, on a
    /// [busy](HostLoad) host within the timeout and ten, and as many again where it has to be sent once more.
    ///
    /// A call that is [heeded](Call::heeded) and settled with `Timeout` is settled once more: with its reply, however
    /// late; with `Unavailable`, where Redis has not run it and will not; or with why nobody knows.
    ///
    /// # Errors
    /// `Overloaded` beyond `max_in_flight` calls or 8 MiB; while the connection is down, `Auth` or `NotReady` where
    /// that is why, `Unavailable` otherwise. Such a call is over: nothing more is heard of it.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        self.submit_until(now.plus(self.config.timeout), ticket, call)
    }

    /// The same, for a call that has to be answered by `deadline`.
    ///
    /// # Errors
    /// As there.
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

    /// The same, for a call that is never refused for want of room, and that no request waits for: it has
    /// [more time](SessionConfig::patient_timeout). The caller bounds how many there are.
    ///
    /// # Errors
    /// As there, but never `Overloaded`.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if let Some(refusal) = self.phase.refusal() {
            return Err(refusal);
        }
        self.calls.wait(ticket, now.plus(self.config.patient_timeout()), call);
        Ok(())
    }

    /// Whether a call of so many bytes has room.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.in_flight() < self.config.max_in_flight && self.calls.has_room(bytes)
    }

    /// Nobody waits for this call any more: its reply is dropped, nothing else; unless it is
    /// [heeded](Call::heeded), and settled in its time. Whether nothing more is heard of it in either case.
    pub fn abandon(&mut self, ticket: Ticket, is_heeded: bool) -> bool {
        let is_withdrawn = self.calls.abandon(ticket);
        if !is_heeded {
            self.settled.retain(|(settled, _)| *settled != ticket);
        }
        is_withdrawn || !is_heeded
    }

    /// The host could not do as [`Effect::Open`] said.
    pub fn handle_open_failed(&mut self, now: Micros) {
        if matches!(self.phase, Phase::Proving { .. }) {
            self.trouble(Failure::Unavailable, "the host refused to open a stream to the cluster");
            self.go_down(now, Failure::Unavailable);
        }
    }

    /// Bytes came on the current stream.
    pub fn handle_bytes(&mut self, now: Micros, bytes: &[u8]) {
        if !self.phase.has_stream() {
            return;
        }
        self.decoder.push(bytes);
        loop {
            match self.decoder.next_reply() {
                Ok(Some(reply)) => self.handle_reply(now, reply),
                Ok(None) => return,
                Err(error) => return self.distrust(error.to_string()),
            }
        }
    }

    /// The current stream is gone, by the peer's or the network's doing. No [`Effect::Close`] follows.
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
            // Nothing is lost. Calls that waited for the rotation get their connection at the next tick.
            Phase::Ready { .. } | Phase::Draining { .. } => {
                self.forget_stream();
                self.phase = Phase::Idle;
            }
        }
    }

    /// Time has passed: gives calls up, opens, closes, rotates.
    pub fn handle_tick(&mut self, now: Micros) {
        // Asked before calls are given up: where a tick is longer than the timeout, no call would ever live to
        // see the connection that it asked for.
        let wanted = self.calls.is_any_waiting();
        let due = self.load.tick(now, self.calls.earliest_deadline());
        if !self.is_connecting_busily(now, due) {
            self.calls.expire(due, self.load.patient_since(), |ticket, given| {
                self.settled.push_back((ticket, Err(Failure::Timeout)));
                if given == Given::Unsent {
                    self.settled.push_back((ticket, Err(Failure::Unavailable)));
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
            Phase::Ready { .. } | Phase::Draining { .. } if self.silent_at().is_some_and(|at| due >= at) => {
                let detail = format!("no reply within {} ms", self.patience(4).to_millis_ceil());
                self.close_for(now, Failure::Timeout, Some(detail));
            }
            Phase::Ready { rotate_at } if now >= rotate_at && self.calls.is_any_sent() => {
                // A quarter: what is left of their budget must do for the calls that are held back meanwhile.
                self.phase = Phase::Draining { give_up_at: now.plus(Micros(self.config.timeout.0 / 4)) };
            }
            Phase::Ready { rotate_at } if now >= rotate_at => self.rotate(now),
            Phase::Draining { .. } if !self.calls.is_any_sent() => self.rotate(now),
            Phase::Draining { give_up_at } if now >= give_up_at => {
                self.phase = Phase::Ready { rotate_at: now.plus(self.backoff.stray(DRAIN_AGAIN, 4)) };
            }
            _ => {}
        }
    }

    /// Whether calls are to wait longer than they have, as the host is too busy to connect sooner: it has had few ticks for it.
    fn is_connecting_busily(&mut self, now: Micros, last_tick: Micros) -> bool {
        let Phase::Proving { ticks, is_busy, .. } = &mut self.phase else { return false };
        *ticks = ticks.saturating_add(1);
        *is_busy |= self.calls.earliest_deadline().is_some_and(|at| now.minus(at.max(last_tick)) > LATE);
        *is_busy && *ticks < PROVING_TICKS
    }

    /// When [`handle_tick`](Self::handle_tick) is wanted next: `now` or later, or never as things are. It may be
    /// sooner than needed, which does no harm.
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
        if !self.settled.is_empty() {
            return Some(now);
        }
        [of_phase, self.calls.earliest_deadline(), self.silent_at()].into_iter().flatten().min().map(|at| at.max(now))
    }

    /// The next thing to do. Poll after every event: until there is none, or until [`Effect::Settled`] has come as
    /// often as the host stands in one callback. The rest is kept, and asks for a tick.
    pub fn poll(&mut self) -> Option<Effect> {
        let settled = |(ticket, result)| Effect::Settled { ticket, result };
        self.urgent.pop_front().or_else(|| self.settled.pop_front().map(settled))
    }

    /// Whether [`poll`](Self::poll) and [`take_outgoing`](Self::take_outgoing) have nothing.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.urgent.is_empty() && self.settled.is_empty() && !self.has_outgoing()
    }

    /// Whether anything is to be sent: see [`take_outgoing`](Self::take_outgoing).
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty() || (self.is_ready() && self.calls.is_any_waiting())
    }

    /// Swaps what is to be sent on the current stream into `buffer`, whatever that held; whether there is any.
    ///
    /// All calls since the last time are one run of bytes, and those together that one command can tell of: to run a
    /// script costs Redis more than what it does. The two buffers take turns, so that none is allocated.
    pub fn take_outgoing(&mut self, now: Micros, buffer: &mut Vec<u8>) -> bool {
        if self.is_ready() {
            self.calls.send_waiting(now, self.joins, &mut self.outgoing);
        }
        buffer.clear();
        buffer.shrink_to(KEPT_BUFFER);
        core::mem::swap(&mut self.outgoing, buffer);
        !buffer.is_empty()
    }

    /// Calls accepted and not yet answered by Redis, those included that nobody waits for any more, and those settled
    /// and not yet polled.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.calls.len().saturating_add(self.settled.len())
    }

    /// Whether there is a proven connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. } | Phase::Draining { .. })
    }

    /// Whether calls are sent.
    fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }
}
