//! Messages between workers and Redis: the time that they take, and the faults on their way.

use weir_filter::units::Micros;
use weir_virtual::Arrival;

use super::network::{Act, Connection};
use super::{Event, World};
use crate::plan::faults::Kind;

/// Bytes of Redis in one message to a worker, at most: the bridge cuts them so.
const MOST_BYTES: usize = 2_048;
/// Time until a client of TCP knows that a connection is refused, or learns of its end.
const REFUSAL: Micros = Micros(200);
/// Status of a callout to a cluster without a healthy endpoint, and of a callout that Envoy gives up.
const UNAVAILABLE: u16 = 503;
const TIMED_OUT: u16 = 504;

impl World<'_> {
    /// Carries out what a worker does to its connections.
    pub(super) fn carry(&mut self, nth: usize, act: Act) {
        match act {
            Act::Open { token } => drop(self.open(nth, token, false)),
            Act::Send { token, bytes } => {
                if let Some(connection) = self.by_token.get(&(nth, token)).copied() {
                    self.carry_to_redis(connection, bytes);
                }
            }
            Act::Close { token } => {
                if let Some(connection) = self.by_token.remove(&(nth, token)) {
                    self.connections[connection].is_closed = true;
                }
            }
            Act::CallOut { token, bytes, timeout } => {
                let Some(connection) = self.open(nth, token, true) else { return };
                let at = self.now().plus(timeout);
                let timed_out = Some((TIMED_OUT, b"upstream request timeout".to_vec()));
                self.at(at, Event::CalloutEnds { connection, response: timed_out });
                self.carry_to_redis(connection, bytes);
            }
        }
    }

    fn open(&mut self, nth: usize, token: u32, is_callout: bool) -> Option<usize> {
        let place = self.instances[nth].as_ref()?.place;
        let connection = self.connections.len();
        self.connections.push(Connection::new(nth, token, is_callout));
        self.by_token.insert((nth, token), connection);
        if self.is_down || self.strikes(Kind::Refused, place).is_some() {
            self.refuse(connection);
        } else if self.strikes(Kind::MaxClients, place).is_some() {
            let at = self.now().plus(self.takes(place));
            self.carry_to_worker(connection, at, b"-ERR max number of clients reached\r\n");
            self.cut(connection, at);
        } else if self.strikes(Kind::BlackHole, place).is_some() {
            self.connections[connection].is_dead = true;
        }
        Some(connection)
    }

    fn refuse(&mut self, connection: usize) {
        let at = self.now().plus(REFUSAL);
        if self.connections[connection].is_callout {
            let response = Some((UNAVAILABLE, b"upstream connect error".to_vec()));
            self.at(at, Event::CalloutEnds { connection, response });
        }
        self.cut(connection, at);
    }

    /// Closes a connection at its worker.
    pub(super) fn cut(&mut self, connection: usize, at: Micros) {
        let open = &mut self.connections[connection];
        if std::mem::replace(&mut open.is_closed, true) {
            return;
        }
        let (nth, token, at) = (open.instance, open.token, at.max(open.last_to_worker));
        if open.is_callout {
            return self.at(at, Event::CalloutEnds { connection, response: None });
        }
        self.arrives(nth, at, Arrival::Closed { stream: token });
    }

    /// Ends a callout, unless it has ended.
    pub(super) fn end_callout(&mut self, connection: usize, response: Option<(u16, Vec<u8>)>) {
        let open = &mut self.connections[connection];
        let (nth, token) = (open.instance, open.token);
        open.is_closed = true;
        if self.by_token.remove(&(nth, token)).is_none() {
            return;
        }
        let now = self.now();
        self.arrives(nth, now, Arrival::Response { callout: token, response });
    }

    fn place_of(&self, connection: usize) -> Option<usize> {
        Some(self.instances[self.connections[connection].instance].as_ref()?.place)
    }

    /// Whether nothing crosses a connection now.
    pub(super) fn is_cut_off(&self, connection: usize, place: usize) -> bool {
        let open = &self.connections[connection];
        open.is_dead || self.fault(Kind::Partition, place).is_some()
    }

    fn carry_to_redis(&mut self, connection: usize, bytes: Vec<u8>) {
        let Some(place) = self.place_of(connection) else { return };
        if self.connections[connection].is_closed {
            return;
        }
        if self.is_cut_off(connection, place) {
            // TCP would send the bytes again after the partition, in their order: the connection is of no use.
            self.connections[connection].is_dead = true;
            return;
        }
        let at = self.now().plus(self.takes(place)).max(self.connections[connection].last_to_redis);
        self.connections[connection].last_to_redis = at;
        self.at(at, Event::AtRedis { connection, bytes, is_served: false });
    }

    /// Sends replies back, `at` or as soon after it as the network allows.
    pub(super) fn reply(&mut self, connection: usize, sent: Micros, bytes: Vec<u8>) {
        let Some(place) = self.place_of(connection) else { return };
        if self.is_cut_off(connection, place) {
            self.connections[connection].is_dead = true;
            return;
        }
        let at = sent.plus(self.takes(place)).max(self.connections[connection].last_to_worker);
        self.connections[connection].last_to_worker = at;
        if self.connections[connection].is_callout {
            return self.at(at, Event::CalloutEnds { connection, response: Some((200, bytes)) });
        }
        let pieces = if self.strikes(Kind::TinyPieces, place).is_some() { 5 } else { MOST_BYTES };
        bytes.chunks(pieces).for_each(|piece| self.carry_to_worker(connection, at, piece));
    }

    fn carry_to_worker(&mut self, connection: usize, at: Micros, piece: &[u8]) {
        let Connection { instance, token, is_callout, .. } = self.connections[connection];
        if !is_callout {
            self.arrives(instance, at, Arrival::Bytes { stream: token, bytes: piece.to_vec() });
        }
    }

    /// Time that the next message takes.
    fn takes(&mut self, place: usize) -> Micros {
        let usual = self.plan.latency;
        let mut takes = usual.plus(Micros(self.draw() % (usual.0 / 2 + 1)));
        if self.active.is_empty() {
            return takes;
        }
        let timeout = self.plan.config.timeout.0;
        if let Some(fault) = self.strikes(Kind::Delay, place) {
            takes = takes.plus(Micros(fault.draw % 40_000));
        }
        if self.strikes(Kind::DelayAtTimeout, place).is_some() {
            takes = takes.plus(Micros(timeout * 2 / 5 + self.draw() % (timeout / 5 + 1)));
        }
        if self.strikes(Kind::Reordering, place).is_some() {
            takes = takes.plus(Micros(self.draw() % 20_000));
        }
        if self.fault(Kind::Loss, place).is_some() && self.draw().is_multiple_of(20) {
            takes = takes.plus(Micros::from_millis(200 << (self.draw() % 3)));
        }
        takes
    }
}
