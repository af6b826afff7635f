//! The `callout` transport: HTTP callouts, each with a TCP connection of its own, that carry one call or many.
//!
//! The host sends a callout's body as raw TCP and half-closes; Redis answers all of it and closes. The handshake goes
//! ahead of the commands in the same body. So a refused `AUTH` keeps the commands from running, but a refused
//! `SELECT` does not: Redis then runs them in database 0, and the calls fail all the same.
//!
//! A call that comes alone is sent at once. Calls that come while a callout is under way wait for its end, and go
//! together in the next one: a connection costs the servers some five times what a call does. They wait for
//! [`GATHERING`] at most, so that a slow network or a lost packet holds nobody up.

#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::handshake::Handshake;
use super::host_load::HostLoad;
use super::resp::{Decoder, Shares, describe, failure_of, is_cross_slot, is_noscript};
use super::session::in_flight::{Caller, Given, InFlight};
use super::{Call, Effect, Failure, Reply, SessionConfig, Ticket, Trouble};
use crate::units::Micros;

/// Calls in one callout. Each may decide a request within the callback that brings the replies: the proxy's stack must
/// hold them.
const MAX_CALLS: usize = 128;
/// The longest that calls wait for the end of a callout that is under way, to go together in the next.
const GATHERING: Micros = Micros::from_millis(5);
/// How long a callout that was answered proves that the cluster has a host.
const PROOF: Micros = Micros::from_secs(1);
/// How much longer than its calls a callout lasts: a busy proxy reads a reply late, and whether Redis has run a call is still
/// to be known.
const GRACE: Micros = Micros::from_secs(1);

/// One HTTP callout to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// Tells its response from others'.
    pub id: u64,
    /// The body to `POST`.
    pub body: Vec<u8>,
    /// The callout's timeout in whole milliseconds: a second more than its last call has. Each call's own is for
    /// [`Callouts::handle_tick`].
    pub timeout_ms: u64,
}

/// Calls that wait for a callout, and callouts under way. Each callout must end in [`Callouts::handle_response`], or in
/// [`Callouts::handle_refused`] where it was not made.
#[derive(Debug)]
pub struct Callouts {
    config: SessionConfig,
    /// Calls of the next callout, and of those after it.
    next: InFlight,
    /// What is written of the next callout: calls that are sent once more.
    body: Vec<u8>,
    under_way: Vec<Batch>,
    last_id: u64,
    /// Whether one command may tell of several calls. Not of a cluster, after it has refused one.
    joins: bool,
    /// Whether no callout may be made: see [`hold`](Self::hold).
    is_held: bool,
    /// When a callout was last answered.
    answered: Option<Micros>,
    /// What was due by the last tick is given up at the next one.
    load: HostLoad,
    effects: VecDeque<Effect>,
}

/// The calls of one callout under way.
#[derive(Debug)]
struct Batch {
    id: u64,
    started: Micros,
    calls: InFlight,
}

/// What came of a callout.
struct Response {
    /// The replies to its commands, from the first on.
    replies: Vec<Reply>,
    /// Why the others are missing, if any is.
    lost: Failure,
    /// Worth a warning, if there was none for some time.
    trouble: Option<Trouble>,
}

