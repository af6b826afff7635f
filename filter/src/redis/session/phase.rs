//! Phases of a session, and the transitions between them.

use alloc::string::String;

use super::{Failure, Handshake, Micros, PATIENCE, Session, SessionEvent, Topology};

#[derive(Debug)]
pub(super) enum Phase {
    /// No stream. Calls wait; the next tick opens a stream if a call waits.
    Idle,
    /// The stream is open, and the handshake waits for its replies. Calls wait; after a failed connection they are
    /// refused.
    Proving { handshake: Handshake, deadline: Micros, ticks: u32, is_busy: bool, refusal: Option<Failure> },
    /// The handshake has succeeded. Calls are sent.
    Ready { rotate_at: Micros },
    /// New calls wait until the calls that were sent are answered, so that the stream can be replaced.
    Draining { give_up_at: Micros },
    /// The next tick closes the stream. New calls are refused; calls that were sent may still be answered.
    Closing { cause: Failure },
    /// No stream, after a failure. Calls are refused until the handshake on a new stream has succeeded.
    Down { refusal: Failure, retry_at: Micros },
}

impl Phase {
    /// Returns the failure with which new calls are refused, if they are.
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

/// Returns the failure of new calls after the connection was closed for `cause`: the cause if Redis reported it,
/// `Unavailable` otherwise.
pub(super) fn refusal_of(cause: Failure) -> Failure {
    match cause {
        Failure::Auth | Failure::NotReady => cause,
        _ => Failure::Unavailable,
    }
}

impl Session {
    /// Returns whether the peer or the network closed the connection without a call in flight, since the last call of
    /// this method.
    pub fn take_idle_loss(&mut self) -> bool {
        core::mem::take(&mut self.is_lost_idle)
    }

    pub(super) fn open(&mut self, now: Micros, refusal: Option<Failure>) {
        self.urgent.push_back(SessionEvent::Open);
        let handshake = Handshake::begin(self.config.credentials.as_ref(), self.config.database, &mut self.outgoing)
            .and_ping(&mut self.outgoing);
        // The host is busy: calls are past their deadline before the stream is even opened.
        let is_busy = self.calls.is_any_waiting_due(now);
        self.phase = Phase::Proving { handshake, deadline: now.plus(self.patience(1)), ticks: 0, is_busy, refusal };
    }

    /// Replaces a stream without calls in flight.
    pub(super) fn rotate(&mut self, now: Micros) {
        self.urgent.push_back(SessionEvent::Close);
        self.forget_stream();
        self.open(now, None);
    }

    /// Closes the stream now. Call it from a tick only.
    pub(super) fn close_for(&mut self, now: Micros, cause: Failure, detail: Option<String>) {
        if let Some(detail) = detail {
            self.trouble(cause, detail);
        }
        self.urgent.push_back(SessionEvent::Close);
        self.go_down(now, cause);
    }

    /// Handles a protocol error of the peer: fails the calls that were sent, and has the next tick close the stream.
    pub(super) fn fail_protocol(&mut self, detail: String) {
        self.calls.fail_sent(&mut |ticket| self.completed.push_back((ticket, Err(Failure::Protocol))));
        self.begin_closing(Failure::Protocol, detail);
    }

    /// Has the next tick close the stream, and fails the unsent calls.
    pub(super) fn begin_closing(&mut self, cause: Failure, detail: String) {
        // The first cause stands.
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        self.trouble(cause, detail);
        self.calls.fail_waiting(&mut |ticket| self.completed.push_back((ticket, Err(cause))));
        self.outgoing.clear();
        self.phase = Phase::Closing { cause };
    }

    /// Fails all calls and starts the backoff, once the stream is closed.
    pub(super) fn go_down(&mut self, now: Micros, cause: Failure) {
        let refusal = refusal_of(cause);
        self.calls.fail_sent(&mut |ticket| self.completed.push_back((ticket, Err(Failure::Reset))));
        self.calls.fail_waiting(&mut |ticket| self.completed.push_back((ticket, Err(refusal))));
        self.forget_stream();
        self.phase = Phase::Down { refusal, retry_at: now.plus(self.backoff.after(cause)) };
    }

    /// Drops the bytes that were not sent and the incomplete reply: they are invalid on the next stream.
    pub(super) fn forget_stream(&mut self) {
        self.outgoing.clear();
        self.decoder.clear();
        self.joins = self.config.topology == Topology::Single;
    }

