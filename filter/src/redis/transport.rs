//! Transport: one interface over the stream and over callouts; the configuration chooses.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{
    Call, Callout, Callouts, Failure, FrontEnd, Refusal, Reply, RoundTrips, Session, SessionConfig, SessionEvent,
    Ticket, Trouble,
};
use crate::units::Micros;

/// Kind of transport to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// A long-lived stream per worker, through the bridge.
    Stream,
    /// HTTP callouts, each with a connection of its own.
    Callout,
    /// HTTP callouts to a Webdis.
    Webdis,
    /// HTTP callouts to Upstash's REST API.
    Upstash,
}

impl TransportKind {
    /// Returns the front end that answers callouts, if it is not Redis itself.
    #[must_use]
    pub fn front_end(self) -> Option<FrontEnd> {
        match self {
            Self::Stream | Self::Callout => None,
            Self::Webdis => Some(FrontEnd::Webdis),
            Self::Upstash => Some(FrontEnd::Upstash),
        }
    }
}

/// The configured transport. Events of the other kind of transport have no effect.
#[derive(Debug)]
pub struct Transport {
    state: State,
}

#[derive(Debug)]
enum State {
    Stream(Box<Session>),
    Callout(Box<Callouts>),
}

/// Event of the transport: an action for the host, or a result.
#[derive(Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// Open the stream, or call [`Transport::handle_open_failed`].
    Open,
    /// Close the stream.
    Close,
    /// Make a callout, and pass its response to [`Transport::handle_callout`]; if the host refuses the callout, call
    /// [`Transport::handle_callout_refused`].
    CallOut(Callout),
    /// A call is completed.
    Completed(Ticket, Result<Reply, Failure>),
    /// A failure to log as a warning.
    Trouble(Trouble),
}

impl Transport {
    /// Creates a transport without a connection. `seed` varies the jitter of its reconnects, and the ids of callouts to a
    /// front end.
    #[must_use]
    #[inline(never)]
    pub fn new(kind: TransportKind, config: SessionConfig, seed: u64) -> Self {
        let state = match (kind, kind.front_end()) {
            (TransportKind::Stream, _) => State::Stream(Box::new(Session::new(config, seed))),
            (_, None) => State::Callout(Box::new(Callouts::new(config))),
            (_, Some(front_end)) => State::Callout(Box::new(Callouts::through(front_end, config, seed))),
        };
        Self { state }
    }

    /// Sets the longest time between two attempts to connect. Credentials that Redis refuses are still tried every 5 s.
    pub fn reconnect_within(&mut self, longest: Micros) {
        if let State::Stream(session) = &mut self.state {
            session.reconnect_within(longest);
        }
    }

    /// Returns whether the peer or the network closed the stream without a call in flight, since the last call of this
    /// method.
    pub fn take_idle_loss(&mut self) -> bool {
        match &mut self.state {
            State::Stream(session) => session.take_idle_loss(),
            State::Callout(_) => false,
        }
    }

