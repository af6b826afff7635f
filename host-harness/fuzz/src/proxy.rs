//! Worker of a virtual proxy whose connections to Redis are in the hands of a target.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use weir_filter::units::Micros;
use weir_virtual::resp::{Commands, encode};
use weir_virtual::{Answer, Arrival, Clock, Exchange, Headers, Link, Properties, Redis, Start, Upstream, Worker};

use crate::{SECRET, check_log_line};

/// 2026-01-01T00:00Z.
const START: Micros = Micros::from_secs(1_767_225_600);
/// Bytes of replies that the bridge passes on at once, at most.
const MAX_MESSAGE: usize = 2_048;
/// Events and ticks in one run, at most: more are a loop.
const MAX_EVENTS: usize = 200_000;

/// A worker, its clock, its connections, and a Redis that answers what the target lets it answer.
pub(crate) struct Proxy {
    pub(crate) worker: Worker,
    pub(crate) redis: Redis,
    clock: Clock,
    wires: Rc<Wires>,
}

/// Commands of a worker: those sent so far, and those that no reply has been sent to.
#[derive(Default)]
struct Wires(RefCell<State>);

#[derive(Default)]
struct State {
    streams: BTreeMap<u32, Commands>,
    /// Callouts without a response, and when the proxy gives them up.
    callouts: BTreeMap<u32, Micros>,
    unanswered: Vec<(Connection, Vec<Vec<u8>>)>,
    sent: Vec<Vec<Vec<u8>>>,
    refuses: bool,
    now: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Connection {
    Stream(u32),
    Callout(u32),
}

impl Proxy {
    /// Starts a worker.
    ///
    /// # Errors
    /// The lines that the filter logs, if it refuses the configuration.
    pub(crate) fn start(configuration: &[u8]) -> Result<Self, Vec<String>> {
        let clock = Clock::at(START);
        let redis = Redis::new(&clock);
        let wires = Rc::new(Wires::default());
        wires.0.borrow_mut().now = START;
        let environment = [("REDIS_PASSWORD".to_owned(), SECRET.to_owned())];
        let start = Start {
            configuration,
            environment: &environment,
            seed: 7,
            sees_body_past_headers: true,
            round_trip: Micros::ZERO,
        };
        let worker = Worker::start_linked(&clock, Rc::clone(&wires) as Rc<dyn Link>, &start)?;
        Ok(Self { worker, redis, clock, wires })
    }

    /// Time since 1970.
    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// All commands sent so far.
    pub(crate) fn sent(&self) -> Vec<Vec<Vec<u8>>> {
        self.wires.0.borrow().sent.clone()
    }

    /// Has Redis answer all commands.
    pub(crate) fn answer(&self) {
        let unanswered = std::mem::take(&mut self.wires.0.borrow_mut().unanswered);
        let mut replies: BTreeMap<Connection, Vec<u8>> = BTreeMap::new();
        for (connection, command) in unanswered {
            encode(&self.redis.run(&command), replies.entry(connection).or_default());
        }
        for (connection, bytes) in replies {
            self.reply(connection, &bytes);
        }
    }

    /// Has bytes arrive in place of replies: on the stream, or as the response of the oldest callout.
    pub(crate) fn say(&self, bytes: &[u8]) {
        let connection = {
            let mut state = self.wires.0.borrow_mut();
            state.unanswered.clear();
            let stream = state.streams.last_key_value().map(|(token, _)| Connection::Stream(*token));
            stream.or_else(|| state.callouts.first_key_value().map(|(token, _)| Connection::Callout(*token)))
        };
        connection.into_iter().for_each(|connection| self.reply(connection, bytes));
    }

    fn reply(&self, connection: Connection, bytes: &[u8]) {
        match connection {
            Connection::Stream(stream) => {
                for bytes in bytes.chunks(MAX_MESSAGE) {
                    self.worker.arrives(self.now(), Arrival::Bytes { stream, bytes: bytes.to_vec() });
                }
            }
            Connection::Callout(callout) => self.respond(callout, Some((200, bytes.to_vec()))),
        }
    }

    fn respond(&self, callout: u32, response: Option<(u16, Vec<u8>)>) {
        if self.wires.0.borrow_mut().callouts.remove(&callout).is_some() {
            self.worker.arrives(self.now(), Arrival::Response { callout, response });
        }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        let (streams, callouts) = {
            let mut state = self.wires.0.borrow_mut();
            state.unanswered.clear();
            let callouts: Vec<u32> = state.callouts.keys().copied().collect();
            (std::mem::take(&mut state.streams), callouts)
        };
        streams.into_keys().for_each(|stream| self.worker.arrives(self.now(), Arrival::Closed { stream }));
        callouts.into_iter().for_each(|callout| self.respond(callout, None));
    }

