//! Conversation: a session with a manual clock, a host that checks the contract, and a Redis that the test scripts.

use std::sync::{Arc, LazyLock};

use weir_filter::{
    redis::{
        Call, Credentials, Failure, Refusal, Reply, Script, Secret, Session, SessionConfig, SessionEvent, Ticket,
        Topology, Trouble,
    },
    units::Micros,
};

use crate::wire::take_commands;

pub(crate) static SCRIPT: LazyLock<Arc<Script>> = LazyLock::new(|| Arc::new(Script::new("return 1")));

pub(crate) const TIMEOUT: Micros = Micros::from_millis(50);

pub(crate) fn config() -> SessionConfig {
    SessionConfig { credentials: None, database: 0, topology: Topology::Single, timeout: TIMEOUT, max_in_flight: 100 }
}

pub(crate) fn with_password(password: &str) -> SessionConfig {
    let credentials = Credentials { username: None, password: Secret::new(password) };
    SessionConfig { credentials: Some(credentials), ..config() }
}

pub(crate) fn ms(n: u64) -> Micros {
    Micros::from_millis(n)
}

/// Returns a reply that is an integer.
pub(crate) fn ok(n: i64) -> Result<Reply, Failure> {
    Ok(Reply::Integer(n))
}

pub(crate) struct Conversation {
    pub(crate) session: Session,
    pub(crate) now: Micros,
    completed: Vec<(u32, Result<Reply, Failure>)>,
    troubles: Vec<Trouble>,
    sent: Vec<u8>,
    streams: Vec<&'static str>,
    is_open: bool,
}

impl Conversation {
    pub(crate) fn new(config: SessionConfig) -> Self {
        Self {
            session: Session::new(config, 7),
            now: Micros::from_secs(1_000),
            completed: Vec::new(),
            troubles: Vec::new(),
            sent: Vec::new(),
            streams: Vec::new(),
            is_open: false,
        }
    }

    /// Returns a connected session without calls in flight.
    pub(crate) fn connected(config: SessionConfig) -> Self {
        let mut it = Self::new(config);
        it.asks(0).unwrap();
        it.ticks();
        it.redis_says("+PONG\r\n");
        it.redis_says(":0\r\n");
        assert_eq!(it.completed(), [(0, Ok(Reply::Integer(0)))]);
        it.sent();
        it.streams();
        it
    }

    /// Submits a request's script call.
    pub(crate) fn asks(&mut self, ticket: u32) -> Result<(), Failure> {
        self.submits(ticket, Call::script(&SCRIPT, &[format!("k{ticket}")], &["1"]))
    }

    pub(crate) fn submits(&mut self, ticket: u32, call: Call) -> Result<(), Failure> {
        let accepted = self.session.submit(self.now, Ticket(ticket.into()), call);
        self.turn(false);
        accepted
    }

    /// Submits all calls in one turn of the host.
    pub(crate) fn submit_all(&mut self, calls: impl IntoIterator<Item = (u32, Call)>) {
        calls.into_iter().for_each(|(ticket, call)| self.submit_unsent(ticket, call));
        self.turn(false);
    }

    /// Submits a call without ending the turn of the host.
    pub(crate) fn submit_unsent(&mut self, ticket: u32, call: Call) {
        self.session.submit(self.now, Ticket(ticket.into()), call).unwrap();
    }

    pub(crate) fn redis_says(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.is_open, "no open stream");
        self.session.handle_bytes(self.now, bytes.as_ref());
        self.turn(false);
    }

    pub(crate) fn redis_closes(&mut self) {
        assert!(self.is_open, "no stream to close");
        self.is_open = false;
        self.session.handle_closed(self.now);
        self.turn(false);
    }

    pub(crate) fn host_cannot_open(&mut self) {
        self.is_open = false;
        self.session.handle_open_failed(self.now, Refusal::Internal);
        self.turn(false);
    }

    pub(crate) fn ticks(&mut self) {
        self.session.handle_tick(self.now);
        self.turn(true);
    }

    /// Advances the clock, with a tick whenever the session asks for one.
    pub(crate) fn passes(&mut self, span: Micros) {
        let end = self.now.plus(span);
        while let Some(at) = self.session.next_tick(self.now).filter(|&at| at <= end) {
            let before = self.now;
            self.now = at;
            self.ticks();
            assert!(self.session.next_tick(at) != Some(at) || at > before, "ticks without end");
        }
        self.now = end;
    }

    /// Advances the clock to the session's next tick, and ticks.
    pub(crate) fn passes_to_next_tick(&mut self) {
        self.now = self.session.next_tick(self.now).unwrap();
        self.ticks();
    }

    /// Takes the calls completed since the last call of this method.
    pub(crate) fn completed(&mut self) -> Vec<(u32, Result<Reply, Failure>)> {
        std::mem::take(&mut self.completed)
    }

    /// Takes the commands sent since the last call of this method, with `SHA` for the script's SHA-1.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        let commands = take_commands(&mut self.sent);
        let joined = commands.iter().map(|parts| String::from_utf8(parts.join(&b' ')).unwrap());
        joined.map(|command| command.replace(SCRIPT.sha1_hex(), "SHA")).collect()
    }

    /// Takes the streams opened and closed since the last call of this method.
    pub(crate) fn streams(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.streams)
    }

    pub(crate) fn troubles(&mut self) -> Vec<Trouble> {
        std::mem::take(&mut self.troubles)
    }

    pub(crate) fn trouble(&mut self) -> Trouble {
        let mut troubles = self.troubles();
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        troubles.remove(0)
    }

    fn turn(&mut self, in_tick: bool) {
        while let Some(event) = self.session.poll() {
            match event {
                SessionEvent::Open => {
                    assert!(in_tick && !self.is_open, "opened outside a tick, or twice");
                    self.is_open = true;
                    self.sent.clear();
                    self.streams.push("open");
                }
                SessionEvent::Close => {
                    assert!(in_tick && self.is_open, "closed outside a tick, or twice");
                    self.is_open = false;
                    self.streams.push("close");
                }
                SessionEvent::Completed { ticket, result } => {
                    self.completed.push((u32::try_from(ticket.0).unwrap(), result))
                }
                SessionEvent::Trouble(trouble) => self.troubles.push(trouble),
            }
        }
        let mut buffer = Vec::new();
        if self.session.take_outgoing(self.now, &mut buffer) {
            assert!(self.is_open, "sent without a stream");
            self.sent.extend(buffer);
        }
    }
}