impl Callouts {
    /// None under way.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self {
            config,
            next: InFlight::default(),
            body: Vec::new(),
            under_way: Vec::new(),
            last_id: 0,
            joins: true,
            is_held: false,
            answered: None,
            load: HostLoad::default(),
            effects: VecDeque::new(),
        }
    }

    /// Takes a call, to be sent in the [next callout](Self::next_callout). It is settled within the timeout and two
    /// ticks, on a [busy](HostLoad) host within the timeout and ten, and as many again where it has to be sent once more.
    ///
    /// A call that is [heeded](Call::heeded) and settled with `Timeout` is settled once more: with its reply, however
    /// late; with `Unavailable`, where Redis has not run it and will not; or with why nobody knows.
    ///
    /// # Errors
    /// `Overloaded` beyond `max_in_flight` calls or 8 MiB. Such a call is over: nothing more is heard of it.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        self.submit_until(now.plus(self.config.timeout), ticket, call)
    }

    /// The same, for a call that has to be answered by `deadline`.
    ///
    /// # Errors
    /// As there.
    pub fn submit_until(&mut self, deadline: Micros, ticket: Ticket, call: Call) -> Result<(), Failure> {
        if !self.has_room(call.size()) {
            return Err(Failure::Overloaded);
        }
        self.next.wait(ticket, deadline, call);
        Ok(())
    }

    /// The same, for a call that is never refused for want of room, and that no request waits for: it has
    /// [more time](SessionConfig::patient_timeout). The caller bounds how many there are.
    pub fn submit_reserved(&mut self, now: Micros, ticket: Ticket, call: Call) {
        self.next.wait(ticket, now.plus(self.config.patient_timeout()), call);
    }

    /// Whether a call of so many bytes has room.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        let under_way = self.under_way.iter().fold(bytes, |sum, batch| sum.saturating_add(batch.calls.bytes()));
        self.in_flight() < self.config.max_in_flight && self.next.has_room(under_way)
    }

    /// Nobody waits for this call any more: its reply is dropped, nothing else; unless it is
    /// [heeded](Call::heeded), and settled in its time. Whether nothing more is heard of it in either case. One that was
    /// sent counts until its callout is over.
    pub fn abandon(&mut self, ticket: Ticket, is_heeded: bool) -> bool {
        if !is_heeded {
            let is_its = |effect: &Effect| matches!(effect, Effect::Settled { ticket: its, .. } if *its == ticket);
            self.effects.retain(|effect| !is_its(effect));
        }
        let is_withdrawn = self.next.abandon(ticket);
        for batch in &mut self.under_way {
            batch.calls.abandon(ticket);
        }
        is_withdrawn || !is_heeded
    }

    /// The callout to make now, if one is due.
    pub fn next_callout(&mut self, now: Micros) -> Option<Callout> {
        let is_gathering = self.under_way.iter().any(|batch| now < batch.started.plus(GATHERING));
        if self.is_held || (is_gathering && self.next.len() < MAX_CALLS) {
            return None;
        }
        expire(&mut self.next, self.load.last_tick(), self.load.patient_since(), &mut self.effects);
        if self.next.len() == 0 {
            return None;
        }
        self.last_id = self.last_id.wrapping_add(1);
        let later = self.next.split_waiting(MAX_CALLS);
        let mut calls = core::mem::replace(&mut self.next, later);
        self.begin_body();
        let mut body = core::mem::take(&mut self.body);
        calls.send_waiting(now, self.joins, &mut body);
        let timeout = calls.last_deadline().map_or(Micros::ZERO, |last| last.minus(now)).plus(GRACE);
        self.under_way.push(Batch { id: self.last_id, started: now, calls });
        Some(Callout { id: self.last_id, body, timeout_ms: timeout.to_millis_ceil() })
    }

    /// The host has begun to tell of a callout's end. Until it has [released](Self::release) it, none may be made: it would
    /// be given the connection of that one, half-closed as it is.
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// The host is through with all that it told of.
    pub fn release(&mut self) {
        self.is_held = false;
    }

    /// The host did not make a callout. It does not say why: where the cluster has a host, the proxy's circuit breaker
    /// is open.
    pub fn handle_refused(&mut self, now: Micros, id: u64) {
        let is_proven = self.answered.is_some_and(|at| now.minus(at) < PROOF) || self.under_way.len() > 1;
        let failure = if is_proven { Failure::CircuitBreaker } else { Failure::Unavailable };
        self.handle_response(now, id, Err(failure));
    }

    /// A callout is over: with the whole body that came, or with why there is none (`Timeout`, `Unavailable`, …).
    pub fn handle_response(&mut self, now: Micros, id: u64, response: Result<&[u8], Failure>) {
        let Some(at) = self.under_way.iter().position(|batch| batch.id == id) else { return };
        let Batch { calls, .. } = self.under_way.swap_remove(at);
        if response.is_ok_and(|body| !body.is_empty()) {
            self.answered = Some(now);
        }
        let response = match response {
            Ok(body) => self.read(body, calls.commands()),
            Err(lost) => Response { replies: Vec::new(), lost, trouble: trouble_without_response(lost) },
        };
        self.share_out(now, calls, response);
    }

    /// Time has passed: gives calls up that were due at the last tick. In between, the host has told what it had to tell.
    pub fn handle_tick(&mut self, now: Micros) {
        let Self { next, under_way, effects, load, .. } = self;
        let calls = || under_way.iter().map(|batch| &batch.calls).chain([&*next]);
        let due = load.tick(now, calls().filter_map(InFlight::earliest_deadline).min());
        for calls in under_way.iter_mut().map(|batch| &mut batch.calls).chain([next]) {
            expire(calls, due, load.patient_since(), effects);
        }
    }

    /// When [`handle_tick`](Self::handle_tick) is wanted next, and [`next_callout`](Self::next_callout) after it.
    #[must_use]
    pub fn next_tick(&self, now: Micros) -> Option<Micros> {
        if !self.effects.is_empty() {
            return Some(now);
        }
        // Sooner where the host tells of a callout's end, or of its turn's.
        let gathered = (self.next.len() > 0).then(|| now.plus(GATHERING));
        let deadlines = self.under_way.iter().map(|batch| &batch.calls).chain([&self.next]);
        let deadlines = deadlines.filter_map(InFlight::earliest_deadline).map(|at| at.max(now));
        deadlines.chain(gathered).min()
    }

    /// Whether [`poll`](Self::poll) has nothing and no call waits.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.effects.is_empty() && self.next.len() == 0
    }

    /// The next thing to know. Poll after every event, until there is none, or until [`Effect::Settled`] has come as often
    /// as the host stands in one callback. The rest is kept, and asks for a tick.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Calls that wait or were sent, those included that nobody waits for any more.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.under_way.iter().fold(self.next.len(), |sum, batch| sum.saturating_add(batch.calls.len()))
    }

    /// Settles the calls of a callout, or has them sent again.
    fn share_out(&mut self, now: Micros, mut calls: InFlight, Response { replies, lost, mut trouble }: Response) {
        let mut replies = replies.into_iter();
        while let Some(first) = calls.answered() {
            let is_joined = calls.is_next_joined();
            let reply = replies.next();
            // A Redis that is a cluster refuses keys of different slots before it runs anything.
            let is_apart = is_joined && matches!(&reply, Some(Reply::Error(error)) if is_cross_slot(error));
            self.joins &= !is_apart;
            let (mut shares, mut whole) = match reply {
                // A reply without shares is malformed to all alike.
                Some(reply) if is_joined && !matches!(reply, Reply::Error(_)) => (Some(Shares::of(reply)), None),
                reply => (None, reply),
            };
            let mut next = Some(first);
            while let Some(sent) = next {
                let reply = match &mut shares {
                    Some(shares) => Some(shares.as_mut().map_or(Reply::Nil, |shares| shares.take(sent.share))),
                    // An error is the reply to all that one command tells of.
                    None if is_joined => whole.clone(),
                    None => whole.take(),
                };
                if let Some(caller) = sent.caller {
                    match reply {
                        Some(Reply::Error(error)) => self.handle_error(now, caller, &error, is_apart, &mut trouble),
                        Some(reply) => self.settle(caller.ticket, Ok(reply)),
                        None => self.lose(&caller, lost),
                    }
                }
                next = calls.answered_too();
            }
        }
        self.effects.extend(trouble.map(Effect::Trouble));
    }

    /// Redis has refused a call: it has failed, or is sent once more. Of one response, the first trouble is told.
    fn handle_error(
        &mut self,
        now: Micros,
        mut caller: Caller,
        error: &[u8],
        is_apart: bool,
        trouble: &mut Option<Trouble>,
    ) {
        let Caller { ticket, deadline, since, is_heeded, .. } = caller;
        let again = caller.call.take().filter(|_| is_apart || is_noscript(error));
        let failed = match (again, deadline) {
            (Some(call), Some(deadline)) if self.load.may_resend(deadline, since) => {
                self.begin_body();
                self.next.resend(now, caller, &call, &mut self.body)
            }
            (Some(_), _) => {
                self.settle(ticket, Err(Failure::Timeout));
                if is_heeded { Err(Failure::Unavailable) } else { return }
            }
            // Its time is up, or nobody waits for it: it is not sent again.
            (None, None) if is_noscript(error) => Err(Failure::Unavailable),
            (None, _) => {
                trouble.get_or_insert_with(|| trouble_of(error));
                Err(failure_of(error))
            }
        };
        if let Err(failure) = failed {
            self.settle(ticket, Err(failure));
        }
    }

    /// The replies to so many commands, out of a whole response.
    fn read(&self, body: &[u8], commands: usize) -> Response {
        let mut decoder = Decoder::new();
        decoder.push(body);
        let mut next = || match decoder.next_reply() {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Trouble::new(Failure::Reset, format!("the connection ended after {} bytes", body.len()))),
            Err(error) => Err(Trouble::new(Failure::Protocol, error.to_string())),
        };
        let credentials = self.config.credentials.as_ref();
        let mut handshake = Handshake::begin(credentials, self.config.database, &mut Vec::new());
        let mut replies = Vec::new();
        let mut read_all = || -> Result<(), Trouble> {
            while !handshake.is_done() {
                handshake.answer(&next()?)?;
            }
            while replies.len() < commands {
                replies.push(next()?);
            }
            Ok(())
        };
        let trouble = match read_all() {
            Ok(()) if decoder.buffered() == 0 => return Response { replies, lost: Failure::Reset, trouble: None },
            Ok(()) => {
                // Which reply is one too many, nobody knows.
                replies.clear();
                let detail = format!("expected no more replies, found {} bytes", decoder.buffered());
                Trouble::new(Failure::Protocol, detail)
            }
            Err(trouble) => match replies.as_slice() {
                // A server without room for a connection says so once, whatever it was sent.
                [Reply::Error(error)] if trouble.failure == Failure::Reset && !is_noscript(error) => trouble_of(error),
                _ => trouble,
            },
        };
        Response { replies, lost: trouble.failure, trouble: Some(trouble) }
    }

    /// A callout has ended so, without the reply to a call.
    fn lose(&mut self, caller: &Caller, lost: Failure) {
        let is_late = lost == Failure::Timeout;
        if !is_late || caller.deadline.is_some() {
            self.settle(caller.ticket, Err(lost));
        }
        if is_late && caller.is_heeded {
            // Redis may yet run it, and nobody will know.
            self.settle(caller.ticket, Err(Failure::Reset));
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Reply, Failure>) {
        self.effects.push_back(Effect::Settled { ticket, result });
    }

    /// Begins the next callout's body, unless that was done.
    fn begin_body(&mut self) {
        if self.body.is_empty() {
            Handshake::begin(self.config.credentials.as_ref(), self.config.database, &mut self.body);
        }
    }
}

/// Gives up the calls that were due by then.
fn expire(calls: &mut InFlight, due: Micros, patient_since: Option<Micros>, effects: &mut VecDeque<Effect>) {
    calls.expire(due, patient_since, |ticket, given| {
        effects.push_back(Effect::Settled { ticket, result: Err(Failure::Timeout) });
        if given == Given::Unsent {
            effects.push_back(Effect::Settled { ticket, result: Err(Failure::Unavailable) });
        }
    });
}

fn trouble_of(error: &[u8]) -> Trouble {
    Trouble::new(failure_of(error), describe(error))
}

/// Of a callout without a response, which causes are counted without a warning.
fn trouble_without_response(lost: Failure) -> Option<Trouble> {
    let detail = "the circuit breaker of redis.cluster is open: raise its circuit_breakers";
    (lost == Failure::CircuitBreaker).then(|| Trouble::new(lost, detail))
}