    /// Sets whether the proxy refuses streams and callouts.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.wires.0.borrow_mut().refuses = refuses;
    }

    /// Runs all events and ticks within a span. `is_answering`: Redis answers every command at once.
    pub(crate) fn run_for(&self, span: Micros, is_answering: bool) {
        let until = self.now().plus(span);
        for _ in 0..MAX_EVENTS {
            if is_answering {
                self.answer();
            }
            let given_up = self.wires.0.borrow().callouts.iter().map(|(token, at)| (*at, *token)).min();
            let next = self.worker.next_at();
            match (given_up, next) {
                (Some((at, callout)), next) if at <= until && next.is_none_or(|next| at < next) => {
                    self.set(at);
                    self.respond(callout, None);
                }
                (_, Some(at)) if at <= until => {
                    self.set(at);
                    self.worker.handle_next();
                }
                _ => {
                    self.set(until);
                    return;
                }
            }
        }
        panic!("events without end");
    }

    /// Runs until all requests are answered, at most for `span`. Returns whether they are.
    pub(crate) fn run_until_answered(&self, span: Micros, is_answering: bool) -> bool {
        let until = self.now().plus(span);
        self.run_for(Micros::ZERO, is_answering);
        while self.worker.in_flight() > 0 && self.now() < until {
            let next = self.worker.next_at().unwrap_or(until).max(self.now().plus(Micros(1)));
            self.run_for(next.min(until).minus(self.now()), is_answering);
        }
        self.worker.in_flight() == 0
    }

    fn set(&self, at: Micros) {
        let at = at.max(self.now());
        self.clock.set(at);
        self.wires.0.borrow_mut().now = at;
    }

    /// Takes the answers, and checks the log.
    pub(crate) fn take_answers(&self) -> Vec<Answer> {
        self.worker.take_log().iter().for_each(|(_, line)| check_log_line(line));
        self.worker.take_answers().into_iter().map(|(_, answer)| answer).collect()
    }
}

impl Wires {
    fn read(&self, connection: Connection, commands: &mut Commands) {
        let mut state = self.0.borrow_mut();
        while let Some(command) = commands.next() {
            let command = command.expect("bytes that are no command");
            state.sent.push(command.clone());
            state.unanswered.push((connection, command));
        }
    }
}

impl Link for Wires {
    fn open(&self, stream: u32) -> bool {
        let mut state = self.0.borrow_mut();
        let is_accepted = !state.refuses;
        if is_accepted {
            state.streams.insert(stream, Commands::default());
        }
        is_accepted
    }

    fn send(&self, stream: u32, bytes: &[u8]) {
        let commands = self.0.borrow_mut().streams.remove(&stream);
        // Bytes on a stream that the peer has closed are lost.
        let Some(mut commands) = commands else { return };
        commands.push(bytes);
        self.read(Connection::Stream(stream), &mut commands);
        self.0.borrow_mut().streams.insert(stream, commands);
    }

    fn close(&self, stream: u32) {
        let mut state = self.0.borrow_mut();
        state.streams.remove(&stream);
        state.unanswered.retain(|(connection, _)| *connection != Connection::Stream(stream));
    }

    fn call_out(&self, callout: u32, bytes: &[u8], timeout: Micros) -> bool {
        let mut commands = Commands::default();
        {
            let mut state = self.0.borrow_mut();
            if state.refuses {
                return false;
            }
            let given_up = state.now.plus(timeout);
            state.callouts.insert(callout, given_up);
        }
        commands.push(bytes);
        self.read(Connection::Callout(callout), &mut commands);
        true
    }
}

/// Returns a request whose client has an address, and an upstream that answers at once.
pub(crate) fn exchange(headers: &[(&str, &[u8])], body: Option<&[u8]>) -> Exchange {
    let properties: Properties = Rc::new(|path: &[&str]| match path {
        ["source", "address"] => Some(b"203.0.113.9:4711".to_vec()),
        _ => None,
    });
    let headers: Headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    let upstream = Upstream { status: 200, headers: Vec::new(), body: b"hello\n".to_vec(), ..Upstream::default() };
    Exchange { headers, body: body.map(<[u8]>::to_vec), properties, upstream }
}
