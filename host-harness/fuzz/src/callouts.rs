//! Target `callouts`: callouts to Redis whose responses, clock and host do as the input says.
//!
//! Input: a byte for the configuration, then events: a byte for the kind, and what the kind needs.

use weir_filter::redis::{Callouts, Failure, Refusal, SessionConfig, SessionEvent};
use weir_filter::units::Micros;
use weir_virtual::resp::Commands;

use crate::choices::Choices;
use crate::journal::Journal;
use crate::session::{config, welcome};

/// Least time between two ticks of a host.
const TICK: Micros = Micros::from_millis(1);
/// Time after which every call is completed, whatever the peer does.
const ENOUGH: Micros = Micros::from_secs(60);

/// Runs the target.
///
/// # Panics
/// If a call is completed too often or never, or sent too often, if a callout's body is no list of commands that begins
/// with the handshake, or if a warning repeats bytes of others.
pub fn run(input: &[u8]) {
    let mut choices = Choices::of(input);
    let mut conversation = Conversation::new(choices.byte());
    while !choices.are_over() {
        conversation.step(&mut choices);
    }
    conversation.end();
}

struct Conversation {
    config: SessionConfig,
    callouts: Callouts,
    journal: Journal,
    now: Micros,
    /// Callouts under way: their ids, and when the host gives them up.
    under_way: Vec<(u64, Micros)>,
    refuses_next: bool,
    reserved: usize,
}

impl Conversation {
    fn new(choice: u8) -> Self {
        let config = config(choice);
        Self {
            callouts: Callouts::new(config.clone()),
            config,
            journal: Journal::default(),
            now: Micros::from_secs(1_000),
            under_way: Vec::new(),
            refuses_next: false,
            reserved: 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(16) {
            0 => self.submit(choices),
            1 => (0..choices.below(8)).for_each(|_| self.submit(choices)),
            2 => self.submit_reserved(choices),
            3 => self.abandon(choices.below(8)),
            4 | 5 => self.respond(choices.below(4), choices.piece()),
            6 | 7 => {
                let (nth, replies) = (choices.below(4), choices.piece());
                self.respond(nth, &[&welcome(&self.config), replies].concat());
            }
            8 => {
                let replies = b"-NOSCRIPT No matching script.\r\n".repeat(choices.below(8));
                self.respond(choices.below(4), &[welcome(&self.config), replies].concat());
            }
            9 => {
                let (nth, failure) = (choices.below(4), Failure::ALL[choices.below(4)]);
                self.end_callout(nth, Err(failure));
            }
            10 => self.callouts.handle_tick(self.now),
            11 => self.pass(Micros(choices.short())),
            12 => self.pass(Micros::from_millis(choices.short())),
            13 => self.refuses_next = true,
            14 => self.callouts.hold(),
            _ => self.callouts.release(),
        }
        self.turn();
    }

    fn submit(&mut self, choices: &mut Choices<'_>) {
        let (ticket, call) = self.journal.call(choices);
        let is_tracked = call.is_tracked();
        if self.callouts.submit(self.now, ticket, call).is_ok() {
            self.journal.accept(ticket, is_tracked);
        }
        let in_flight = self.callouts.in_flight();
        assert!(in_flight <= self.config.max_in_flight + self.reserved, "{in_flight} calls in flight");
    }

    fn submit_reserved(&mut self, choices: &mut Choices<'_>) {
        let (ticket, call) = self.journal.call(choices);
        self.journal.accept(ticket, call.is_tracked());
        self.callouts.submit_reserved(self.now, ticket, call);
        self.reserved += 1;
    }

    fn abandon(&mut self, back: usize) {
        let Some((ticket, is_tracked)) = self.journal.recent(back) else { return };
        if self.callouts.abandon(ticket, is_tracked) {
            self.journal.forget(ticket);
        }
    }

    fn respond(&mut self, nth: usize, body: &[u8]) {
        self.end_callout(nth, Ok(body));
    }

    /// Ends the `nth` callout under way.
    fn end_callout(&mut self, nth: usize, response: Result<&[u8], Failure>) {
        if nth < self.under_way.len() {
            let (id, _) = self.under_way.remove(nth);
            self.callouts.handle_response(self.now, id, response);
        }
    }

    /// Lets time pass, with the ticks that the callouts ask for, and the timeouts of the host.
    fn pass(&mut self, span: Micros) {
        let end = self.now.plus(span);
        loop {
            let given_up = self.under_way.iter().map(|(_, at)| *at).min();
            let next = self.callouts.next_tick(self.now).into_iter().chain(given_up).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            while let Some(nth) = self.under_way.iter().position(|(_, at)| *at <= self.now) {
                self.end_callout(nth, Err(Failure::Timeout));
            }
            self.callouts.handle_tick(self.now);
            self.turn();
            self.now = self.now.plus(TICK);
        }
        self.now = self.now.max(end);
    }

    /// Carries out the events, and reads the callouts that are made.
    fn turn(&mut self) {
        self.poll();
        while let Some(callout) = self.callouts.next_callout(self.now) {
            self.read(&callout.body);
            self.under_way.push((callout.id, self.now.plus(callout.timeout)));
            if std::mem::take(&mut self.refuses_next) {
                self.under_way.pop();
                self.callouts.handle_refused(self.now, callout.id, Refusal::Internal);
            }
            self.poll();
        }
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(event) = self.callouts.poll() {
            match event {
                SessionEvent::Completed { ticket, result } => self.journal.complete(ticket, &result),
                SessionEvent::Trouble(trouble) => self.journal.warn(&trouble.detail),
                SessionEvent::Open | SessionEvent::Close => panic!("callouts have no stream"),
            }
        }
    }

    /// Reads a callout's body: the handshake, then whole commands.
    fn read(&mut self, body: &[u8]) {
        let mut commands = Commands::default();
        commands.push(body);
        // Completes nothing, unless the body ends within a command.
        commands.push(b"*1\r\n$3\r\nend\r\n");
        let mut names = Vec::new();
        while let Some(command) = commands.next() {
            let command = command.expect("bytes that are no command");
            names.extend(command.first().cloned());
            if command != [b"end"] {
                self.journal.send(&command);
            }
        }
        let mut expected: Vec<&[u8]> = Vec::new();
        expected.extend(self.config.credentials.as_ref().map(|_| &b"AUTH"[..]));
        expected.extend((self.config.database > 0).then_some(&b"SELECT"[..]));
        assert!(names.iter().map(Vec::as_slice).take(expected.len()).eq(expected.iter().copied()), "the handshake");
        assert!(names.len() > expected.len() + 1, "a callout without calls");
        assert_eq!(names.last().map(Vec::as_slice), Some(&b"end"[..]), "the body ends within a command");
    }

    /// Completes every call: Redis answers nothing from now on.
    fn end(&mut self) {
        self.callouts.release();
        self.turn();
        self.pass(ENOUGH);
        self.journal.end();
        assert_eq!(self.callouts.in_flight(), 0);
    }
}
