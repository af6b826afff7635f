//! Replies of a session: completes the calls in flight, and reacts to errors of the connection.

use alloc::string::String;

use super::in_flight::{Caller, SentCall};
use super::phase::{self, Phase};
use super::{MAX_AGE, Session, SessionEvent, Topology};
use crate::redis::resp::{Shares, describe, failure_of, is_cross_slot, is_noscript, revokes};
use crate::redis::{Call, Failure, Reply, Trouble};
use crate::units::Micros;

/// Time between two [`Trouble`]s about error replies with the same failure.
const TROUBLE_INTERVAL: Micros = Micros::from_secs(1);

impl Session {
    pub(super) fn handle_reply(&mut self, now: Micros, reply: Reply) {
        if let Phase::Proving { handshake, is_busy, .. } = &mut self.phase {
            return match handshake.answer(&reply) {
                Err(Trouble { failure, detail }) => self.begin_closing(failure, detail),
                Ok(()) if handshake.is_done() => {
                    if *is_busy {
                        // Unsent calls get a new timeout, twice as long: Redis may not have the script yet.
                        self.calls.extend_waiting(now.plus(self.config.timeout.times(2)));
                    }
                    self.phase = Phase::Ready { rotate_at: now.plus(self.backoff.jittered(MAX_AGE, 4)) };
                }
                Ok(()) => {}
            };
        }
        let Some(sent) = self.calls.pop_answered() else {
            return self.fail_protocol(format!("expected no reply, found {}", reply.kind()));
        };
        self.round_trips.add(now.minus(sent.at));
        match reply {
            Reply::Error(error) => self.handle_error(now, sent, &error),
            reply if self.calls.is_next_joined() => self.complete_joined(now, sent, reply),
            reply => {
                self.record_success();
                self.complete(sent.caller, Ok(reply));
            }
        }
    }

    /// Completes all calls of a command with their shares of its reply.
    fn complete_joined(&mut self, now: Micros, first: SentCall, reply: Reply) {
        let mut shares = Shares::of(reply);
        let mut next = Some(first);
        while let Some(SentCall { caller, share, .. }) = next {
            // A reply that cannot be split is malformed for every call.
            match shares.as_mut().map_or(Reply::Nil, |shares| shares.take(share)) {
                Reply::Error(error) => self.handle_failure(now, caller, &error),
                reply => {
                    self.record_success();
                    self.complete(caller, Ok(reply));
                }
            }
            next = self.calls.pop_joined();
        }
    }

    /// Handles an error reply to a whole command: fails its calls, or sends them again.
    fn handle_error(&mut self, now: Micros, first: SentCall, error: &[u8]) {
        // A Redis in cluster mode refuses keys of different hash slots before it runs the script.
        let is_split = self.calls.is_next_joined() && is_cross_slot(error);
        self.joins &= !is_split;
        let mut next = Some(first);
        while let Some(SentCall { mut caller, .. }) = next {
            let again =
                caller.as_mut().filter(|_| is_split || is_noscript(error)).and_then(|caller| caller.call.take());
            match (caller, again) {
                (Some(caller), Some(call)) => self.resend(now, caller, &call),
                (caller, _) => self.handle_failure(now, caller, error),
            }
            next = self.calls.pop_joined();
        }
    }

    /// Fails a call with an error reply; closes the connection if the error concerns all calls.
    fn handle_failure(&mut self, now: Micros, caller: Option<Caller>, error: &[u8]) {
        // The call is past its deadline or abandoned: it is not sent again.
        if is_noscript(error) && caller.as_ref().is_none_or(|caller| caller.deadline.is_none()) {
            return self.complete(caller, Err(Failure::Unavailable));
        }
        let failure = failure_of(error);
        self.complete(caller, Err(failure));
        // In a cluster, other masters may be ready.
        let is_unready = failure == Failure::NotReady && self.config.topology == Topology::Single;
        if is_unready || revokes(error) {
            let detail = describe(error);
            return self.begin_closing(failure, detail);
        }
        self.record_success();
        let is_news = |(last, at): (Failure, Micros)| last != failure || now >= at.plus(TROUBLE_INTERVAL);
        if self.last_trouble.is_none_or(is_news) {
            self.last_trouble = Some((failure, now));
            self.trouble(failure, describe(error));
        }
    }

    fn resend(&mut self, now: Micros, caller: Caller, call: &Call) {
        let (ticket, deadline) = (caller.ticket, caller.deadline.unwrap_or_default());
        let sent = match self.phase {
            Phase::Closing { cause } => Err(phase::refusal_of(cause)),
            _ if !self.load.may_resend(deadline, caller.since) => Err(Failure::Timeout),
            _ => self.calls.resend(now, caller, call, &mut self.outgoing),
        };
        if let Err(failure) = sent {
            self.completed.push_back((ticket, Err(failure)));
            if failure == Failure::Timeout && call.is_tracked() {
                self.completed.push_back((ticket, Err(Failure::Unavailable)));
            }
        }
    }

    /// Resets the backoff, unless the connection is being closed: a replica still answers read-only commands, but
    /// cannot serve the limiter.
    fn record_success(&mut self) {
        if self.is_connected() {
            self.backoff.reset();
        }
    }

    fn complete(&mut self, caller: Option<Caller>, result: Result<Reply, Failure>) {
        if let Some(Caller { ticket, .. }) = caller {
            self.completed.push_back((ticket, result));
        }
    }

    pub(super) fn trouble(&mut self, failure: Failure, detail: impl Into<String>) {
        self.urgent.push_back(SessionEvent::Trouble(Trouble::new(failure, detail)));
    }
}
