//! Replies of a callout: decodes its body, and completes its calls or queues them to be sent again.

use alloc::borrow::Cow;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::Callouts;
use crate::redis::handshake::Handshake;
use crate::redis::resp::{Decoder, Shares, describe, failure_of, is_cross_slot, is_noscript};
use crate::redis::session::in_flight::{Caller, InFlight};
use crate::redis::{Failure, Reply, SessionEvent, Trouble};

/// A callout's response, decoded.
struct Response {
    /// Replies to the callout's commands, from the first on.
    replies: Vec<Reply>,
    /// Failure of the commands without a reply.
    lost: Failure,
    /// Failure to log as a warning.
    trouble: Option<Trouble>,
}

/// Consequences of the errors in a response.
struct Errors {
    /// Failure to log as a warning: the first.
    trouble: Option<Trouble>,
    /// Number of calls that are to be sent again.
    again: usize,
}

impl Callouts {
    /// Completes the calls of a callout with its whole body or its failure, or queues them to be sent again.
    pub(super) fn complete_batch(&mut self, id: u64, mut calls: InFlight, response: Result<&[u8], Failure>) {
        let Response { replies, lost, trouble } = match response {
            Ok(body) => self.read(id, body, calls.commands()),
            Err(lost) => Response { replies: Vec::new(), lost, trouble: trouble_without_response(lost) },
        };
        let mut errors = Errors { trouble, again: 0 };
        let mut replies = replies.into_iter();
        while let Some(first) = calls.pop_answered() {
            let is_joined = calls.is_next_joined();
            let reply = replies.next();
            // A Redis in cluster mode refuses keys of different hash slots before it runs the script.
            let is_split = is_joined && matches!(&reply, Some(Reply::Error(error)) if is_cross_slot(error));
            self.joins &= !is_split;
            let (mut shares, mut whole) = match reply {
                // A reply that cannot be split is malformed for every call.
                Some(reply) if is_joined && !matches!(reply, Reply::Error(_)) => (Some(Shares::of(reply)), None),
                reply => (None, reply),
            };
            let mut next = Some(first);
            while let Some(sent) = next {
                let reply = match &mut shares {
                    Some(shares) => Some(shares.as_mut().map_or(Reply::Nil, |shares| shares.take(sent.share))),
                    // An error reply applies to all calls of the command.
                    None if is_joined => whole.clone(),
                    None => whole.take(),
                };
                if let Some(caller) = sent.caller {
                    match reply {
                        Some(Reply::Error(error)) => self.handle_error(caller, &error, is_split, &mut errors),
                        Some(reply) => self.complete(caller.ticket, Ok(reply)),
                        None => self.lose(&caller, lost),
                    }
                }
                next = calls.pop_joined();
            }
        }
        self.events.extend(errors.trouble.map(SessionEvent::Trouble));
    }

    /// Handles an error reply to a call: fails the call, or queues it to be sent again.
    fn handle_error(&mut self, mut caller: Caller, error: &[u8], is_split: bool, errors: &mut Errors) {
        let Caller { ticket, deadline, since, is_tracked, .. } = caller;
        let again = caller.call.take().filter(|_| is_split || is_noscript(error));
        let failed = match (again, deadline) {
            (Some(call), Some(deadline)) if self.load.may_resend(deadline, since) => {
                let nth = errors.again;
                errors.again = nth.saturating_add(1);
                self.next.wait_again(nth, caller, call)
            }
            (Some(_), _) => {
                self.complete(ticket, Err(Failure::Timeout));
                if is_tracked { Err(Failure::Unavailable) } else { return }
            }
            // The call is past its deadline or abandoned: it is not sent again.
            (None, None) if is_noscript(error) => Err(Failure::Unavailable),
            (None, _) => {
                errors.trouble.get_or_insert_with(|| trouble_of(error));
                Err(failure_of(error))
            }
        };
        if let Err(failure) = failed {
            self.complete(ticket, Err(failure));
        }
    }

    /// Decodes a callout's body: the handshake's replies, then the replies to `commands` commands.
    fn read(&self, id: u64, body: &[u8], commands: usize) -> Response {
        let resp = self.front_end.map_or(Ok(Cow::Borrowed(body)), |front_end| front_end.resp(id, body));
        match resp {
            Ok(resp) => self.decode(&resp, commands),
            Err(trouble) => Response { replies: Vec::new(), lost: trouble.failure, trouble: Some(trouble) },
        }
    }

    /// Decodes RESP: the handshake's replies, then the replies to `commands` commands.
    fn decode(&self, body: &[u8], commands: usize) -> Response {
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
                // With more replies than commands, no reply can be assigned to a command.
                replies.clear();
                let detail = format!("expected no more replies, found {} bytes", decoder.buffered());
                Trouble::new(Failure::Protocol, detail)
            }
            Err(trouble) => match replies.as_slice() {
                // At its connection limit, Redis sends one error in place of all replies.
                [Reply::Error(error)] if trouble.failure == Failure::Reset && !is_noscript(error) => trouble_of(error),
                _ => trouble,
            },
        };
        Response { replies, lost: trouble.failure, trouble: Some(trouble) }
    }

    /// Fails a call without a reply.
    fn lose(&mut self, caller: &Caller, lost: Failure) {
        let is_late = lost == Failure::Timeout;
        if !is_late || caller.deadline.is_some() {
            self.complete(caller.ticket, Err(lost));
        }
        if is_late && caller.is_tracked {
            // Redis may still run the call: its outcome stays unknown.
            self.complete(caller.ticket, Err(Failure::Reset));
        }
    }
}

fn trouble_of(error: &[u8]) -> Trouble {
    Trouble::new(failure_of(error), describe(error))
}

/// Returns the warning for a callout without a response, if its failure deserves one.
fn trouble_without_response(lost: Failure) -> Option<Trouble> {
    let detail = "the circuit breaker of redis.cluster is open: raise its circuit_breakers";
    (lost == Failure::CircuitBreaker).then(|| Trouble::new(lost, detail))
}
