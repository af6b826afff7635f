//! Where a session stands, and the ways from one phase to another.

use alloc::string::String;

use super::{Failure, Handshake, Micros, PATIENCE, Session, SessionEvent};

#[derive(Debug)]
pub(super) enum Phase {
    /// No stream. Calls wait; the next tick opens one if any does.
    Idle,
    /// A stream that has yet to answer. Calls wait, unless it is a second attempt.
    Proving { handshake: Handshake, deadline: Micros, ticks: u32, is_busy: bool, refusal: Option<Failure> },
    /// Calls are sent.
    Ready { rotate_at: Micros },
    /// Calls wait until those that were sent are answered, and the stream can be replaced.
    Draining { give_up_at: Micros },
    /// A stream that the next tick closes. Calls are refused; those that were sent may still be answered.
    Closing { cause: Failure },
    /// No stream. Calls are refused until another one is proven.
    Down { refusal: Failure, retry_at: Micros },
}

impl Phase {
    /// What a call gets at once.
    pub(super) fn refusal(&self) -> Option<Failure> {
        match *self {
            Self::Idle | Self::Ready { .. } | Self::Draining { .. } => None,
            Self::Proving { refusal, .. } => refusal,
            Self::Closing { cause } => Some(refusal_of(cause)),
            Self::Down { refusal, .. } => Some(refusal),
        }
    }

    pub(super) fn has_stream(&self) -> bool {
        !matches!(self, Self::Idle | Self::Down { .. })
    }
}

/// What calls are told while a connection is down: why, where that is Redis' own word.
pub(super) fn refusal_of(cause: Failure) -> Failure {
    match cause {
        Failure::Auth | Failure::NotReady => cause,
        _ => Failure::Unavailable,
    }
}

impl Session {
    pub(super) fn open(&mut self, now: Micros, refusal: Option<Failure>) {
        self.urgent.push_back(SessionEvent::Open);
        let handshake = Handshake::begin(self.config.credentials.as_ref(), self.config.database, &mut self.outgoing)
            .and_ping(&mut self.outgoing);
        // A host that gets to it only when calls are due.
        let is_busy = self.calls.is_any_waiting_due(now);
        self.phase = Phase::Proving { handshake, deadline: now.plus(self.patience(1)), ticks: 0, is_busy, refusal };
    }

    /// Replaces a stream on which nothing is owed.
    pub(super) fn rotate(&mut self, now: Micros) {
        self.urgent.push_back(SessionEvent::Close);
        self.forget_stream();
        self.open(now, None);
    }

    /// Closes the stream now: only a tick may.
    pub(super) fn close_for(&mut self, now: Micros, cause: Failure, detail: Option<String>) {
        if let Some(detail) = detail {
            self.trouble(cause, detail);
        }
        self.urgent.push_back(SessionEvent::Close);
        self.go_down(now, cause);
    }

    /// What the peer says means nothing: calls that were sent will not be answered.
    pub(super) fn distrust(&mut self, detail: String) {
        self.calls.fail_sent(|ticket| self.completed.push_back((ticket, Err(Failure::Protocol))));
        self.condemn(Failure::Protocol, detail);
    }

    /// Has the next tick close the stream, and fails the calls that wait for it.
    pub(super) fn condemn(&mut self, cause: Failure, detail: String) {
        // The first cause stands.
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        self.trouble(cause, detail);
        self.calls.fail_waiting(|ticket| self.completed.push_back((ticket, Err(cause))));
        self.outgoing.clear();
        self.phase = Phase::Closing { cause };
    }

    /// The stream is gone, and calls are refused until another one is proven.
    pub(super) fn go_down(&mut self, now: Micros, cause: Failure) {
        let refusal = refusal_of(cause);
        self.calls.fail_sent(|ticket| self.completed.push_back((ticket, Err(Failure::Reset))));
        self.calls.fail_waiting(|ticket| self.completed.push_back((ticket, Err(refusal))));
        self.forget_stream();
        self.phase = Phase::Down { refusal, retry_at: now.plus(self.backoff.after(cause)) };
    }

    /// What was to be sent on the stream, or had come from it in part, means nothing on the next.
    pub(super) fn forget_stream(&mut self) {
        self.outgoing.clear();
        self.decoder.clear();
        self.joins = true;
    }

    /// When the stream is called silent, if nothing more comes: its oldest call is then older than any that is
    /// still waited for.
    pub(super) fn silent_at(&self) -> Option<Micros> {
        self.calls.oldest_sent().map(|sent| sent.plus(self.patience(4)))
    }

    /// So many timeouts, but a second at least.
    pub(super) fn patience(&self, timeouts: u64) -> Micros {
        self.config.timeout.times(timeouts).max(PATIENCE)
    }
}
