//! The `callout` transport: a connection of its own for each call.
//!
//! The host sends the body as raw TCP and half-closes; Redis answers all of it and closes. The handshake goes
//! ahead of the command in the same body. So a refused `AUTH` keeps the command from running, but a refused
//! `SELECT` does not: Redis then runs it in database 0, and the call fails all the same.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{
    Call, Credentials, Failure, Reply, SessionConfig, Ticket, Trouble,
    handshake::Handshake,
    resp::{Decoder, describe, failure_of, is_noscript},
};
use crate::table::Table;
use crate::units::Micros;

/// Bytes of all bodies in flight together. The host has no back-pressure: this is it.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// One HTTP callout to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callout {
    /// The body to `POST`.
    pub body: Vec<u8>,
    /// The callout's timeout: what is left of the call's budget, in whole milliseconds, rounded up, ≥ 1.
    pub timeout_ms: u64,
}

/// What becomes of a call whose callout is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The call is over, too. A reply here is never a top-level [`Reply::Error`].
    Settled {
        /// The reply, or why there is none.
        result: Result<Reply, Failure>,
        /// Worth a warning, if there was none for some time.
        trouble: Option<Trouble>,
    },
    /// Redis did not have the script: make this callout under the same ticket.
    Resend(Callout),
    /// Nobody waits for this call any more.
    Abandoned,
}

/// The calls whose callouts are under way. Each of these must end in [`Callouts::handle_response`], or in
/// [`Callouts::withdraw`] where its callout was not made.
#[derive(Debug)]
pub struct Callouts {
    config: SessionConfig,
    pending: Table<Pending>,
    bytes: usize,
}

#[derive(Debug)]
struct Pending {
    deadline: Micros,
    bytes: usize,
    /// `None` once nobody waits for it.
    caller: Option<Caller>,
}

#[derive(Debug)]
struct Caller {
    /// What to send again after `NOSCRIPT`; `None` where that was done, or cannot help.
    call: Option<Call>,
}

impl Callouts {
    /// None under way.
    #[must_use]
    pub fn new(config: SessionConfig) -> Self {
        Self { config, pending: Table::new(), bytes: 0 }
    }

    /// The callout to make for a call. Where the host cannot make it, say so to
    /// [`handle_response`](Self::handle_response).
    ///
    /// # Errors
    /// `Overloaded` beyond `max_in_flight` calls or 8 MiB, or where the ticket is already under way. Such a call is
    /// over: nothing more is heard of it.
    pub fn submit(&mut self, now: Micros, ticket: Ticket, call: Call) -> Result<Callout, Failure> {
        if self.pending.len() >= self.config.max_in_flight || self.pending.contains(ticket.0) {
            return Err(Failure::Overloaded);
        }
        let deadline = now.plus(self.config.timeout);
        let callout = self.callout(now, deadline, call.size(), |body| call.encode(body))?;
        let caller = Some(Caller { call: call.is_script().then_some(call) });
        self.insert(ticket, Pending { deadline, bytes: callout.body.len(), caller });
        Ok(callout)
    }

    /// Nobody waits for this call any more: its response is dropped, nothing else.
    pub fn abandon(&mut self, ticket: Ticket) {
        if let Some(pending) = self.pending.get_mut(ticket.0) {
            pending.caller = None;
        }
    }

    /// This callout is not made after all: nothing more is heard of its call.
    pub fn withdraw(&mut self, ticket: Ticket) {
        self.take(ticket);
    }

    /// A callout is over: with the whole body that came, or with why there is none (`Timeout`, `Unavailable`, …).
    pub fn handle_response(&mut self, now: Micros, ticket: Ticket, response: Result<&[u8], Failure>) -> Next {
        let Some(Pending { deadline, caller: Some(Caller { call }), .. }) = self.take(ticket) else {
            return Next::Abandoned;
        };
        let error = match response.map(|body| self.read(body)) {
            Err(failure) => return settled(failure, None),
            Ok(Err(trouble)) => return settled(trouble.failure, Some(trouble)),
            Ok(Ok(Reply::Error(error))) => error,
            Ok(Ok(reply)) => return Next::Settled { result: Ok(reply), trouble: None },
        };
        match call.filter(|_| is_noscript(&error)) {
            Some(call) => self.resend(now, ticket, deadline, &call),
            None => {
                let detail = describe(&error, self.config.credentials.as_ref());
                settled(failure_of(&error), Some(Trouble::new(failure_of(&error), detail)))
            }
        }
    }

