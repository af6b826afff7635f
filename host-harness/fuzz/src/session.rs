//! Target `session`: a connection to Redis whose peer, clock and host do as the input says.
//!
//! Input: a byte for the configuration, then events: a byte for the kind, and what the kind needs.

use weir_filter::redis::{Credentials, Refusal, Secret, Session, SessionConfig, SessionEvent, Topology};
use weir_filter::units::Micros;
use weir_virtual::resp::Commands;

use crate::SECRET;
use crate::choices::Choices;
use crate::journal::Journal;

const MAX_IN_FLIGHT: usize = 40;
/// Least time between two ticks of a host.
const TICK: Micros = Micros::from_millis(1);
/// Time after which every call is completed, whatever the peer does.
const ENOUGH: Micros = Micros::from_secs(60);

/// Runs the target.
///
/// # Panics
/// If a call is completed too often or never, if more calls are in flight than configured, if the bytes sent are no
/// commands, if a stream is opened or closed out of turn, or if a warning repeats bytes of others.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let mut conversation = Conversation::new(choices.byte());
    while !choices.are_over() {
        conversation.step(&mut choices);
    }
    conversation.end();
}

/// Configuration of a connection, with or without a password and a database.
pub(crate) fn config(choice: u8) -> SessionConfig {
    let username = (choice & 2 != 0).then(|| "weir".to_owned());
    let credentials = (choice & 1 != 0).then(|| Credentials { username, password: Secret::new(SECRET) });
    let database = if choice & 4 == 0 { 0 } else { 3 };
    SessionConfig {
        credentials,
        database,
        topology: Topology::Single,
        timeout: Micros::from_millis(50),
        max_in_flight: MAX_IN_FLIGHT,
    }
}

/// Replies to the commands of a handshake.
pub(crate) fn welcome(config: &SessionConfig) -> Vec<u8> {
    let replies = usize::from(config.credentials.is_some()) + usize::from(config.database > 0);
    b"+OK\r\n".repeat(replies)
}

struct Conversation {
    session: Session,
    journal: Journal,
    now: Micros,
    is_open: bool,
    fails_next_open: bool,
    welcome: Vec<u8>,
    commands: Commands,
    /// Calls beyond the bound.
    reserved: usize,
}

impl Conversation {
    fn new(choice: u8) -> Self {
        let config = config(choice);
        Self {
            welcome: [welcome(&config).as_slice(), b"+PONG\r\n"].concat(),
            session: Session::new(config, u64::from(choice)),
            journal: Journal::default(),
            now: Micros::from_secs(1_000),
            is_open: false,
            fails_next_open: false,
            commands: Commands::default(),
            reserved: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0 => self.submit(choices),
            1 => (0..choices.below(8)).for_each(|_| self.submit(choices)),
            2 => self.submit_reserved(choices),
            3 => self.abandon(choices.below(8)),
            4..=6 => self.receive(choices.piece()),
            7 => self.receive(&self.welcome.clone()),
            8 => self.receive(b"-NOSCRIPT No matching script.\r\n"),
            9 => self.receive(b":1\r\n"),
            10 => self.tick(),
            11 => self.pass(Micros(choices.short())),
            12 => self.pass(Micros::from_millis(choices.short())),
            13 => self.fails_next_open = true,
            14 => self.close(),
            _ => self.receive(b"$8\r\n\0\0\0\0\0\0\0\x01\r\n"),
        }
        self.turn(false);
    }

    fn submit(&mut self, choices: &mut Choices<'_>) {
        let (ticket, call) = self.journal.call(choices);
        let is_tracked = call.is_tracked();
        if self.session.submit(self.now, ticket, call).is_ok() {
            self.journal.accept(ticket, is_tracked);
        }
        let in_flight = self.session.in_flight();
        assert!(in_flight <= MAX_IN_FLIGHT + self.reserved, "{in_flight} calls in flight");
    }

    fn submit_reserved(&mut self, choices: &mut Choices<'_>) {
        let (ticket, call) = self.journal.call(choices);
        let is_tracked = call.is_tracked();
        if self.session.submit_reserved(self.now, ticket, call).is_ok() {
            self.journal.accept(ticket, is_tracked);
            self.reserved += 1;
        }
    }

    fn abandon(&mut self, back: usize) {
        let Some((ticket, is_tracked)) = self.journal.recent(back) else { return };
        if self.session.abandon(ticket, is_tracked) {
            self.journal.forget(ticket);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.is_open {
            self.session.handle_bytes(self.now, bytes);
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.session.handle_closed(self.now);
        }
    }

    fn tick(&mut self) {
        self.session.handle_tick(self.now);
        self.turn(true);
    }

    /// Lets time pass, with the ticks that the session asks for.
    fn pass(&mut self, span: Micros) {
        let end = self.now.plus(span);
        while let Some(at) = self.session.next_tick(self.now).filter(|at| *at <= end) {
            assert!(at >= self.now, "a tick in the past");
            self.now = at;
            self.tick();
            self.now = at.plus(TICK);
        }
        self.now = self.now.max(end);
    }

    /// Carries out the events, and reads the bytes that are sent.
    fn turn(&mut self, in_tick: bool) {
        while let Some(event) = self.session.poll() {
            match event {
                SessionEvent::Open => {
                    assert!(in_tick && !self.is_open, "opened outside a tick, or twice");
                    self.commands = Commands::default();
                    self.is_open = !std::mem::take(&mut self.fails_next_open);
                    if !self.is_open {
                        self.session.handle_open_failed(self.now, Refusal::Internal);
                    }
                }
                SessionEvent::Close => {
                    assert!(in_tick && self.is_open, "closed outside a tick, or twice");
                    self.is_open = false;
                }
                SessionEvent::Completed { ticket, result } => self.journal.complete(ticket, &result),
                SessionEvent::Trouble(trouble) => self.journal.warn(&trouble.detail),
            }
        }
        let mut buffer = Vec::new();
        while self.session.take_outgoing(self.now, &mut buffer) {
            assert!(self.is_open, "sent without a stream");
            self.commands.push(&buffer);
            while let Some(command) = self.commands.next() {
                self.journal.send(&command.expect("bytes that are no command"));
            }
        }
        assert!(self.session.is_at_rest(), "events or bytes are left");
    }

    /// The peer is silent from now on: every call is completed.
    fn end(&mut self) {
        self.pass(ENOUGH);
        self.journal.end();
        assert_eq!(self.session.in_flight(), 0);
    }
}
