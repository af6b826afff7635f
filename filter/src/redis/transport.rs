//! Transport: one interface over the stream and the callouts, of which the configuration chooses one.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{Call, Callout, Callouts, Failure, Reply, Session, SessionConfig, SessionEvent, Ticket, Trouble};
use crate::units::Micros;

/// How bytes reach Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    /// One long-lived stream per worker, through the bridge.
    Stream,
    /// HTTP callouts, each with a connection of its own.
    Callout,
}

/// One stream for all calls, or callouts. What is of the other transport's does nothing.
#[derive(Debug)]
pub struct Transport {
    state: State,
}

#[derive(Debug)]
enum State {
    Stream(Box<Session>),
    Callout(Box<Callouts>),
}

/// What the way to Redis asks of its host, or has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// Open the stream, or say [`Transport::handle_open_failed`].
    Open,
    /// Close the stream.
    Close,
    /// Make a callout, and say what came of it to [`Transport::handle_callout`], or [`Transport::handle_callout_refused`].
    CallOut(Callout),
    /// A call has come to its end.
    Completed(Ticket, Result<Reply, Failure>),
    /// Something that an operator should know.
    Trouble(Trouble),
}

impl Transport {
    /// Creates a transport without a connection. `seed` varies the jitter of its reconnects.
    #[must_use]
    pub fn new(kind: TransportKind, config: SessionConfig, seed: u64) -> Self {
        let state = match kind {
            TransportKind::Stream => State::Stream(Box::new(Session::new(config, seed))),
            TransportKind::Callout => State::Callout(Box::new(Callouts::new(config))),
        };
        Self { state }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// Why it cannot be made now. Nothing more is heard of it then.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit(now, ticket, call),
            State::Callout(callouts) => callouts.submit(now, ticket, call),
        }
    }

    /// Makes a call that has to be answered by `deadline`.
    ///
    /// # Errors
    /// Why it cannot be made now. Nothing more is heard of it then.
    pub fn submit_until(&mut self, deadline: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit_until(deadline, ticket, call),
            State::Callout(callouts) => callouts.submit_until(deadline, ticket, call),
        }
    }

    /// Makes a call that no request waits for.
    ///
    /// # Errors
    /// Why it cannot be made now. Nothing more is heard of it then.
    pub fn submit_background(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if !self.has_room(0) {
            return Err(Failure::Overloaded);
        }
        self.submit_reserved(now, ticket, call)
    }

    /// The same, for a call that is never refused for want of room. Its caller bounds how many there are.
    ///
    /// # Errors
    /// Why it cannot be made now, which is never `Overloaded`. Nothing more is heard of it then.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.state {
            State::Stream(session) => session.submit_reserved(now, ticket, call),
            State::Callout(callouts) => {
                callouts.submit_reserved(now, ticket, call);
                Ok(())
            }
        }
    }

    /// Whether one more call of so many bytes has room, beside those in flight.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        match &self.state {
            State::Stream(session) => session.has_room(bytes),
            State::Callout(callouts) => callouts.has_room(bytes),
        }
    }

    /// Nobody waits for this call any more. Of one that [is heeded](Call::heeded) the outcome is told all the same,
    /// unless it never ran. Whether nothing more is heard of it.
    pub fn abandon(&mut self, ticket: Ticket, is_heeded: bool) -> bool {
        match &mut self.state {
            State::Stream(session) => session.abandon(ticket, is_heeded),
            State::Callout(callouts) => callouts.abandon(ticket, is_heeded),
        }
    }

    /// The host could not open the stream.
    pub fn handle_open_failed(&mut self, now: Micros) {
        if let State::Stream(session) = &mut self.state {
            session.handle_open_failed(now);
        }
    }

    /// Bytes came on the stream.
    pub fn handle_bytes(&mut self, now: Micros, bytes: &[u8]) {
        if let State::Stream(session) = &mut self.state {
            session.handle_bytes(now, bytes);
        }
    }

    /// The stream was closed, by the peer or the network.
    pub fn handle_closed(&mut self, now: Micros) {
        if let State::Stream(session) = &mut self.state {
            session.handle_closed(now);
        }
    }

    /// A callout is over: with all of its body, or with why there is none. No other may be made before the host has
    /// told all that it has to tell now.
    pub fn handle_callout(&mut self, now: Micros, id: u64, response: Result<&[u8], Failure>) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.hold();
            callouts.handle_response(now, id, response);
        }
    }

    /// The host did not make a callout.
    pub fn handle_callout_refused(&mut self, now: Micros, id: u64) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.handle_refused(now, id);
        }
    }

    /// The host has told all that it had to tell: callouts may be made again.
    pub fn handle_turn(&mut self) {
        if let State::Callout(callouts) = &mut self.state {
            callouts.release();
        }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Micros) {
        match &mut self.state {
            State::Stream(session) => session.handle_tick(now),
            State::Callout(callouts) => {
                callouts.release();
                callouts.handle_tick(now);
            }
        }
    }

    /// When [`handle_tick`](Self::handle_tick) is wanted next, if at all.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        match &self.state {
            State::Stream(session) => session.next_tick(now),
            State::Callout(callouts) => callouts.next_tick(now),
        }
    }

    /// Whether nothing is to be done, to be known or to be sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.is_at_rest(),
            State::Callout(callouts) => callouts.is_at_rest(),
        }
    }

    /// The next thing to do or to know. Poll until there is none after every event, then take what is to be sent.
    pub fn poll(&mut self, now: Micros) -> Option<TransportEvent> {
        let effect = match &mut self.state {
            State::Stream(session) => session.poll(),
            State::Callout(callouts) => match callouts.next_callout(now) {
                Some(callout) => return Some(TransportEvent::CallOut(callout)),
                None => callouts.poll(),
            },
        };
        effect.map(|effect| match effect {
            SessionEvent::Open => TransportEvent::Open,
            SessionEvent::Close => TransportEvent::Close,
            SessionEvent::Completed { ticket, result } => TransportEvent::Completed(ticket, result),
            SessionEvent::Trouble(trouble) => TransportEvent::Trouble(trouble),
        })
    }

    /// Whether anything is to be sent on the stream.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        match &self.state {
            State::Stream(session) => session.has_outgoing(),
            State::Callout(_) => false,
        }
    }

    /// Calls that were sent, or wait to be, and are not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.state {
            State::Stream(session) => session.in_flight(),
            State::Callout(callouts) => callouts.in_flight(),
        }
    }

    /// Swaps what is to be sent on the stream into `buffer`; whether there is any.
    pub fn take_outgoing(&mut self, now: Micros, buffer: &mut Vec<u8>) -> bool {
        match &mut self.state {
            State::Stream(session) => session.take_outgoing(now, buffer),
            State::Callout(_) => false,
        }
    }
}