    /// Whether the next tick only records its time, unless a deadline has passed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::redis) fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Down { .. } => !self.calls.is_any_waiting(),
            Phase::Ready { .. } => true,
            Phase::Proving { .. } | Phase::Draining { .. } | Phase::Closing { .. } => false,
        }
    }

    /// Records a tick at which no deadline has passed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::redis) fn idle_tick(&mut self, now: Micros) {
        self.note_tick(now);
    }

    /// Returns the time at which the stream counts as silent, unless a reply arrives: the oldest call was sent four
    /// timeouts ago, and 1 s ago at least. The delays of a busy host do not count.
    pub(super) fn silent_at(&self) -> Option<Micros> {
        self.calls.oldest_sent().map(|sent| sent.plus(self.patience(4)).plus(self.away))
    }

    /// Returns whether the stream counts as silent. `due` is the time of the last tick but one: replies that had arrived
    /// by then have been read, unless the host is busy.
    pub(super) fn is_silent(&self, due: Micros) -> bool {
        let is_awaited = self.calls.oldest_sent().is_some_and(|sent| self.load.awaits(sent));
        !is_awaited && self.silent_at().is_some_and(|at| due >= at)
    }

    /// Returns `timeouts` times the timeout, but 1 s at least.
    pub(super) fn patience(&self, timeouts: u64) -> Micros {
        self.config.timeout.times(timeouts).max(PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::redis::session::SessionConfig;
    use crate::redis::{Call, Script, Ticket};

    const NOW: Micros = Micros::from_secs(1);

    fn session(topology: Topology) -> Session {
        let timeout = Micros::from_millis(50);
        Session::new(SessionConfig { credentials: None, database: 0, topology, timeout, max_in_flight: 9 }, 7)
    }

    fn submit(session: &mut Session) -> Result<(), Failure> {
        session.submit(NOW, Ticket(1), Call::command(&["PING"]))
    }

    #[test]
    fn a_new_stream_carries_several_calls_in_one_command_unless_redis_is_a_cluster() {
        for (topology, joins) in [(Topology::Single, true), (Topology::Cluster, false)] {
            let mut session = session(topology);
            session.joins = false;
            session.forget_stream();
            assert_eq!(session.joins, joins, "{topology:?}");
        }
    }

    #[test]
    fn a_session_is_at_rest_without_events_and_without_bytes_to_send() {
        let mut session = session(Topology::Single);
        assert!(session.is_at_rest());
        assert_eq!(submit(&mut session), Ok(()));
        assert!(session.is_at_rest(), "the next tick opens a connection");
        session.handle_tick(NOW);
        assert!(!session.is_at_rest());
        assert_eq!(session.poll(), Some(SessionEvent::Open));
        assert!(!session.is_at_rest(), "the handshake is to be sent");
        assert!(session.take_outgoing(NOW, &mut Vec::new()) && session.is_at_rest());
        session.handle_bytes(NOW, b"+PONG\r\n");
        assert!(!session.is_at_rest(), "the call is to be sent");
        assert!(session.take_outgoing(NOW, &mut Vec::new()) && session.is_at_rest());
        session.handle_bytes(NOW, b"+PONG\r\n");
        assert!(!session.is_at_rest(), "the call is completed");
        assert!(session.poll().is_some() && session.is_at_rest());
    }

    /// Session with an established connection, on which each command carries one call.
    fn connected() -> Session {
        let mut session = session(Topology::Single);
        assert_eq!(submit(&mut session), Ok(()));
        session.handle_tick(NOW);
        session.take_outgoing(NOW, &mut Vec::new());
        session.handle_bytes(NOW, b"+PONG\r\n");
        session.take_outgoing(NOW, &mut Vec::new());
        session.handle_bytes(NOW, b"+PONG\r\n");
        core::iter::from_fn(|| session.poll()).for_each(drop);
        session.joins = false;
        session
    }

    #[test]
    fn a_session_is_idle_while_the_next_tick_has_nothing_to_do() {
        let mut session = session(Topology::Single);
        assert!(session.is_idle());
        assert_eq!(submit(&mut session), Ok(()));
        assert!(!session.is_idle(), "the next tick opens a connection");
        session.handle_tick(NOW);
        assert!(!session.is_idle(), "the handshake may take too long");
        assert!(connected().is_idle());
    }

    #[test]
    fn events_follow_only_for_an_abandoned_call_that_is_tracked_and_was_sent() {
        for (is_sent, is_tracked) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut session = connected();
            assert_eq!(submit(&mut session), Ok(()));
            if is_sent {
                session.take_outgoing(NOW, &mut Vec::new());
            }
            let ends = session.abandon(Ticket(1), is_tracked);
            assert_eq!(ends, !(is_sent && is_tracked), "sent: {is_sent}, tracked: {is_tracked}");
        }
    }

    #[test]
    fn a_connection_to_be_replaced_waits_for_its_calls_for_a_quarter_of_the_timeout() {
        let mut session = connected();
        assert_eq!(submit(&mut session), Ok(()));
        session.take_outgoing(NOW, &mut Vec::new());
        session.phase = Phase::Ready { rotate_at: NOW };
        session.handle_tick(NOW);
        session.handle_tick(NOW.plus(Micros(12_499)));
        assert!(matches!(session.phase, Phase::Draining { .. }), "{:?}", session.phase);
        session.handle_tick(NOW.plus(Micros(12_500)));
        assert!(matches!(session.phase, Phase::Ready { .. }), "{:?}", session.phase);
    }

    #[test]
    fn a_script_is_not_sent_again_on_a_connection_that_is_to_be_closed() {
        let (mut session, script) = (connected(), Arc::new(Script::new("return 1")));
        for nth in 1..=2 {
            assert_eq!(session.submit(NOW, Ticket(nth), Call::script(&script, &["key"], &["1"])), Ok(()));
        }
        session.take_outgoing(NOW, &mut Vec::new());
        session.handle_bytes(NOW, b"-NOAUTH Authentication required.\r\n-NOSCRIPT No matching script.\r\n");
        let failed = |ticket| SessionEvent::Completed { ticket: Ticket(ticket), result: Err(Failure::Auth) };
        let events: Vec<_> = core::iter::from_fn(|| session.poll()).collect();
        assert!(events.contains(&failed(1)) && events.contains(&failed(2)), "{events:?}");
    }

    #[test]
    fn bytes_without_a_stream_are_dropped() {
        let mut session = session(Topology::Single);
        session.handle_bytes(NOW, b"nonsense\r\n");
        assert_eq!((session.poll(), submit(&mut session)), (None, Ok(())));
        session.handle_tick(NOW);
        assert_eq!(session.poll(), Some(SessionEvent::Open));
        session.handle_open_failed(NOW, crate::redis::Refusal::Internal);
        core::iter::from_fn(|| session.poll()).for_each(drop);
        session.handle_bytes(NOW, b"nonsense\r\n");
        assert_eq!(session.poll(), None);
    }
}
