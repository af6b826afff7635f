//! What Redis' replies mean to those who wait for them.

use alloc::string::String;

use super::in_flight::{Caller, Sent};
use super::phase::{self, Phase};
use super::{Effect, MAX_AGE, Session};
use crate::redis::resp::{Shares, describe, failure_of, is_cross_slot, is_noscript, revokes};
use crate::redis::{Call, Failure, Reply, Trouble};
use crate::units::Micros;

/// At most one [`Trouble`] about error replies of one cause in this time.
const TROUBLE_INTERVAL: Micros = Micros::from_secs(1);

impl Session {
    pub(super) fn handle_reply(&mut self, now: Micros, reply: Reply) {
        if let Phase::Proving { handshake, is_busy, .. } = &mut self.phase {
            return match handshake.answer(&reply) {
                Err(Trouble { failure, detail }) => self.condemn(failure, detail),
                Ok(()) if handshake.is_done() => {
                    if *is_busy {
                        // As if they had just come; and Redis may not have the script yet.
                        self.calls.extend_waiting(now.plus(self.config.timeout.times(2)));
                    }
                    self.phase = Phase::Ready { rotate_at: now.plus(self.backoff.stray(MAX_AGE, 4)) };
                }
                Ok(()) => {}
            };
        }
        let Some(sent) = self.calls.answered() else {
            return self.distrust(format!("expected no reply, found {}", reply.kind()));
        };
        match reply {
            Reply::Error(error) => self.handle_error(now, sent, &error),
            reply if self.calls.is_next_joined() => self.share_out(now, sent, reply),
            reply => {
                self.was_useful();
                self.settle(sent.caller, Ok(reply));
            }
        }
    }

    /// Hands all calls that one command told of their shares of its reply.
    fn share_out(&mut self, now: Micros, first: Sent, reply: Reply) {
        let mut shares = Shares::of(reply);
        let mut next = Some(first);
        while let Some(Sent { caller, share, .. }) = next {
            // A reply without shares is malformed to all alike.
            match shares.as_mut().map_or(Reply::Nil, |shares| shares.take(share)) {
                Reply::Error(error) => self.handle_failure(now, caller, &error),
                reply => {
                    self.was_useful();
                    self.settle(caller, Ok(reply));
                }
            }
            next = self.calls.answered_too();
        }
    }

    /// An error is the whole reply to a command.
    fn handle_error(&mut self, now: Micros, first: Sent, error: &[u8]) {
        // A Redis that is a cluster refuses keys of different slots before it runs anything.
        let is_apart = self.calls.is_next_joined() && is_cross_slot(error);
        self.joins &= !is_apart;
        let mut next = Some(first);
        while let Some(Sent { mut caller, .. }) = next {
            let again =
                caller.as_mut().filter(|_| is_apart || is_noscript(error)).and_then(|caller| caller.call.take());
            match (caller, again) {
                (Some(caller), Some(call)) => self.resend(now, caller, &call),
                (caller, _) => self.handle_failure(now, caller, error),
            }
            next = self.calls.answered_too();
        }
    }

    /// A call has failed with this error.
    fn handle_failure(&mut self, now: Micros, caller: Option<Caller>, error: &[u8]) {
        // Nobody waits for it: it is not sent again.
        if is_noscript(error) && caller.as_ref().is_none_or(|caller| caller.deadline.is_none()) {
            return self.settle(caller, Err(Failure::Unavailable));
        }
        let failure = failure_of(error);
        self.settle(caller, Err(failure));
        if failure == Failure::NotReady || revokes(error) {
            let detail = describe(error);
            return self.condemn(failure, detail);
        }
        self.was_useful();
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
            self.settled.push_back((ticket, Err(failure)));
            if failure == Failure::Timeout && call.is_heeded() {
                self.settled.push_back((ticket, Err(Failure::Unavailable)));
            }
        }
    }

    /// Not so where it is being closed: a replica answers what only reads, and is of no use to us.
    fn was_useful(&mut self) {
        if self.is_connected() {
            self.backoff.reset();
        }
    }

    fn settle(&mut self, caller: Option<Caller>, result: Result<Reply, Failure>) {
        if let Some(Caller { ticket, .. }) = caller {
            self.settled.push_back((ticket, result));
        }
    }

    pub(super) fn trouble(&mut self, failure: Failure, detail: impl Into<String>) {
        self.urgent.push_back(Effect::Trouble(Trouble::new(failure, detail)));
    }
}
