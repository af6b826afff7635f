//! The way to Redis that the configuration chose, behind one face.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::config::{RedisConfig, Transport};
use crate::redis::{self, Call, Callout, Callouts, Failure, Next, Reply, Session, SessionConfig, Ticket, Trouble};
use crate::units::Micros;

/// One stream for all calls, or a callout for each. What is of the other transport's does nothing.
#[derive(Debug)]
pub struct Backend {
    transport: Carrier,
    effects: VecDeque<Effect>,
}

#[derive(Debug)]
enum Carrier {
    Stream(Box<Session>),
    Callout {
        callouts: Callouts,
        /// Callouts to make at the next tick, in the root context's name: those aside from requests, and those to be
        /// made again. While a callout's end is being told, Envoy takes its connection for one
        /// that can be used again, and gives it, half closed as it is, to the next.
        again: Vec<(Ticket, Callout)>,
    },
}

/// What the way to Redis asks of its host, or has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open the stream, or say [`Backend::handle_open_failed`].
    Open,
    /// Close the stream.
    Close,
    /// Make a callout, and say what came of it to [`Backend::handle_callout`].
    CallOut(Ticket, Callout),
    /// A call has come to its end.
    Settled(Ticket, Result<Reply, Failure>),
    /// Something that an operator should know.
    Trouble(Trouble),
}

impl Backend {
    /// The transport that `config` asks for, not connected yet. `seed` decides the jitter of its reconnects.
    #[must_use]
    pub fn new(config: &RedisConfig, seed: u64) -> Self {
        let session = SessionConfig {
            credentials: config.credentials.clone(),
            database: config.database,
            timeout: config.timeout,
            max_in_flight: usize::try_from(config.max_in_flight.get()).unwrap_or(usize::MAX),
        };
        let transport = match config.transport {
            Transport::Stream => Carrier::Stream(Box::new(Session::new(session, seed))),
            Transport::Callout => Carrier::Callout { callouts: Callouts::new(session), again: Vec::new() },
        };
        Self { transport, effects: VecDeque::new() }
    }