    /// Submits a call.
    ///
    /// # Errors
    /// The failure that keeps the call from being sent. The call is then over: no event follows.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit(now, ticket, call),
            State::Callout(callouts) => callouts.submit(now, ticket, call),
        }
    }

    /// Submits a call with a deadline of its own.
    ///
    /// # Errors
    /// The failure that keeps the call from being sent. The call is then over: no event follows.
    pub fn submit_until(&mut self, deadline: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit_until(deadline, ticket, call),
            State::Callout(callouts) => callouts.submit_until(deadline, ticket, call),
        }
    }

    /// Submits a call that no request waits for.
    ///
    /// # Errors
    /// The failure that keeps the call from being sent. The call is then over: no event follows.
    pub fn submit_background(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if !self.has_room(0) {
            return Err(Failure::Overloaded);
        }
        self.submit_reserved(now, ticket, call)
    }

    /// Submits a call that no request waits for, without the bounds of [`has_room`](Self::has_room). The caller bounds
    /// the number of these calls.
    ///
    /// # Errors
    /// The failure that keeps the call from being sent, never `Overloaded`. The call is then over: no event follows.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit_reserved(now, ticket, call),
            State::Callout(callouts) => {
                callouts.submit_reserved(now, ticket, call);
                Ok(())
            }
        }
    }

    /// Returns whether there is room for one more call of `bytes` bytes, beside the calls in flight.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        match &self.state {
            State::Stream(session) => session.has_room(bytes),
            State::Callout(callouts) => callouts.has_room(bytes),
        }
    }

    /// Abandons a call: its reply is dropped. The outcome of a [tracked](Call::tracked) call is still reported, unless
    /// the call was never sent. Returns whether no event follows for the call.
    pub fn abandon(&mut self, ticket: Ticket, is_tracked: bool) -> bool {
        match &mut self.state {
            State::Stream(session) => session.abandon(ticket, is_tracked),
            State::Callout(callouts) => callouts.abandon(ticket, is_tracked),
        }
    }

    /// Handles the host's failure to open the stream.
    pub fn handle_open_failed(&mut self, now: Micros, refusal: Refusal) {
        if let State::Stream(session) = &mut self.state {
            session.handle_open_failed(now, refusal);
        }
    }

    /// Handles bytes from the stream.
    pub fn handle_bytes(&mut self, now: Micros, bytes: &[u8]) {
        if let State::Stream(session) = &mut self.state {
            session.handle_bytes(now, bytes);
        }
    }

    /// Handles the end of the stream, closed by the peer or the network.
    pub fn handle_closed(&mut self, now: Micros) {
        if let State::Stream(session) = &mut self.state {
            session.handle_closed(now);
        }
    }

    /// Handles the end of a callout: its whole body, or the failure. No other callout is made until
    /// [`handle_turn`](Self::handle_turn) or [`handle_tick`](Self::handle_tick).
    pub fn handle_callout(&mut self, now: Micros, id: u64, response: Result<&[u8], Failure>) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.hold();
            callouts.handle_response(now, id, response);
        }
    }

    /// Handles a front end's response without replies: the failure that it stands for. Otherwise like
    /// [`handle_callout`](Self::handle_callout).
    pub fn handle_callout_trouble(&mut self, now: Micros, id: u64, trouble: Trouble) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.hold();
            callouts.handle_trouble(now, id, trouble);
        }
    }

    /// Handles the host's refusal to make a callout.
    pub fn handle_callout_refused(&mut self, now: Micros, id: u64, refusal: Refusal) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.handle_refused(now, id, refusal);
        }
    }

    /// Handles the end of the host's event-loop turn: callouts may be made again.
    pub fn handle_turn(&mut self) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.release();
        }
    }

    /// Handles a tick: gives up calls that are overdue, connects and disconnects.
    pub fn handle_tick(&mut self, now: Micros) {
        match &mut self.state {
            State::Stream(session) => session.handle_tick(now),
            State::Callout(callouts) => {
                callouts.release();
                callouts.handle_tick(now);
            }
        }
    }

    /// Whether the next [`handle_tick`](Self::handle_tick) only records its time, unless a deadline has passed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_idle(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.is_idle(),
            State::Callout(callouts) => callouts.is_at_rest(),
        }
    }

    /// Records a tick, no more than 500 ms after the last one, at which no deadline has passed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn idle_tick(&mut self, now: Micros) {
        match &mut self.state {
            State::Stream(session) => session.idle_tick(now),
            State::Callout(callouts) => callouts.idle_tick(now),
        }
    }

    /// Returns the time of the next [`handle_tick`](Self::handle_tick), if any is needed.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        match &self.state {
            State::Stream(session) => session.next_tick(now),
            State::Callout(callouts) => callouts.next_tick(now),
        }
    }

    /// Returns whether there are no events, no calls to send and no bytes to send.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.is_at_rest(),
            State::Callout(callouts) => callouts.is_at_rest(),
        }
    }

    /// Returns the next event. After every input, poll until there is none, then call
    /// [`take_outgoing`](Self::take_outgoing).
    pub fn poll(&mut self, now: Micros) -> Option<TransportEvent> {
        let event = match &mut self.state {
            State::Stream(session) => session.poll(),
            State::Callout(callouts) => match callouts.next_callout(now) {
                Some(callout) => return Some(TransportEvent::CallOut(callout)),
                None => callouts.poll(),
            },
        };
        event.map(|event| match event {
            SessionEvent::Open => TransportEvent::Open,
            SessionEvent::Close => TransportEvent::Close,
            SessionEvent::Completed { ticket, result } => TransportEvent::Completed(ticket, result),
            SessionEvent::Trouble(trouble) => TransportEvent::Trouble(trouble),
        })
    }

    /// Returns whether there is a proven connection; with callouts, whether Redis answered the last callout.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.is_connected(),
            State::Callout(callouts) => callouts.is_answering(),
        }
    }

    /// Takes one of the round trips of the replies since the last call: of each command on the stream, or of each callout.
    pub fn pop_round_trip(&mut self) -> Option<Micros> {
        let round_trips: &mut RoundTrips = match &mut self.state {
            State::Stream(session) => &mut session.round_trips,
            State::Callout(callouts) => &mut callouts.round_trips,
        };
        round_trips.pop()
    }

    /// Returns whether there are bytes to send on the stream.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.has_outgoing(),
            State::Callout(_) => false,
        }
    }

    /// Returns the number of calls that wait to be sent or wait for their reply.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.state {
            State::Stream(session) => session.in_flight(),
            State::Callout(callouts) => callouts.in_flight(),
        }
    }

    /// Swaps the bytes to send on the stream into `buffer`. Returns whether there are any.
    pub fn take_outgoing(&mut self, now: Micros, buffer: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Stream(session) => session.take_outgoing(now, buffer),
            State::Callout(_) => false,
        }
    }
}