    /// Callouts under way, those included that nobody waits for any more.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let pending = self.pending.remove(ticket.0)?;
        self.bytes = self.bytes.saturating_sub(pending.bytes);
        Some(pending)
    }

    fn resend(&mut self, now: Micros, ticket: Ticket, deadline: Micros, call: &Call) -> Next {
        if deadline <= now {
            return settled(Failure::Timeout, None);
        }
        let encode = |body: &mut Vec<u8>| {
            call.encode_with_source(body);
        };
        match self.callout(now, deadline, call.size_with_source(), encode) {
            Ok(callout) => {
                let caller = Some(Caller { call: None });
                self.insert(ticket, Pending { deadline, bytes: callout.body.len(), caller });
                Next::Resend(callout)
            }
            Err(failure) => settled(failure, None),
        }
    }

    fn callout(
        &self,
        now: Micros,
        deadline: Micros,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Callout, Failure> {
        if self.bytes.saturating_add(size) > MAX_BYTES {
            return Err(Failure::Overloaded);
        }
        let mut body = Vec::with_capacity(size);
        self.handshake(&mut body);
        encode(&mut body);
        Ok(Callout { body, timeout_ms: deadline.minus(now).to_millis_ceil().max(1) })
    }

    fn insert(&mut self, ticket: Ticket, pending: Pending) {
        self.bytes = self.bytes.saturating_add(pending.bytes);
        self.pending.insert(ticket.0, pending);
    }

    /// The command's reply, out of a whole response.
    fn read(&self, body: &[u8]) -> Result<Reply, Trouble> {
        let mut decoder = Decoder::new();
        decoder.push(body);
        let mut next = || match decoder.next_reply() {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(Trouble::new(Failure::Reset, format!("the connection ended after {} bytes", body.len()))),
            Err(error) => Err(Trouble::new(Failure::Protocol, error.to_string())),
        };
        let mut handshake = self.handshake(&mut Vec::new());
        while !handshake.is_done() {
            handshake.answer(&next()?, self.credentials())?;
        }
        let reply = next()?;
        match decoder.buffered() {
            0 => Ok(reply),
            rest => Err(Trouble::new(Failure::Protocol, format!("expected no more replies, found {rest} bytes"))),
        }
    }

    fn handshake(&self, out: &mut Vec<u8>) -> Handshake {
        Handshake::begin(self.credentials(), self.config.database, out)
    }

    fn credentials(&self) -> Option<&Credentials> {
        self.config.credentials.as_ref()
    }
}