    /// Makes a call.
    ///
    /// # Errors
    /// Why it cannot be made now. Nothing more is heard of it then.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.transport {
            Carrier::Stream(session) => session.submit(now, ticket, call),
            Carrier::Callout { callouts, .. } => {
                let callout = callouts.submit(now, ticket, call)?;
                self.effects.push_back(Effect::CallOut(ticket, callout));
                Ok(())
            }
        }
    }

    /// Makes a call that no request waits for. A callout for it is made at the next tick: this may run while the end of
    /// another is being told.
    ///
    /// # Errors
    /// Why it cannot be made now. Nothing more is heard of it then.
    pub fn submit_aside(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        match &mut self.transport {
            Carrier::Stream(session) => session.submit(now, ticket, call),
            Carrier::Callout { callouts, again } => {
                let callout = callouts.submit(now, ticket, call)?;
                again.push((ticket, callout));
                Ok(())
            }
        }
    }

    /// Nobody waits for this call any more.
    pub fn abandon(&mut self, ticket: Ticket) {
        match &mut self.transport {
            Carrier::Stream(session) => session.abandon(ticket),
            Carrier::Callout { callouts, again } => {
                let unmade = self.effects.len().saturating_add(again.len());
                self.effects.retain(|effect| !matches!(effect, Effect::CallOut(other, _) if *other == ticket));
                again.retain(|(other, _)| *other != ticket);
                if self.effects.len().saturating_add(again.len()) < unmade {
                    callouts.withdraw(ticket);
                } else {
                    // The proxy lets it run, to its timeout at most, and tells of its end.
                    callouts.abandon(ticket);
                }
            }
        }
    }

    /// The host could not open the stream.
    pub fn handle_open_failed(&mut self, now: Micros) {
        if let Carrier::Stream(session) = &mut self.transport {
            session.handle_open_failed(now);
        }
    }

    /// Bytes came on the stream.
    pub fn handle_bytes(&mut self, now: Micros, bytes: &[u8]) {
        if let Carrier::Stream(session) = &mut self.transport {
            session.handle_bytes(now, bytes);
        }
    }

    /// The stream was closed, by the peer or the network.
    pub fn handle_closed(&mut self, now: Micros) {
        if let Carrier::Stream(session) = &mut self.transport {
            session.handle_closed(now);
        }
    }

    /// A callout is over: with all of its body, or with why there is none.
    pub fn handle_callout(&mut self, now: Micros, ticket: Ticket, response: Result<&[u8], Failure>) {
        let Carrier::Callout { callouts, again } = &mut self.transport else { return };
        match callouts.handle_response(now, ticket, response) {
            Next::Settled { result, trouble } => {
                self.effects.extend(trouble.map(Effect::Trouble));
                self.effects.push_back(Effect::Settled(ticket, result));
            }
            Next::Resend(callout) => again.push((ticket, callout)),
            Next::Abandoned => {}
        }
    }

    /// Time has passed.
    pub fn handle_tick(&mut self, now: Micros) {
        match &mut self.transport {
            Carrier::Stream(session) => session.handle_tick(now),
            Carrier::Callout { again, .. } => {
                self.effects.extend(again.drain(..).map(|(ticket, callout)| Effect::CallOut(ticket, callout)));
            }
        }
    }

    /// When [`handle_tick`](Self::handle_tick) is wanted next, if at all.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        match &self.transport {
            Carrier::Stream(session) => session.next_tick(now),
            Carrier::Callout { again, .. } => (!again.is_empty()).then_some(now),
        }
    }

    /// Whether nothing is to be done, to be known or to be sent.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match &self.transport {
            Carrier::Stream(session) => session.is_at_rest(),
            Carrier::Callout { again, .. } => self.effects.is_empty() && again.is_empty(),
        }
    }

    /// The next thing to do or to know. Poll until there is none after every event, then take what is to be sent.
    pub fn poll(&mut self) -> Option<Effect> {
        let Carrier::Stream(session) = &mut self.transport else { return self.effects.pop_front() };
        session.poll().map(|effect| match effect {
            redis::Effect::Open => Effect::Open,
            redis::Effect::Close => Effect::Close,
            redis::Effect::Settled { ticket, result } => Effect::Settled(ticket, result),
            redis::Effect::Trouble(trouble) => Effect::Trouble(trouble),
        })
    }

    /// Whether anything is to be sent on the stream.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        match &self.transport {
            Carrier::Stream(session) => session.has_outgoing(),
            Carrier::Callout { .. } => false,
        }
    }

    /// Calls that were sent, or wait to be, and are not answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match &self.transport {
            Carrier::Stream(session) => session.in_flight(),
            Carrier::Callout { callouts, .. } => callouts.in_flight(),
        }
    }

    /// Swaps what is to be sent on the stream into `buffer`; whether there is any.
    pub fn take_outgoing(&mut self, now: Micros, buffer: &mut Vec<u8>) -> bool {
        match &mut self.transport {
            Carrier::Stream(session) => session.take_outgoing(now, buffer),
            Carrier::Callout { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::config;
    use crate::redis::Script;

    const NOW: Micros = Micros::from_secs(1_000);
    const ONE: Ticket = Ticket(1);
    const TWO: Ticket = Ticket(2);
    const THREE: Ticket = Ticket(3);

    /// One that makes two callouts at once and no more.
    fn callouts() -> Backend {
        let json = br#"{"redis": {"cluster": "redis", "transport": "callout", "max_in_flight": 2}, "limits": [{
            "name": "a", "descriptor": [], "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}]}"#;
        Backend::new(&config::parse(json, &|_| None).unwrap().redis, 1)
    }

    fn submit(backend: &mut Backend, ticket: Ticket) -> Result<(), Failure> {
        backend.submit(NOW, ticket, Call::script(&Arc::new(Script::new("return 1")), &["k"], &["1"]))
    }

    /// Whose callouts are to be made now.
    fn made(backend: &mut Backend) -> Vec<Ticket> {
        let ticket = |effect| match effect {
            Effect::CallOut(ticket, _) => ticket,
            other => panic!("expected a callout, found {other:?}"),
        };
        core::iter::from_fn(|| backend.poll()).map(ticket).collect()
    }

    #[test]
    fn callouts_that_nobody_waits_for_count_until_they_end() {
        let mut backend = callouts();
        submit(&mut backend, ONE).unwrap();
        submit(&mut backend, TWO).unwrap();
        assert_eq!(made(&mut backend), [ONE, TWO]);
        backend.abandon(ONE);
        backend.abandon(TWO);
        assert_eq!(submit(&mut backend, THREE), Err(Failure::Overloaded));
        backend.handle_callout(NOW, ONE, Err(Failure::Timeout));
        assert_eq!(backend.poll(), None, "nobody is told of its end");
        submit(&mut backend, THREE).unwrap();
        assert_eq!(backend.in_flight(), 2);
    }

    #[test]
    fn a_callout_that_is_abandoned_before_it_is_made_never_is() {
        let mut backend = callouts();
        submit(&mut backend, ONE).unwrap();
        submit(&mut backend, TWO).unwrap();
        backend.abandon(ONE);
        assert_eq!(made(&mut backend), [TWO]);
        assert_eq!(backend.in_flight(), 1);
    }

    #[test]
    fn a_callout_that_is_abandoned_before_it_is_made_again_never_is() {
        let mut backend = callouts();
        submit(&mut backend, ONE).unwrap();
        assert_eq!(made(&mut backend), [ONE]);
        backend.handle_callout(NOW, ONE, Ok(b"-NOSCRIPT No matching script.\r\n"));
        assert_eq!(backend.in_flight(), 1);
        backend.abandon(ONE);
        assert_eq!(backend.in_flight(), 0);
        backend.handle_tick(NOW);
        assert_eq!(backend.poll(), None);
    }
}
