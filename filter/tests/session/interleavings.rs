//! Random sequences of events, against a small Redis that replies in order, or fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use weir_filter::{
    redis::{Call, Credentials, Failure, Refusal, Reply, Secret, Session, SessionConfig, SessionEvent, Ticket},
    units::Micros,
};

use crate::{conversation::SCRIPT, wire::take_commands};

const TIMEOUT: Micros = Micros::from_millis(50);
const TICK: Micros = Micros::from_millis(10);
const MAX_IN_FLIGHT: usize = 12;

#[derive(Debug, Clone)]
enum Event {
    Submit,
    /// Several requests in one turn.
    SubmitAll(u32),
    /// The request of a recent ticket is abandoned: 0 is the last ticket.
    Abandon(u32),
    /// Bytes of Redis' replies arrive, up to this number.
    Deliver(usize),
    /// Time passes, with ticks up to `TICK` late.
    Pass {
        span: Micros,
        late: Micros,
    },
    /// A tick that the session did not ask for.
    Tick,
    /// The connection is closed by the peer.
    Close,
    /// The next stream cannot be opened.
    RefuseNextOpen,
    /// The peer sends bytes that are no reply to a command.
    Say(&'static str),
    /// All further replies on this connection are lost.
    Hang,
    /// Redis loses its scripts.
    Flush,
    /// All further script calls get this error, or normal replies.
    Answer(Option<&'static str>),
    /// The password is changed, or changed back.
    Lock(bool),
    /// Redis starts or stops to refuse commands with keys of several requests.
    Cluster(bool),
}

fn events() -> impl Strategy<Value = Event> {
    let micros = |range: std::ops::Range<u64>| range.prop_map(Micros);
    prop_oneof![
        20 => Just(Event::Submit),
        10 => (2_u32..6).prop_map(Event::SubmitAll),
        4 => (0_u32..5).prop_map(Event::Abandon),
        25 => (1_usize..80).prop_map(Event::Deliver),
        12 => (micros(0..3_000), micros(0..TICK.0)).prop_map(|(span, late)| Event::Pass { span, late }),
        6 => (micros(0..200_000), micros(0..TICK.0)).prop_map(|(span, late)| Event::Pass { span, late }),
        1 => (micros(0..400_000_000), micros(0..TICK.0)).prop_map(|(span, late)| Event::Pass { span, late }),
        4 => Just(Event::Tick),
        1 => Just(Event::Close),
        1 => Just(Event::RefuseNextOpen),
        1 => prop::sample::select(vec!["garbage", ":7\r\n", "*1\r\n", "-ERR max number of clients reached\r\n", "$9\r\n"])
            .prop_map(Event::Say),
        1 => Just(Event::Hang),
        2 => Just(Event::Flush),
        1 => prop::sample::select(vec![
            Some("READONLY You can't write against a read only replica."), Some("OOM no"), Some("NOPERM no"), Some("LOADING"),
        ]).prop_map(Event::Answer),
        2 => Just(Event::Answer(None)),
        1 => prop::sample::select(vec![true, false, false]).prop_map(Event::Lock),
        1 => any::<bool>().prop_map(Event::Cluster),
    ]
}

/// Redis' side of one connection.
#[derive(Default)]
struct Connection {
    incoming: Vec<u8>,
    replies: VecDeque<u8>,
    authenticated: bool,
    database: u32,
    hangs: bool,
}

struct World {
    session: Session,
    now: Micros,
    connection: Option<Connection>,
    refuse_next_open: bool,
    has_script: bool,
    error: Option<&'static str>,
    locked: bool,
    is_cluster: bool,
    /// Whether the peer has sent unexpected bytes: replies may then be assigned to the wrong calls.
    has_lied: bool,
    next_ticket: u32,
    deadlines: BTreeMap<u32, Micros>,
    executed: BTreeSet<u32>,
    buffer: Vec<u8>,
    /// Time of the last tick. Calls that were due by the tick before it must have been completed.
    last_tick: Micros,
    /// Ticks since a stream was opened.
    ticks_since_open: u32,
    /// Time until which calls may be overdue, because a busy host connects slowly.
    patient_until: Micros,
}

impl World {
    fn new(seed: u64) -> Self {
        let credentials = Credentials { username: None, password: Secret::new("hunter2") };
        let config = SessionConfig {
            topology: weir_filter::redis::Topology::Single,
            credentials: Some(credentials),
            database: 3,
            timeout: TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
        };
        Self {
            session: Session::new(config, seed),
            now: Micros::from_secs(seed),
            connection: None,
            refuse_next_open: false,
            has_script: false,
            error: None,
            locked: false,
            is_cluster: false,
            has_lied: false,
            next_ticket: 0,
            deadlines: BTreeMap::new(),
            executed: BTreeSet::new(),
            buffer: Vec::new(),
            last_tick: Micros::ZERO,
            ticks_since_open: 9,
            patient_until: Micros::ZERO,
        }
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Submit => self.submit(),
            Event::SubmitAll(count) => (0..count).for_each(|_| self.submit()),
            Event::Abandon(back) => {
                let ticket = self.next_ticket.saturating_sub(back + 1);
                self.session.abandon(Ticket(ticket.into()), false);
                self.deadlines.remove(&ticket);
            }
            Event::Deliver(bytes) => self.deliver(bytes),
            Event::Pass { span, late } => self.pass(span, late),
            Event::Tick => self.tick(),
            Event::Close => {
                if self.connection.take().is_some() {
                    self.session.handle_closed(self.now);
                }
            }
            Event::RefuseNextOpen => self.refuse_next_open = true,
            Event::Say(text) => {
                if let Some(connection) = &mut self.connection {
                    connection.replies.extend(text.as_bytes());
                    self.has_lied = true;
                }
            }
            Event::Hang => self.connection.iter_mut().for_each(|connection| connection.hangs = true),
            Event::Flush => self.has_script = false,
            Event::Answer(error) => self.error = error,
            Event::Lock(locked) => self.locked = locked,
            Event::Cluster(is_cluster) => self.is_cluster = is_cluster,
        }
        self.turn(false);
    }

    fn submit(&mut self) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let call = Call::script(&SCRIPT, &["k"], &[ticket.to_string()]).sharing(2);
        match self.session.submit(self.now, Ticket(ticket.into()), call) {
            Ok(()) => assert!(self.deadlines.insert(ticket, self.now.plus(TIMEOUT)).is_none()),
            Err(failure) => assert!(
                matches!(failure, Failure::Unavailable | Failure::Overloaded | Failure::NotReady | Failure::Auth),
                "refused with {failure:?}"
            ),
        }
    }