fn settled(failure: Failure, trouble: Option<Trouble>) -> Next {
    Next::Settled { result: Err(failure), trouble }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::redis::{Script, Secret};

    const NOW: Micros = Micros::from_secs(1_000);
    const ONE: Ticket = Ticket(1);

    fn config() -> SessionConfig {
        SessionConfig { credentials: None, database: 0, timeout: Micros::from_millis(50), max_in_flight: 2 }
    }

    fn with_handshake() -> SessionConfig {
        let credentials = Credentials { username: None, password: Secret::new("hunter2") };
        SessionConfig { credentials: Some(credentials), database: 3, ..config() }
    }

    fn call() -> Call {
        Call::script(&Arc::new(Script::new("return 1")), &["k"], &["1"])
    }

    fn text(callout: &Callout) -> String {
        String::from_utf8(callout.body.clone()).unwrap().replace("\r\n", " ")
    }

    /// What comes of a call that is answered with `body`.
    fn answered(config: SessionConfig, body: &[u8]) -> Next {
        let mut callouts = Callouts::new(config);
        callouts.submit(NOW, ONE, call()).unwrap();
        callouts.handle_response(NOW, ONE, Ok(body))
    }

    fn failure(next: Next) -> Failure {
        let Next::Settled { result: Err(failure), trouble } = next else {
            panic!("expected a failure, found {next:?}")
        };
        assert!(trouble.is_none_or(|trouble| trouble.failure == failure && !trouble.detail.contains("hunter2")));
        failure
    }

    #[test]
    fn one_body_holds_the_handshake_and_the_command() {
        let callout = Callouts::new(with_handshake()).submit(NOW, ONE, call()).unwrap();
        let sha = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
        assert_eq!(
            text(&callout),
            format!("*2 $4 AUTH $7 hunter2 *2 $6 SELECT $1 3 *5 $7 EVALSHA $40 {sha} $1 1 $1 k $1 1 ")
        );
        assert_eq!(callout.timeout_ms, 50);
    }

    #[test]
    fn the_reply_is_what_comes_after_the_handshake() {
        let next = answered(with_handshake(), b"+OK\r\n+OK\r\n:7\r\n");
        assert_eq!(next, Next::Settled { result: Ok(Reply::Integer(7)), trouble: None });
    }

    #[test]
    fn a_refused_handshake_is_what_the_call_failed_for() {
        let body = b"-WRONGPASS no\r\n-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n";
        assert_eq!(failure(answered(with_handshake(), body)), Failure::Auth);
        let body = b"+OK\r\n-ERR DB index is out of range\r\n:7\r\n";
        assert_eq!(failure(answered(with_handshake(), body)), Failure::Refused);
    }

    #[test]
    fn a_lost_script_is_sent_once_with_its_source_and_what_is_left_of_the_time() {
        let mut callouts = Callouts::new(config());
        callouts.submit(NOW, ONE, call()).unwrap();
        let later = NOW.plus(Micros(20_001));
        let Next::Resend(again) = callouts.handle_response(later, ONE, Ok(b"-NOSCRIPT No matching script.\r\n")) else {
            panic!("not sent again")
        };
        assert_eq!(text(&again), "*5 $4 EVAL $8 return 1 $1 1 $1 k $1 1 ");
        assert_eq!(again.timeout_ms, 30);
        assert_eq!(callouts.in_flight(), 1);
        let next = callouts.handle_response(later, ONE, Ok(b"-NOSCRIPT No matching script.\r\n"));
        assert_eq!(failure(next), Failure::Refused);
        assert_eq!(callouts.in_flight(), 0);
    }

    #[test]
    fn a_lost_script_found_out_too_late_is_a_timeout() {
        let mut callouts = Callouts::new(config());
        callouts.submit(NOW, ONE, call()).unwrap();
        let late = NOW.plus(Micros::from_millis(50));
        assert_eq!(failure(callouts.handle_response(late, ONE, Ok(b"-NOSCRIPT x\r\n"))), Failure::Timeout);
    }

    #[test]
    fn a_callout_never_has_a_timeout_of_nothing() {
        let mut callouts = Callouts::new(SessionConfig { timeout: Micros(1), ..config() });
        assert_eq!(callouts.submit(NOW, ONE, call()).unwrap().timeout_ms, 1);
    }

    #[test]
    fn a_connection_that_ends_early_is_a_reset() {
        for body in [b"".as_slice(), b"+OK\r\n", b"+OK\r\n+OK\r\n", b"+OK\r\n+OK\r\n:7"] {
            assert_eq!(failure(answered(with_handshake(), body)), Failure::Reset);
        }
    }

    #[test]
    fn what_redis_would_not_say_is_a_protocol_failure() {
        for body in [b"<html>".as_slice(), b":7\r\n", b"+OK\r\n+OK\r\n:7\r\n:8\r\n", b"+OK\r\n+OK\r\n$1\r\nab\r\n"] {
            assert_eq!(failure(answered(with_handshake(), body)), Failure::Protocol);
        }
    }

    #[test]
    fn a_callout_that_failed_fails_its_call() {
        let mut callouts = Callouts::new(config());
        callouts.submit(NOW, ONE, call()).unwrap();
        assert_eq!(failure(callouts.handle_response(NOW, ONE, Err(Failure::Unavailable))), Failure::Unavailable);
        assert_eq!(callouts.in_flight(), 0);
    }

    #[test]
    fn a_request_that_went_away_holds_its_place_until_its_callout_is_over() {
        let mut callouts = Callouts::new(config());
        callouts.submit(NOW, ONE, call()).unwrap();
        callouts.submit(NOW, Ticket(2), call()).unwrap();
        callouts.abandon(ONE);
        assert_eq!(callouts.submit(NOW, Ticket(3), call()), Err(Failure::Overloaded));
        assert_eq!(callouts.handle_response(NOW, ONE, Ok(b"-NOSCRIPT x\r\n")), Next::Abandoned);
        callouts.submit(NOW, Ticket(3), call()).unwrap();
    }

    proptest! {
        #[test]
        fn any_response_ends_the_callout(body in prop::collection::vec(any::<u8>(), 0..200), begins_well: bool) {
            let body = if begins_well { [b"+OK\r\n+OK\r\n".as_slice(), &body].concat() } else { body };
            let mut callouts = Callouts::new(with_handshake());
            callouts.submit(NOW, ONE, call()).unwrap();
            let next = callouts.handle_response(NOW, ONE, Ok(&body));
            prop_assert_eq!(callouts.in_flight(), usize::from(matches!(next, Next::Resend(_))));
        }
    }
}