    fn deliver(&mut self, bytes: usize) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.hangs) else { return };
        let chunk: Vec<u8> = connection.replies.drain(..bytes.min(connection.replies.len())).collect();
        self.session.handle_bytes(self.now, &chunk);
    }

    fn pass(&mut self, span: Micros, late: Micros) {
        let end = self.now.plus(span);
        for _ in 0..10_000 {
            match self.session.next_tick(self.now) {
                Some(at) if at <= end => {
                    self.now = at.plus(late);
                    self.tick();
                }
                _ => {
                    self.now = self.now.max(end);
                    return;
                }
            }
        }
        panic!("ticks without end");
    }

    fn tick(&mut self) {
        self.session.handle_tick(self.now);
        self.turn(true);
        let due = std::mem::replace(&mut self.last_tick, self.now);
        if self.ticks_since_open <= 8 {
            self.ticks_since_open += 1;
            self.patient_until = self.now.plus(TIMEOUT).plus(TIMEOUT);
        }
        if due <= self.patient_until {
            return;
        }
        let overdue: Vec<_> = self.deadlines.iter().filter(|(_, deadline)| **deadline <= due).collect();
        assert!(overdue.is_empty(), "not answered in time: {overdue:?} at {:?}", self.now);
    }

    /// Carries out the session's events like a host, and reads its bytes like Redis.
    fn turn(&mut self, in_tick: bool) {
        while let Some(event) = self.session.poll() {
            match event {
                SessionEvent::Open => {
                    assert!(in_tick && self.connection.is_none(), "opened outside a tick, or twice");
                    self.ticks_since_open = 0;
                    if std::mem::take(&mut self.refuse_next_open) {
                        self.session.handle_open_failed(self.now, Refusal::Internal);
                    } else {
                        self.connection = Some(Connection::default());
                        self.has_lied = false;
                    }
                }
                SessionEvent::Close => {
                    assert!(in_tick && self.connection.take().is_some(), "closed outside a tick, or twice")
                }
                SessionEvent::Completed { ticket, result } => self.completed(u32::try_from(ticket.0).unwrap(), result),
                SessionEvent::Trouble(trouble) => {
                    assert!(!trouble.detail.contains("hunter2") && trouble.detail.len() < 400, "{trouble:?}");
                }
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        if self.session.take_outgoing(self.now, &mut buffer) {
            assert!(buffer.len() < 64 * 1024, "{} bytes to send", buffer.len());
            self.read(&buffer);
        }
        self.buffer = buffer;
        assert!(self.session.in_flight() <= MAX_IN_FLIGHT);
        let wanted = self.session.next_tick(self.now);
        if let Some(&first) = self.deadlines.values().min() {
            assert!(wanted.is_some_and(|at| at <= first.max(self.now)), "no tick in time for {first:?}");
        }
    }

    fn completed(&mut self, ticket: u32, result: Result<Reply, Failure>) {
        assert!(self.deadlines.remove(&ticket).is_some(), "ticket {ticket} completed twice, or after it was abandoned");
        if let Ok(reply) = result
            && !self.has_lied
        {
            assert_eq!(reply, Reply::Array(vec![Reply::Integer(1), Reply::Integer(i64::from(ticket))]));
            assert!(self.executed.contains(&ticket));
        }
    }

    fn read(&mut self, bytes: &[u8]) {
        let mut connection = self.connection.take().expect("sent without a stream");
        connection.incoming.extend_from_slice(bytes);
        for command in take_commands(&mut connection.incoming) {
            let command: Vec<_> = command.iter().map(|part| std::str::from_utf8(part).unwrap()).collect();
            let reply = self.answer(&mut connection, &command);
            connection.replies.extend(reply.as_bytes());
        }
        self.connection = Some(connection);
    }

    fn answer(&mut self, connection: &mut Connection, command: &[&str]) -> String {
        match command {
            ["AUTH", "hunter2"] if !self.locked => {
                connection.authenticated = true;
                "+OK\r\n".into()
            }
            ["AUTH", _] => "-WRONGPASS invalid username-password pair or user is disabled.\r\n".into(),
            _ if !connection.authenticated => "-NOAUTH Authentication required.\r\n".into(),
            ["SELECT", database] => {
                connection.database = database.parse().unwrap();
                "+OK\r\n".into()
            }
            ["PING"] => "+PONG\r\n".into(),
            [name @ ("EVALSHA" | "EVAL"), script, count, rest @ ..] => {
                assert_eq!(connection.database, 3, "a request landed in the wrong database");
                let (keys, tickets) = rest.split_at(count.parse().unwrap());
                assert!(keys.iter().all(|key| *key == "k") && keys.len() == tickets.len(), "{command:?}");
                if self.is_cluster && tickets.len() > 1 {
                    return "-CROSSSLOT Keys in request don't hash to the same slot\r\n".into();
                }
                if let Some(error) = self.error {
                    return format!("-{error}\r\n");
                }
                if *name == "EVALSHA" && !self.has_script {
                    assert_eq!(*script, SCRIPT.sha1_hex());
                    return "-NOSCRIPT No matching script. Please use EVAL.\r\n".into();
                }
                self.has_script = true;
                let mut reply = format!("*{}\r\n", tickets.len() * 2);
                for ticket in tickets {
                    let is_first = self.executed.insert(ticket.parse().unwrap());
                    assert!(is_first || self.has_lied, "ticket {ticket} was run twice");
                    reply.push_str(&format!(":1\r\n:{ticket}\r\n"));
                }
                reply
            }
            _ => panic!("unexpected command {command:?}"),
        }
    }
}

proptest! {
    #[test]
    fn every_call_is_completed_once_in_time_and_with_its_own_reply(
        seed in 1_u64..1_000_000, events in prop::collection::vec(events(), 0..200),
    ) {
        let mut world = World::new(seed);
        for event in &events {
            world.happens(event);
        }
        world.pass(TIMEOUT.plus(TICK), TICK);
        // A host that was busy until now has eight ticks to read the reply to a call.
        (0..8).for_each(|_| world.tick());
        prop_assert!(world.deadlines.is_empty(), "never answered: {:?}", world.deadlines);
    }

    #[test]
    fn after_redis_recovers_calls_are_served_again(
        seed in 1_u64..1_000_000, events in prop::collection::vec(events(), 0..100),
    ) {
        let mut world = World::new(seed);
        for event in &events {
            world.happens(event);
        }
        for event in [Event::Answer(None), Event::Lock(false), Event::Close] {
            world.happens(&event);
        }
        world.refuse_next_open = false;
        let end = world.now.plus(Micros::from_secs(12));
        while world.now < end {
            world.happens(&Event::Pass { span: Micros::from_millis(5), late: Micros::ZERO });
            world.happens(&Event::Deliver(1_000));
        }
        world.happens(&Event::Submit);
        let ticket = world.next_ticket - 1;
        for _ in 0..4 {
            world.happens(&Event::Pass { span: Micros::from_millis(1), late: Micros::ZERO });
            world.happens(&Event::Deliver(1_000));
        }
        prop_assert!(world.executed.contains(&ticket) && world.deadlines.is_empty());
        prop_assert_eq!(world.session.in_flight(), 0);
    }
}
